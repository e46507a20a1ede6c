//! Concurrent requests on one HTTP/2 connection (RFC 9113), without the concurrency limits of a client library.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::http2_stream::headers_frame;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
const SETTINGS_ACK: &[u8] = b"\0\0\0\x04\x01\0\0\0\0";
const READ_TIMEOUT: Duration = Duration::from_secs(30);

/// A connection that sends requests without awaiting their responses.
#[derive(Debug)]
pub struct Http2Connection {
    stream: BufReader<TcpStream>,
    sent: u32,
    completed: u32,
}

impl Http2Connection {
    pub async fn open(addr: SocketAddr) -> Self {
        let mut stream = TcpStream::connect(addr).await.unwrap();
        stream.set_nodelay(true).unwrap();
        stream.write_all(PREFACE).await.unwrap();
        Self {
            stream: BufReader::new(stream),
            sent: 0,
            completed: 0,
        }
    }

    /// Sends a GET of `path` for each bearer token, all in one write.
    pub async fn get(&mut self, path: &str, tokens: &[String]) {
        let mut requests = Vec::new();
        for token in tokens {
            let bearer = format!("Bearer {token}");
            let fields = [
                (":method", "GET"),
                (":scheme", "http"),
                (":authority", "a"),
                (":path", path),
                ("authorization", bearer.as_str()),
            ];
            requests.extend(headers_frame(2 * self.sent + 1, &fields));
            self.sent += 1;
        }
        self.stream.write_all(&requests).await.unwrap();
    }

    /// Waits for all responses and counts those with status 200.
    ///
    /// # Panics
    /// If the server resets a stream or closes the connection, or a response does not arrive.
    pub async fn count_admitted(mut self) -> usize {
        self.admitted_each()
            .await
            .into_iter()
            .filter(|admitted| *admitted)
            .count()
    }

    /// Waits for the responses to all requests sent so far. Returns for each, in order, whether its status is 200.
    ///
    /// # Panics
    /// As [`count_admitted`](Self::count_admitted).
    pub async fn admitted_each(&mut self) -> Vec<bool> {
        let mut admitted = vec![false; self.sent as usize];
        while self.completed < self.sent {
            let mut head = [0; 9];
            let read = timeout(READ_TIMEOUT, self.stream.read_exact(&mut head)).await;
            read.expect("a response within 30 s")
                .expect("a complete response");
            let [_, high, low, kind, flags, stream @ ..] = head;
            let mut payload = vec![0; usize::from(high) << 8 | usize::from(low)];
            self.stream.read_exact(&mut payload).await.unwrap();
            match kind {
                // HEADERS. 0x88 is ":status: 200" (RFC 7541, appendix A).
                1 => admitted[u32::from_be_bytes(stream) as usize / 2] = payload[0] == 0x88,
                // SETTINGS need an acknowledgement.
                4 if flags == 0 => self.stream.write_all(SETTINGS_ACK).await.unwrap(),
                3 | 7 => panic!("the server reset a stream or closed the connection: {payload:?}"),
                _ => {}
            }
            self.completed += u32::from(kind <= 1 && flags & 1 == 1);
        }
        admitted
    }
}
