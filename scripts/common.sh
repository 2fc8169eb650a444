# What the scripts share; sourced from the project's top folder.

RUST_VERSION=$(sed -n 's/^channel = "\(.*\)"/\1/p' rust-toolchain.toml)
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

# progress WHAT: reads what cargo prints and says how far it is: on a terminal in one line that changes, in a log in a line every 15
# seconds. Warnings and errors come through as they are. A build that has nothing to do says nothing.
progress() {
    local what=$1 begin=$SECONDS said=-15 busy= at= text= piece line status now
    while :; do
        status=0
        IFS= read -r -d $'\r' -t 1 piece || status=$?
        text+=$piece
        # Cargo ends its lines with a newline and its bar with a carriage return.
        [ $status -gt 128 ] || text+=$'\n'
        while [[ $text == *$'\n'* ]]; do
            line=${text%%$'\n'*}
            text=${text#*$'\n'}
            case $line in
            *" ["*"] "[0-9]*/[0-9]*) at=${line##*] } busy=1 ;;
            *Compiling\ * | *Checking\ * | *Documenting\ * | *Downloaded\ *) busy=1 ;;
            *Updating\ * | *Downloading\ * | *Blocking\ *) at=${line#"${line%%[! ]*}"} busy=1 ;;
            *Finished\ * | *Locking\ * | *Adding\ * | *Generated\ * | '' | $'\e[K') ;;
            *)
                [ ! -t 2 ] || printf '\r\e[K' >&2
                printf '%s\n' "${line//$'\e[K'/}" >&2 ;;
            esac
        done
        now=$((SECONDS - begin))
        if [ -n "$busy" ] && { [ -t 2 ] || [ $((now - said)) -ge 15 ]; }; then
            line=$(printf '%s: %d:%02d %s' "$what" $((now / 60)) $((now % 60)) "${at%%$'\e'*}")
            line=${line%"${line##*[! ]}"}
            if [ -t 2 ]; then printf '\r\e[K%s' "${line:0:$((${COLUMNS:-80} - 1))}" >&2; else echo "$line" >&2; fi
            said=$now
        fi
        [ $status -ne 1 ] || break
    done
    [ -z "$busy" ] || { [ ! -t 2 ] || printf '\r\e[K'; printf '%s: took %d:%02d\n' "$what" $((now / 60)) $((now % 60)); } >&2
}

# told WHAT COMMAND...: runs a cargo command (whose standard output stays what it is) and tells its progress.
told() {
    local what=$1 colour=never
    shift
    [ ! -t 2 ] || colour=always
    {
        CARGO_TERM_PROGRESS_WHEN=always CARGO_TERM_PROGRESS_WIDTH=200 CARGO_TERM_COLOR=$colour "$@" 2>&1 >&3 3>&- | progress "$what" 3>&-
        return "${PIPESTATUS[0]}"
    } 3>&1
}

# Copies only what changed, so that time stamps tell the truth.
put() {
    cmp -s "$1" "$2" || cp "$1" "$2"
}

build_tool() {
    mkdir -p "$ARTIFACTS"
    told "building the host tool" cargo build --release -p crannog
    put target/release/crannog "$ARTIFACTS/crannog"
}

# Cargo for the kernel: kernel/aarch64-crannog.json is rustc's aarch64-unknown-none-softfloat but for one thing, that memory need not be
# accessed at aligned addresses. The MMU is on before any Rust runs (boot.S), and devices are accessed by volatile words.
kernel_cargo() {
    cargo "$1" --target kernel/$KERNEL_TARGET.json -Zjson-target-spec -Zbuild-std=core,alloc -Zbuild-std-features=optimize_for_size "${@:2}"
}

build_kernel() {
    local profile=${KERNEL_PROFILE:-kernel}
    local what="building the kernel"
    [ "$profile" != kernel ] || what+=" (the longest part: minutes when it is new)"
    told "$what" kernel_cargo build --profile "$profile" -p kernel
    local built=target/$KERNEL_TARGET/$profile
    if [ ! "$built/Image" -nt "$built/kernel" ] || [ ! "$built/Image" -nt "$ARTIFACTS/crannog" ]; then
        "$ARTIFACTS/crannog" image "$built/kernel" "$built/Image"
    fi
    put "$built/Image" "$ARTIFACTS/Image"
    # Where crannog run --gdb finds the symbols.
    ln -sfn "../../$built/kernel" "$ARTIFACTS/kernel.elf"
}

build_guests() {
    told "building the guest programs" cargo build --release -p crannog-init -p abi -p tools -p samples -p bench --target $GUEST_TARGET
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

# boot_abi KERNEL CPUS [TEST...]: the ABI tests in one boot. With one CPU the machine's time is the count of its instructions: it runs
# the same however busy the host is, and sleeping costs nothing. With more they run beside each other, as on a board.
boot_abi() {
    local options=() which=$1 cpus=$2
    shift 2
    [ "$which" = crannog ] || options=(--kernel "$which")
    [ "$cpus" != 1 ] || options+=(--qemu-arg=-icount --qemu-arg=shift=3,sleep=off)
    "$ARTIFACTS/crannog" run --timeout 600 -m 512M --cpus "$cpus" "${options[@]}" -- "$ARTIFACTS/abi" "$@" </dev/null
}
