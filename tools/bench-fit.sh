#!/usr/bin/env bash
# Images a second of `spotd-train fit` beside the same loop in PyTorch, in turns on one machine.
#
#   tools/bench-fit.sh TRAINER DATA [NET] [STEPS] [BATCH]      DATA in the paper's layout, NET resnet18 or resnet50
#
#   ROUNDS=3 THREADS=1 WORKERS=1 BF16=false
set -euo pipefail

[ $# -ge 2 ] || { sed -n '2,6s/^# \{0,1\}//p' "$0" >&2; exit 2; }
trainer=$1 data=$2 net=${3:-resnet18} steps=${4:-20} batch=${5:-16}
rounds=${ROUNDS:-3} threads=${THREADS:-1} workers=${WORKERS:-1} bf16=${BF16:-false}
here=$(cd "$(dirname "$0")/.." && pwd)
python=$("$here/tools/torch-venv.sh" | tail -1)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export OMP_WAIT_POLICY=${OMP_WAIT_POLICY:-passive}
echo "| round | spotd-train fit, images/s | waiting | PyTorch $("$python" -c 'import torch; print(torch.__version__)'), images/s |"
echo "|---|---|---|---|"
for round in $(seq "$rounds"); do
    run=$work/$round
    # One line of metrics over all steps, first one included, as the other side counts.
    "$trainer" --threads "$threads" fit --data "$data" --run "$run" --net "$net" --steps "$steps" --batch "$batch" \
        --validate-every "$steps" --workers "$workers" --bf16 "$bf16" --augment 0.5 --images 400 --hold-out 0.05 \
        2>"$work/log" >/dev/null || { cat "$work/log" >&2; exit 1; }
    ours=$("$python" -c 'import json, sys
line = [json.loads(l) for l in open(sys.argv[1])][-1]
print("%.2f | %.0f %%" % (line["images_per_second"], 100 * line["waiting"]))' "$run/metrics.jsonl")
    theirs=$("$python" "$here/trainer/benches/fit_peer.py" "$data" "$net" "$steps" "$batch" "$threads" "$workers" "$bf16")
    echo "| $round | $ours | $theirs |"
done
