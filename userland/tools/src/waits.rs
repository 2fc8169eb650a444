//! waits: every thread of the machine, its state, CPU time and what it is blocked on. `waits -k` adds kernel stacks.

mod tasks;

fn main() {
    let stacks = std::env::args().any(|argument| argument == "-k");
    print!("{}", tasks::table(stacks));
}
