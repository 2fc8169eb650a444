//! Terminals, by way of pseudo-terminals.

use super::support::{child, errno_of, ok, reap, sleep_ms, timed};
use super::{close, poll_one, read, write};
use libc::{EAGAIN, EIO, ENOTTY, POLLHUP, POLLIN, VMIN, VTIME};
use std::ffi::CString;

/// A pair: (master, slave), the slave not a controlling terminal.
fn pair() -> (i32, i32) {
    let master = ok(unsafe { libc::open(c"/dev/ptmx".as_ptr(), libc::O_RDWR | libc::O_NOCTTY) });
    let (mut number, unlock) = (0u32, 0i32);
    ok(unsafe { libc::ioctl(master, libc::TIOCGPTN, &mut number) });
    ok(unsafe { libc::ioctl(master, libc::TIOCSPTLCK, &unlock) });
    let name = CString::new(format!("/dev/pts/{number}")).unwrap();
    let slave = ok(unsafe { libc::open(name.as_ptr(), libc::O_RDWR | libc::O_NOCTTY) });
    (master, slave)
}

fn get(fd: i32) -> libc::termios {
    let mut termios = unsafe { std::mem::zeroed() };
    ok(unsafe { libc::tcgetattr(fd, &mut termios) });
    termios
}

fn change(fd: i32, change: impl FnOnce(&mut libc::termios)) {
    let mut termios = get(fd);
    change(&mut termios);
    ok(unsafe { libc::tcsetattr(fd, libc::TCSANOW, &termios) });
}

fn nonblocking(fd: i32, on: bool) {
    ok(unsafe { libc::fcntl(fd, libc::F_SETFL, if on { libc::O_NONBLOCK } else { 0 }) });
}

/// What the master shows now.
fn shown(master: i32) -> String {
    nonblocking(master, true);
    let mut all = Vec::new();
    sleep_ms(10);
    while let Ok(bytes) = read(master, 1000) {
        all.extend(bytes);
    }
    nonblocking(master, false);
    String::from_utf8_lossy(&all).into_owned()
}

pub fn pty_basic() {
    let master = ok(unsafe { libc::open(c"/dev/ptmx".as_ptr(), libc::O_RDWR | libc::O_NOCTTY) });
    let mut number = 0u32;
    ok(unsafe { libc::ioctl(master, libc::TIOCGPTN, &mut number) });
    let name = CString::new(format!("/dev/pts/{number}")).unwrap();
    assert_eq!(errno_of(unsafe { libc::open(name.as_ptr(), libc::O_RDWR | libc::O_NOCTTY) }), EIO); // locked
    close(master);
    let (master, slave) = pair();
    assert_eq!(unsafe { libc::isatty(slave) }, 1);
    write(slave, b"out\n");
    assert_eq!(shown(master), "out\r\n");
    let mut window = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    ok(unsafe { libc::ioctl(slave, libc::TIOCGWINSZ, &mut window) });
    assert_eq!((window.ws_row, window.ws_col), (0, 0));
    window.ws_row = 50;
    ok(unsafe { libc::ioctl(master, libc::TIOCSWINSZ, &window) });
    window.ws_row = 0;
    ok(unsafe { libc::ioctl(slave, libc::TIOCGWINSZ, &mut window) });
    assert_eq!(window.ws_row, 50);
    let termios = get(slave);
    assert_eq!(termios.c_lflag & (libc::ICANON | libc::ECHO | libc::ISIG), libc::ICANON | libc::ECHO | libc::ISIG);
    assert_eq!(termios.c_cc[libc::VINTR], 3);
    assert_eq!(get(master).c_lflag, termios.c_lflag); // the master shows the slave's settings
    assert_eq!(errno_of(unsafe { libc::lseek(slave, 0, 0) }), libc::ESPIPE);
    // The slave closes: the master reads what is left, then EIO.
    write(slave, b"last");
    close(slave);
    assert_eq!(poll_one(master, POLLIN, 0), POLLIN | POLLHUP);
    assert_eq!(read(master, 100), Ok(b"last".to_vec()));
    assert_eq!(read(master, 100), Err(EIO));
}

