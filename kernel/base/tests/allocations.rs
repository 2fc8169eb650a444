//! The kernel proper allocates nothing of a size that is found at run time without being able to fail, unless a line says why it may:
//! `// Infallible: ...`, right above. What can fail goes through `base::heap`.

use std::path::Path;

/// Calls that allocate as much as they are told, or panic.
const FORBIDDEN: &[&str] = &[
    "with_capacity(",
    ".reserve(",
    ".reserve_exact(",
    ".repeat(",
    "new_uninit_slice(",
    "new_zeroed_slice(",
    "from_elem(",
];
/// Methods of the kernel's own of the same name.
const OTHERS: &[&str] =
    &["self.reserve(", "timers.reserve(", "items.reserve()?", "copy.map.reserve(", "queue.reserve()?"];
/// Code that knows `base::heap`'s rule by itself is told by this word; raw `try_reserve` asks nobody.
const REASON: &str = "// Infallible: ";

/// Whether `line` makes a vector of a length that is no literal.
fn makes_vector(line: &str) -> bool {
    let Some((_, rest)) = line.split_once("vec![") else { return false };
    let inside = rest.split(']').next().unwrap_or(rest);
    inside.split_once(';').is_some_and(|(_, len)| !len.trim().starts_with(|c: char| c.is_ascii_digit()))
}

fn check(path: &Path, found: &mut Vec<String>) {
    for entry in std::fs::read_dir(path).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            check(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = std::fs::read_to_string(&path).unwrap();
            let mut above = "";
            for (number, line) in text.lines().enumerate() {
                let code = line.split("//").next().unwrap_or(line);
                let forbidden =
                    FORBIDDEN.iter().any(|word| code.contains(word)) && !OTHERS.iter().any(|word| code.contains(word));
                if (forbidden || makes_vector(code)) && !above.trim().starts_with(REASON) {
                    found.push(format!("{}:{}: {}", path.display(), number + 1, line.trim()));
                }
                above = line;
            }
        }
    }
}

#[test]
fn what_is_sized_at_run_time_can_fail() {
    let mut found = Vec::new();
    check(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../core/src"), &mut found);
    assert!(found.is_empty(), "allocated infallibly, with no `{REASON}...` above:\n{}", found.join("\n"));
}
