#!/usr/bin/env bash
# Runs tests/v4l against real camera drivers: in QEMU, with a Debian kernel and its vivid driver. Then cuts the power of
# such a guest while a daemon writes to its disk (power.sh).
# Needs neither root nor KVM. Arguments go to the test program (a filter, --nocapture), and leave the power on; `power`
# alone leaves out the tests.
#
# Exit code: 0 all passed (or left out, which is said loudly; SPOTD_VM=require makes that a failure),
# 1 some failed, 2 the guest did not come to its end.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
cd "$here/../.."
most_seconds=${SPOTD_VM_SECONDS:-900}

packages=0
cache=$("$here/packages.sh") || packages=$?
if [ "$packages" != 0 ]; then
    {
        echo "!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!"
        echo "!!! LEFT OUT: the tests with real camera drivers (make test-vm); the reason is above."
        echo "!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!"
    } >&2
    [ "${SPOTD_VM:-}" != require ] || exit 2
    exit 0
fi

# With --workspace where that was built before: another set of packages can mean other features, built anew.
built=$(cargo test --locked ${SPOTD_VM_CARGO:-} --test v4l --no-run --message-format=json)
program() { sed -n "s/.*\"executable\":\"\([^\"]*\/$1\)\".*/\1/p" <<<"$built" | tail -n 1; }
tests=$(program 'v4l-[0-9a-f]*')
spotd=$(program spotd)

work=$(mktemp -d "${TMPDIR:-/tmp}/spotd-vm.XXXXXX")
trap 'rm -rf "$work"' EXIT
guest=$work/guest
mkdir -p "$guest"/{bin,dev,proc,sys,tmp,lib64,usr/lib,plugins,modules}
cp "$cache/root/bin/busybox" "$guest/bin/"
ln -s busybox "$guest/bin/sh"
cp "$here/init" "$guest/init"
cp "$here/power" "$guest/bin/power"
strip -o "$guest/bin/v4l" "$tests"
strip -o "$guest/bin/spotd" "$spotd"

plugins=$(pkg-config --variable=pluginsdir gstreamer-1.0)
for name in coreelements app video4linux2; do
    [ ! -f "$plugins/libgst$name.so" ] || cp "$plugins/libgst$name.so" "$guest/plugins/"
done
ldd "$tests" "$spotd" "$guest"/plugins/*.so | sed -n 's/.*=> \(\/[^ ]*\) .*/\1/p' | sort -u |
    while read -r library; do cp -L "$library" "$guest/usr/lib/"; done
cp -L /lib64/ld-linux-x86-64.so.2 "$guest/lib64/"

version=$(cat "$cache/version")
mkdir -p "$guest/lib/modules/$version"
cp "$cache"/modules/*.ko* "$guest/lib/modules/$version/"
"$cache/root/bin/busybox" depmod -b "$guest" "$version"
printf '%s' "$*" >"$guest/arguments"
(cd "$guest" && find . | "$cache/root/bin/busybox" cpio -o -H newc 2>/dev/null) >"$work/initrd"
rm -rf "$guest"

libraries=$cache/root/usr/lib/x86_64-linux-gnu:$cache/root/lib/x86_64-linux-gnu:$cache/root/usr/lib/x86_64-linux-gnu/pmdk
machine=(env "LD_LIBRARY_PATH=$libraries" "$cache/root/usr/bin/qemu-system-x86_64"
    -L "$cache/root/usr/share/qemu" -L "$cache/root/usr/share/seabios"
    -accel tcg,thread=multi -cpu max -smp 2 -m 1024 -nographic -no-reboot -nodefaults -serial stdio
    -kernel "$cache/vmlinuz" -initrd "$work/initrd")
# no_timer_check: on a busy machine the emulated timer ticks too late for the kernel's test of it, which then panics.
kernel_says='console=ttyS0 panic=-1 loglevel=4 mitigations=off no_timer_check'
# shellcheck source=tests/vm/power.sh
. "$here/power.sh"
if [ "$*" = power ]; then
    power
    exit
fi

log=$cache/serial.log
echo "vm: starting the guest" >&2
begun=$SECONDS
timeout "$most_seconds" "${machine[@]}" -append "$kernel_says" </dev/null >"$log" 2>&1 || true

tr -d '\r' <"$log" | grep -E '^test .*\.\.\. |^test result' || true
code=$(tr -d '\r' <"$log" | sed -n 's/^guest: the tests ended with \([0-9]*\)$/\1/p')
count() { tr -d '\r' <"$log" | sed -n "s/^test result: .*[^0-9]\([0-9]*\) $1;.*/\1/p" | awk '{ n += $1 } END { print n + 0 }'; }
took="in $((SECONDS - begun)) s"
if [ -z "$code" ]; then
    echo "vm: the guest did not come to its end $took (at most $most_seconds s; SPOTD_VM_SECONDS changes that)" >&2
    tail -n 60 "$log" >&2
    echo "vm: all that it said is in $log" >&2
    exit 2
fi
echo "$(count passed) passed, $(count failed) failed $took (tests with real camera drivers)"
if [ "$code" != 0 ]; then
    tr -d '\r' <"$log" | sed -n '/^failures:/,$p' >&2
    echo "vm: all that the guest said is in $log" >&2
    exit 1
fi
[ $# != 0 ] || power
