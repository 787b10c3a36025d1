#!/usr/bin/env bash
# Trains on a machine that is at hand for minutes only: packs here, trains there, brings the weights back as one file.
#
#   tools/gpu-run.sh pack TRAINER PACK.tar --photos DIR [more arguments of `spotd-train pack`]
#   tools/gpu-run.sh train TRAINER PACK.tar MINUTES WEIGHTS.tar [more arguments of `spotd-train resynth`]
#
# TRAINER is the built spotd-train; for a machine without GStreamer build it by
#   cargo build --release -p spotd-train --no-default-features
# That machine needs nothing but this script, TRAINER, PACK.tar, glibc 2.34 or newer, and PyTorch 2.11's libraries:
# torch of `python3`, or the folder in TORCH_LIB. A GPU is used where these find one, else the CPU.
#
#   TORCH_LIB=DIR   torch/lib of an installed PyTorch 2.11.0
#   LIMIT_MB=50     most that PACK.tar may have
#   GRACE=120       seconds beside MINUTES for loading, thresholds and writing; then what was saved last is brought back
#
# WEIGHTS.tar holds the run: state.json, weights, their average, log.txt. Here: tar xf WEIGHTS.tar -C runs/NAME, then
# `spotd-train export --run runs/NAME` or `resynth --resume`.
set -euo pipefail

say() { echo "gpu-run: $*" >&2; }
die() { say "error: $*"; exit 2; }
usage() { sed -n '3,19s/^# \{0,1\}//p' "$0" >&2; exit 2; }

# The folder of libtorch 2.11 for the loader; a trainer on its own machine finds it by itself.
libraries() {
    local lib=${TORCH_LIB:-} found
    if [ -z "$lib" ] && found=$(python3 -c 'import os, torch; print(torch.__version__, os.path.join(os.path.dirname(torch.__file__), "lib"))' 2>/dev/null); then
        case $found in
        2.11.*) lib=${found#* } ;;
        *) die "python3 has torch ${found%% *}, and the trainer needs 2.11.0; set TORCH_LIB to the torch/lib of one" ;;
        esac
    fi
    if [ -n "$lib" ]; then
        [ -e "$lib/libtorch_cpu.so" ] || die "$lib: holds no libtorch_cpu.so; set TORCH_LIB to torch/lib of PyTorch 2.11.0"
        export LD_LIBRARY_PATH=$lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
    fi
    local missing
    missing=$(ldd "$trainer" 2>&1 | grep -E 'not found|not a dynamic' || true)
    case $missing in
    *libgst*) die "$trainer needs GStreamer, which is not here; build it with --no-default-features" ;;
    *libtorch* | *libc10*) die "$trainer finds no libtorch: install torch 2.11.0 or set TORCH_LIB to its torch/lib" ;;
    ?*) die "$trainer cannot start here: $missing" ;;
    esac
}

[ $# -ge 3 ] || usage
what=$1 trainer=$2 pack=$3
shift 3
[ -x "$trainer" ] || die "$trainer: is no program; build spotd-train first"
# Threads of libtorch that wait by spinning take the cores from those that make batches.
export OMP_WAIT_POLICY=${OMP_WAIT_POLICY:-passive}
work=$(mktemp -d "${TMPDIR:-/tmp}/gpu-run.XXXXXX")
trap 'rm -rf "$work"' EXIT

case $what in
pack)
    limit=${LIMIT_MB:-50}
    [ ! -e "$pack" ] || die "$pack: is there already"
    libraries
    "$trainer" pack --out "$work/pack" --limit-mb "$limit" "$@"
    tar -cf "$work/pack.tar" -C "$work" pack
    bytes=$(stat -c %s "$work/pack.tar")
    # tar pads every file to 512 bytes.
    [ "$bytes" -le $((limit * 1000000)) ] ||
        die "$pack would have $((bytes / 1000000)) MB as a tar file, more than $limit; take a little less"
    mv "$work/pack.tar" "$pack"
    say "$pack: $((bytes / 1000)) kB"
    ;;
train)
    [ $# -ge 2 ] || usage
    minutes=$1 weights=$2
    shift 2
    [[ $minutes =~ ^[0-9]+(\.[0-9]+)?$ ]] || die "MINUTES is a number, not $minutes"
    [ -f "$pack" ] || die "$pack: no such file"
    [ ! -e "$weights" ] || die "$weights: is there already"
    libraries
    tar -xf "$pack" -C "$work" || die "$pack: is no pack"
    [ -d "$work/pack/photos" ] || die "$pack: is no pack: it holds no photographs"
    run=$work/run
    mkdir -p "$run"
    arguments=(--photos "$work/pack/photos" --run "$run" --minutes "$minutes")
    # Few scenes: each takes a while to render, and time is short.
    case " $* " in *" --scenes"*) ;; *) arguments+=(--scenes 40) ;; esac
    [ -d "$work/pack/sets" ] && arguments+=(--sets "$work/pack/sets")
    for file in "$work"/pack/from/*.onnx; do [ -e "$file" ] && arguments+=(--from "$file"); done
    decoders=0
    for file in "$work"/pack/decoders/*.onnx; do [ -e "$file" ] && arguments+=(--decoder "$file") && decoders=1; done
    if [ -d "$work/pack/bank" ]; then
        mv "$work/pack/bank" "$run/bank"
    elif [ $decoders = 1 ]; then
        # Training a bank would take all the time.
        arguments+=(--decoders-only)
    else
        die "$pack: holds neither a bank nor a decoder, so nothing would redraw; pack with --bank RUN or --decoder FILE"
    fi
    limit=$(awk -v m="$minutes" -v g="${GRACE:-120}" 'BEGIN { printf "%d", m * 60 + g }')
    status=0
    timeout --kill-after=10 "$limit" "$trainer" resynth "${arguments[@]}" "$@" 2>&1 | tee "$run/log.txt" >&2 || status=$?
    [ -f "$run/average.safetensors" ] || die "training ended ($status) before anything was saved; see above"
    [ $status = 0 ] || say "training ended early ($status): this is what was saved last"
    tar -cf "$weights.partial" -C "$run" state.json weights.safetensors average.safetensors log.txt
    mv "$weights.partial" "$weights"
    grep -o '[0-9.]* steps/s.*' "$run/log.txt" | tail -1 >&2 || true
    say "$weights: $(($(stat -c %s "$weights") / 1000)) kB"
    exit $status
    ;;
*) usage ;;
esac
