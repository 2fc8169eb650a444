//! The small services of old (RFC 862 to 864 and 866) on tokio: what the tests of the network talk to.
//!
//! TCP: 7 gives back what it gets, 9 takes it, 11 tells the machine's memory and sockets and closes, 13 says a line and closes
//! first, 19 never stops talking. UDP: 7.

use std::io::Result;
use std::net::Ipv6Addr;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy};
use tokio::net::{TcpListener, TcpSocket, TcpStream, UdpSocket};

const PIECE: usize = 16 << 10;

async fn echo(mut stream: TcpStream) -> Result<()> {
    let mut bytes = vec![0; 2048];
    loop {
        match stream.read(&mut bytes).await? {
            0 => return Ok(()),
            len => stream.write_all(&bytes[..len]).await?,
        }
    }
}

async fn discard(mut stream: TcpStream) -> Result<()> {
    copy(&mut stream, &mut tokio::io::sink()).await.map(drop)
}

async fn report(mut stream: TcpStream) -> Result<()> {
    for file in ["/proc/meminfo", "/proc/net/sockstat", "/proc/net/snmp", "/proc/net/netstat"] {
        let text = std::fs::read(file).unwrap_or_default();
        stream.write_all(&text).await?;
    }
    stream.shutdown().await
}

async fn line(mut stream: TcpStream) -> Result<()> {
    stream.write_all(b"good day\n").await?;
    stream.shutdown().await?;
    discard(stream).await
}

async fn talk(mut stream: TcpStream) -> Result<()> {
    let bytes: Vec<u8> = (0..PIECE).map(|at| b' ' + (at % 95) as u8).collect();
    loop {
        stream.write_all(&bytes).await?;
    }
}

fn listen(port: u16) -> Result<TcpListener> {
    // Dual stack.
    let socket = TcpSocket::new_v6()?;
    socket.set_reuseaddr(true)?;
    socket.bind((Ipv6Addr::UNSPECIFIED, port).into())?;
    socket.listen(1024)
}

/// Gives every connection to `port` a task of its own.
fn serve<F>(port: u16, service: fn(TcpStream) -> F) -> Result<()>
where
    F: Future<Output = Result<()>> + Send + 'static,
{
    let listener = listen(port)?;
    tokio::spawn(async move {
        loop {
            match listener.accept().await {
                // A peer that goes is no trouble of ours.
                Ok((stream, _)) => drop(tokio::spawn(service(stream))),
                Err(error) => {
                    eprintln!("port {port}: {error}");
                    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                }
            }
        }
    });
    Ok(())
}

#[tokio::main(worker_threads = 2)]
async fn main() -> Result<()> {
    serve(7, echo)?;
    serve(9, discard)?;
    serve(11, report)?;
    serve(13, line)?;
    serve(19, talk)?;
    let datagrams = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 7)).await?;
    println!("services are there");
    let mut bytes = vec![0; 65536];
    loop {
        if let Ok((len, from)) = datagrams.recv_from(&mut bytes).await {
            let _ = datagrams.send_to(&bytes[..len], from).await;
        }
    }
}
