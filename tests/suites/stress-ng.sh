#!/bin/sh
# Debian's stress-ng: every stressor of signals, IPC, scheduling, processes, files and memory that needs no device, each with
# --verify and a bounded number of operations; run in the guest. "ok NAME", "FAILED NAME: status N" or "skipped NAME" (not
# implemented here, by stress-ng's own word) per stressor. Arguments choose stressors.
limit=${LIMIT:-40}
ops=${OPS:-50}
mkdir -p /tmp/stress
cd /tmp/stress || exit 1

all="affinity aio alarm bad-altstack bigheap branch brk cache-flush cap chattr chdir chmod chown clock clone close context copy-file \
cpu-online cpu-sched cyclic daemon dekker dentry dev-shm dir dirdeep dirmany dnotify dup dynlib enosys env epoll eventfd exec \
exit-group fallocate fanotify fault fcntl fiemap fifo file-ioctl filename flock flushcache fork forkheavy fpunch fstat full funccall \
funcret futex get getdent getrandom goto handle hdd hrtimers inode-flags inotify io io-uring ioprio itimer kcmp key kill klog \
landlock lease link locka lockbus lockf lockofd longjmp loadavg madvise malloc mcontend membarrier memcpy memfd memrate memthrash \
mergesort mincore misaligned mknod mlock mlockmany mmap mmapaddr mmapfixed mmapfork mmaphuge mmapmany mprotect mq mremap \
msg msync msyncmany munmap mutex nanosleep netlink-proc nice nop null numa opcode open pageswap pci peterson physpage pidfd pipe \
pipeherd pkey poll prctl prefetch priv-instr procfs pthread ptrace pty qsort quota ramfs randlist rawpkt readahead reboot remap \
rename resched resources revio rlimit rmap rseq rtc schedpolicy schedmix seal seccomp secretmem seek sem sem-sysv sendfile \
session set shellsort shm shm-sysv sigabrt sigchld sigfd sigfpe sigio signal signest sigpending sigpipe sigq sigrt sigsegv \
sigsuspend sigtrap sigxcpu sigxfsz skiplist sleep smi sock-fd sockmany sockpair softlockup spawn splice stack stackmmap stat \
str stream switch symlink sync-file syncload sysbadaddr sysinfo sysinval sysfs tee timer timerfd timermix tlb-shootdown tmpfs \
touch tree tsc tsearch tun unlink unshare uprobe urandom userfaultfd usersyscall utime vdso vecmath vfork vforkmany vm \
vm-addr vm-rw vm-segv vm-splice vma waitcpu wait wcs workload x86syscall xattr yield zero zombie"
[ $# = 0 ] || all="$*"

for name in $all; do
    # Two real-time threads do so few operations before the one that started them has run again, and it says it has no threads.
    count=$ops
    [ "$name" != mutex ] || count=$((ops * 1000))
    # Into a file: what a killed stressor leaves behind must not hold us up.
    timeout -s KILL "$limit" stress-ng --"$name" 2 --"$name"-ops "$count" --timeout $((limit - 10)) --verify --oomable --pathological > /tmp/out 2>&1
    status=$?
    output=$(grep -v dispatching /tmp/out)
    case $output in
    *'unrecognized option'*) continue ;;
    esac
    case $status in
    0 | 3 | 4)
        if [ $status = 3 ] && ! echo "$output" | grep -qE 'skipp(ing|ed)|does not support'; then
            echo "FAILED $name: status $status"
            echo "$output" | tail -n 12 | sed 's/^/    /'
        elif [ $status != 0 ] || echo "$output" | grep -qE 'skipp(ing|ed)'; then
            echo "skipped $name: $(echo "$output" | grep -m 1 -iE 'skipp|not|cannot' | sed 's/.*\] //')"
        else
            echo "ok $name"
        fi ;;
    *)
        echo "FAILED $name: status $status"
        echo "$output" | tail -n 12 | sed 's/^/    /' ;;
    esac
done
