#!/usr/bin/env bash
# The Debian package in a fresh Debian, and the service in it under a real systemd: install, start, reload, a worker that
# hangs, stop, upgrade, purge. Needs root, debootstrap, systemd-nspawn and a Debian mirror.
#
# Exit code: 0 all passed (or left out, which is said loudly; SPOTD_BOX=require makes that a failure), 1 something failed.
# SPOTD_DEB_BUILT=FOLDER takes the programs in FOLDER/dist instead of building them.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
cd "$here/../.."
cache=${SPOTD_CACHE:-$HOME/.cache/spotd}/box
suite=${SPOTD_BOX_SUITE:-bookworm}
# The machine's own mirror.
mirror=${SPOTD_BOX_MIRROR:-$(apt-get indextargets --format '$(REPO_URI)' | grep -m1 -E '/debian/?$' || true)}

name=box what="the package in a fresh Debian, under systemd (make test-box)" left_out=${SPOTD_BOX:-}
# shellcheck source=tests/box/outcome.sh
. tests/box/outcome.sh

[ "$(id -u)" = 0 ] || leave_out "it takes root"
for tool in debootstrap systemd-nspawn dpkg-deb dpkg-shlibdeps; do
    command -v "$tool" >/dev/null ||
        leave_out "'$tool' is missing (apt-get install debootstrap systemd-container dpkg-dev)"
done

# A Debian with systemd and a broker; what spotd needs is not in it, so that the package has to bring it.
if [ ! -e "$cache/$suite/complete" ]; then
    rm -rf "${cache:?}/$suite"
    mkdir -p "$cache/$suite"
    debootstrap --variant=minbase --include=systemd,systemd-sysv,dbus,mosquitto,mosquitto-clients,procps \
        "$suite" "$cache/$suite/root" "$mirror" >"$cache/$suite/log" 2>&1 ||
        { tail "$cache/$suite/log" >&2; leave_out "debootstrap failed"; }
    touch "$cache/$suite/complete"
fi

