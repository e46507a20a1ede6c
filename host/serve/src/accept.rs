//! Accepts connections, within bounds.

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
use crate::idle::{Activity, Noted};

/// How often an HTTP/2 connection is asked whether anyone is still there.
const KEEP_ALIVE: Duration = Duration::from_secs(60);

/// A server whose connections end when they ask nothing: after `head`, if the next head of HTTP/1 is not there. With at
/// most `streams` requests at once over one connection of HTTP/2.
pub(crate) fn bounded<A: Address, Acceptor>(
    mut server: Server<A, Acceptor>,
    head: Duration,
    streams: u32,
) -> Server<A, Acceptor> {
    let builder = server.http_builder();
    builder.http1().timer(TokioTimer::new()).header_read_timeout(head);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(streams)
        .keep_alive_interval(Some(KEEP_ALIVE));
    server
}

/// Accepts as many connections as a listener may have, and closes the others at once.
#[derive(Debug, Clone)]
pub(crate) struct Bounded<A> {
    inner: A,
    connections: Arc<Connections>,
}

impl<A> Bounded<A> {
    /// Bounds what another accepts.
    pub(crate) fn new(inner: A, connections: Arc<Connections>) -> Self {
        Self { inner, connections }
    }
}

impl<A, I, S> Accept<I, S> for Bounded<A>
where
    A: Accept<I, S>,
    A::Future: Send + 'static,
    A::Stream: Send + 'static,
    A::Service: Send + 'static,
{
    type Stream = Stream<A::Stream>;
    type Service = Noted<A::Service>;
    type Future = Pin<Box<dyn Future<Output = io::Result<(Self::Stream, Self::Service)>> + Send>>;

    fn accept(&self, stream: I, service: S) -> Self::Future {
        // Before TLS: a handshake costs more than all the rest.
        let Some(connection) = self.connections.enter() else {
            return Box::pin(std::future::ready(Err(io::Error::other("too many connections"))));
        };
        let activity = Activity::new();
        let accepted = self.inner.accept(stream, service);
        Box::pin(async move {
            let (inner, service) = accepted.await?;
            let stream = Stream {
                inner,
                timer: Box::pin(sleep_until(activity.deadline().into())),
                activity: activity.clone(),
                _connection: connection,
            };
            let service = Noted {
                inner: service,
                activity,
            };
            Ok((stream, service))
        })
    }
}

/// A connection that ends by itself when it asks nothing.
#[derive(Debug)]
pub(crate) struct Stream<S> {
    inner: S,
    timer: Pin<Box<Sleep>>,
    activity: Activity,
    _connection: Connection,
}

impl<S> Stream<S> {
    /// Whether its time is over. Whoever waits for it is woken to ask again.
    fn is_over(&mut self, cx: &mut Context<'_>) -> bool {
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

fn over() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "the connection asks nothing")
}

impl<S: AsyncRead + Unpin> AsyncRead for Stream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        // The time until the first request begins with the connection and is over even while bytes come; so it is
        // looked at each time.
        if self.is_over(cx) {
            return Poll::Ready(Err(over()));
        }
        let before = buf.filled().len();
        let read = Pin::new(&mut self.inner).poll_read(cx, buf);
        if read.is_ready() && buf.filled().len() > before {
            self.activity.moved();
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Stream<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write(cx, bytes);
        self.wrote(cx, written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.is_over(cx) {
            return Poll::Ready(Err(over()));
        }
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write_vectored(cx, parts);
        self.wrote(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }
}

impl<S> Stream<S> {
    fn wrote(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        match &written {
            Poll::Ready(_) => self.activity.moved(),
            // Nobody reads at the other end.
            Poll::Pending if self.is_over(cx) => return Poll::Ready(Err(over())),
            Poll::Pending => {}
        }
        written
    }
}
