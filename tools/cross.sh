#!/usr/bin/env bash
# Builds spotd for another processor: tools/cross.sh TARGET [arguments of cargo build]. Prints the folder of the programs.
#
#   aarch64-unknown-linux-gnu       Raspberry Pi 4 and 5 (64 bit), Jetson
#   armv7-unknown-linux-gnueabihf   Raspberry Pi OS of 32 bit
#
# With `cross` and a container engine these do it (cross.toml). Elsewhere, on Debian, with Debian's cross compiler and its
# packages for that processor, unpacked into the cache: nothing of this machine's own packages changes.
# SPOTD_PROFILE=dev or release builds what is quick to build instead of what is small and quick to run.
set -euo pipefail
cd "$(dirname "$0")/.."
target=${1:?a target, such as aarch64-unknown-linux-gnu}
shift
profile=${SPOTD_PROFILE:-dist}
folder=$([ "$profile" = dev ] && echo debug || echo "$profile")
built=${CARGO_TARGET_DIR:-target}/$target/$folder

if command -v cross >/dev/null && { command -v docker || command -v podman; } >/dev/null; then
    CROSS_CONFIG=cross.toml cross build --locked --profile "$profile" --target "$target" -p spotd -p spotd-verify "$@" >&2
    echo "$built"
    exit
fi

case $target in
aarch64-unknown-linux-gnu) arch=arm64 triplet=aarch64-linux-gnu ;;
armv7-unknown-linux-gnueabihf) arch=armhf triplet=arm-linux-gnueabihf ;;
*) echo "cross: $target is not known here; install cross and Docker or Podman for it" >&2 && exit 2 ;;
esac
command -v apt-get >/dev/null ||
    { echo "cross: neither cross with Docker or Podman is here, nor Debian's apt-get" >&2; exit 2; }

if ! command -v "$triplet-gcc" >/dev/null || ! command -v "$triplet-g++" >/dev/null; then
    sudo=$([ "$(id -u)" = 0 ] || echo sudo)
    $sudo apt-get install -qy --no-install-recommends "g++-$triplet" "libc6-dev-$arch-cross" >&2
fi
if [ ! -e "$(rustc --print sysroot)/lib/rustlib/$target/lib" ]; then
    rustup target add "$target" >&2 ||
        { echo "cross: no std of Rust for $target: rustup could not fetch it" >&2; exit 2; }
fi

# Debian's packages of the libraries that are linked, with all that they need, as this release has them.
cache=${SPOTD_CACHE:-$HOME/.cache/spotd}/cross-$arch
root=$cache/root
wanted="libgstreamer1.0-dev libgstreamer-plugins-base1.0-dev libc6-dev linux-libc-dev ${SPOTD_CROSS_PACKAGES:-}"
recipe="2: $wanted" # the number goes up when more is kept of a package
if [ "$(cat "$cache/complete" 2>/dev/null || true)" != "$recipe" ]; then
    rm -rf "$cache"
    apt=$cache/apt
    mkdir -p "$apt"/{lists/partial,archives/partial} "$root"
    : >"$apt/status"
    mirror=$(apt-get indextargets --format '$(REPO_URI)' | grep -m1 -E '/debian/?$')
    # shellcheck source=/dev/null
    suite=$(. /etc/os-release && echo "$VERSION_CODENAME")
    echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror $suite main" >"$apt/sources.list"
    options=(-oAPT::Architecture="$arch" -oAPT::Architectures="$arch" -oAPT::Install-Recommends=false
        -oDir::Etc::sourcelist="$apt/sources.list" -oDir::Etc::sourceparts=/dev/null -oDir::State::Lists="$apt/lists"
        -oDir::State::status="$apt/status" -oDir::Cache::archives="$apt/archives" -oDir::Cache::pkgcache=
        -oDir::Cache::srcpkgcache= -oDebug::NoLocking=true)
    echo "cross: fetching Debian's packages for $arch" >&2
    apt-get "${options[@]}" -qq update >&2
    # shellcheck disable=SC2086 # packages are words
    apt-get "${options[@]}" -qq --download-only -y install $wanted >&2
    # And what dpkg-shlibdeps reads to tell which packages a program needs, with the files where they lie here.
    known=$root/var/lib/dpkg
    mkdir -p "$known/info" "$known/updates"
    echo 1 >"$known/info/format" # files carry the architecture in their names
    for package in "$apt"/archives/*.deb; do
        dpkg -x "$package" "$root"
        rm -rf "$apt/control"
        dpkg -e "$package" "$apt/control"
        { sed '1i Status: install ok installed' "$apt/control/control" && echo; } >>"$known/status"
        name=$known/info/$(dpkg-deb -f "$package" Package)
        [ "$(dpkg-deb -f "$package" Multi-Arch)" != same ] || name=$name:$arch
        dpkg-deb --fsys-tarfile "$package" | tar t | sed "s|^\.|$root|; s|/\$||" >"$name.list"
        for kind in symbols shlibs; do
            [ ! -e "$apt/control/$kind" ] || cp "$apt/control/$kind" "$name.$kind"
        done
    done
    # Links that begin at / would lead to this machine's own files, or nowhere, and the linker would take an archive
    # instead (libm.a, which needs this very libc).
    find "$root" -lname '/*' | while read -r link; do ln -sfn "$root$(readlink "$link")" "$link"; done
    rm -rf "$apt"
    echo "$recipe" >"$cache/complete"
fi

# shellcheck source=tools/small.sh
. tools/small.sh
name=$(tr a-z- A-Z_ <<<"$target")
export "CARGO_TARGET_${name}_LINKER=$triplet-gcc" "CARGO_TARGET_${name}_RUSTFLAGS=-Clink-arg=--sysroot=$root $small"
export "BINDGEN_EXTRA_CLANG_ARGS_${target//-/_}=--sysroot=$root"
export PKG_CONFIG_ALLOW_CROSS=1 PKG_CONFIG_SYSROOT_DIR=$root PKG_CONFIG_PATH=
export PKG_CONFIG_LIBDIR=$root/usr/lib/$triplet/pkgconfig:$root/usr/share/pkgconfig
cargo build --locked --profile "$profile" --target "$target" -p spotd -p spotd-verify "$@" >&2
echo "$built"
