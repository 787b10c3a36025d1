#!/bin/bash
# How much memory `spotd scan --report` takes while it judges 10,000 pictures, and then a video of two hours.
#
#     tools/scan-memory.sh target/release/spotd [pictures] [video]
#
# Makes both in a folder of its own (0.5 GB, removed at the end), scans each, and prints the resident memory at a tenth,
# a half and the end of the way, its peak, and the size of the report. The pictures differ in size and content, so that
# neither buffers nor the heap can be lucky; their noise makes thumbnails as large as they get.
set -euo pipefail

spotd=$(realpath "${1:?which spotd? for instance target/release/spotd}")
shift
wanted=${*:-pictures video}
dir=$(mktemp -d "${TMPDIR:-/tmp}/spotd-scan.XXXXXX")
trap 'rm -rf "$dir"' EXIT
cd "$dir"

pictures() {
  mkdir pictures
  local n=0 pattern size
  for pattern in snow smpte zone-plate ball; do
    for size in 224x224 256x256 320x240 240x320 288x256; do
      gst-launch-1.0 -q videotestsrc pattern=$pattern kx2=20 ky2=20 kt=1 num-buffers=500 \
        ! "video/x-raw,width=${size%x*},height=${size#*x},framerate=25/1" ! jpegenc quality=75 \
        ! multifilesink location="pictures/$n-%04d.jpg"
      n=$((n + 1))
    done
  done
}

video() {
  # A frame a second; all of them are judged.
  gst-launch-1.0 -q videotestsrc pattern=snow num-buffers=7200 ! video/x-raw,width=320,height=240,framerate=1/1 \
    ! x264enc quantizer=45 pass=quant key-int-max=60 speed-preset=ultrafast ! mp4mux ! filesink location=video.mp4
}

scan() { # name input
  "$spotd" scan "$2" --json --report "$1.html" >"$1.out" 2>"$1.err" &
  local pid=$!
  while read -r size < <(awk '/^VmRSS/ { r = $2 } /^VmHWM/ { h = $2 } END { if (r) print r, h }' "/proc/$pid/status" 2>/dev/null); do
    echo "$size" >>"$1.rss"
    sleep "${SCAN_MEMORY_EVERY:-0.5}"
  done
  local code=0
  wait $pid || code=$?
  [ $code -le 1 ] || { cat "$1.err" >&2; echo "$1: exit code $code" >&2; return 1; }
  awk -v name="$1" -v lines="$(wc -l <"$1.out")" -v report="$(stat -c %s "$1.html")" '
    { rss[NR] = $1; peak = $2 }
    function at(share) { n = int(NR * share); return rss[n < 1 ? 1 : n] / 1024 }
    END {
      printf "%s: %d input(s), resident %.0f MiB at 10 %%, %.0f MiB at 50 %%, %.0f MiB at the end; peak %.0f MiB; report %.2f MiB\n",
        name, lines, at(0.1), at(0.5), at(1), peak / 1024, report / 1048576
    }' "$1.rss"
  [ -z "${SCAN_MEMORY_KEEP:-}" ] || cp "$1.rss" "$1.out" "$SCAN_MEMORY_KEEP"
}

for what in $wanted; do
  $what
  scan "$what" "$([ "$what" = video ] && echo video.mp4 || echo pictures)"
done
