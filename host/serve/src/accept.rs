//! Accepts connections within limits.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum_server::accept::Accept;
use axum_server::{Address, Server};
use hyper_util::rt::TokioTimer;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

use crate::connections::{Connection, Connections};
use crate::idle::{Activity, ActivityService};

/// The interval of HTTP/2 keep-alive pings.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(60);

/// Limits the connections of a server: an HTTP/1 connection closes if the next request head does not arrive within
/// `head_timeout`; an HTTP/2 connection has at most `max_streams` concurrent requests.
pub(crate) fn with_limits<A: Address, Acceptor>(
    mut server: Server<A, Acceptor>,
    head_timeout: Duration,
    max_streams: u32,
) -> Server<A, Acceptor> {
    let builder = server.http_builder();
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(head_timeout);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(max_streams)
        .keep_alive_interval(Some(KEEP_ALIVE_INTERVAL));
    server
}

/// Accepts connections up to the limit of a listener and closes all others at once.
#[derive(Debug, Clone)]
pub(crate) struct LimitedAcceptor<A> {
    inner: A,
    connections: Arc<Connections>,
}

impl<A> LimitedAcceptor<A> {
    pub(crate) fn new(inner: A, connections: Arc<Connections>) -> Self {
        Self { inner, connections }
    }
}

impl<A, I, S> Accept<I, S> for LimitedAcceptor<A>
where
    A: Accept<I, S>,
    A::Future: Send + 'static,
    A::Stream: Send + 'static,
    A::Service: Send + 'static,
{
    type Stream = IdleStream<A::Stream>;
    type Service = ActivityService<A::Service>;
    type Future = Pin<Box<dyn Future<Output = io::Result<(Self::Stream, Self::Service)>> + Send>>;

    fn accept(&self, stream: I, service: S) -> Self::Future {
        // Before TLS: a handshake costs more than everything else.
        let Some(connection) = self.connections.enter() else {
            return Box::pin(std::future::ready(Err(io::Error::other("too many connections"))));
        };
        let activity = Activity::new();
        let accepted = self.inner.accept(stream, service);
        Box::pin(async move {
            let (inner, service) = accepted.await?;
            let stream = IdleStream {
                inner,
                timer: Box::pin(sleep_until(activity.deadline().into())),
                activity: activity.clone(),
                _connection: connection,
            };
            let service = ActivityService {
                inner: service,
                activity,
            };
            Ok((stream, service))
        })
    }
}

/// A connection that closes when it is idle.
#[derive(Debug)]
pub(crate) struct IdleStream<S> {
    inner: S,
    timer: Pin<Box<Sleep>>,
    activity: Activity,
    _connection: Connection,
}

impl<S> IdleStream<S> {
    /// Whether its deadline has passed. If not, the task is woken at the deadline.
    fn is_expired(&mut self, cx: &mut Context<'_>) -> bool {
        while self.timer.as_mut().poll(cx).is_ready() {
            let deadline = Instant::from_std(self.activity.deadline());
            if deadline <= Instant::now() {
                return true;
            }
            self.timer.as_mut().reset(deadline);
        }
        false
    }
}

fn idle_timeout() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "the connection is idle")
}

impl<S: AsyncRead + Unpin> AsyncRead for IdleStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        // The timeout of the first request starts with the connection and expires even while bytes arrive, so it is
        // checked on every read.
        if self.is_expired(cx) {
            return Poll::Ready(Err(idle_timeout()));
        }
        let before = buf.filled().len();
        let read = Pin::new(&mut self.inner).poll_read(cx, buf);
        if read.is_ready() && buf.filled().len() > before {
            self.activity.bytes_moved();
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for IdleStream<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write(cx, bytes);
        self.after_write(cx, written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.is_expired(cx) {
            return Poll::Ready(Err(idle_timeout()));
        }
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write_vectored(cx, parts);
        self.after_write(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }
}

impl<S> IdleStream<S> {
    fn after_write(
        &mut self,
        cx: &mut Context<'_>,
        written: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        match &written {
            Poll::Ready(_) => self.activity.bytes_moved(),
            // The peer does not read.
            Poll::Pending if self.is_expired(cx) => return Poll::Ready(Err(idle_timeout())),
            Poll::Pending => {}
        }
        written
    }
}
