#!/usr/bin/env bash
# Runs the tests of spotd-kernels for aarch64 under qemu-user: on a CPU with everything (i8mm, sdot), and on a
# Cortex-A72, which has plain NEON alone. Says nothing about speed; count-arm.sh counts instructions.
set -euo pipefail
cd "$(dirname "$0")/.."
. tools/arm.sh

for cpu in max cortex-a72; do
    echo "== aarch64, -cpu $cpu"
    export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER="qemu-aarch64-static -cpu $cpu -L /usr/aarch64-linux-gnu"
    cargo test --locked -p spotd-kernels --target $target --lib --tests "$@"
done
