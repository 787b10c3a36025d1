#!/usr/bin/env bash
# Builds the Debian package, for this machine or for the target that is named (aarch64-unknown-linux-gnu), and prints
# where it is. SPOTD_DEB_BUILT=FOLDER packs the programs in FOLDER/release instead, which the tests do; further arguments
# go to cargo-deb.
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

if [ -n "${SPOTD_DEB_BUILT:-}" ]; then
    export CARGO_TARGET_DIR=$SPOTD_DEB_BUILT
else
    cargo build --release --locked -p spotd -p spotd-verify ${triple:+--target "$triple"} >&2
fi
exec "$packer" deb -p spotd --no-build --locked ${triple:+--target "$triple"} "$@"
