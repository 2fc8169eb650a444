//! pid 1 of `crannog run` and of built images: mounts what programs expect, runs one program on the console, reaps orphans, and
//! ends the machine with the program's status. Works on Crannog and on Linux.
//!
//! /.crannog/run holds NUL-terminated `key=value` orders: cwd, raw, hostname, address (see [`network`]), terminal (ROWSxCOLUMNS),
//! mount (directory or file, mount point and ro or rw between unit separators; any number),
//! service (words between unit separators; any number), env (any number),
//! arg (any number).

mod network;

use std::ffi::CString;
use std::fs;
use std::io::Write;

/// What the host waits for before it shows output and sends input.
const READY: u8 = 5;

struct Orders {
    cwd: String,
    raw: bool,
    hostname: Option<CString>,
    address: Option<CString>,
    terminal: Option<(u16, u16)>,
    mounts: Vec<(String, String, bool)>,
    services: Vec<Vec<CString>>,
    env: Vec<CString>,
    args: Vec<CString>,
}

fn read_orders() -> Orders {
    let bytes = fs::read("/.crannog/run").unwrap_or_default();
    let mut orders = Orders {
        cwd: String::from("/"),
        raw: false,
        hostname: None,
        address: None,
        terminal: None,
        mounts: Vec::new(),
        services: Vec::new(),
        env: Vec::new(),
        args: Vec::new(),
    };
    for order in bytes.split(|byte| *byte == 0) {
        let Some(at) = order.iter().position(|byte| *byte == b'=') else { continue };
        let (key, value) = (&order[..at], &order[at + 1..]);
        let text = CString::new(value).unwrap_or_default();
        match key {
            b"cwd" => orders.cwd = String::from_utf8_lossy(value).into_owned(),
            b"raw" => orders.raw = true,
            b"hostname" => orders.hostname = Some(text),
            b"address" => orders.address = Some(text),
            b"terminal" => {
                let value = String::from_utf8_lossy(value);
                let size = value.split_once('x').map(|(rows, columns)| (rows.parse(), columns.parse()));
                orders.terminal = size.and_then(|(rows, columns)| Some((rows.ok()?, columns.ok()?)));
            }
            b"mount" => {
                let value = String::from_utf8_lossy(value).into_owned();
                let mut words = value.split('\x1f').map(String::from);
                if let (Some(from), Some(to), Some(mode)) = (words.next(), words.next(), words.next()) {
                    orders.mounts.push((from, to, mode == "ro"));
                }
            }
            b"service" => {
                let words = value.split(|byte| *byte == 0x1f).map(|word| CString::new(word).unwrap_or_default());
                orders.services.push(words.collect());
            }
            b"env" => orders.env.push(text),
            b"arg" => orders.args.push(text),
            _ => {}
        }
    }
    orders
}

fn mount(source: &str, target: &str, fstype: &str, data: &str) {
    let _ = fs::create_dir_all(target);
    let [source, target, fstype, data] =
        [source, target, fstype, data].map(|text| CString::new(text).unwrap_or_default());
    // SAFETY: four NUL-terminated strings. What cannot be mounted is left out.
    unsafe { libc::mount(source.as_ptr(), target.as_ptr(), fstype.as_ptr(), 0, data.as_ptr().cast()) };
}

fn mount_all() {
    mount("proc", "/proc", "proc", "");
    mount("sysfs", "/sys", "sysfs", "");
    mount("devtmpfs", "/dev", "devtmpfs", "");
    mount("devpts", "/dev/pts", "devpts", "mode=620,ptmxmode=666");
    mount("tmpfs", "/dev/shm", "tmpfs", "mode=1777");
    mount("mqueue", "/dev/mqueue", "mqueue", "");
    mount("tmpfs", "/tmp", "tmpfs", "mode=1777");
    mount("tmpfs", "/run", "tmpfs", "mode=755");
    for (link, target) in [
        ("/dev/fd", "/proc/self/fd"),
        ("/dev/stdin", "/proc/self/fd/0"),
        ("/dev/stdout", "/proc/self/fd/1"),
        ("/dev/stderr", "/proc/self/fd/2"),
    ] {
        let _ = std::os::unix::fs::symlink(target, link);
    }
}

