//! Machines that stay while the test talks to them, and the peers on the host that they talk to.

use crate::artifacts;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

/// Long enough for a boot on a busy host.
pub const PATIENCE: Duration = Duration::from_secs(240);

/// The host as machines on QEMU's own network see it.
pub const HOST: &str = "10.0.2.2";

/// A machine in the background; it ends with this.
pub struct Machine {
    child: Child,
    lines: Receiver<String>,
    seen: Vec<String>,
    /// How long its end may be waited for.
    limit: Duration,
}

impl Machine {
    /// Starts `crannog run` with these words; the packages they name are there by then.
    pub fn start(arguments: &[&str]) -> Self {
        Self::start_for(240, arguments)
    }

    /// As [`Machine::start`]; after so many seconds it is ended.
    pub fn start_for(limit_s: u32, arguments: &[&str]) -> Self {
        crate::fetch(arguments);
        let mut child = Command::new(artifacts().join("crannog"))
            .args(["run", "--timeout", &limit_s.to_string()])
            .args(arguments)
            .env("CRANNOG_ARTIFACTS", artifacts())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the host tool starts");
        let (sender, lines) = channel();
        let streams: [Box<dyn Read + Send>; 2] =
            [Box::new(child.stdout.take().expect("a pipe")), Box::new(child.stderr.take().expect("a pipe"))];
        for stream in streams {
            let sender = sender.clone();
            std::thread::spawn(move || {
                for line in BufReader::new(stream).split(b'\n').map_while(Result::ok) {
                    let _ = sender.send(String::from_utf8_lossy(&line).trim_end().to_string());
                }
            });
        }
        let limit = PATIENCE.max(Duration::from_secs(limit_s.into()));
        Self { child, lines, seen: Vec::new(), limit }
    }

    /// Waits for a line that contains `text` and answers it.
    #[track_caller]
    pub fn wait_for(&mut self, text: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => {
                    self.seen.push(line.clone());
                    if line.contains(text) {
                        return line;
                    }
                }
                Err(error) => panic!("no {text:?} ({error}) in\n{}", self.seen.join("\n")),
            }
        }
    }

    /// Waits for the end, doing `meanwhile` every now and then; answers status and everything said.
    #[track_caller]
    pub fn end_with(mut self, mut meanwhile: impl FnMut()) -> (i32, String) {
        let deadline = Instant::now() + self.limit;
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait().expect("a child") {
                self.seen.extend(self.lines.try_iter());
                // The readers may still hold the last lines.
                while let Ok(line) = self.lines.recv_timeout(Duration::from_millis(500)) {
                    self.seen.push(line);
                }
                return (status.code().unwrap_or(-1), self.seen.join("\n"));
            }
            meanwhile();
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("the machine does not end:\n{}", self.seen.join("\n"));
    }

    /// Waits for the end; answers status and everything said.
    #[track_caller]
    pub fn end(self) -> (i32, String) {
        self.end_with(|| ())
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let new: Vec<String> = self.lines.try_iter().collect();
            println!("--- the machine said\n{}\n{}", self.seen.join("\n"), new.join("\n"));
        }
        // The tool passes SIGTERM on to its QEMU and cleans up; killed, QEMU goes with it.
        // SAFETY: a signal to our own child, which has not been waited for.
        unsafe { libc::kill(self.child.id() as i32, libc::SIGTERM) };
        let deadline = Instant::now() + Duration::from_secs(5);
        while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(5));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A TCP port of the host that is free and stays so for a while: no other test of this run is given it, and it lies below those
/// that a host gives to outgoing connections.
pub fn free_port() -> u16 {
    const FIRST: u32 = 10_000;
    const COUNT: u32 = 10_000;
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let start = std::process::id().wrapping_mul(97);
    loop {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        assert!(number < COUNT, "no port is free");
        let port = (FIRST + start.wrapping_add(number) % COUNT) as u16;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
}

/// Connects to a published port and talks until the guest's program answers: QEMU takes connections before it listens.
#[track_caller]
pub fn talk(port: u16, question: &[u8], enough: impl Fn(&[u8]) -> bool) -> Vec<u8> {
    let deadline = Instant::now() + PATIENCE;
    let mut last = Vec::new();
    while Instant::now() < deadline {
        if let Some(answer) = try_talk(port, question, &enough) {
            if enough(&answer) {
                return answer;
            }
            last = answer;
        }
        std::thread::sleep(Duration::from_millis(200));
    }
    panic!("port {port} does not answer: {:?}", String::from_utf8_lossy(&last));
}

fn try_talk(port: u16, question: &[u8], enough: &impl Fn(&[u8]) -> bool) -> Option<Vec<u8>> {
    let at = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let mut stream = TcpStream::connect_timeout(&at, Duration::from_secs(2)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(10))).ok()?;
    stream.write_all(question).ok()?;
    let mut answer = Vec::new();
    let mut chunk = [0; 65536];
    while !enough(&answer) {
        match stream.read(&mut chunk) {
            Ok(count @ 1..) => answer.extend_from_slice(&chunk[..count]),
            _ => break,
        }
    }
    Some(answer)
}

/// GET `path` from a published port; answers the body.
#[track_caller]
pub fn get(port: u16, path: &str) -> String {
    let question = format!("GET {path} HTTP/1.1\r\nHost: guest\r\nConnection: close\r\n\r\n");
    let answer = talk(port, question.as_bytes(), |answer| body_of(answer).is_some());
    String::from_utf8_lossy(body_of(&answer).expect("a body")).into_owned()
}

/// The body of a complete answer with a Content-Length.
pub fn body_of(answer: &[u8]) -> Option<&[u8]> {
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
    let head = String::from_utf8_lossy(&answer[..end]).to_ascii_lowercase();
    let len = head.lines().find_map(|line| line.strip_prefix("content-length:"))?.trim().parse::<usize>().ok()?;
    answer.get(end..end + len)
}

/// Serves `body` over HTTP on a port of the host, for as long as the test lives.
pub fn serve_http(body: &'static [u8]) -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let port = listener.local_addr().expect("an address").port();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut head = [0; 4096];
            let _ = stream.read(&mut head);
            let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
            let _ = stream.write_all(answer.as_bytes());
            let _ = stream.write_all(body);
        }
    });
    port
}

/// Answers every DNS question for an address with 192.0.2.7.
pub fn serve_dns() -> u16 {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let port = socket.local_addr().expect("an address").port();
    std::thread::spawn(move || {
        let mut question = [0; 1500];
        while let Ok((len, from)) = socket.recv_from(&mut question) {
            // Header, then one name of labels, type and class.
            let Some(end) = question.get(12..len).and_then(|name| name.iter().position(|byte| *byte == 0)) else {
                continue;
            };
            let (end, is_a) = (12 + end + 5, question[12 + end + 2] == 1);
            let mut answer = question[..end.min(len)].to_vec();
            answer[2..4].copy_from_slice(&[0x81, 0x80]);
            answer[6..8].copy_from_slice(&[0, u8::from(is_a)]);
            answer[8..12].fill(0);
            if is_a {
                answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, 7]);
            }
            let _ = socket.send_to(&answer, from);
        }
    });
    port
}
