#!/usr/bin/env bash
# Images a second of `spotd eval` beside a loop like CNNDetection's demo_dir.py in PyTorch, in turns on one machine.
#
#   tools/bench-eval.sh SPOTD TRAINER DATA [IMAGES]      DATA in the paper's layout
#
#   ROUNDS=3 THREADS=2 BATCH=32 NETS="resnet50 resnet18"
#
# Both judge the centre crop of 224 pixels of the same pictures with the same network: torchvision's, with random
# weights, which `spotd-train import` turns into ONNX. A second row for each network is the same file after
# `spotd quantize`: int8 of ours against the float32 of PyTorch, on the same pictures as it was calibrated on.
# Starting up (Python's imports, reading the model, planning) counts on neither side: a run over two pictures is
# taken away from one over all. Seconds of the processor are given too, because those of the clock depend on what
# else the machine does.
set -euo pipefail

[ $# -ge 3 ] || { sed -n '2,6s/^# \{0,1\}//p' "$0" >&2; exit 2; }
spotd=$(realpath "$1") trainer=$(realpath "$2") data=$3 images=${4:-96}
rounds=${ROUNDS:-3} threads=${THREADS:-2} batch=${BATCH:-32}
here=$(cd "$(dirname "$0")/.." && pwd)
python=$("$here/tools/torch-venv.sh" | tail -1)
peer=$here/trainer/benches/eval_peer.py
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export OMP_WAIT_POLICY=${OMP_WAIT_POLICY:-passive}

"$python" "$peer" lists "$data" "$images" "$work"
quiet() { # COMMAND...: what it says only where it fails
    "$@" >"$work/log" 2>&1 || { cat "$work/log" >&2; exit 1; }
}
ours() { # NAME of the ONNX file
    "$python" "$peer" ours "$work" "$spotd" eval --model "$work/$1.onnx" --view crop --jobs "$threads" --bootstrap 0
}
rates() { # NET: two lines a round
    local net=$1 round float32 int8 theirs
    "$python" "$peer" weights "$net" "$work/$net.pth"
    quiet "$trainer" import "$work/$net.pth" --out "$work"
    quiet "$spotd" quantize --model "$work/$net.onnx" --calibrate "$work/pictures" --out "$work/$net-int8.onnx" --jobs "$threads"
    for round in $(seq "$rounds"); do
        float32=$(ours "$net")
        int8=$(ours "$net-int8")
        theirs=$("$python" "$peer" loop "$net" "$work" "$batch" "$threads")
        echo "$net|float32 $float32 $theirs"
        echo "$net|int8 $int8 $theirs"
    done
}
for net in ${NETS:-resnet50 resnet18}; do rates "$net"; done | "$python" "$peer" table
echo
echo "$images pictures, $threads thread(s), PyTorch's loader with as many workers and batches of $batch; load $(cut -d' ' -f1-3 /proc/loadavg), $(nproc) processors"