/// Mounts what the host put beside the root file system at the place where it belongs.
fn mount_volume(from: &str, to: &str, read_only: bool) {
    if fs::metadata(from).is_ok_and(|metadata| metadata.is_dir()) {
        let _ = fs::create_dir_all(to);
    } else {
        let _ = std::path::Path::new(to).parent().map(fs::create_dir_all);
        let _ = fs::OpenOptions::new().create(true).append(true).open(to);
    }
    let [source, target] = [from, to].map(|text| CString::new(text).unwrap_or_default());
    let bind = |flags: libc::c_ulong| {
        // SAFETY: two NUL-terminated strings; a bind mount has no type and no options.
        unsafe { libc::mount(source.as_ptr(), target.as_ptr(), std::ptr::null(), flags, std::ptr::null()) }
    };
    // A bind mount becomes read-only only by a second call.
    if bind(libc::MS_BIND) != 0 || (read_only && bind(libc::MS_BIND | libc::MS_REMOUNT | libc::MS_RDONLY) != 0) {
        eprintln!("init: {to}: {}", std::io::Error::last_os_error());
        finish(125);
    }
}

/// Tells the terminal how large it is.
fn set_size((rows, columns): (u16, u16)) {
    let size = libc::winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: reads a structure of our own.
    unsafe { libc::ioctl(0, libc::TIOCSWINSZ, &size) };
}

/// The console without echo or processing: only ^D (end of input) and ^V (take the next byte as it is) mean something.
fn make_raw() {
    // SAFETY: termios calls on descriptor 0 with a structure of our own.
    unsafe {
        let mut termios: libc::termios = std::mem::zeroed();
        if libc::tcgetattr(0, &mut termios) != 0 {
            return;
        }
        termios.c_iflag = 0;
        termios.c_oflag = 0;
        termios.c_lflag = libc::ICANON | libc::IEXTEN;
        termios.c_cc = [0; libc::NCCS];
        termios.c_cc[libc::VEOF] = 4;
        termios.c_cc[libc::VLNEXT] = 0x16;
        libc::tcsetattr(0, libc::TCSANOW, &termios);
    }
    // The host's side begins here.
    let _ = std::io::stdout().write_all(&[READY]);
    let _ = std::io::stdout().flush();
}

/// Leads a session with the serial console as its terminal: /dev/console itself cannot be one.
fn take_terminal() {
    let path = CString::new("/dev/ttyAMA0").unwrap_or_default();
    // SAFETY: plain system calls on descriptors of our own.
    unsafe {
        libc::setsid();
        let fd = libc::open(path.as_ptr(), libc::O_RDWR);
        if fd >= 0 {
            for target in 0..3 {
                libc::dup2(fd, target);
            }
            if fd > 2 {
                libc::close(fd);
            }
        }
        libc::ioctl(0, libc::TIOCSCTTY, 0);
    }
}

