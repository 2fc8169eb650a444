//! [`WaitKind`]: what a thread waits for, as /proc/PID/wchan names it and the deadlock detector tells it apart.

macro_rules! kinds {
    ($($variant:ident = $name:literal),* $(,)?) => {
        /// What a parked thread waits for.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        #[repr(u8)]
        pub enum WaitKind {
            $(#[doc = $name] $variant),*
        }

        impl WaitKind {
            /// As /proc/PID/wchan says it.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name),*
                }
            }
        }
    };
}

kinds! {
    ConsoleInput = "console_input",
    CpuNanosleep = "cpu_nanosleep",
    DeadlockDetector = "deadlock_detector",
    Dirty = "dirty",
    DiskIo = "disk_io",
    DiskTag = "disk_tag",
    EpollWait = "epoll_wait",
    EventfdRead = "eventfd_read",
    EventfdWrite = "eventfd_write",
    Exec = "exec",
    FifoOpen = "fifo_open",
    FileLock = "file_lock",
    Flock = "flock",
    Futex = "futex",
    FutexPi = "futex_pi",
    FutexRequeuePi = "futex_requeue_pi",
    FutexWaitv = "futex_waitv",
    Hwrng = "hwrng",
    InotifyRead = "inotify_read",
    Led = "led",
    MqReceive = "mq_receive",
    MqSend = "mq_send",
    Msgrcv = "msgrcv",
    Msgsnd = "msgsnd",
    Mutex = "mutex",
    Nanosleep = "nanosleep",
    Net = "net",
    NetlinkRecv = "netlink_recv",
    Oom = "oom",
    Page = "page",
    PipeRead = "pipe_read",
    PipeWrite = "pipe_write",
    Poll = "poll",
    PtyRead = "pty_read",
    PtyWrite = "pty_write",
    RawReceive = "raw_receive",
    Rwlock = "rwlock",
    Select = "select",
    Semop = "semop",
    Signalfd = "signalfd",
    Sigsuspend = "sigsuspend",
    Sigtimedwait = "sigtimedwait",
    Stopped = "stopped",
    TcpAccept = "tcp_accept",
    TcpConnect = "tcp_connect",
    TcpLinger = "tcp_linger",
    TcpReceive = "tcp_receive",
    TcpSend = "tcp_send",
    TimerfdRead = "timerfd_read",
    TraceRead = "trace_read",
    TtyRead = "tty_read",
    TtyWrite = "tty_write",
    TtyWriter = "tty_writer",
    UdpReceive = "udp_receive",
    UnixAccept = "unix_accept",
    UnixConnect = "unix_connect",
    UnixReceive = "unix_receive",
    UnixSend = "unix_send",
    Vfork = "vfork",
    Wait = "wait",
    Writeback = "writeback",
}
