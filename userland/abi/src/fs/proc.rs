//! What /proc shows.

use super::support::{Place, ok};
use libc::*;

fn text(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

pub fn own() {
    let pid = std::process::id();
    assert_eq!(std::fs::read_link("/proc/self").unwrap().to_str(), Some(&*pid.to_string()));
    let status = text("/proc/self/status");
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_else(|| panic!("no {name}"));
        String::from(line.trim_start_matches(':').trim())
    };
    assert_eq!(field("Pid"), pid.to_string());
    assert_eq!(field("PPid"), unsafe { getppid() }.to_string());
    assert_eq!(field("Threads"), "1");
    let stat = text("/proc/self/stat");
    let after = &stat[stat.rfind(')').unwrap() + 2..];
    let fields: Vec<&str> = after.split_whitespace().collect();
    assert_eq!(fields.len(), 50);
    assert_eq!(fields[0], "R");
    let statm: Vec<u64> = text("/proc/self/statm").split_whitespace().map(|word| word.parse().unwrap()).collect();
    assert_eq!(statm.len(), 7);
    assert!(statm[1] > 0 && statm[0] >= statm[1]);
    assert_eq!(fields[20].parse::<u64>().unwrap() / 4096, statm[0]);
    let exe = std::fs::read_link("/proc/self/exe").unwrap();
    assert!(text("/proc/self/maps").contains(exe.to_str().unwrap()));
    let arguments = std::fs::read("/proc/self/cmdline").unwrap();
    assert_eq!(arguments.split(|&byte| byte == 0).count() - 1, std::env::args().count());
    std::fs::write("/proc/self/comm", "renamed").unwrap();
    assert_eq!(text("/proc/self/comm"), "renamed\n");
    assert!(text("/proc/self/mounts").lines().any(|line| line.split(' ').nth(1) == Some("/proc")));
    assert!(text("/proc/meminfo").starts_with("MemTotal:"));
    assert!(text("/proc/stat").starts_with("cpu "));
    assert_eq!(text("/proc/loadavg").split_whitespace().count(), 5);
    // A zombie still has its files; after the wait it has not.
    let child = ok(unsafe { fork() });
    if child == 0 {
        unsafe { _exit(0) }
    }
    let path = format!("/proc/{child}/stat");
    while !text(&path).contains(") Z ") {
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    ok(unsafe { waitpid(child, std::ptr::null_mut(), 0) });
    assert!(std::fs::metadata(&path).is_err());
}

pub fn descriptors() {
    let place = Place::new("procfd");
    let path = place.file("file", "content");
    let fd = ok(unsafe { open(path.as_ptr(), O_RDONLY) });
    ok(unsafe { lseek(fd, 3, SEEK_SET) });
    let link = format!("/proc/self/fd/{fd}");
    assert_eq!(std::fs::read_link(&link).unwrap(), place.path("file"));
    assert!(text(&format!("/proc/self/fdinfo/{fd}")).starts_with("pos:\t3\n"));
    std::fs::remove_file(place.path("file")).unwrap();
    assert!(std::fs::read_link(&link).unwrap().to_str().unwrap().ends_with(" (deleted)"));
    // The link still leads to the file, at its own start.
    assert_eq!(text(&link), "content");
    let mut ends = [0; 2];
    ok(unsafe { pipe(ends.as_mut_ptr()) });
    let name = std::fs::read_link(format!("/proc/self/fd/{}", ends[0])).unwrap();
    assert!(name.to_str().unwrap().starts_with("pipe:["));
    // A pipe opened by its link is another end of the same pipe.
    ok(unsafe { write(ends[1], b"through".as_ptr().cast(), 7) } as i64);
    unsafe { close(ends[1]) };
    assert_eq!(text(&format!("/proc/self/fd/{}", ends[0])), "through");
    assert!(std::fs::read_dir("/proc/self/fd").unwrap().count() >= 4);
    assert!(std::fs::read_link("/proc/self/fd/999").is_err());
}

pub fn settings() {
    for path in [
        "kernel/ostype",
        "kernel/osrelease",
        "kernel/pid_max",
        "kernel/random/uuid",
        "kernel/random/boot_id",
        "fs/file-max",
        "fs/nr_open",
        "fs/pipe-max-size",
        "vm/overcommit_memory",
        "vm/max_map_count",
        "kernel/cap_last_cap",
        "kernel/shmmax",
        "net/core/somaxconn",
    ] {
        assert!(!text(&format!("/proc/sys/{path}")).trim().is_empty(), "{path}");
    }
    let uuid = || text("/proc/sys/kernel/random/uuid");
    assert!(uuid() != uuid());
    assert_eq!(text("/proc/sys/kernel/random/boot_id"), text("/proc/sys/kernel/random/boot_id"));
    assert!(text("/proc/cpuinfo").contains("processor\t: 0"));
    assert!(text("/sys/devices/system/cpu/online").starts_with('0'));
    assert!(text("/proc/filesystems").contains("nodev\ttmpfs"));
}
