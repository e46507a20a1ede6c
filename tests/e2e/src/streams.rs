//! Many requests at once on one HTTP/2 connection (RFC 9113), without a client library's own ideas of how many.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::frames::headers_frame;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
const SETTINGS_ACK: &[u8] = b"\0\0\0\x04\x01\0\0\0\0";
const PATIENCE: Duration = Duration::from_secs(30);

/// A connection on which requests wait for their answers.
#[derive(Debug)]
pub struct Streams {
    stream: BufReader<TcpStream>,
    sent: u32,
    answered: u32,
}

impl Streams {
    /// Connects.
    pub async fn open(addr: SocketAddr) -> Self {
        let mut stream = TcpStream::connect(addr).await.unwrap();
        stream.set_nodelay(true).unwrap();
        stream.write_all(PREFACE).await.unwrap();
        Self {
            stream: BufReader::new(stream),
            sent: 0,
            answered: 0,
        }
    }

    /// Sends GETs of `path` with these bearer tokens, all in one write.
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

    /// Waits until every request is answered. How many were with 200.
    ///
    /// # Panics
    /// If the server ends a stream or the connection otherwise, or an answer does not come.
    pub async fn admitted(mut self) -> usize {
        self.verdicts()
            .await
            .into_iter()
            .filter(|admitted| *admitted)
            .count()
    }

    /// Waits until every request sent so far is answered. For each, in their order, whether it was with 200.
    ///
    /// # Panics
    /// As [`admitted`](Self::admitted).
    pub async fn verdicts(&mut self) -> Vec<bool> {
        let mut admitted = vec![false; self.sent as usize];
        while self.answered < self.sent {
            let mut head = [0; 9];
            let read = timeout(PATIENCE, self.stream.read_exact(&mut head)).await;
            read.expect("an answer in time").expect("a whole answer");
            let [_, high, low, kind, flags, stream @ ..] = head;
            let mut payload = vec![0; usize::from(high) << 8 | usize::from(low)];
            self.stream.read_exact(&mut payload).await.unwrap();
            match kind {
                // HEADERS. 0x88 is ":status: 200" (RFC 7541, appendix A).
                1 => admitted[u32::from_be_bytes(stream) as usize / 2] = payload[0] == 0x88,
                // SETTINGS want an acknowledgement.
                4 if flags == 0 => self.stream.write_all(SETTINGS_ACK).await.unwrap(),
                3 | 7 => panic!("the server ended a stream or the connection: {payload:?}"),
                _ => {}
            }
            self.answered += u32::from(kind <= 1 && flags & 1 == 1);
        }
        admitted
    }
}
