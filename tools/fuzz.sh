#!/usr/bin/env bash
# Runs each fuzz target for a bounded time: tools/fuzz.sh [SECONDS]. Needs a nightly toolchain.
set -euo pipefail
seconds=${1:-60}
cd "$(dirname "$0")/.."
command -v cargo-fuzz >/dev/null || cargo install cargo-fuzz --locked
for target in mjpg source_text; do
    echo "fuzz: $target for $seconds s"
    cargo +nightly fuzz run --fuzz-dir fuzz "$target" -- -max_total_time="$seconds" -timeout=10
done
