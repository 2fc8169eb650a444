//! page: serves one page that shows the machine live: tasks and what they wait for, memory, interfaces, connections.
//! `page [PORT]` (8080). The page fetches its own text once a second from /live.

use std::fs;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpListener, TcpStream};
use std::time::Duration;

/// Requests answered at a time; more wait in the listener's queue.
const WORKERS: usize = 4;
/// Bytes of a request's head that are read at most.
const REQUEST_MAX: usize = 8192;

const PAGE: &str = r#"<!doctype html><html lang="en"><meta charset="utf-8"><title>Crannog</title>
<style>body{font:14px/1.4 ui-monospace,monospace;margin:2em;background:#11151a;color:#d6dde5}h1{font-size:1.2em;color:#8fc7ff}
pre{white-space:pre-wrap}</style><h1>Crannog, live</h1><pre id="live">...</pre><script>
const show=async()=>{try{live.textContent=await(await fetch('/live')).text()}catch(e){live.textContent='no answer: '+e}};
show();setInterval(show,1000);</script></html>
"#;

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

fn memory() -> String {
    let text = read("/proc/meminfo");
    let wanted = ["MemTotal", "MemFree", "MemAvailable", "Cached", "Shmem", "KernelStack", "PageTables", "Slab"];
    text.lines()
        .filter(|line| wanted.iter().any(|name| line.starts_with(&format!("{name}:"))))
        .map(|line| format!("{line}\n"))
        .collect()
}

fn network() -> String {
    let text = read("/proc/net/dev");
    let mut out = format!(
        "{:<10} {:>14} {:>12} {:>14} {:>12}\n",
        "INTERFACE", "BYTES IN", "FRAMES IN", "BYTES OUT", "FRAMES OUT"
    );
    for line in text.lines().skip(2) {
        let Some((name, counters)) = line.split_once(':') else { continue };
        let counters: Vec<&str> = counters.split_whitespace().collect();
        if let [bytes_in, frames_in, .., bytes_out, frames_out, _, _, _, _, _, _] = counters[..] {
            out.push_str(&format!(
                "{:<10} {bytes_in:>14} {frames_in:>12} {bytes_out:>14} {frames_out:>12}\n",
                name.trim()
            ));
        }
    }
    out
}

/// ADDRESS:PORT of /proc/net/tcp: words of hexadecimal digits, each little-endian.
fn endpoint(text: &str) -> Option<String> {
    let (address, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let mut bytes = Vec::new();
    for at in (0..address.len()).step_by(8) {
        bytes.extend(u32::from_str_radix(address.get(at..at + 8)?, 16).ok()?.to_le_bytes());
    }
    let address: IpAddr = match <[u8; 4]>::try_from(bytes.as_slice()) {
        Ok(v4) => Ipv4Addr::from(v4).into(),
        Err(_) => Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?).to_canonical(),
    };
    Some(format!("{address}:{port}"))
}

fn connections() -> String {
    const STATES: [&str; 12] = [
        "?",
        "ESTABLISHED",
        "SYN-SENT",
        "SYN-RECEIVED",
        "FIN-WAIT-1",
        "FIN-WAIT-2",
        "TIME-WAIT",
        "CLOSED",
        "CLOSE-WAIT",
        "LAST-ACK",
        "LISTEN",
        "CLOSING",
    ];
    let mut out = String::new();
    for table in ["/proc/net/tcp", "/proc/net/tcp6"] {
        for line in read(table).lines().skip(1) {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let [_, local, remote, state, ..] = fields[..] else { continue };
            let state = usize::from_str_radix(state, 16).ok().and_then(|state| STATES.get(state)).unwrap_or(&"?");
            if let (Some(local), Some(remote)) = (endpoint(local), endpoint(remote)) {
                out.push_str(&format!("{state:<13} {local:<24} {remote}\n"));
            }
        }
    }
    out
}

fn live() -> String {
    let host = read("/proc/sys/kernel/hostname");
    let up = read("/proc/uptime");
    let load = read("/proc/loadavg");
    format!(
        "{} up {} s, load {}\n\n{}\n{}\n{}\n{}",
        host.trim(),
        up.split_whitespace().next().unwrap_or("?"),
        load.trim(),
        crate::waits::show(false, false, &[]).unwrap_or_else(|error| error + "\n"),
        memory(),
        network(),
        connections()
    )
}

/// Answers requests on one connection until the peer is done or silent.
fn serve(mut stream: TcpStream) -> std::io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    stream.set_write_timeout(Some(Duration::from_secs(10)))?;
    let mut head = Vec::new();
    loop {
        let mut chunk = [0; 1024];
        while !head.windows(4).any(|four| four == b"\r\n\r\n") {
            let count = stream.read(&mut chunk)?;
            if count == 0 || head.len() > REQUEST_MAX {
                return Ok(());
            }
            head.extend_from_slice(&chunk[..count]);
        }
        let line = String::from_utf8_lossy(&head);
        let path = line.split_whitespace().nth(1).unwrap_or("");
        let (status, kind, body) = match path {
            "/" => ("200 OK", "text/html; charset=utf-8", PAGE.to_string()),
            "/live" => ("200 OK", "text/plain; charset=utf-8", live()),
            _ => ("404 Not Found", "text/plain; charset=utf-8", "not here\n".to_string()),
        };
        let answer = format!(
            "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nCache-Control: no-store\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(answer.as_bytes())?;
        head.clear();
    }
}

pub fn main(arguments: &[String]) -> u8 {
    let port = match arguments.first().map(|port| port.parse::<u16>()) {
        None => 8080,
        Some(Ok(port)) => port,
        Some(Err(_)) => return crate::usage_error("page", "usage: page [PORT]"),
    };
    let listener = match TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)) {
        Ok(listener) => listener,
        Err(error) => {
            eprintln!("page: port {port}: {error}");
            return 1;
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| {
                for stream in listener.incoming().flatten() {
                    let _ = serve(stream);
                }
            });
        }
    });
    0
}
