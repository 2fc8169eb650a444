//! What network a machine is on: QEMU's words for it, and what the guest is told.
//!
//! - `user`: QEMU's own network, with ports published on the host by `-p`; the guest asks DHCP.
//! - `socket:NAME`: a link shared by every machine of that name on this host (multicast on the loopback interface); address and
//!   MAC follow from the machine's name.
//! - `tap:DEV`: an existing tap device.

use anyhow::{Context, Result, bail};
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::str::FromStr;

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Mode {
    None,
    User,
    Socket(String),
    Tap(String),
}

impl FromStr for Mode {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            None if text == "none" => Ok(Self::None),
            None if text == "user" => Ok(Self::User),
            Some(("socket", name)) if !name.is_empty() => Ok(Self::Socket(name.into())),
            Some(("tap", device)) if !device.is_empty() && !device.contains(',') => Ok(Self::Tap(device.into())),
            _ => Err(String::from("user, socket:NAME, tap:DEV or none expected")),
        }
    }
}

/// A port of the host that leads to one of the guest: `[ADDR:]HOST:GUEST[/tcp|/udp]`. Host port 0: any free one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Publish {
    address: Ipv4Addr,
    host: u16,
    guest: u16,
    udp: bool,
}

impl FromStr for Publish {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let error = || String::from("[ADDRESS:]HOSTPORT:GUESTPORT[/tcp|/udp] expected");
        let (ports, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
        let udp = match protocol {
            "tcp" => false,
            "udp" => true,
            _ => return Err(error()),
        };
        let (rest, guest) = ports.rsplit_once(':').ok_or_else(error)?;
        let (address, host) = rest.rsplit_once(':').unwrap_or(("127.0.0.1", rest));
        let guest = guest.parse().ok().filter(|port| *port != 0).ok_or_else(error)?;
        Ok(Self {
            address: address.parse().map_err(|_| error())?,
            host: host.parse().map_err(|_| error())?,
            guest,
            udp,
        })
    }
}

impl Publish {
    /// Makes sure that the host port is free, choosing one if none is named; QEMU would only say so after the boot began.
    fn settle(&mut self) -> Result<()> {
        let at = (self.address, self.host);
        let bound = if self.udp {
            UdpSocket::bind(at).and_then(|socket| socket.local_addr())
        } else {
            TcpListener::bind(at).and_then(|listener| listener.local_addr())
        };
        match bound {
            Ok(bound) => self.host = bound.port(),
            Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {
                bail!("port {} is taken on this host (-p {}:{})", self.host, self.host, self.guest)
            }
            Err(error) => return Err(error).context(format!("-p {}:{}", self.host, self.guest)),
        }
        Ok(())
    }

    fn protocol(&self) -> &'static str {
        if self.udp { "udp" } else { "tcp" }
    }
}

/// The machine's place on its network.
pub struct Network {
    mode: Mode,
    name: String,
    publish: Vec<Publish>,
    pcap: Option<PathBuf>,
}