pub fn canonical() {
    let (master, slave) = pair();
    nonblocking(slave, true);
    write(master, b"hel");
    assert_eq!(read(slave, 100), Err(EAGAIN));
    assert_eq!(poll_one(slave, POLLIN, 0), 0);
    write(master, b"lp\x7fo\rmore\n");
    assert_eq!(poll_one(slave, POLLIN, 100), POLLIN);
    let mut n = 0;
    ok(unsafe { libc::ioctl(slave, libc::FIONREAD, &mut n) });
    assert_eq!(n, 11);
    assert_eq!(read(slave, 100), Ok(b"hello\n".to_vec()));
    assert_eq!(read(slave, 2), Ok(b"mo".to_vec()));
    assert_eq!(read(slave, 100), Ok(b"re\n".to_vec()));
    assert_eq!(shown(master), "hellp\x08 \x08o\r\nmore\r\n");
    write(master, b"end\x04");
    assert_eq!(read(slave, 3), Ok(b"end".to_vec()));
    assert_eq!(read(slave, 3), Err(EAGAIN));
    write(master, b"\x04");
    assert_eq!(read(slave, 3), Ok(vec![]));
    write(master, b"a b\x17c\x15x\x16\x03\n");
    assert_eq!(read(slave, 30), Ok(b"x\x03\n".to_vec()));
    change(slave, |t| t.c_lflag &= !libc::ECHO);
    shown(master);
    write(master, b"secret\n");
    assert_eq!(shown(master), "");
    assert_eq!(read(slave, 30), Ok(b"secret\n".to_vec()));
    // A line longer than the queue keeps its first 4095 bytes and its end.
    write(master, &[b'l'; 4000]);
    write(master, &[b'l'; 1000]);
    write(master, b"\n");
    sleep_ms(20);
    let line = read(slave, 10_000).unwrap();
    assert_eq!((line.len(), line[line.len() - 1]), (4096, b'\n'));
}

pub fn raw_timeouts() {
    let (master, slave) = pair();
    let raw = |min: u8, time: u8| {
        change(slave, |t| {
            unsafe { libc::cfmakeraw(t) };
            t.c_cc[VMIN] = min;
            t.c_cc[VTIME] = time;
        });
    };
    raw(0, 0);
    assert_eq!(read(slave, 10), Ok(vec![]));
    raw(0, 2);
    crate::harness::sometimes(|| {
        let took = timed(|| assert_eq!(read(slave, 10), Ok(vec![])));
        assert!(took >= 200);
        took < 300
    });
    raw(3, 0);
    write(master, b"ab");
    sleep_ms(10);
    assert_eq!(poll_one(slave, POLLIN, 0), 0);
    let pid = child(|| {
        sleep_ms(50);
        write(master, b"\x03\r");
    });
    assert_eq!(read(slave, 10), Ok(b"ab\x03\r".to_vec()));
    reap(pid);
    raw(5, 1); // the gap between bytes ends the read
    write(master, b"xy");
    assert_eq!(read(slave, 10), Ok(b"xy".to_vec()));
    write(slave, b"a\n");
    assert_eq!(shown(master), "a\n");
}

/// Makes the calling process lead a new session with the slave as its terminal.
fn take_terminal(slave: i32) {
    ok(unsafe { libc::setsid() });
    ok(unsafe { libc::ioctl(slave, libc::TIOCSCTTY, 0) });
}

pub fn signals() {
    let (master, slave) = pair();
    for (key, signal) in [(3u8, libc::SIGINT), (0x1c, libc::SIGQUIT)] {
        let pid = child(|| {
            take_terminal(slave);
            write(slave, b"!");
            sleep_ms(5000);
        });
        assert_eq!(read(master, 1), Ok(b"!".to_vec()));
        write(master, &[key]);
        let status = reap(pid);
        assert!(libc::WIFSIGNALED(status), "{status:#x}");
        assert_eq!(libc::WTERMSIG(status), signal);
        assert_eq!(shown(master), format!("^{}", (key ^ 0x40) as char));
    }
    let pid = child(|| {
        take_terminal(slave);
        unsafe { libc::signal(libc::SIGWINCH, libc::SIG_IGN) };
        let mut sid = 0i32;
        ok(unsafe { libc::ioctl(slave, libc::TIOCGSID, &mut sid) });
        assert_eq!(sid, unsafe { libc::getpid() });
        assert_eq!(unsafe { libc::tcgetpgrp(slave) }, sid);
        let tty = ok(unsafe { libc::open(c"/dev/tty".as_ptr(), libc::O_RDWR) });
        write(tty, b"via tty");
        ok(unsafe { libc::ioctl(slave, libc::TIOCSCTTY, 0) }); // again: no effect
        assert_eq!(errno_of(unsafe { libc::tcsetpgrp(slave, 999_999) }), libc::ESRCH);
        assert_eq!(errno_of(unsafe { libc::tcsetpgrp(slave, -1) }), libc::EINVAL);
    });
    assert_eq!(reap(pid), 0);
    assert_eq!(errno_of(unsafe { libc::tcgetpgrp(slave) }), ENOTTY);
}

