#!/usr/bin/env bash
# Installs what building, running or testing spotd needs and this machine lacks; says what and why.
#
#   tools/setup.sh run     to build and run the daemon
#   tools/setup.sh test    to run its tests too
#
# Debian 12+ and Ubuntu 24.04+ by apt. On other systems it names what is missing and goes on.
set -euo pipefail
purpose=${1:?run or test}
here=$(cd "$(dirname "$0")/.." && pwd)

# package | why
packages="
gcc|links the program
g++|compiles the C++ parts of dependencies
pkg-config|finds the libraries
libclang-dev|reads the V4L2 headers at build time
libgstreamer1.0-dev|GStreamer: streams and video files
libgstreamer-plugins-base1.0-dev|GStreamer: streams and video files
gstreamer1.0-plugins-base|GStreamer: containers, raw video
gstreamer1.0-plugins-good|GStreamer: RTSP, HTTP, MP4
gstreamer1.0-plugins-bad|GStreamer: SRT, HLS, MPEG-TS; the H.265 encoder of eval and of training
gstreamer1.0-plugins-ugly|GStreamer: the H.264 encoder of eval, training and tests; ASF
gstreamer1.0-libav|GStreamer: decoders
"
[ "$purpose" = test ] && packages+="
libgstrtspserver-1.0-dev|the RTSP server of the tests
gstreamer1.0-tools|makes the videos of the tests
ffmpeg|makes the interlaced videos, and those with alpha or a cover, of the tests
nginx|the RTMP server of the tests
libnginx-mod-rtmp|the RTMP server of the tests
mosquitto|the MQTT broker of the tests
mosquitto-clients|listens to the broker as README says
unzip|takes apart what spotd exports
prometheus|scrapes the metrics, and checks rules and format
openssl|makes the certificates and keys of the tests
python3|takes apart what spotd exports
python3-pip|fetches libtorch for the trainer's tests
python3-venv|holds schemathesis, which tries the API as it is described
"

# Where a distribution has these (Ubuntu has Chromium as a snap alone), the page is tried in a real browser.
optional=""
[ "$purpose" = test ] && optional="
chromium|the browser of the page's tests
chromium-driver|drives it
fonts-dejavu-core|letters for it
"

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"
    elif command -v sudo >/dev/null; then sudo "$@"
    else echo "setup: root is needed for: $*" >&2; echo "setup: run that as root, then repeat" >&2; exit 2; fi
}

install_packages() {
    local missing=() name why
    if [ -n "$optional" ]; then
        # A fresh machine's lists are empty.
        [ -n "$(apt-cache policy mosquitto | sed -n 's/.*Candidate: (none)//p; s/.*Candidate: //p')" ] ||
            as_root env DEBIAN_FRONTEND=noninteractive apt-get update -qq
        if [ -n "$(apt-cache policy chromium-driver | sed -n '/(none)/d; s/.*Candidate: //p')" ]; then
            packages+="$optional"
        else
            echo "setup: *** no package of Chromium here: the page will be tried in no browser ***"
        fi
    fi
    while IFS='|' read -r name why; do
        [ -n "$name" ] || continue
        dpkg-query -W -f '${db:Status-Abbrev}' "$name" 2>/dev/null | grep -q '^ii' && continue
        [ ${#missing[@]} = 0 ] && echo "setup: installing packages that are missing:"
        printf '  %-36s %s\n' "$name" "$why"
        missing+=("$name")
    done <<<"$packages"
    [ ${#missing[@]} = 0 ] && return
    as_root env DEBIAN_FRONTEND=noninteractive apt-get update -qq
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "${missing[@]}" >/dev/null
    # The tests start brokers and servers of their own; ones that listen to everybody are not wanted.
    for name in mosquitto nginx prometheus; do
        case " ${missing[*]} " in *" $name "*)
            command -v systemctl >/dev/null && [ -d /run/systemd/system ] && as_root systemctl disable --now "$name" >/dev/null 2>&1 || true ;;
        esac
    done
}

if command -v apt-get >/dev/null; then
    install_packages
else
    echo "setup: this is no Debian or Ubuntu; please see that these (or their like) are installed:"
    echo "$packages" | awk -F'|' 'NF == 2 { printf "  %-36s %s\n", $1, $2 }'
fi

# The rules that a page has to keep for everybody's sake, as a wheel: nothing else here needs npm.
if [ "$purpose" = test ] && [ -n "${SPOTD_AXE:-}" ] && [ ! -e "$SPOTD_AXE" ] && command -v python3 >/dev/null; then
    echo "setup: fetching axe-core, which the page's accessibility is held against"
    folder=$(mktemp -d)
    if python3 -m pip download --quiet --disable-pip-version-check --no-deps --dest "$folder" axe-core-python==0.1.0; then
        mkdir -p "$(dirname "$SPOTD_AXE")"
        unzip -p "$folder"/axe_core_python-0.1.0-*.whl axe_core_python/axe.min.js >"$SPOTD_AXE.part"
        mv "$SPOTD_AXE.part" "$SPOTD_AXE"
    else
        echo "setup: *** axe-core cannot be fetched: the page's accessibility will not be tried ***"
    fi
    rm -r "$folder"
fi

# Tries what the daemon's description of its API promises.
if [ "$purpose" = test ] && [ -n "${SPOTD_SCHEMATHESIS:-}" ] && command -v python3 >/dev/null; then
    "$here/tools/peers.sh" "${SPOTD_SCHEMATHESIS%/bin/*}" "$here/tests/web/requirements.txt" ||
        echo "setup: *** schemathesis cannot be installed: the API's description will not be tried ***"
fi

wanted=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' "$here/Cargo.toml" | head -n 1)
version() { "$1" --version 2>/dev/null | sed -n 's/^[a-z]* \([0-9.]*\).*/\1/p'; }
new_enough() { [ -n "$1" ] && [ "$(printf '%s\n%s\n' "$wanted" "$1" | sort -V | head -n 1)" = "$wanted" ]; }

if ! new_enough "$(version cargo)"; then
    echo "setup: Rust $wanted or newer is needed, found '$(version cargo)'; installing the stable toolchain by rustup"
    if command -v rustup >/dev/null; then
        rustup toolchain install stable --profile minimal --component clippy,rustfmt
        rustup default stable
    else
        as_root env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends curl ca-certificates >/dev/null
        curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs |
            sh -s -- -y --no-modify-path --profile minimal --component clippy,rustfmt
    fi
    export PATH="$HOME/.cargo/bin:$PATH"
    new_enough "$(version cargo)" || { echo "setup: still no Rust $wanted; see https://rustup.rs" >&2; exit 2; }
fi
