#!/usr/bin/env bash
# Counts the instructions that the shipped detectors' convolutions take on aarch64, by instruction set, under qemu-user.
# A stand-in for speed where there is no such processor: it knows nothing of how many of them a core does in a cycle, nor
# of its caches.
#
# QEMU's log names each block of instructions when it translates it and again each time it runs. What packing takes is
# measured alone and subtracted. `count-arm.sh check` compares the sum with QEMU's single steps. NETWORKS="edge lite" counts
# EfficientNet-lite0 too, which takes long.
set -euo pipefail
cd "$(dirname "$0")/.."
. tools/arm.sh

# Not `cargo build --example`, which builds what the tests need too.
cargo build --locked --release -p spotd-kernels --lib --target $target
out=$(cargo metadata --locked --no-deps --format-version 1 | sed 's/.*"target_directory":"\([^"]*\)".*/\1/')
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# shellcheck disable=SC2086 # No flag or one.
rustc --edition 2024 -C opt-level=3 --target $target $flags -C linker=aarch64-linux-gnu-gcc \
    -L "dependency=$out/$target/release/deps" -L "dependency=$out/release/deps" \
    --extern "spotd_kernels=$out/$target/release/libspotd_kernels.rlib" -o "$work/work" kernels/examples/work.rs

run() { # NETWORK ISA RUNS QEMU-OPTION...
    qemu-aarch64-static -cpu max -L /usr/aarch64-linux-gnu "${@:4}" "$work/work" "$2" "$3" "$1"
}

# All instructions, those that multiply, and loads.
count() { # NETWORK ISA RUNS
    local log="$work/log"
    rm -f "$log" && mkfifo "$log"
    run "$1" "$2" "$3" -d in_asm,exec,nochain -D "$log" >/dev/null &
    awk '
        /^IN:/ { fresh = 1; next }
        /^0x/ {
            if (fresh) { pc = substr($1, 3); sub(/:$/, "", pc); pc = pad(pc); all[pc] = mul[pc] = load[pc] = 0; fresh = 0 }
            all[pc]++
            # sdot, sudot and usdot by their encoding: this disassembler does not know them.
            if ($2 ~ /^4f([89ab].e|[0-3].f)[0-389ab]/ || $2 ~ /^4e[89].9[4-7c-f]/ || $3 ~ /^(smlal2?|smull2?|mla|mul|madd|smaddl)$/) mul[pc]++
            if ($3 ~ /^ld/) load[pc]++
        }
        /^Trace/ { split($4, part, "/"); times[part[2]]++ }
        function pad(hex) { return sprintf("%16s", hex) }
        END {
            for (at in times) {
                pc = at; sub(/^0+/, "", pc); pc = pad(pc)
                if (!(pc in all)) { print "a block that was not translated: " at > "/dev/stderr"; exit 1 }
                a += times[at] * all[pc]; m += times[at] * mul[pc]; l += times[at] * load[pc]
            }
            printf "%.0f %.0f %.0f\n", a, m, l
        }' "$log"
    wait $!
}

if [ "${1-}" = check ]; then
    # One instruction a block: as many lines as instructions.
    log=$work/single
    mkfifo "$log"
    run edge i8mm 0 -singlestep -d exec,nochain -D "$log" >/dev/null &
    grep -c ^Trace "$log"
    count edge i8mm 0
    exit
fi

for network in ${NETWORKS:-edge}; do
    macs=$(run $network neon 0)
    echo "spotd-$network, one tile of 224 x 224, $macs multiply-accumulates"
    printf '%-10s %14s %12s %14s %10s\n' 'set' instructions 'a product' 'multiplying' loads
    for isa in "${@:-i8mm dotprod neon portable}"; do
        for isa in $isa; do
            read -r a1 m1 l1 < <(count $network "$isa" 0)
            read -r a2 m2 l2 < <(count $network "$isa" 1)
            awk -v isa="$isa" -v a=$((a2 - a1)) -v m=$((m2 - m1)) -v l=$((l2 - l1)) -v macs="$macs" 'BEGIN {
                printf "%-10s %14d %12.4f %12.0f %% %8.0f %%\n", isa, a, a / macs, 100 * m / a, 100 * l / a }'
        done
    done
done
