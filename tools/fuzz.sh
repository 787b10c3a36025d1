#!/usr/bin/env bash
# Runs each fuzz target for a bounded time: tools/fuzz.sh [SECONDS] [TARGET...]
#
# libFuzzer's instrumentation is behind unstable options of the compiler. A stable one takes them when it is told
# so, which is enough for a test program; nothing that is shipped is built that way.
set -euo pipefail
seconds=${1:-60}
[ $# = 0 ] || shift
cd "$(dirname "$0")/.."
export RUSTC_BOOTSTRAP=1
tools=${SPOTD_CACHE:-$HOME/.cache/spotd}/tools
export PATH=$tools/bin:$PATH
if ! command -v cargo-fuzz >/dev/null; then
    echo "fuzz: installing cargo-fuzz into $tools (once)"
    CARGO_TARGET_DIR=$tools/build cargo install cargo-fuzz --version 0.13.2 --locked --quiet --root "$tools"
    rm -rf "$tools/build"
fi
# Its crate has a lock file and feature set of its own: a folder beside the daemon's, not in it.
CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$PWD/target}/fuzz
export CARGO_TARGET_DIR
mapfile -t targets < <([ $# = 0 ] && cargo fuzz list --fuzz-dir fuzz || printf '%s\n' "$@")
# The targets that read models bring the inference engine with them, minutes of building.
features=()
[[ "${targets[*]}" != *onnx* && "${targets[*]}" != *card* ]] || features=(--features onnx)
# What another checkout built into the same folder passes for this one's: the sources lie outside the crate.
host=$(rustc -vV | sed -n 's/^host: //p')
cargo clean --quiet --manifest-path fuzz/Cargo.toml -p spotd-fuzz --release --target "$host"
cargo fuzz build --fuzz-dir fuzz "${features[@]}"
for target in "${targets[@]}"; do
    echo "fuzz: $target for $seconds s"
    corpora=("$CARGO_TARGET_DIR/corpus/$target")
    mkdir -p "${corpora[0]}"
    [ ! -d "fuzz/seeds/$target" ] || corpora+=("fuzz/seeds/$target")
    cargo fuzz run --fuzz-dir fuzz "${features[@]}" "$target" "${corpora[@]}" -- -max_total_time="$seconds" -timeout=10 -print_final_stats=1
done