pub fn job_control() {
    let (master, slave) = pair();
    let status = reap(child(|| {
        take_terminal(slave);
        unsafe {
            // A background group of this session.
            let background = child(|| {
                libc::setpgid(0, 0);
                let mut byte = 0u8;
                let n = libc::read(slave, (&raw mut byte).cast(), 1);
                libc::_exit(if n == 1 && byte == b'q' { 7 } else { 8 });
            });
            libc::setpgid(background, background);
            let mut status = 0;
            assert_eq!(libc::waitpid(background, &mut status, libc::WUNTRACED), background);
            assert!(libc::WIFSTOPPED(status));
            assert_eq!(libc::WSTOPSIG(status), libc::SIGTTIN);
            ok(libc::tcsetpgrp(slave, background));
            assert_eq!(libc::tcgetpgrp(slave), background);
            libc::kill(-background, libc::SIGCONT);
            write(master, b"q\n");
            assert_eq!(libc::WEXITSTATUS(reap(background)), 7);
            // Now this process is in the background: taking the terminal back needs SIGTTOU blocked.
            libc::signal(libc::SIGTTOU, libc::SIG_IGN);
            ok(libc::tcsetpgrp(slave, libc::getpid()));
            libc::signal(libc::SIGTTOU, libc::SIG_DFL);
            let writer = child(|| {
                libc::setpgid(0, 0);
                write(slave, b"background"); // allowed without TOSTOP
                change(slave, |t| t.c_lflag |= libc::TOSTOP); // a change is not
            });
            assert_eq!(libc::waitpid(writer, &mut status, libc::WUNTRACED), writer);
            assert!(libc::WIFSTOPPED(status) && libc::WSTOPSIG(status) == libc::SIGTTOU);
            libc::kill(writer, libc::SIGKILL);
            reap(writer);
        }
    }));
    assert_eq!(status, 0);
    // An orphaned group cannot be stopped for ever: EIO.
    let (_master, slave) = pair();
    let status = reap(child(|| {
        take_terminal(slave);
        let (r, w) = super::pipe_with(0);
        let middle = child(|| {
            let parent = std::process::id() as i32;
            let orphan = child(|| {
                ok(unsafe { libc::setpgid(0, 0) });
                while unsafe { libc::getppid() } == parent {
                    sleep_ms(1);
                }
                let code = match read(slave, 1) {
                    Err(EIO) => b'e',
                    _ => b'?',
                };
                write(w, &[code]);
            });
            assert!(orphan > 0);
        });
        reap(middle);
        close(w);
        assert_eq!(read(r, 1), Ok(b"e".to_vec()));
    }));
    assert_eq!(status, 0);
}

pub fn hangup() {
    let (master, slave) = pair();
    let (r, w) = super::pipe_with(0);
    let pid = child(|| {
        take_terminal(slave);
        close(master);
        write(w, b"r");
        sleep_ms(5000);
    });
    assert_eq!(read(r, 1), Ok(b"r".to_vec()));
    close(master);
    let status = reap(pid);
    assert!(libc::WIFSIGNALED(status) && libc::WTERMSIG(status) == libc::SIGHUP, "{status:#x}");
    assert_eq!(read(slave, 10), Ok(vec![]));
    assert_eq!(errno_of(write(slave, b"x") as i64), EIO);
    assert_ne!(poll_one(slave, POLLIN, 0) & POLLHUP, 0);
    assert_eq!(errno_of(unsafe { libc::tcgetattr(slave, &mut std::mem::zeroed()) }), EIO);
    // The leader exits: the foreground group hears of it.
    let (_master, slave) = pair();
    let (r, w) = super::pipe_with(0);
    let leader = child(|| {
        take_terminal(slave);
        let member = child(|| {
            unsafe { libc::signal(libc::SIGHUP, libc::SIG_DFL) };
            write(w, b"r");
            sleep_ms(5000);
            write(w, b"survived");
        });
        // The member sleeps: it has said so and waits for the hang-up.
        assert_eq!(read(r, 1), Ok(b"r".to_vec()));
        write(w, b"r");
        crate::harness::until_asleep(member);
    });
    close(w);
    reap(leader);
    assert_eq!(read(r, 1), Ok(b"r".to_vec()));
    assert_eq!(read(r, 10), Ok(vec![]));
}

