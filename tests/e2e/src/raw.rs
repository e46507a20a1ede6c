//! HTTP/1.1 written byte by byte, for what no client library sends.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

use crate::Answer;

const PATIENCE: Duration = Duration::from_secs(20);

/// A connection that carries one request after another.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    received: Vec<u8>,
}

impl Connection {
    /// Connects.
    pub async fn open(addr: SocketAddr) -> Self {
        Self::over(TcpStream::connect(addr).await.unwrap())
    }

    /// Connects from an address of this machine.
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

    /// Sends bytes. That the other side has closed is no error: its answer counts.
    pub async fn write(&mut self, bytes: &[u8]) {
        let _ = timeout(PATIENCE, self.stream.write_all(bytes)).await.unwrap();
    }

    async fn more(&mut self) -> bool {
        let mut part = [0; 16 * 1024];
        let read = timeout(PATIENCE, self.stream.read(&mut part))
            .await
            .unwrap_or_else(|_| panic!("no answer within {PATIENCE:?}"));
        let count = read.unwrap_or(0);
        self.received.extend_from_slice(&part[..count]);
        count > 0
    }

    /// Reads one response, by its content-length or its chunks. `None` if the connection ends before one.
    pub async fn answer(&mut self) -> Option<Answer> {
        let end = loop {
            match find(&self.received, b"\r\n\r\n") {
                Some(end) => break end,
                None if self.more().await => {}
                None => return None,
            }
        };
        let head = self.received.drain(..end + 4).collect::<Vec<u8>>();
        let (status, headers) = parse(&head[..end]);
        let mut answer = Answer {
            status,
            headers,
            body: Vec::new(),
        };
        if answer.header("transfer-encoding") == Some("chunked") {
            while let Some(chunk) = self.chunk().await.filter(|chunk| !chunk.is_empty()) {
                answer.body.extend(chunk);
            }
        } else if let Some(length) = answer.header("content-length") {
            let length: usize = length.parse().unwrap();
            while self.received.len() < length && self.more().await {}
            answer.body = self.received.drain(..length.min(self.received.len())).collect();
        }
        Some(answer)
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
            if !self.more().await {
                return None;
            }
        }
    }
}

/// Sends a request as it stands on a connection of its own and reads the answer, which must come.
pub async fn exchange(addr: SocketAddr, request: impl AsRef<[u8]>) -> Answer {
    let mut connection = Connection::open(addr).await;
    connection.write(request.as_ref()).await;
    let shown = String::from_utf8_lossy(&request.as_ref()[..request.as_ref().len().min(200)]).into_owned();
    let answer = connection.answer().await;
    answer.unwrap_or_else(|| panic!("no answer to {shown:?}"))
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
