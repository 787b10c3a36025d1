#!/usr/bin/env bash
# Images a second of `spotd eval` beside a loop like CNNDetection's demo_dir.py in PyTorch, in turns on one machine.
#
#   tools/bench-eval.sh SPOTD TRAINER DATA [IMAGES]      DATA in the paper's layout
#
#   ROUNDS=3 THREADS=2 BATCH=32 NETS="resnet50 resnet18"
#
# Both judge the centre crop of 224 pixels of the same pictures with the same network: torchvision's, with random
# weights, which `spotd-train import` turns into ONNX. Starting up (Python's imports, reading the model, planning)
# counts on neither side: a run over two pictures is taken away from one over all. Seconds of the processor are given
# too, because those of the clock depend on what else the machine does.
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
rates() { # NET: one line a round
    local net=$1 round ours theirs
    "$python" "$peer" weights "$net" "$work/$net.pth"
    "$trainer" import "$work/$net.pth" --out "$work" 2>"$work/log" >/dev/null || { cat "$work/log" >&2; exit 1; }
    for round in $(seq "$rounds"); do
        ours=$("$python" "$peer" ours "$work" "$spotd" eval --model "$work/$net.onnx" --view crop --jobs "$threads" --bootstrap 0)
        theirs=$("$python" "$peer" loop "$net" "$work" "$batch" "$threads")
        echo "$net $ours $theirs"
    done
}
for net in ${NETS:-resnet50 resnet18}; do rates "$net"; done | "$python" "$peer" table
echo
echo "$images pictures, $threads thread(s), PyTorch's loader with as many workers and batches of $batch; load $(cut -d' ' -f1-3 /proc/loadavg), $(nproc) processors"
