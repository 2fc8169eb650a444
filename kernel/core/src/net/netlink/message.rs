//! Netlink messages as bytes: `struct nlmsghdr`, a body, and attributes (netlink(7)).

use crate::prelude::*;

pub const HEADER: usize = 16;

pub const NLMSG_NOOP: u16 = 1;
pub const NLMSG_ERROR: u16 = 2;
pub const NLMSG_DONE: u16 = 3;

pub const NLM_F_REQUEST: u16 = 1;
pub const NLM_F_MULTI: u16 = 2;
pub const NLM_F_ACK: u16 = 4;
pub const NLM_F_DUMP: u16 = 0x300;
pub const NLM_F_REPLACE: u16 = 0x100;
pub const NLM_F_EXCL: u16 = 0x200;
/// The header alone comes back with an acknowledgement.
const NLM_F_CAPPED: u16 = 0x100;

/// `struct nlmsghdr` (its port is the sender's own word, and means nothing to us).
#[derive(Clone, Copy, Debug)]
pub struct Header {
    pub len: u32,
    pub kind: u16,
    pub flags: u16,
    pub sequence: u32,
}

impl Header {
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let word = |at: usize| bytes.get(at..at + 4).and_then(|word| word.try_into().ok()).map(u32::from_ne_bytes);
        let half = |at: usize| bytes.get(at..at + 2).and_then(|half| half.try_into().ok()).map(u16::from_ne_bytes);
        Some(Self { len: word(0)?, kind: half(4)?, flags: half(6)?, sequence: word(8)? })
    }
    pub fn has(self, flags: u16) -> bool {
        self.flags & flags == flags
    }
    /// Whether all objects are asked for.
    pub fn is_dump(self) -> bool {
        self.flags & NLM_F_DUMP != 0
    }
}

pub const fn align(len: usize) -> usize {
    len.next_multiple_of(4)
}

/// One message being made.
pub struct Builder(Vec<u8>);

impl Builder {
    pub fn new(kind: u16, flags: u16, sequence: u32, port: u32, body: &[u8]) -> Self {
        // Infallible: one message; a reply of many is admitted as it grows.
        let mut bytes = Vec::with_capacity(256);
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(&kind.to_ne_bytes());
        bytes.extend_from_slice(&flags.to_ne_bytes());
        bytes.extend_from_slice(&sequence.to_ne_bytes());
        bytes.extend_from_slice(&port.to_ne_bytes());
        let mut builder = Self(bytes);
        builder.raw(body);
        builder
    }
    fn raw(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
        self.0.resize(align(self.0.len()), 0);
    }
    pub fn attribute(mut self, kind: u16, value: &[u8]) -> Self {
        self.0.extend_from_slice(&((4 + value.len()) as u16).to_ne_bytes());
        self.0.extend_from_slice(&kind.to_ne_bytes());
        self.raw(value);
        self
    }
    pub fn u8(self, kind: u16, value: u8) -> Self {
        self.attribute(kind, &[value])
    }
    pub fn u32(self, kind: u16, value: u32) -> Self {
        self.attribute(kind, &value.to_ne_bytes())
    }
    pub fn text(self, kind: u16, value: &str) -> Self {
        let mut bytes = Vec::from(value.as_bytes());
        bytes.push(0);
        self.attribute(kind, &bytes)
    }
    pub fn address(self, kind: u16, address: core::net::IpAddr) -> Self {
        match address {
            core::net::IpAddr::V4(v4) => self.attribute(kind, &v4.octets()),
            core::net::IpAddr::V6(v6) => self.attribute(kind, &v6.octets()),
        }
    }
    pub fn finish(mut self) -> Vec<u8> {
        let len = (self.0.len() as u32).to_ne_bytes();
        self.0[..4].copy_from_slice(&len);
        self.0
    }
}

/// The attributes behind a request's body. Malformed ones end the list.
#[derive(Clone, Copy)]
pub struct Attributes<'a>(&'a [u8]);

impl<'a> Attributes<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }
    pub fn find(self, kind: u16) -> Option<&'a [u8]> {
        /// NLA_F_NESTED and NLA_F_NET_BYTEORDER.
        const FLAGS: u16 = 0xc000;
        let mut rest = self.0;
        while let Some(head) = rest.get(..4) {
            let len = usize::from(u16::from_ne_bytes([head[0], head[1]]));
            let value = rest.get(4..len)?;
            if u16::from_ne_bytes([head[2], head[3]]) & !FLAGS == kind {
                return Some(value);
            }
            rest = rest.get(align(len)..)?;
        }
        None
    }
    pub fn u32(self, kind: u16) -> Option<u32> {
        Some(u32::from_ne_bytes(self.find(kind)?.get(..4)?.try_into().ok()?))
    }
    pub fn text(self, kind: u16) -> Option<&'a str> {
        let bytes = self.find(kind)?;
        core::str::from_utf8(bytes.split(|byte| *byte == 0).next()?).ok()
    }
    /// An address of the length that its value has: EINVAL for another.
    pub fn address(self, kind: u16) -> Result<Option<core::net::IpAddr>, Errno> {
        let Some(value) = self.find(kind) else { return Ok(None) };
        if let Ok(v4) = <[u8; 4]>::try_from(value) {
            return Ok(Some(core::net::IpAddr::from(v4)));
        }
        <[u8; 16]>::try_from(value).map(|v6| Some(core::net::IpAddr::from(v6))).map_err(|_| Errno::EINVAL)
    }
}

/// The answer NLMSG_ERROR to `request`: 0 acknowledges.
pub fn error(request: &[u8], header: Header, port: u32, errno: Option<Errno>, cap: bool) -> Vec<u8> {
    let code = errno.map_or(0, |errno| -(errno.0 as i32));
    let capped = errno.is_none() || cap;
    let echo = if capped { request.get(..HEADER) } else { request.get(..header.len as usize) };
    let mut body = Vec::from(code.to_ne_bytes());
    body.extend_from_slice(echo.unwrap_or(request));
    let flags = if capped { NLM_F_CAPPED } else { 0 };
    Builder::new(NLMSG_ERROR, flags, header.sequence, port, &body).finish()
}
