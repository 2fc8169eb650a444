//! A load generator for HTTP: requests on connections that stay or on new ones, every answer looked at.

use crate::net::body_of;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

/// Whether a connection serves one request or all of a client's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Connections {
    Stay,
    New,
}

/// So long may one answer take on a busy host.
const LIMIT: Duration = Duration::from_secs(60);

/// What one client needs from request to request.
struct Client {
    port: u16,
    stream: Option<TcpStream>,
    answer: Vec<u8>,
}

impl Client {
    fn connect(port: u16) -> TcpStream {
        let stream = TcpStream::connect(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).expect("a connection");
        stream.set_read_timeout(Some(LIMIT)).expect("a time limit");
        stream.set_nodelay(true).expect("no delay");
        stream
    }

    /// One request; the whole answer is in `answer` then.
    fn ask(&mut self, path: &str, connections: Connections) {
        let port = self.port;
        let stream = self.stream.get_or_insert_with(|| Self::connect(port));
        let end = if connections == Connections::New { "Connection: close\r\n" } else { "" };
        stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: guest\r\n{end}\r\n").as_bytes()).expect("a request");
        self.answer.clear();
        let mut chunk = [0; 16384];
        loop {
            let is_whole = body_of(&self.answer).is_some();
            // A connection that ends says so by itself.
            if is_whole && connections == Connections::Stay {
                return;
            }
            match stream.read(&mut chunk) {
                Ok(0) if is_whole => break,
                Ok(count @ 1..) => self.answer.extend_from_slice(&chunk[..count]),
                other => panic!("{other:?} after {} bytes of an answer", self.answer.len()),
            }
        }
        self.stream = None;
    }
}

/// `clients` at once ask for `path`, `count` times each; answers how many answers were status 200 with exactly `body`.
pub fn requests(port: u16, clients: usize, count: usize, connections: Connections, path: &str, body: &[u8]) -> usize {
    std::thread::scope(|scope| {
        let run = || {
            let mut client = Client { port, stream: None, answer: Vec::new() };
            (0..count)
                .filter(|_| {
                    client.ask(path, connections);
                    client.answer.starts_with(b"HTTP/1.1 200 ") && body_of(&client.answer) == Some(body)
                })
                .count()
        };
        let threads: Vec<_> = (0..clients).map(|_| scope.spawn(run)).collect();
        threads.into_iter().map(|thread| thread.join().expect("a client")).sum()
    })
}
