#!/usr/bin/env bash
# Makes README's pictures of the demonstration anew: docs/run.svg, a recording of a real run in a terminal, and
# docs/flagged.jpg, the first frame that it flags with the tiles that were judged.
#
#   tools/demo/pictures.sh SPOTD DRAW_EVIDENCE
set -euo pipefail
spotd=$(realpath "${1:?program}")
draw=$(realpath "${2:?example draw_evidence}")
root=$(cd "$(dirname "$0")/../.." && pwd)
python=${SPOTD_CACHE:-$HOME/.cache/spotd}/demo
"$root/tools/peers.sh" "$python" "$root/tools/demo/requirements.txt"
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
cd "$scratch"
SPOTD__NODE__NAME=demo "$python/bin/python3" "$root/tools/demo/record.py" "$root/docs/run.svg" \
    "spotd run --demo" "was synthetic" "$spotd" run --demo
"$draw" flags "$root/docs/flagged.jpg"
