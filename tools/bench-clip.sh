#!/usr/bin/env bash
# Makes the clip that `spotd bench --cameras` plays unless it is given another: clips/bench.mkv, two seconds of 1080p25
# H.264 as cameras send it: one key frame, no B-frames, one reference, 1.4 Mbit/s. The picture is computed, so nobody's
# rights or faces are in it; it moves everywhere and is soft and noisy, as a lens and a sensor leave it.
#
#   tools/bench-clip.sh [FILE]
set -euo pipefail
to=${1:-$(cd "$(dirname "$0")/.." && pwd)/clips/bench.mkv}
command -v ffmpeg >/dev/null || { echo "bench-clip: ffmpeg is needed (tools/setup.sh test installs it)" >&2; exit 2; }
mkdir -p "$(dirname "$to")"
ffmpeg -loglevel error -y \
    -f lavfi -i "mandelbrot=size=1920x1080:rate=25:start_scale=0.4:end_scale=0.2:end_pts=200:maxiter=500" -t 2 \
    -vf "gblur=sigma=2,noise=alls=6:allf=t:all_seed=1,format=yuv420p" \
    -c:v libx264 -preset medium -profile:v main -bf 0 -refs 1 -g 50 -keyint_min 50 -sc_threshold 0 -b:v 1500k -threads 1 \
    -fflags +bitexact -flags:v +bitexact -map_metadata -1 "$to"
