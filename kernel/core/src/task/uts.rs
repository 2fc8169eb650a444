//! What uname(2) says of the machine: release, host name, domain name.

use crate::prelude::*;

/// What `uname -r` says: the Linux whose calls these are, and whose they are.
pub const RELEASE: &str = "6.1.0-crannog";

struct Names {
    /// Until it is set: "crannog".
    host: Option<Vec<u8>>,
    domain: Vec<u8>,
}

static NAMES: SpinLock<Names> = SpinLock::new(Names { host: None, domain: Vec::new() });

/// The host name ("crannog" until it is set).
pub fn host_name() -> Vec<u8> {
    NAMES.lock().host.clone().unwrap_or_else(|| b"crannog".to_vec())
}

/// As sethostname(2), the name checked by the caller.
pub fn set_host_name(name: Vec<u8>) {
    let old = NAMES.lock().host.replace(name);
    drop(old);
}

/// The NIS domain name ("(none)" until it is set).
pub fn domain_name() -> Vec<u8> {
    let names = NAMES.lock();
    if names.domain.is_empty() { b"(none)".to_vec() } else { names.domain.clone() }
}

/// As setdomainname(2), the name checked by the caller.
pub fn set_domain_name(name: Vec<u8>) {
    let old = core::mem::replace(&mut NAMES.lock().domain, name);
    drop(old);
}
