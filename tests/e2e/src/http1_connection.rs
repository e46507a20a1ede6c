//! HTTP/1.1 written byte by byte, for requests that no client library sends.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

use crate::Response;

const READ_TIMEOUT: Duration = Duration::from_secs(20);

/// A connection for sequential requests.
#[derive(Debug)]
pub struct Http1Connection {
    stream: TcpStream,
    received: Vec<u8>,
}

impl Http1Connection {
    pub async fn open(addr: SocketAddr) -> Self {
        Self::over(TcpStream::connect(addr).await.unwrap())
    }

    /// Connects from this local address.
    pub async fn open_from(local: IpAddr, addr: SocketAddr) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::new(local, 0)).unwrap();
        Self::over(socket.connect(addr).await.unwrap())
    }

    fn over(stream: TcpStream) -> Self {
        stream.set_nodelay(true).unwrap();
        Self {
            stream,
            received: Vec::new(),
        }
    }

    /// Sends bytes. An error is ignored: a server may respond and close before it has read them all.
    pub async fn write(&mut self, bytes: &[u8]) {
        let _ = timeout(READ_TIMEOUT, self.stream.write_all(bytes)).await.unwrap();
    }

    async fn read_more(&mut self) -> bool {
        let mut part = [0; 16 * 1024];
        let read = timeout(READ_TIMEOUT, self.stream.read(&mut part))
            .await
            .unwrap_or_else(|_| panic!("no response within {READ_TIMEOUT:?}"));
        let count = read.unwrap_or(0);
        self.received.extend_from_slice(&part[..count]);
        count > 0
    }

    /// Reads a response with a `content-length` or in chunks. `None` if the connection ends before its headers do.
    pub async fn read_response(&mut self) -> Option<Response> {
        let end = loop {
            match find(&self.received, b"\r\n\r\n") {
                Some(end) => break end,
                None if self.read_more().await => {}
                None => return None,
            }
        };
        let head = self.received.drain(..end + 4).collect::<Vec<u8>>();
        let (status, headers) = parse(&head[..end]);
        let mut response = Response {
            status,
            headers,
            body: Vec::new(),
        };
        if response.header("transfer-encoding") == Some("chunked") {
            while let Some(chunk) = self.chunk().await.filter(|chunk| !chunk.is_empty()) {
                response.body.extend(chunk);
            }
        } else if let Some(length) = response.header("content-length") {
            let length: usize = length.parse().unwrap();
            while self.received.len() < length && self.read_more().await {}
            response.body = self.received.drain(..length.min(self.received.len())).collect();
        }
        Some(response)
    }

    async fn chunk(&mut self) -> Option<Vec<u8>> {
        loop {
            if let Some(line) = find(&self.received, b"\r\n") {
                let size = std::str::from_utf8(&self.received[..line]).unwrap();
                let size = usize::from_str_radix(size, 16).unwrap();
                if self.received.len() >= line + 2 + size + 2 {
                    let bytes: Vec<u8> = self.received.drain(..line + 2 + size + 2).collect();
                    return Some(bytes[line + 2..line + 2 + size].to_vec());
                }
            }
            if !self.read_more().await {
                return None;
            }
        }
    }
}

/// Sends these bytes on a new connection and reads the response.
///
/// # Panics
/// If there is no response.
pub async fn exchange(addr: SocketAddr, request: impl AsRef<[u8]>) -> Response {
    let mut connection = Http1Connection::open(addr).await;
    connection.write(request.as_ref()).await;
    let shown = String::from_utf8_lossy(&request.as_ref()[..request.as_ref().len().min(200)]).into_owned();
    let response = connection.read_response().await;
    response.unwrap_or_else(|| panic!("no response to {shown:?}"))
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}

fn parse(head: &[u8]) -> (u16, HeaderMap) {
    let head = std::str::from_utf8(head).unwrap();
    let mut lines = head.split("\r\n");
    let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    let mut headers = HeaderMap::new();
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        headers.append(
            HeaderName::from_bytes(name.as_bytes()).unwrap(),
            HeaderValue::from_str(value.trim()).unwrap(),
        );
    }
    (status, headers)
}
