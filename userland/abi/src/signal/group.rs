//! Default actions, stopping, whole groups, signals between processes.

use super::*;

pub fn default_actions() {
    // The run-time system of the tests ignores it.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
    for signal in [1, 2, 3, 6, 9, 10, 13, 14, 15, 16, 24, 25, 26, 27, 29, 30, 31, libc::SIGRTMIN(), 64] {
        child_dies_of(signal, || kill_self(signal));
    }
    for signal in [17, 18, 23, 28] {
        child_succeeds(|| kill_self(signal));
    }
    child_dies_of(libc::SIGKILL, || {
        unsafe { libc::signal(libc::SIGTERM, libc::SIG_IGN) };
        kill_self(libc::SIGTERM);
        kill_self(libc::SIGKILL);
    });
}

pub fn stop_and_continue() {
    unsafe {
        handle(libc::SIGCHLD, 0, log);
        let child = libc::fork();
        if child == 0 {
            loop {
                libc::pause();
            }
        }
        let mut status = 0;
        for signal in [libc::SIGSTOP, libc::SIGTSTP] {
            libc::kill(child, signal);
            let got = loop {
                match libc::waitpid(child, &mut status, libc::WUNTRACED) {
                    -1 => assert_eq!(crate::harness::errno(), libc::EINTR),
                    got => break got,
                }
            };
            assert_eq!(got, child);
            assert!(libc::WIFSTOPPED(status) && libc::WSTOPSIG(status) == signal, "{status:#x}");
            assert_eq!(libc::waitpid(child, &mut status, libc::WUNTRACED | libc::WNOHANG), 0);
            libc::kill(child, libc::SIGCONT);
            let got = loop {
                match libc::waitpid(child, &mut status, libc::WCONTINUED) {
                    -1 => assert_eq!(crate::harness::errno(), libc::EINTR),
                    got => break got,
                }
            };
            assert_eq!(got, child);
            assert!(libc::WIFCONTINUED(status));
            assert_eq!(libc::waitpid(child, &mut status, libc::WCONTINUED | libc::WNOHANG), 0);
        }
        assert!(LOGGED.load(SeqCst) >= 2);
        // A stopped process dies of SIGKILL, and of SIGTERM once it goes on.
        libc::kill(child, libc::SIGSTOP);
        while libc::waitpid(child, &mut status, libc::WUNTRACED) != child {}
        libc::kill(child, libc::SIGTERM);
        libc::usleep(5000);
        assert_eq!(libc::waitpid(child, &mut status, libc::WNOHANG), 0);
        libc::kill(child, libc::SIGCONT);
        while libc::waitpid(child, &mut status, 0) != child {}
        assert_eq!(libc::WTERMSIG(status), libc::SIGTERM);
    }
}

/// STOP, then CONT: whatever the timing, the process goes on.
pub fn stop_storm() {
    unsafe {
        let mut pipe = [0; 2];
        libc::pipe(pipe.as_mut_ptr());
        let child = libc::fork();
        if child == 0 {
            let others: Vec<_> = (0..2)
                .map(|_| {
                    std::thread::spawn(|| {
                        loop {
                            std::hint::spin_loop();
                        }
                    })
                })
                .collect();
            libc::write(pipe[1], c"r".as_ptr().cast(), 1);
            for other in others {
                let _ = other.join();
            }
        }
        let mut byte = 0u8;
        libc::read(pipe[0], (&raw mut byte).cast(), 1);
        for _ in 0..500 {
            libc::kill(child, libc::SIGSTOP);
            libc::kill(child, libc::SIGCONT);
        }
        libc::kill(child, libc::SIGTERM);
        let mut status = 0;
        assert_eq!(libc::waitpid(child, &mut status, 0), child);
        assert_eq!(libc::WTERMSIG(status), libc::SIGTERM);
    }
}

pub fn between_processes() {
    block(&[libc::SIGUSR1, libc::SIGUSR2]);
    unsafe {
        let parent = libc::getpid();
        let child = libc::fork();
        let rounds = 500;
        if child == 0 {
            for _ in 0..rounds {
                libc::sigwaitinfo(&set_of(&[libc::SIGUSR1]), null_mut());
                libc::kill(parent, libc::SIGUSR2);
            }
            libc::_exit(0);
        }
        for _ in 0..rounds {
            libc::kill(child, libc::SIGUSR1);
            assert_eq!(libc::sigwaitinfo(&set_of(&[libc::SIGUSR2]), null_mut()), libc::SIGUSR2);
        }
        let mut status = 0;
        assert_eq!(libc::waitpid(child, &mut status, 0), child);
        assert_eq!(status, 0);
    }
}

pub fn kill_ends_all_threads() {
    for _ in 0..10 {
        child_dies_of(libc::SIGKILL, || {
            for kind in 0..4 {
                std::thread::spawn(move || {
                    loop {
                        match kind {
                            0 => std::hint::spin_loop(),
                            1 => std::thread::yield_now(),
                            2 => std::thread::sleep(Duration::from_secs(100)),
                            _ => {
                                unsafe { libc::getppid() };
                            }
                        }
                    }
                });
            }
            std::thread::sleep(Duration::from_millis(2));
            kill_self(libc::SIGKILL);
        });
    }
}

pub fn permissions() {
    child_succeeds(|| unsafe {
        assert_eq!(libc::setresuid(1000, 1000, 1000), 0);
        expect_errno(i64::from(libc::kill(1, libc::SIGTERM)), libc::EPERM);
        expect_errno(i64::from(libc::kill(1, 0)), libc::EPERM);
        expect_errno(i64::from(libc::kill(libc::getppid(), libc::SIGUSR1)), libc::EPERM);
        assert_eq!(libc::kill(libc::getpid(), 0), 0);
    });
}

pub fn storm() {
    handle(libc::SIGUSR1, libc::SA_RESTART, log);
    let rounds = 300;
    unsafe {
        let parent = libc::getpid();
        let children: Vec<i32> = (0..3)
            .map(|_| {
                let child = libc::fork();
                if child == 0 {
                    for _ in 0..rounds {
                        libc::kill(parent, libc::SIGUSR1);
                    }
                    libc::_exit(0);
                }
                child
            })
            .collect();
        let mut pipe = [0; 2];
        libc::pipe(pipe.as_mut_ptr());
        let mut byte = 7u8;
        for round in 0..2000u32 {
            byte = round as u8;
            assert_eq!(libc::write(pipe[1], (&raw const byte).cast(), 1), 1);
            let mut back = 0u8;
            assert_eq!(libc::read(pipe[0], (&raw mut back).cast(), 1), 1);
            assert_eq!(back, byte);
        }
        let _ = byte;
        for child in children {
            let mut status = 0;
            assert_eq!(libc::waitpid(child, &mut status, 0), child);
            assert_eq!(status, 0);
        }
    }
    assert!(LOGGED.load(SeqCst) > 0);
}
