//! The machine at a terminal: banner, line editing, job control, leaving.

use machine_tests::console::Console;

/// The demo machine, as `scripts/run` starts it, with a prompt.
fn demo() -> Console {
    let mut console = started();
    console.wait_for("# ");
    console
}

fn started() -> Console {
    let recipe = concat!(env!("CARGO_MANIFEST_DIR"), "/../images/demo.toml");
    Console::start(&["--cpus", "4", "--recipe", recipe, "--", "/bin/sh", "-l"])
}

#[test]
fn the_banner_and_poweroff() {
    let mut console = demo();
    let banner = console.shown.lines().find(|line| line.contains("Crannog ")).unwrap_or_default().to_owned();
    for part in ["4 x Cortex-A72", "256 MiB of memory", "up in ", " us"] {
        assert!(banner.contains(part), "no {part:?} in {:?}", console.shown);
    }
    console.command("echo $((6 * 7))", "42");
    console.send("poweroff\r");
    assert_eq!(console.status(), 0);
    assert!(console.is_cooked());
}

/// Keys pressed before the kernel has set its port up wait there; the machine is not asked for a prompt first.
#[test]
fn what_is_typed_ahead_arrives() {
    let mut console = started();
    console.send("echo first-$((40 + 2))\r");
    console.wait_for("first-42");
    console.send("poweroff\r");
    assert_eq!(console.status(), 0);
}

#[test]
fn job_control() {
    let mut console = demo();
    // Ctrl-C ends the job in the foreground.
    console.send("sleep 1000; echo never\r");
    console.wait_for("\n");
    std::thread::sleep(std::time::Duration::from_millis(300));
    console.send("\x03");
    console.wait_for("# ");
    console.command("echo status $?", "status 130");
    // Ctrl-Z stops it; bg, jobs, fg and Ctrl-C again.
    console.send("sleep 1000\r");
    console.wait_for("\n");
    std::thread::sleep(std::time::Duration::from_millis(300));
    console.send("\x1a");
    console.wait_for("Stopped");
    console.wait_for("# ");
    console.command("jobs", "Stopped");
    console.command("bg", "sleep 1000");
    console.command("jobs", "Running");
    console.send("fg\r");
    console.wait_for("sleep 1000");
    std::thread::sleep(std::time::Duration::from_millis(300));
    console.send("\x03");
    console.wait_for("# ");
    console.command("jobs; echo none left", "none left");
    // Ctrl-D is an end of file, Ctrl-U clears the line, Backspace a character (the shell does its own editing; cat has the kernel's).
    console.send("cat\r");
    console.wait_for("\n");
    std::thread::sleep(std::time::Duration::from_millis(300));
    console.send("wrong\x15rigt\x7fht\r");
    console.wait_for("\nright\r");
    console.send("\x04");
    console.wait_for("# ");
    console.send("exit 7\r");
    assert_eq!(console.status(), 7);
    assert!(console.is_cooked());
}

#[test]
fn control_a_x_leaves() {
    let mut console = demo();
    console.send("\x01x");
    assert_eq!(console.status(), 0);
    assert!(console.is_cooked());
}

#[test]
fn a_terminal_is_given_back_after_a_time_limit() {
    let recipe = concat!(env!("CARGO_MANIFEST_DIR"), "/../images/demo.toml");
    let mut console = Console::start(&["--timeout", "3", "--recipe", recipe, "--", "/bin/sh", "-l"]);
    console.wait_for("timed out");
    assert_eq!(console.status(), 124);
    assert!(console.is_cooked());
}
