//! The kernel's command line.

/// The words for the kernel: those before `--`.
pub fn words() -> impl Iterator<Item = &'static str> {
    hal::boot::info().cmdline.split_ascii_whitespace().take_while(|word| *word != "--")
}

/// The value of `name=` on the command line (the last one counts).
pub fn option(name: &str) -> Option<&'static str> {
    words().filter_map(|word| word.strip_prefix(name)?.strip_prefix('=')).last()
}
