//! The alternate stack, floating point, faults.

use super::*;

static STACK_AT: AtomicU64 = AtomicU64::new(0);
static STACK_FLAGS: AtomicI32 = AtomicI32::new(0);

extern "C" fn note_stack(_signal: i32, _info: *mut libc::siginfo_t, _context: *mut libc::c_void) {
    let local = 0u8;
    STACK_AT.store(&raw const local as u64, SeqCst);
    unsafe {
        let mut stack: libc::stack_t = zeroed();
        libc::sigaltstack(std::ptr::null(), &mut stack);
        STACK_FLAGS.store(stack.ss_flags, SeqCst);
        let none = libc::stack_t { ss_sp: null_mut(), ss_flags: libc::SS_DISABLE, ss_size: 0 };
        if stack.ss_flags & libc::SS_ONSTACK != 0 {
            expect_errno(i64::from(libc::sigaltstack(&none, null_mut())), libc::EPERM);
        }
    }
}

pub fn alternate_stack() {
    let size = 64 << 10;
    let memory = vec![0u8; size].leak();
    let start = memory.as_ptr() as u64;
    unsafe {
        let stack = libc::stack_t { ss_sp: memory.as_mut_ptr().cast(), ss_flags: 0, ss_size: size };
        assert_eq!(libc::sigaltstack(&stack, null_mut()), 0);
        handle(libc::SIGUSR1, libc::SA_ONSTACK, note_stack);
        handle(libc::SIGUSR2, 0, note_stack);
        kill_self(libc::SIGUSR1);
        assert!((start..start + size as u64).contains(&STACK_AT.load(SeqCst)));
        assert_eq!(STACK_FLAGS.load(SeqCst), libc::SS_ONSTACK);
        kill_self(libc::SIGUSR2);
        assert!(!(start..start + size as u64).contains(&STACK_AT.load(SeqCst)));
        assert_eq!(STACK_FLAGS.load(SeqCst), 0);
        // Autodisarm: none while the handler runs, back afterwards.
        let auto = libc::stack_t { ss_flags: i32::MIN, ..stack };
        assert_eq!(libc::sigaltstack(&auto, null_mut()), 0);
        kill_self(libc::SIGUSR1);
        assert_eq!(STACK_FLAGS.load(SeqCst), libc::SS_DISABLE);
        let mut now: libc::stack_t = zeroed();
        libc::sigaltstack(std::ptr::null(), &mut now);
        assert_eq!((now.ss_sp as u64, now.ss_size, now.ss_flags), (start, size, i32::MIN));
    }
}

pub fn alternate_stack_errors() {
    unsafe {
        let mut stack = libc::stack_t { ss_sp: null_mut(), ss_flags: 0, ss_size: 100 };
        expect_errno(libc::syscall(libc::SYS_sigaltstack, &stack, 0usize), libc::ENOMEM);
        stack.ss_flags = 8;
        expect_errno(libc::syscall(libc::SYS_sigaltstack, &stack, 0usize), libc::EINVAL);
        expect_errno(libc::syscall(libc::SYS_sigaltstack, 8usize, 0usize), libc::EFAULT);
    }
}

extern "C" fn clobber(_signal: i32, _info: *mut libc::siginfo_t, _context: *mut libc::c_void) {
    unsafe {
        std::arch::asm!("movi v0.16b, #255", "movi v31.16b, #255", "msr fpsr, {0}", in(reg) 0x9fu64, out("v0") _, out("v31") _)
    };
}

pub fn floating_point_survives() {
    handle(libc::SIGUSR1, 0, clobber);
    let (mut low, mut high): (u64, u64);
    let pid = std::process::id();
    unsafe {
        std::arch::asm!(
            "movi v8.16b, #17", "movi v31.16b, #34", "msr fpsr, xzr", "svc #0", "umov {0}, v31.d[1]", "mrs {1}, fpsr",
            out(reg) low, out(reg) high, inout("x0") u64::from(pid) => _, in("x1") 10u64, in("x8") libc::SYS_kill,
            out("v8") _, out("v31") _,
        );
    }
    assert_eq!((low, high), (0x2222_2222_2222_2222, 0));
}

static FAULT: [AtomicU64; 3] = [const { AtomicU64::new(0) }; 3];

extern "C" fn on_fault(signal: i32, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    unsafe {
        FAULT[0].store(signal as u64, SeqCst);
        FAULT[1].store((*info).si_code as u64, SeqCst);
        FAULT[2].store((*info).si_addr() as u64, SeqCst);
        let context = context.cast::<libc::ucontext_t>();
        (*context).uc_mcontext.pc += 4;
    }
}

pub fn fault() -> (i32, i32, u64) {
    (FAULT[0].load(SeqCst) as i32, FAULT[1].load(SeqCst) as i32, FAULT[2].load(SeqCst))
}

pub fn faults() {
    for signal in [libc::SIGSEGV, libc::SIGBUS, libc::SIGILL, libc::SIGTRAP] {
        handle(signal, 0, on_fault);
    }
    unsafe {
        std::arch::asm!("str xzr, [{0}]", in(reg) 0x1238u64);
        assert_eq!(fault(), (libc::SIGSEGV, 1, 0x1238));
        std::arch::asm!("ldr {1}, [{0}]", in(reg) 0xffff_0000_1234_0000u64, out(reg) _);
        assert_eq!((fault().0, fault().1), (libc::SIGSEGV, 1));
        let page = libc::mmap(null_mut(), 4096, libc::PROT_READ, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1, 0) as u64;
        std::arch::asm!("str xzr, [{0}]", in(reg) page + 8);
        assert_eq!(fault(), (libc::SIGSEGV, 2, page + 8));
        let file = libc::memfd_create(c"x".as_ptr(), 0);
        let page = libc::mmap(null_mut(), 4096, libc::PROT_READ, libc::MAP_SHARED, file, 0) as u64;
        std::arch::asm!("ldr {1}, [{0}]", in(reg) page, out(reg) _);
        assert_eq!(fault(), (libc::SIGBUS, 2, page));
        std::arch::asm!(".inst 0x00000000");
        assert_eq!((fault().0, fault().1), (libc::SIGILL, 1));
        std::arch::asm!("brk #1");
        assert_eq!((fault().0, fault().1), (libc::SIGTRAP, 1));
        std::arch::asm!("ldxr {1}, [{0}]", in(reg) &raw const FAULT as u64 + 1, out(reg) _);
        assert_eq!(fault(), (libc::SIGBUS, 1, &raw const FAULT as u64 + 1));
    }
}

pub fn fault_blocked_kills() {
    child_dies_of(libc::SIGSEGV, || {
        handle(libc::SIGSEGV, 0, on_fault);
        block(&[libc::SIGSEGV]);
        unsafe { std::arch::asm!("str xzr, [{0}]", in(reg) 8u64) };
    });
    child_dies_of(libc::SIGSEGV, || {
        unsafe { libc::signal(libc::SIGSEGV, libc::SIG_IGN) };
        unsafe { std::arch::asm!("str xzr, [{0}]", in(reg) 8u64) };
    });
    child_dies_of(libc::SIGILL, || unsafe { std::arch::asm!(".inst 0") });
    let status = in_child(|| unsafe { std::arch::asm!("str xzr, [{0}]", in(reg) 8u64) });
    assert_eq!(status & 0x7f, libc::SIGSEGV);
}
