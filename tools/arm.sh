# Sourced by test-arm.sh and count-arm.sh, in the repository's folder: QEMU, a linker and a std for aarch64.
#
# The target's std comes from rustup; where it cannot download, it is built once from the distribution's rust-src
# of exactly the compiler's version. Where neither can be had, this says so and ends well.
# shellcheck shell=bash

target=aarch64-unknown-linux-gnu
version=$(rustc --version | awk '{print $2}')
cache=${SPOTD_CACHE:-$HOME/.cache/spotd}/arm-$version
keyring=/usr/share/keyrings/debian-archive-keyring.gpg

skip() {
    echo "*** SKIPPED: the kernels for aarch64: $* ***" >&2
    exit 0
}

# The host's own mirror, with the suites that may have the compiler's version, apart from the host's lists.
apt_src() {
    local mirror apt=$cache/apt suite
    mirror=$(apt-get indextargets --format '$(REPO_URI)' | grep -E '/debian/?$' | head -n1)
    [ -n "$mirror" ] && [ -e $keyring ] || return 1
    mkdir -p "$apt/lists/partial" "$apt/cache/archives/partial"
    for suite in trixie-backports forky sid; do
        echo "deb [signed-by=$keyring] $mirror $suite main" >"$apt/sources.list"
        local o=(-oDir::Etc::sourcelist="$apt/sources.list" -oDir::Etc::sourceparts=/dev/null
            -oDir::State::Lists="$apt/lists" -oDir::Cache="$apt/cache")
        apt-get "${o[@]}" -q update >/dev/null || continue
        local found
        found=$(apt-cache "${o[@]}" madison rust-src | awk '{print $3}' | grep -m1 "^$version+") || continue
        (cd "$cache" && apt-get "${o[@]}" -q download "rust-src=$found" && dpkg -x rust-src_*.deb src) && return 0
    done
    return 1
}

build_std() {
    local source out=$cache/std
    apt_src || return 1
    source=$(dirname "$(find "$cache/src" -path '*/library/std/Cargo.toml' | head -n1)")/..
    source=$(cd "$source" && pwd)
    mkdir -p "$out/src"
    printf '[package]\nname = "std-for-arm"\nedition = "2024"\n[workspace]\n' >"$out/Cargo.toml"
    echo 'fn main() {}' >"$out/src/main.rs"
    (cd "$out" && env -u RUSTFLAGS RUSTC_BOOTSTRAP=1 __CARGO_TESTS_ONLY_SRC_ROOT="$source" CARGO_TARGET_DIR="$out/target" \
        cargo build --release --target $target -Zbuild-std=std,panic_unwind,proc_macro,test) || return 1
    mkdir -p "$cache/sysroot/lib/rustlib/$target/lib"
    cp "$out/target/$target/release/deps/"*.rlib "$cache/sysroot/lib/rustlib/$target/lib/"
    rm -rf "$out/target" "$cache/src" "$cache/"*.deb "$cache/apt"
}

for tool in qemu-aarch64-static aarch64-linux-gnu-gcc; do
    command -v $tool >/dev/null && continue
    sudo=$([ "$(id -u)" = 0 ] || echo sudo)
    $sudo apt-get install -qy --no-install-recommends qemu-user-static gcc-aarch64-linux-gnu libc6-dev-arm64-cross \
        >/dev/null 2>&1 || skip "no $tool, and apt-get could not install it"
done

flags=
if ! [ -e "$(rustc --print sysroot)/lib/rustlib/$target/lib" ]; then
    if [ ! -e "$cache/sysroot" ] && ! { command -v rustup >/dev/null && rustup target add $target 2>/dev/null; }; then
        mkdir -p "$cache"
        build_std >&2 || skip "no std of Rust $version for it, neither from rustup nor from rust-src"
    fi
    [ ! -e "$cache/sysroot" ] || flags="--sysroot=$cache/sysroot"
fi

export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUSTFLAGS="$flags"
