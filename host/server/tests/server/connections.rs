//! Connections without a complete request, and more connections than a listener allows.

use std::time::{Duration, Instant};

use crate::support::{TOKEN, WorkDir, allowing_module, check, connect, decide, http};
use postern_serve::Address;
use postern_server::Host;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};

const MAX_CONNECTIONS: usize = 16;

async fn host(dir: &WorkDir) -> (Host, std::net::SocketAddr) {
    dir.file("yes.wasm", &allowing_module());
    let text = format!(
        "listen: ['127.0.0.1:0', 'unix:host.sock']\nadmin: {{listen: 'unix:admin.sock'}}\nconnections: {MAX_CONNECTIONS}\n\
         gate: {{token: {{env: TOKEN}}}}\npolicies: {{entries: {{'yes': {{file: yes.wasm}}}}}}"
    );
    let host = dir.try_start(&text).await.unwrap();
    let Address::Tcp(tcp) = host.addresses()[0] else {
        panic!("TCP first")
    };
    (host, tcp)
}

/// Whether the other side closes within this time.
async fn closes(stream: &mut TcpStream, within: Duration) -> bool {
    let mut response = Vec::new();
    tokio::time::timeout(within, stream.read_to_end(&mut response))
        .await
        .is_ok()
}

async fn metric(host: &Host, name: &str) -> u64 {
    let text = http(host.admin().unwrap(), "GET", "/metrics", None)
        .await
        .unwrap()
        .body;
    let line = text.lines().find(|line| line.starts_with(name));
    line.and_then(|line| line.rsplit(' ').next()?.parse().ok())
        .unwrap()
}

#[tokio::test]
async fn incomplete_requests_do_not_hold_connections_for_long() {
    let dir = WorkDir::new();
    let (host, tcp) = host(&dir).await;
    let mut held = Vec::new();
    for i in 0..MAX_CONNECTIONS {
        let mut stream = TcpStream::connect(tcp).await.unwrap();
        // Nothing, half a head, the preface of HTTP/2.
        let sent: &[u8] = match i % 3 {
            0 => b"",
            1 => b"GET /healthz HTTP/1.1\r\nhost: a\r\nx-a: ",
            _ => b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        };
        stream.write_all(sent).await.unwrap();
        held.push(stream);
    }
    let started = Instant::now();
    let mut more = TcpStream::connect(tcp).await.unwrap();
    assert!(closes(&mut more, Duration::from_secs(5)).await, "refused at once");
    // The Unix socket has a limit of its own.
    let local = &host.addresses()[1];
    assert_eq!(
        decide(&mut connect(local).await, check("yes", "GET", "/")).await,
        "allowed"
    );
    let series = |name: &str| format!("postern_{name}{{listener=\"tcp://{tcp}\"}}");
    assert!(metric(&host, &series("connections_refused_total")).await >= 1);
    assert_eq!(
        metric(&host, &series("connections_limit")).await,
        MAX_CONNECTIONS as u64
    );

    for stream in &mut held {
        let left = Duration::from_secs(25).saturating_sub(started.elapsed());
        assert!(closes(stream, left).await, "after {:?}", started.elapsed());
    }
    let tcp = Address::Tcp(tcp);
    assert_eq!(http(&tcp, "GET", "/healthz", None).await.unwrap().status, 200);
    host.stop().await.unwrap();
}

#[tokio::test]
async fn a_head_sent_byte_by_byte_times_out() {
    let dir = WorkDir::new();
    let (host, tcp) = host(&dir).await;
    let mut stream = TcpStream::connect(tcp).await.unwrap();
    let started = Instant::now();
    while stream.write_all(b"G").await.is_ok() {
        assert!(
            started.elapsed() < Duration::from_secs(25),
            "the head does not time out"
        );
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    host.stop().await.unwrap();
}

#[tokio::test]
async fn two_authorization_headers_are_refused_on_every_listener() {
    let dir = WorkDir::new();
    let (host, tcp) = host(&dir).await;
    let [_, Address::Unix(unix)] = host.addresses() else {
        panic!("a Unix socket second")
    };
    let Address::Unix(admin) = host.admin().unwrap() else {
        panic!("a Unix socket")
    };
    let good = format!("authorization: Bearer {TOKEN}\r\n");
    for second in [good.as_str(), "authorization: Basic x\r\n", "authorization:\r\n"] {
        for pair in [format!("{good}{second}"), format!("{second}{good}")] {
            let head = |method: &str, path: &str| {
                format!("{method} {path} HTTP/1.1\r\nhost: a\r\n{pair}connection: close\r\n\r\n")
            };
            let events = head("POST", "/v1/audit");
            let tcp = status(TcpStream::connect(tcp).await.unwrap(), &events).await;
            let unix = status(UnixStream::connect(unix).await.unwrap(), &events).await;
            let admin = status(
                UnixStream::connect(admin).await.unwrap(),
                &head("GET", "/metrics"),
            )
            .await;
            assert_eq!((tcp, unix, admin), (401, 401, 401), "{pair:?}");
        }
    }
    host.stop().await.unwrap();
}

async fn status(mut stream: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin, request: &str) -> u16 {
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut response = Vec::new();
    let _ = tokio::time::timeout(Duration::from_secs(5), stream.read_to_end(&mut response)).await;
    let response = String::from_utf8_lossy(&response).into_owned();
    response
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok())
        .unwrap()
}