/// Runs the program in a group of its own in the terminal's foreground.
fn spawn(orders: &Orders) -> libc::pid_t {
    // SAFETY: fork in a single-threaded process; the child only makes system calls before execve.
    unsafe {
        let child = libc::fork();
        if child != 0 {
            return child;
        }
        libc::setpgid(0, 0);
        libc::signal(libc::SIGTTOU, libc::SIG_IGN);
        libc::tcsetpgrp(0, libc::getpid());
        libc::signal(libc::SIGTTOU, libc::SIG_DFL);
        if let Ok(cwd) = CString::new(orders.cwd.as_str())
            && libc::chdir(cwd.as_ptr()) != 0
        {
            eprintln!("init: {}: {}", orders.cwd, std::io::Error::last_os_error());
            libc::_exit(125);
        }
        let pointers = |list: &[CString]| -> Vec<*const libc::c_char> {
            list.iter().map(|text| text.as_ptr()).chain([std::ptr::null()]).collect()
        };
        let mut env = orders.env.clone();
        let has = |name: &str| orders.env.iter().any(|text| text.to_bytes().starts_with(format!("{name}=").as_bytes()));
        for (name, value) in [
            ("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
            ("HOME", "/root"),
            ("TERM", "linux"),
        ] {
            if !has(name) {
                env.push(CString::new(format!("{name}={value}")).unwrap_or_default());
            }
        }
        let (args, env) = (pointers(&orders.args), pointers(&env));
        libc::execvpe(args[0], args.as_ptr(), env.as_ptr());
        let error = std::io::Error::last_os_error();
        eprintln!("init: {}: {error}", orders.args[0].to_string_lossy());
        libc::_exit(if error.raw_os_error() == Some(libc::ENOENT) { 127 } else { 126 });
    }
}

/// Starts a program beside the one on the console: a session of its own, nothing to read, its words to nobody.
fn start_service(service: &[CString]) {
    // SAFETY: fork in a single-threaded process; the child only makes system calls before execve.
    unsafe {
        if libc::fork() != 0 {
            return;
        }
        libc::setsid();
        let null = libc::open(c"/dev/null".as_ptr(), libc::O_RDWR);
        for target in 0..3 {
            libc::dup2(null, target);
        }
        let arguments: Vec<_> = service.iter().map(|word| word.as_ptr()).chain([std::ptr::null()]).collect();
        libc::execvp(arguments[0], arguments.as_ptr());
        libc::_exit(127);
    }
}

/// Reaps until the program ends; answers its status as a shell has it.
fn wait_for(child: libc::pid_t) -> i32 {
    loop {
        let mut status = 0;
        // SAFETY: waits for any child with a status of our own.
        let found = unsafe { libc::waitpid(-1, &mut status, 0) };
        if found == child {
            return if libc::WIFSIGNALED(status) { 128 + libc::WTERMSIG(status) } else { libc::WEXITSTATUS(status) };
        }
        if found < 0 && std::io::Error::last_os_error().raw_os_error() != Some(libc::EINTR) {
            return 125;
        }
    }
}

/// Whether this is Crannog, which ends with pid 1 and configures its own network.
fn is_crannog() -> bool {
    // SAFETY: uname into a structure of our own.
    let release = unsafe {
        let mut names: libc::utsname = std::mem::zeroed();
        libc::uname(&mut names);
        std::ffi::CStr::from_ptr(names.release.as_ptr()).to_string_lossy().into_owned()
    };
    release.contains("crannog")
}

/// Ends the machine: on Crannog by leaving, elsewhere by saying the status on the log port and switching off.
fn finish(status: i32) -> ! {
    // SAFETY: plain system calls; reboot at the very end.
    unsafe {
        if !is_crannog() {
            // What the program wrote must be out before power goes.
            libc::tcdrain(1);
            if let Ok(mut port) = fs::OpenOptions::new().write(true).open("/dev/ttyAMA1") {
                let _ = write!(port, "\n[crannog] exit {status}\n");
                let _ = port.flush();
                libc::tcdrain(std::os::fd::AsRawFd::as_raw_fd(&port));
            }
            libc::sync();
            libc::reboot(libc::RB_POWER_OFF);
        }
        libc::tcdrain(1);
        libc::_exit(status)
    }
}

extern "C" fn power_off(_signal: libc::c_int) {
    // SAFETY: both calls are async-signal-safe.
    unsafe {
        libc::sync();
        libc::reboot(libc::RB_POWER_OFF);
    }
}

fn main() {
    mount_all();
    take_terminal();
    for signal in [libc::SIGTERM, libc::SIGUSR1, libc::SIGUSR2] {
        // SAFETY: the handler only makes system calls (busybox's halt, poweroff and reboot send these to pid 1).
        unsafe { libc::signal(signal, power_off as extern "C" fn(libc::c_int) as usize as libc::sighandler_t) };
    }
    let orders = read_orders();
    if orders.args.is_empty() {
        eprintln!("init: /.crannog/run names no program");
        finish(125);
    }
    if orders.raw {
        make_raw();
    }
    if let Some(size) = orders.terminal {
        set_size(size);
    }
    for (from, to, read_only) in &orders.mounts {
        mount_volume(from, to, *read_only);
    }
    network::set_up_machine(orders.hostname.as_ref(), orders.address.as_ref(), is_crannog());
    for service in &orders.services {
        start_service(service);
    }
    let child = spawn(&orders);
    if child < 0 {
        eprintln!("init: fork: {}", std::io::Error::last_os_error());
        finish(125);
    }
    let status = wait_for(child);
    finish(status)
}