pub fn packet_mode() {
    let (master, slave) = pair();
    let on = 1i32;
    ok(unsafe { libc::ioctl(master, libc::TIOCPKT, &on) });
    write(slave, b"data");
    assert_eq!(read(master, 100), Ok(b"\0data".to_vec()));
    ok(unsafe { libc::tcflush(slave, libc::TCIFLUSH) });
    assert_eq!(poll_one(master, POLLIN | libc::POLLPRI, 0), POLLIN | libc::POLLPRI);
    assert_eq!(read(master, 100), Ok(vec![1]));
    ok(unsafe { libc::tcflow(slave, libc::TCOOFF) });
    assert_eq!(read(master, 100), Ok(vec![4]));
    ok(unsafe { libc::tcflow(slave, libc::TCOON) });
    assert_eq!(read(master, 100), Ok(vec![8]));
}

pub fn flow_and_flush() {
    let (master, slave) = pair();
    write(master, b"\x13"); // ^S
    sleep_ms(10);
    nonblocking(slave, true);
    assert_eq!(errno_of(write(slave, b"held") as i64), EAGAIN);
    assert_eq!(poll_one(slave, libc::POLLOUT, 0), 0);
    write(master, b"\x11"); // ^Q
    sleep_ms(10);
    assert_eq!(write(slave, b"free"), 4);
    assert_eq!(shown(master), "free");
    write(master, b"typed\n");
    sleep_ms(10);
    ok(unsafe { libc::tcflush(slave, libc::TCIFLUSH) });
    assert_eq!(read(slave, 10), Err(EAGAIN));
    shown(master);
    // Much output waits for the reader, byte for byte.
    nonblocking(slave, false);
    let pid = child(|| {
        let lines: String = (0..20_000).map(|i| format!("{i}\n")).collect();
        assert_eq!(write(slave, lines.as_bytes()), lines.len() as isize);
    });
    let mut all = Vec::new();
    let expected: String = (0..20_000).map(|i| format!("{i}\r\n")).collect();
    while all.len() < expected.len() {
        all.extend(read(master, 5000).unwrap());
    }
    assert!(all == expected.as_bytes());
    assert_eq!(reap(pid), 0);
}

pub fn without_its_slave() {
    let (master, slave) = pair();
    change(slave, |t| t.c_lflag &= !(libc::ECHO));
    assert_eq!(get(slave).c_cflag & libc::HUPCL, 0);
    let mut name = [0; 64];
    assert_eq!(unsafe { libc::ptsname_r(master, name.as_mut_ptr(), name.len()) }, 0);
    close(slave);
    nonblocking(master, true);
    assert_eq!(errno_of(unsafe { libc::read(master, [0u8; 8].as_mut_ptr().cast(), 8) } as i64), libc::EIO);
    // What is typed while nobody has the slave open is there for who opens it next.
    assert_eq!(write(master, b"for later\n"), 10);
    let slave = ok(unsafe { libc::open(name.as_ptr(), libc::O_RDWR | libc::O_NOCTTY) });
    assert_eq!(read(slave, 100), Ok(b"for later\n".to_vec()));
    assert_eq!(get(slave).c_lflag & libc::ECHO, 0);
    assert_eq!(write(slave, b"hi"), 2);
    assert_eq!(read(master, 100), Ok(b"hi".to_vec()));
}

