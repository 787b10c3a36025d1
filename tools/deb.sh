#!/usr/bin/env bash
# Builds the Debian package, for this machine or for the target that is named (aarch64-unknown-linux-gnu), and prints
# where it is. SPOTD_DEB_BUILT=FOLDER packs the programs in FOLDER/dist (FOLDER/TARGET/dist) instead, which the tests
# do; further arguments go to cargo-deb.
set -euo pipefail
cd "$(dirname "$0")/.."
cache=${SPOTD_CACHE:-$HOME/.cache/spotd}
version=3.8.0 # of cargo-deb

triple=
case "${1:-}" in
'' | -*) ;;
*) triple=$1 && shift ;;
esac

packer=$(command -v cargo-deb || echo "$cache/cargo-deb/bin/cargo-deb")
if [ ! -x "$packer" ]; then
    echo "deb: installing cargo-deb $version" >&2
    CARGO_TARGET_DIR=$cache/cargo-deb/target cargo install --locked "cargo-deb@$version" --root "$cache/cargo-deb" >&2
fi
command -v dpkg-shlibdeps >/dev/null ||
    { echo "deb: dpkg-shlibdeps is missing, and without it the package's dependencies: apt-get install dpkg-dev" >&2; exit 2; }

if [ -n "$triple" ]; then
    # Also what it links, and which packages that belongs to: dpkg-shlibdeps knows this machine's own alone.
    [ -z "${SPOTD_DEB_BUILT:-}" ] && tools/cross.sh "$triple" >/dev/null
    case $triple in
    aarch64-*) root=$cache/cross-arm64/root libraries=aarch64-linux-gnu ;;
    armv7-*) root=$cache/cross-armhf/root libraries=arm-linux-gnueabihf ;;
    esac
    if [ -e "${root:-}/var/lib/dpkg/status" ]; then
        wrapped=$(mktemp -d "${TMPDIR:-/tmp}/spotd-deb.XXXXXX")
        trap 'rm -rf "$wrapped"' EXIT
        printf '#!/bin/sh\nexec %s --admindir=%s -l%s -l%s "$@"\n' "$(command -v dpkg-shlibdeps)" "$root/var/lib/dpkg" \
            "$root/usr/lib/$libraries" "$root/lib/$libraries" >"$wrapped/dpkg-shlibdeps"
        chmod +x "$wrapped/dpkg-shlibdeps"
        export PATH=$wrapped:$PATH
    fi
elif [ -z "${SPOTD_DEB_BUILT:-}" ]; then
    # shellcheck source=tools/small.sh
    . tools/small.sh
    RUSTFLAGS="${RUSTFLAGS:-} $small" cargo build --profile dist --locked -p spotd -p spotd-verify >&2
fi
[ -z "${SPOTD_DEB_BUILT:-}" ] || export CARGO_TARGET_DIR=$SPOTD_DEB_BUILT
target=${CARGO_TARGET_DIR:-target}/${triple:+$triple/}dist
variant=
if readelf -V "$target/spotd" "$target/spotd-verify" | grep -q GLIBC_ABI_DT_RELR; then variant=packed-relocations; fi
"$packer" deb -p spotd --profile dist --no-build --locked ${triple:+--target "$triple"} ${variant:+--variant "$variant"} "$@"