/// FNV-1a: the same on every host and in every version.
fn hash(parts: &[&str]) -> u64 {
    let bytes = parts.iter().flat_map(|part| part.bytes().chain([0]));
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

/// The address of machine `name` on link `link`: 10.LINK.x.y.
fn address(link: &str, name: &str) -> Ipv4Addr {
    let [link, ..] = hash(&["link", link]).to_be_bytes();
    let [x, y, ..] = hash(&["machine", name]).to_be_bytes();
    Ipv4Addr::new(10, link, x, 1 + y % 254)
}

impl Network {
    /// Checks everything that can be wrong before a boot.
    pub fn new(mode: Option<Mode>, name: &str, publish: &[Publish], pcap: Option<&Path>) -> Result<Self> {
        let mode = mode.unwrap_or(Mode::User);
        if mode != Mode::User && !publish.is_empty() {
            bail!("-p publishes ports of --net user only");
        }
        if mode == Mode::None && pcap.is_some() {
            bail!("--pcap needs a network");
        }
        let mut publish = publish.to_vec();
        for port in &mut publish {
            let chosen = port.host == 0;
            port.settle()?;
            if chosen {
                eprintln!("crannog: {}:{} leads to port {}/{}", port.address, port.host, port.guest, port.protocol());
            }
        }
        Ok(Self { mode, name: name.into(), publish, pcap: pcap.map(Path::to_path_buf) })
    }

    pub fn is_there(&self) -> bool {
        self.mode != Mode::None
    }

    /// QEMU's words.
    pub fn arguments(&self) -> Vec<String> {
        let backend = match &self.mode {
            Mode::None => return Vec::new(),
            Mode::User => {
                let mut words = String::from("user,id=net0");
                for port in &self.publish {
                    let (protocol, address) = (port.protocol(), port.address);
                    words.push_str(&format!(",hostfwd={protocol}:{address}:{}-:{}", port.host, port.guest));
                }
                words
            }
            Mode::Socket(link) => {
                let [_, a, b, c, d, ..] = hash(&["link", link]).to_be_bytes();
                let port = 20_000 + u16::from_be_bytes([c, d]) % 20_000;
                format!(
                    "dgram,id=net0,remote.type=inet,remote.host=239.77.{a}.{b},remote.port={port},\
                     local.type=inet,local.host=127.0.0.1,local.port={port}"
                )
            }
            Mode::Tap(device) => format!("tap,id=net0,ifname={device},script=no,downscript=no"),
        };
        let [_, _, _, _, _, a, b, c] = hash(&["machine", &self.name]).to_be_bytes();
        let mac = format!("52:54:00:{a:02x}:{b:02x}:{c:02x}");
        let mut words = vec!["-netdev".into(), backend, "-device".into()];
        words.push(format!("virtio-net-device,netdev=net0,mac={mac}"));
        if let Some(file) = &self.pcap {
            words.push("-object".into());
            words.push(format!("filter-dump,id=pcap,netdev=net0,file={}", file.display()));
        }
        words
    }

    /// The machine's own address, where nobody gives it one: ADDRESS/LENGTH.
    pub fn own_address(&self) -> Option<String> {
        match &self.mode {
            Mode::Socket(link) => Some(format!("{}/16", address(link, &self.name))),
            _ => None,
        }
    }

    /// What a guest that does not ask DHCP is to set: ADDRESS/LENGTH, gateway, name server.
    pub fn fixed_address(&self) -> Option<String> {
        match self.mode {
            Mode::User => Some("10.0.2.15/24,10.0.2.2,10.0.2.3".into()),
            _ => self.own_address(),
        }
    }

    /// Lines of /etc/hosts for machines on the same link.
    pub fn hosts(&self, peers: &[String]) -> Result<String> {
        let mut text = String::from("127.0.0.1 localhost\n::1 localhost\n");
        let Mode::Socket(link) = &self.mode else {
            if !peers.is_empty() {
                bail!("--peer names a machine of the same --net socket:NAME");
            }
            return Ok(text);
        };
        for name in [&self.name].into_iter().chain(peers) {
            text.push_str(&format!("{} {name}\n", address(link, name)));
        }
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn publish(text: &str) -> Option<Publish> {
        text.parse().ok()
    }

    #[test]
    fn ports_are_read() {
        let any = Ipv4Addr::UNSPECIFIED;
        let port = |address, host, guest, udp| Some(Publish { address, host, guest, udp });
        assert_eq!(publish("8080:80"), port(Ipv4Addr::LOCALHOST, 8080, 80, false));
        assert_eq!(publish("53:53/udp"), port(Ipv4Addr::LOCALHOST, 53, 53, true));
        assert_eq!(publish("0.0.0.0:0:22/tcp"), port(any, 0, 22, false));
        for wrong in ["80", "80:", "a:80", "80:0", "80:70000", "1:2:3", "80:80/sctp", "80:80/"] {
            assert_eq!(publish(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn modes_are_read() {
        assert_eq!("socket:lan1".parse(), Ok(Mode::Socket("lan1".into())));
        for wrong in ["", "socket", "socket:", "tap:a,b", "vlan"] {
            assert!(wrong.parse::<Mode>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_taken_port_is_named() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let text = format!("{}:80", listener.local_addr().unwrap().port());
        let error = Network::new(None, "a", &[text.parse().unwrap()], None).err().unwrap();
        assert!(error.to_string().contains("is taken"), "{error}");
    }

    #[test]
    fn machines_of_a_link_differ_and_stay() {
        let of = |name| Network::new(Some(Mode::Socket("lan1".into())), name, &[], None).unwrap();
        let (alpha, beta) = (of("alpha"), of("beta"));
        assert_ne!(alpha.own_address(), beta.own_address());
        assert_ne!(alpha.arguments()[3], beta.arguments()[3]);
        assert_eq!(alpha.arguments()[1], beta.arguments()[1], "one link");
        assert_eq!(of("alpha").arguments(), alpha.arguments());
        assert!(alpha.hosts(&["beta".into()]).unwrap().contains(&beta.own_address().unwrap().replace("/16", " beta")));
    }
}
