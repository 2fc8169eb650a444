//! A program as Rust users write it: threads, channels, files and child processes of the standard library. It prints one line for
//! each and fails loudly.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, Stdio};
use std::sync::{Arc, Barrier, Condvar, Mutex, RwLock, mpsc};
use std::time::{Duration, Instant};
use std::{env, fs, io, thread};

fn threads() {
    let barrier = Arc::new(Barrier::new(8));
    let sum = Arc::new(Mutex::new(0u64));
    let table = Arc::new(RwLock::new(BTreeMap::new()));
    let handles: Vec<_> = (0..8u64)
        .map(|number| {
            let (barrier, sum, table) = (barrier.clone(), sum.clone(), table.clone());
            thread::Builder::new()
                .name(format!("worker-{number}"))
                .spawn(move || {
                    barrier.wait();
                    for _ in 0..1000 {
                        *sum.lock().unwrap() += number;
                    }
                    table.write().unwrap().insert(number, thread::current().name().unwrap().to_owned());
                    number
                })
                .unwrap()
        })
        .collect();
    let joined: u64 = handles.into_iter().map(|handle| handle.join().unwrap()).sum();
    assert_eq!((joined, *sum.lock().unwrap()), (28, 28_000));
    assert_eq!(table.read().unwrap()[&7], "worker-7");
    let (sender, receiver) = mpsc::sync_channel(1);
    let producer = thread::spawn(move || (0..1000).for_each(|number| sender.send(number).unwrap()));
    assert_eq!(receiver.iter().sum::<i32>(), 499_500);
    producer.join().unwrap();
    let pair = (Mutex::new(()), Condvar::new());
    let start = Instant::now();
    let (_guard, result) = pair.1.wait_timeout(pair.0.lock().unwrap(), Duration::from_millis(20)).unwrap();
    assert!(result.timed_out() && start.elapsed() >= Duration::from_millis(20));
    assert!(thread::spawn(|| std::panic::resume_unwind(Box::new("as planned"))).join().is_err());
    println!("threads: {} CPUs or more", thread::available_parallelism().unwrap().min(2.try_into().unwrap()));
}

fn files() -> io::Result<()> {
    let place = env::temp_dir().join("std-sample");
    fs::create_dir_all(place.join("a/b"))?;
    let path = place.join("a/b/file");
    let mut file = fs::File::options().read(true).write(true).create_new(true).open(&path)?;
    file.write_all(b"one\ntwo\nthree\n")?;
    file.seek(SeekFrom::Start(4))?;
    let mut rest = String::new();
    file.read_to_string(&mut rest)?;
    assert_eq!(rest, "two\nthree\n");
    file.set_len(8)?;
    assert_eq!(BufReader::new(fs::File::open(&path)?).lines().collect::<Result<Vec<_>, _>>()?, ["one", "two"]);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640))?;
    assert_eq!(fs::metadata(&path)?.permissions().mode() & 0o7777, 0o640);
    assert!(fs::metadata(&path)?.modified()?.elapsed().unwrap() < Duration::from_secs(100));
    std::os::unix::fs::symlink("b/file", place.join("a/link"))?;
    assert_eq!(fs::canonicalize(place.join("a/link"))?, path);
    assert_eq!(fs::copy(&path, place.join("copy"))?, 8);
    fs::rename(place.join("copy"), place.join("moved"))?;
    fs::hard_link(place.join("moved"), place.join("second"))?;
    let mut names: Vec<_> = fs::read_dir(&place)?.map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["a", "moved", "second"]);
    fs::remove_dir_all(&place)?;
    assert_eq!(fs::metadata(&place).unwrap_err().kind(), io::ErrorKind::NotFound);
    println!("files: all well");
    Ok(())
}

/// This program again, as a child that does `what`.
fn child(what: &str) -> Command {
    let mut command = Command::new(env::current_exe().unwrap());
    command.arg("--child").arg(what);
    command
}

fn processes() -> io::Result<()> {
    assert_eq!(child("status").status()?.code(), Some(3));
    let output = child("environment").env_clear().env("COLOUR", "green").current_dir("/tmp").output()?;
    assert_eq!(String::from_utf8_lossy(&output.stdout), "green /tmp\n");
    assert_eq!(String::from_utf8_lossy(&output.stderr), "to the other side\n");
    let mut upper = child("upper").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let mut input = upper.stdin.take().unwrap();
    let writer = thread::spawn(move || input.write_all("abc".repeat(100_000).as_bytes()));
    let output = upper.wait_with_output()?;
    writer.join().unwrap()?;
    assert_eq!(output.stdout.len(), 300_000);
    assert!(output.status.success() && output.stdout.starts_with(b"ABCABC"));
    let mut sleeper = child("sleep").spawn()?;
    assert!(sleeper.try_wait()?.is_none());
    sleeper.kill()?;
    assert_eq!(sleeper.wait()?.signal(), Some(9));
    assert_eq!(Command::new("/no/such").spawn().unwrap_err().kind(), io::ErrorKind::NotFound);
    assert_eq!(child("status").uid(1000).gid(1000).process_group(0).status()?.code(), Some(3));
    // Many at a time, from many threads.
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..5 {
                    assert_eq!(child("status").status().unwrap().code(), Some(3));
                }
            });
        }
    });
    println!("processes: all well");
    Ok(())
}

fn be_a_child(what: &str) -> i32 {
    match what {
        "status" => 3,
        "environment" => {
            println!("{} {}", env::var("COLOUR").unwrap(), env::current_dir().unwrap().display());
            eprintln!("to the other side");
            0
        }
        "upper" => {
            let mut text = String::new();
            io::stdin().read_to_string(&mut text).unwrap();
            print!("{}", text.to_uppercase());
            0
        }
        _ => {
            thread::sleep(Duration::from_secs(1000));
            0
        }
    }
}

fn main() -> io::Result<()> {
    let words: Vec<String> = env::args().collect();
    if let [_, _, what] = &words[..] {
        std::process::exit(be_a_child(what));
    }
    threads();
    files()?;
    processes()
}
