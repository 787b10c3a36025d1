#!/usr/bin/env bash
# Makes the shipped detector anew: trains the bank and the detector, then exports both.
#
#   tools/train.sh TRAINER PHOTOGRAPHS [more arguments of `spotd-train resynth`]
#
#   RUN=runs/edge        where the run lives; one that was stopped goes on when it is started again
#   OUT=models           where the ONNX files and the card go
#   MEASURE_ON=FOLDER    validation sets, <set>/{0_real,1_fake}; the card then holds figures
#   DATA_NAME="..."      what the photographs are, for the card
set -euo pipefail

[ $# -ge 2 ] || { sed -n '4,9s/^# \{0,1\}//p' "$0" >&2; exit 2; }
trainer=$1 photographs=$2
shift 2
run=${RUN:-runs/edge} out=${OUT:-models}

# Where a data folder has the parts apart, only its real training pictures are photographs.
for part in "$photographs/train/real" "$photographs/real"; do
    if [ -d "$part" ]; then photographs=$part; break; fi
done

resume=()
[ -f "$run/state.json" ] && resume=(--resume)
# Two libtorch threads wait for each other by spinning, which is ruinous on a machine with other work.
export OMP_WAIT_POLICY=${OMP_WAIT_POLICY:-passive}
"$trainer" resynth --photos "$photographs" --run "$run" "${resume[@]}" "$@"
measure=()
[ -n "${MEASURE_ON:-}" ] && measure=(--measure-on "$MEASURE_ON")
"$trainer" export --run "$run" --out "$out" --data "${DATA_NAME:-photographs of the user\'s own}" "${measure[@]}"
