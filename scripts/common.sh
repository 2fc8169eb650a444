# What the scripts share; sourced from the project's top folder.

RUST_VERSION=1.96.0
CACHE=${XDG_CACHE_HOME:-$HOME/.cache}/crannog
APT_ROOT=$CACHE/apt
GUEST_SYSROOT=$CACHE/sysroot-$RUST_VERSION
ARTIFACTS=$PWD/target/crannog
KERNEL_TARGET=aarch64-crannog
GUEST_TARGET=aarch64-unknown-linux-gnu
export CRANNOG_ARTIFACTS=$ARTIFACTS

# Debian's packaged Rust, new enough for the kernel.
have_debian_rust() {
    [ -x /usr/bin/rustc ] && [ -d /usr/lib/rustlib/src/rust/library/core ] &&
        [ -x /usr/bin/cargo-clippy ] && [ -x /usr/bin/rustfmt ] &&
        case $(/usr/bin/rustc --version) in "rustc 1.9"[6-9]*) true ;; *) false ;; esac
}

have_rustup_rust() {
    command -v rustup >/dev/null && rustup toolchain list 2>/dev/null | grep -q "^$RUST_VERSION" &&
        [ -d "$(rustc "+$RUST_VERSION" --print sysroot)/lib/rustlib/$GUEST_TARGET" ]
}

# apt-get on a root of our own for arm64 packages.
private_apt() {
    mkdir -p "$CACHE"
    flock "$CACHE/lock" apt-get -qq -o "Dir::State::lists=$APT_ROOT/lists" -o "Dir::State::status=$APT_ROOT/status" -o "Dir::Cache=$APT_ROOT/cache" \
        -o APT::Architecture=arm64 -o APT::Architectures=arm64 -o Debug::NoLocking=1 -o APT::Sandbox::User= "$@"
}

# Chooses the toolchain for everything after it.
use_rust() {
    export RUSTC_BOOTSTRAP=1
    export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc
    local flags="-C target-feature=+crt-static -C strip=symbols"
    if have_debian_rust; then
        export PATH=/usr/bin:$PATH
        flags="--sysroot $GUEST_SYSROOT $flags"
    else
        export RUSTUP_TOOLCHAIN=$RUST_VERSION
    fi
    export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUSTFLAGS=$flags
}

# Copies only what changed, so that time stamps tell the truth.
put() {
    cmp -s "$1" "$2" || cp "$1" "$2"
}

build_tool() {
    mkdir -p "$ARTIFACTS"
    cargo build -q --release -p crannog
    put target/release/crannog "$ARTIFACTS/crannog"
}

# Cargo for the kernel's target: aarch64-unknown-none-softfloat but for one thing, that memory need not be accessed at aligned
# addresses. The MMU is on before any Rust runs (boot.S), and devices are accessed by volatile words.
kernel_cargo() {
    mkdir -p "$ARTIFACTS"
    rustc -Z unstable-options --print target-spec-json --target aarch64-unknown-none-softfloat |
        sed 's/+strict-align,//' > "$ARTIFACTS/target-spec.new"
    put "$ARTIFACTS/target-spec.new" "$ARTIFACTS/$KERNEL_TARGET.json"
    cargo "$1" -q --target "$ARTIFACTS/$KERNEL_TARGET.json" -Zjson-target-spec -Zbuild-std=core,alloc -Zbuild-std-features=optimize_for_size \
        "${@:2}"
}

build_kernel() {
    local profile=${KERNEL_PROFILE:-kernel}
    kernel_cargo build --profile "$profile" -p kernel
    local built=target/$KERNEL_TARGET/$profile
    if [ ! "$built/Image" -nt "$built/kernel" ] || [ ! "$built/Image" -nt "$ARTIFACTS/crannog" ]; then
        "$ARTIFACTS/crannog" image "$built/kernel" "$built/Image"
    fi
    put "$built/Image" "$ARTIFACTS/Image"
}

build_guests() {
    cargo build -q --release -p crannog-init -p abi -p tools -p samples -p bench --target $GUEST_TARGET
    put target/$GUEST_TARGET/release/crannog-init "$ARTIFACTS/init"
    put target/$GUEST_TARGET/release/abi "$ARTIFACTS/abi"
    put target/$GUEST_TARGET/release/bench "$ARTIFACTS/bench"
    put target/$GUEST_TARGET/release/sample-std "$ARTIFACTS/sample-std"
    put target/$GUEST_TARGET/release/sample-services "$ARTIFACTS/sample-services"
    [ ! -d "$ARTIFACTS/tools" ] || rm -r "$ARTIFACTS/tools"
    put target/$GUEST_TARGET/release/crannog-tools "$ARTIFACTS/tools"
}

build_all() {
    build_tool
    build_kernel
    build_guests
}

# Debian's arm64 kernel: the oracle. Answers its path.
oracle() {
    local package image
    image=$(ls "$CACHE"/oracle/boot/vmlinuz-* 2>/dev/null | head -n 1 || true)
    if [ -z "$image" ]; then
        mkdir -p "$APT_ROOT"/lists/partial "$APT_ROOT"/cache/archives/partial "$CACHE/oracle/debs/partial"
        [ -e "$APT_ROOT/status" ] || : > "$APT_ROOT/status"
        ls "$APT_ROOT"/lists/*_Packages* >/dev/null 2>&1 || private_apt update
        private_apt -o "Dir::Cache::archives=$CACHE/oracle/debs" install -y --download-only --no-install-recommends linux-image-cloud-arm64 >&2
        package=$(ls "$CACHE"/oracle/debs/linux-image-*-cloud-arm64_*.deb | head -n 1)
        dpkg-deb -x "$package" "$CACHE/oracle"
        image=$(ls "$CACHE"/oracle/boot/vmlinuz-* | head -n 1)
    fi
    echo "$image"
}