work=$(mktemp -d "${TMPDIR:-/tmp}/spotd-box.XXXXXX")
root=$work/root
servers=()
clean() {
    [ ${#servers[@]} = 0 ] || kill "${servers[@]}" 2>/dev/null || true
    umount "$root" 2>/dev/null || true
    umount "$work/layer" 2>/dev/null || true
    rm -rf "$work"
}
trap clean EXIT
mkdir -p "$root" "$work/layer" "$work/debs"
mount -t tmpfs -o size=3g tmpfs "$work/layer" || leave_out "nothing can be mounted"
mkdir "$work/layer/upper" "$work/layer/work"
mount -t overlay -o "lowerdir=$cache/$suite/root,upperdir=$work/layer/upper,workdir=$work/layer/work" overlay "$root" ||
    leave_out "there is no overlayfs"
cp /etc/resolv.conf "$root/etc/resolv.conf" 2>/dev/null || true
mkdir -p "$cache/archives"

target=${CARGO_TARGET_DIR:-target}
programs=${SPOTD_DEB_BUILT:+$SPOTD_DEB_BUILT/dist}
if [ -z "$programs" ]; then
    # The programs of the tests: a release build takes a quarter of an hour.
    cargo build --locked ${SPOTD_VM_CARGO:-} --bin spotd --bin spotd-verify
    programs=$target/debug
fi
# Stripped once, as the package's are.
built=$work/built
mkdir -p "$built/dist"
for program in spotd spotd-verify; do strip -o "$built/dist/$program" "$programs/$program"; done
# Two versions of the same, for the upgrade.
for revision in 1 2; do
    SPOTD_DEB_BUILT=$built tools/deb.sh --no-strip --deb-revision "$revision" --output "$work/debs/spotd-$revision.deb" >"$work/deb.log" 2>&1 ||
        { cat "$work/deb.log" >&2; fail "the package is not built"; }
done
dpkg-deb -f "$work/debs/spotd-1.deb" Depends
if readelf -V "$built/dist/spotd" | grep -q GLIBC_ABI_DT_RELR; then
    dpkg-deb -f "$work/debs/spotd-1.deb" Depends | grep -q 'libc6 (>= 2.36)' ||
        fail "relocations are packed, and the package goes onto a libc that does not read them"
fi
if command -v lintian >/dev/null; then
    lintian --fail-on error "$work/debs/spotd-1.deb" >"$work/lintian" 2>&1 || { cat "$work/lintian" >&2; fail "lintian"; }
    passed "lintian has no errors, $(grep -c '^W:' "$work/lintian" || true) warnings"
else
    echo "box: *** SKIPPED: lintian is not installed ***" >&2
fi

inside() {
    systemd-nspawn --quiet --register=no --keep-unit --pipe --directory="$root" --resolv-conf=off \
        --bind="$cache/archives:/var/cache/apt/archives" --setenv=DEBIAN_FRONTEND=noninteractive "$@"
}
cp "$work"/debs/*.deb "$root/root/"
inside sh -c 'apt-get -qq update && apt-get -y --no-install-recommends install /root/spotd-1.deb' >"$work/install" 2>&1 ||
    { tail -n 30 "$work/install" >&2; fail "the package cannot be installed"; }
grep -q 'spotd: not enabled; name a source' "$work/install" || fail "it does not say that it waits for a source"
for file in usr/bin/spotd usr/bin/spotd-verify etc/spotd/spotd.toml usr/lib/systemd/system/spotd@.service \
    usr/share/man/man1/spotd-run.1.gz usr/share/bash-completion/completions/spotd \
    usr/share/zsh/vendor-completions/_spotd usr/share/fish/vendor_completions.d/spotd.fish; do
    [ -e "$root/$file" ] || fail "$file is not there"
done
inside id spotd | grep -q 'video.*render\|render.*video' || fail "the user is not in the groups video and render"
[ "$(inside systemctl is-enabled spotd || true)" = disabled ] || fail "it is enabled without a source"
passed "installed with its dependencies, disabled"

# Streams from outside, for the service in its hardening: RTSP and SRT, of H.264. The network is the machine's own.
inside apt-get -y --no-install-recommends install gstreamer1.0-plugins-bad gstreamer1.0-libav >"$work/recommended" 2>&1 ||
    { tail -n 30 "$work/recommended" >&2; fail "what the package recommends cannot be installed"; }
# shellcheck disable=SC2046 # words
gcc -o "$work/rtsp" "$here/rtsp.c" $(pkg-config --cflags --libs gstreamer-rtsp-server-1.0) || fail "no RTSP server (libgstrtspserver-1.0-dev)"
free_port() { python3 -c "import socket; s = socket.socket(socket.AF_INET, socket.$1); s.bind(('127.0.0.1', 0)); print(s.getsockname()[1])"; }
rtsp=$(free_port SOCK_STREAM) srt=$(free_port SOCK_DGRAM)
picture='videotestsrc is-live=true pattern=zone-plate kx2=8 ky2=8 ! video/x-raw,format=I420,width=480,height=360,framerate=10/1'
coded="$picture ! x264enc tune=zerolatency key-int-max=10"
"$work/rtsp" "$rtsp" "( $coded ! rtph264pay name=pay0 pt=96 )" >"$work/rtsp.log" 2>&1 &
servers+=($!)
# shellcheck disable=SC2086 # words
gst-launch-1.0 -q $coded ! h264parse config-interval=-1 ! mpegtsmux alignment=7 ! srtsink "uri=srt://127.0.0.1:$srt?mode=listener" wait-for-connection=false >"$work/srt.log" 2>&1 &
servers+=($!)
printf '%s\n' "rtsp://127.0.0.1:$rtsp/live" "srt://127.0.0.1:$srt" >"$root/root/streams"
cp "$here/guest.sh" "$here/steps.sh" "$root/root/"
cat >"$root/etc/systemd/system/box.service" <<'UNIT'
[Unit]
Description=The tests
After=multi-user.target dbus.service
[Service]
Type=oneshot
ExecStart=/bin/bash /root/guest.sh
ExecStopPost=/bin/systemctl --no-block poweroff
StandardOutput=append:/root/result
StandardError=append:/root/result
[Install]
WantedBy=multi-user.target
UNIT
inside systemctl --quiet enable box.service
inside systemctl --quiet disable mosquitto.service || true
timeout 600 systemd-nspawn --quiet --register=no --keep-unit --console=pipe --boot --directory="$root" --resolv-conf=off \
    </dev/null >"$work/console" 2>&1 || true
cat "$root/root/result" 2>/dev/null || { tail -n 40 "$work/console" >&2; fail "systemd did not come up in the container"; }
grep -q '^guest: all passed$' "$root/root/result" || fail "see above"
inside systemctl --quiet disable box.service

echo '# ours' >>"$root/etc/spotd/spotd.toml"
inside apt-get -y --no-install-recommends install /root/spotd-2.deb >"$work/upgrade" 2>&1 || { cat "$work/upgrade" >&2; fail "no upgrade"; }
grep -q '^# ours$' "$root/etc/spotd/spotd.toml" || fail "the upgrade has changed the configuration"
inside spotd-verify /var/lib/spotd/flags >/dev/null || fail "the upgrade has not kept the log"
inside dpkg-query -W -f '${Version}\n' spotd | grep -q -- -2 || fail "it is the old one"
passed "upgraded, configuration and log kept"

inside apt-get -y remove spotd >"$work/remove" 2>&1
[ -e "$root/etc/spotd/spotd.toml" ] && [ -d "$root/var/lib/spotd/flags" ] || fail "remove takes configuration or log"
inside apt-get -y purge spotd >"$work/purge" 2>&1
grep -q 'spotd: removing /var/lib/spotd' "$work/purge" || { cat "$work/purge" >&2; fail "purge does not say what it removes"; }
[ ! -e "$root/etc/spotd" ] && [ ! -e "$root/var/lib/spotd" ] || fail "purge leaves something behind"
passed "removed with both kept, purged after saying so"
echo "box: all passed in $SECONDS s"