pub fn canonical_over_raw_input() {
    let set = |slave, canonical| {
        change(slave, |t| {
            t.c_lflag &= !(libc::ECHO | libc::ICANON);
            if canonical {
                t.c_lflag |= libc::ICANON;
            }
        });
    };
    let readable = |slave| {
        let mut n = 0;
        ok(unsafe { libc::ioctl(slave, libc::FIONREAD, &mut n) });
        n
    };
    for typed in [&b"ab\ncd"[..], b"ab", b"ab\n", b"\x04", b"a\x04b"] {
        let (master, slave) = pair();
        set(slave, false);
        assert_eq!(write(master, typed), typed.len() as isize);
        super::support::sleep_ms(20);
        set(slave, true);
        nonblocking(slave, true);
        assert_eq!(readable(slave), typed.len() as i32, "{typed:?}");
        assert_eq!(read(slave, 100), Ok(typed.to_vec()), "{typed:?}");
        assert_eq!(read(slave, 100), Err(libc::EAGAIN), "{typed:?}");
        write(master, b"next\n");
        super::support::sleep_ms(20);
        assert_eq!(read(slave, 100), Ok(b"next\n".to_vec()), "{typed:?}");
    }
    // In pieces, and with more typed behind it.
    let (master, slave) = pair();
    set(slave, false);
    write(master, b"abcd");
    super::support::sleep_ms(20);
    set(slave, true);
    nonblocking(slave, true);
    write(master, b"ef\n");
    super::support::sleep_ms(20);
    assert_eq!(read(slave, 2), Ok(b"ab".to_vec()));
    assert_eq!(read(slave, 100), Ok(b"cd".to_vec()));
    assert_eq!(read(slave, 100), Ok(b"ef\n".to_vec()));
    // And back: what stands in the line is there at once.
    write(master, b"half");
    super::support::sleep_ms(20);
    assert_eq!(read(slave, 100), Err(libc::EAGAIN));
    set(slave, false);
    assert_eq!(read(slave, 100), Ok(b"half".to_vec()));
}

pub fn external_processing() {
    let (master, slave) = pair();
    change(slave, |t| t.c_lflag |= libc::EXTPROC | libc::ICANON | libc::ISIG | libc::ECHO);
    nonblocking(slave, true);
    nonblocking(master, true);
    // Somebody else has edited the line: everything comes as it is, at once, without echo and without signals.
    write(master, b"ab\x7f\x03\r");
    super::support::sleep_ms(20);
    assert_eq!(read(slave, 100), Ok(b"ab\x7f\x03\r".to_vec()));
    assert_eq!(read(master, 100), Err(libc::EAGAIN));
    write(master, b"x");
    super::support::sleep_ms(20);
    assert_eq!(read(slave, 100), Ok(b"x".to_vec()));
}

pub fn a_member_gives_its_terminal_up() {
    let leader = ok(unsafe { libc::fork() });
    if leader == 0 {
        let (_master, slave) = pair();
        take_terminal(slave);
        let has_terminal = || {
            let fd = unsafe { libc::open(c"/dev/tty".as_ptr(), libc::O_RDWR) };
            if fd >= 0 {
                close(fd);
            }
            fd >= 0
        };
        let number = || {
            let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
            stat[stat.rfind(')').unwrap() + 2..].split(' ').nth(4).unwrap().parse::<i32>().unwrap()
        };
        assert!(has_terminal() && number() != 0);
        let member = ok(unsafe { libc::fork() });
        if member == 0 {
            assert!(has_terminal());
            ok(unsafe { libc::ioctl(slave, libc::TIOCNOTTY) });
            assert!(!has_terminal());
            assert_eq!(number(), 0);
            assert_eq!(errno_of(unsafe { libc::ioctl(slave, libc::TIOCNOTTY) }), libc::ENOTTY);
            assert_eq!(errno_of(unsafe { libc::tcgetpgrp(slave) }), libc::ENOTTY);
            assert_eq!(errno_of(unsafe { libc::ioctl(slave, libc::TIOCSPGRP, &libc::getpgrp()) }), libc::ENOTTY);
            // It is nobody's background job any more.
            ok(unsafe { libc::setpgid(0, 0) });
            nonblocking(slave, true);
            assert_eq!(read(slave, 10), Err(libc::EAGAIN));
            // Nor are its children.
            let child = ok(unsafe { libc::fork() });
            if child == 0 {
                unsafe { libc::_exit(i32::from(has_terminal())) };
            }
            assert_eq!(reap(child), 0);
            unsafe { libc::_exit(0) };
        }
        assert_eq!(reap(member), 0);
        // The others keep it.
        assert!(has_terminal() && number() != 0);
        let other = ok(unsafe { libc::fork() });
        if other == 0 {
            unsafe { libc::_exit(i32::from(!has_terminal())) };
        }
        assert_eq!(reap(other), 0);
        unsafe { libc::_exit(0) };
    }
    assert_eq!(reap(leader), 0);
}
