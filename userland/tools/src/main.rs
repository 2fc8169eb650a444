//! The project's guest tools in one program: the name it is called by, or its first argument, says which. [`ps`], [`top`] and
//! [`waits`] show what [`machine`] reads from /proc, [`page`] serves it to a browser; [`trace`] prints system calls. [`table`] aligns
//! columns.

mod machine;
mod page;
mod ps;
mod table;
mod top;
mod trace;
mod waits;

use std::io::{ErrorKind, Write};
use std::process::ExitCode;

/// Runs with the arguments behind its name; answers the exit status.
type Applet = fn(&[String]) -> u8;

const APPLETS: &[(&str, Applet)] =
    &[("page", page::main), ("ps", ps::main), ("top", top::main), ("trace", trace::main), ("waits", waits::main)];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args_os().map(|argument| argument.to_string_lossy().into_owned()).collect();
    let applet = |name: &String| {
        let name = name.rsplit('/').next().unwrap_or("");
        APPLETS.iter().find(|applet| applet.0 == name).map(|applet| applet.1)
    };
    let found = arguments.iter().take(2).enumerate().find_map(|(at, name)| Some((at, applet(name)?)));
    match found {
        Some((at, applet)) => ExitCode::from(applet(&arguments[at + 1..])),
        None => {
            let names: Vec<&str> = APPLETS.iter().map(|applet| applet.0).collect();
            eprintln!("usage: tools {} [OPTIONS], or call it by one of these names", names.join("|"));
            ExitCode::from(1)
        }
    }
}

/// Prints `text`: a reader that went away is no error, as with `| head`. Answers the exit status.
fn print(text: &str) -> u8 {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => 0,
        Err(error) if error.kind() == ErrorKind::BrokenPipe => 0,
        Err(error) => {
            eprintln!("standard output: {error}");
            1
        }
    }
}

/// Complains as `NAME: what`, with where to find help. Answers the exit status of wrong usage.
fn usage_error(name: &str, what: &str) -> u8 {
    eprintln!("{name}: {what}\nTry '{name} --help'.");
    2
}
