//! HTTP/2 written frame by frame (RFC 9113), to control the DATA frames, trailers and pseudo-header fields of a request.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const STREAM: u32 = 1;

/// A request on a connection of its own.
#[derive(Debug)]
pub struct Http2Stream(TcpStream);

impl Http2Stream {
    /// Connects and sends the HEADERS of a POST, without ending the stream.
    pub async fn post(addr: SocketAddr, path: &str, fields: &[(&str, &str)]) -> Self {
        Self::begin(addr, END_HEADERS, "POST", &addr.to_string(), path, fields).await
    }

    /// Connects and sends a GET with this `:authority`, valid or not.
    pub async fn get(addr: SocketAddr, authority: &str, path: &str) -> Self {
        Self::request(addr, "GET", authority, path).await
    }

    /// Connects and sends a request without a body. The method may be invalid.
    pub async fn request(addr: SocketAddr, method: &str, authority: &str, path: &str) -> Self {
        Self::begin(addr, END_HEADERS | END_STREAM, method, authority, path, &[]).await
    }

    async fn begin(
        addr: SocketAddr,
        flags: u8,
        method: &str,
        authority: &str,
        path: &str,
        fields: &[(&str, &str)],
    ) -> Self {
        let stream = TcpStream::connect(addr).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let mut this = Self(stream);
        this.0
            .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
            .await
            .unwrap();
        this.frame(SETTINGS, 0, 0, &[]).await;
        let pseudo = [
            (":method", method),
            (":scheme", "http"),
            (":authority", authority),
            (":path", path),
        ];
        let block = block(pseudo.iter().chain(fields));
        this.frame(HEADERS, flags, STREAM, &block).await;
        this
    }

    /// Sends a DATA frame; `last` ends the stream.
    pub async fn data(&mut self, part: &[u8], last: bool) {
        self.frame(DATA, if last { END_STREAM } else { 0 }, STREAM, part)
            .await;
    }

    /// Sends trailers and ends the stream.
    pub async fn trailers(&mut self, fields: &[(&str, &str)]) {
        self.frame(HEADERS, END_HEADERS | END_STREAM, STREAM, &block(fields.iter()))
            .await;
    }

    async fn frame(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let frame = frame(kind, flags, stream, payload);
        self.0.write_all(&frame).await.unwrap();
    }

    /// The body of the response. Its header fields are compressed and are not decoded: the bodies of the API and of
    /// denials suffice for tests.
    ///
    /// # Panics
    /// If the server resets the stream or closes the connection.
    pub async fn body(self) -> Vec<u8> {
        self.try_body().await.expect("a response")
    }

    /// The body of the response; `None` if the server resets the stream or closes the connection.
    pub async fn try_body(mut self) -> Option<Vec<u8>> {
        let mut body = Vec::new();
        let limit = Duration::from_secs(20);
        loop {
            let mut head = [0; 9];
            let read = timeout(limit, self.0.read_exact(&mut head)).await;
            if read.expect("a response within 20 s").is_err() {
                return None;
            }
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
            let mut payload = vec![0; length as usize];
            self.0.read_exact(&mut payload).await.unwrap();
            let [_, _, _, kind, flags, ..] = head;
            match kind {
                DATA => body.extend(payload),
                SETTINGS if flags == 0 => self.frame(SETTINGS, 1, 0, &[]).await,
                RST_STREAM => return None,
                _ => {}
            }
            if (kind == DATA || kind == HEADERS) && flags & END_STREAM != 0 {
                return Some(body);
            }
        }
    }
}

/// A request without a body: one HEADERS frame that ends its stream.
#[must_use]
pub fn headers_frame(stream: u32, fields: &[(&str, &str)]) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | END_STREAM, stream, &block(fields.iter()))
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = vec![length[1], length[2], length[3], kind, flags];
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// Literal header fields without indexing (RFC 7541, section 6.2.2).
fn block<'a>(fields: impl Iterator<Item = &'a (&'a str, &'a str)>) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            length(text.len(), &mut block);
            block.extend(text.as_bytes());
        }
    }
    block
}

/// The length of a string: an integer with a prefix of seven bits (RFC 7541, section 5.1).
fn length(length: usize, block: &mut Vec<u8>) {
    const PREFIX: usize = 127;
    if length < PREFIX {
        return block.push(u8::try_from(length).unwrap());
    }
    block.push(PREFIX as u8);
    let mut rest = length - PREFIX;
    while rest >= 128 {
        block.push((rest % 128) as u8 | 128);
        rest /= 128;
    }
    block.push(rest as u8);
}
