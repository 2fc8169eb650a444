//! Links the kernel with its own linker script.

fn main() {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../hal/kernel.ld");
    println!("cargo::rerun-if-changed={script}");
    println!("cargo::rustc-link-arg-bins=-T{script}");
    println!("cargo::rustc-link-arg-bins=--no-dynamic-linker");
    println!("cargo::rustc-link-arg-bins=-zmax-page-size=4096");
}
