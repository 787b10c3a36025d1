#!/usr/bin/env bash
# Makes a Python with PyTorch and torchvision, which the trainer's tests and benchmarks compare with, and prints
# its path as the last line. Safe to run again. From PyPI, whose only Linux wheels bring CUDA along: 2.5 GB to
# fetch, 4.6 GB on disk.
#
#   tools/torch-venv.sh            -> ${SPOTD_CACHE:-$HOME/.cache/spotd}/torch-venv/bin/python
set -euo pipefail

cache=${SPOTD_CACHE:-$HOME/.cache/spotd}
dest=$cache/torch-venv
if [ ! -x "$dest/bin/python" ]; then
    mkdir -p "$cache/dl"
    rm -rf "$dest.partial"
    python3 -m venv "$dest.partial"
    # The torch wheel that libtorch was unpacked from may lie in the cache already.
    "$dest.partial/bin/pip" install --quiet --disable-pip-version-check --find-links "$cache/dl" \
        torch==2.11.0 torchvision==0.26.0 tensorboard==2.21.0 safetensors numpy >&2
    mv "$dest.partial" "$dest"
fi
"$dest/bin/python" -c 'import torch, torchvision, tensorboard' >&2
echo "$dest/bin/python"
