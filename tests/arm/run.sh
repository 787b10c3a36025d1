#!/usr/bin/env bash
# The whole of spotd on arm64. First under qemu-user: `spotd bench` names the instruction set that a processor with
# everything (i8mm) gets, and a Cortex-A72, which has plain NEON alone. Then the package, installed in an arm64 Debian on a
# machine that QEMU emulates, under its systemd: a camera of the kernel's vivid driver, the flag log, a mosquitto.
# Says nothing about speed. Needs root, debootstrap and a Debian mirror.
#
# Exit code: 0 all passed (or left out, which is said loudly; SPOTD_ARM=require makes that a failure), 1 something failed.
# SPOTD_ARM_BUILT=FOLDER takes the programs in FOLDER/aarch64-unknown-linux-gnu/dist instead of building them.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
cd "$here/../.."
triple=aarch64-unknown-linux-gnu
cache=${SPOTD_CACHE:-$HOME/.cache/spotd}/arm-guest
suite=bookworm
recipe=1 # goes up when what is in the guest changes
most_seconds=${SPOTD_ARM_SECONDS:-2400}

name=arm what="spotd on arm64 (make test-arm)" left_out=${SPOTD_ARM:-}
# shellcheck source=tests/box/outcome.sh
. tests/box/outcome.sh

[ "$(id -u)" = 0 ] || leave_out "it takes root"
for tool in debootstrap qemu-aarch64-static mke2fs dpkg-shlibdeps; do
    command -v "$tool" >/dev/null ||
        leave_out "'$tool' is missing (apt-get install debootstrap qemu-user-static e2fsprogs dpkg-dev)"
done

built=${SPOTD_ARM_BUILT:-}
if [ -z "$built" ]; then
    tools/cross.sh "$triple" >/dev/null
    built=${CARGO_TARGET_DIR:-target}
fi
sysroot=${SPOTD_CACHE:-$HOME/.cache/spotd}/cross-arm64/root

work=$(mktemp -d "${TMPDIR:-/tmp}/spotd-arm.XXXXXX")
binfmt=/proc/sys/fs/binfmt_misc
ours=
clean() {
    [ -z "$ours" ] || echo -1 >"$binfmt/spotd-arm64" || true
    rm -rf "$work"
}
trap clean EXIT

for cpu in max cortex-a72; do
    GST_REGISTRY_FORK=no GST_REGISTRY=$work/registry qemu-aarch64-static -cpu "$cpu" -L "$sysroot" \
        "$built/$triple/dist/spotd" bench --seconds 1 --threads 1 >"$work/bench" 2>&1 || { cat "$work/bench"; fail "spotd bench, -cpu $cpu"; }
    named=$(grep -iE -m1 'neon|dot|i8mm' "$work/bench") || { cat "$work/bench"; fail "bench names no instruction set"; }
    passed "bench, -cpu $cpu: $named"
done

# The guest's disk: what the package needs is in it, because unpacking takes long under emulation.
if [ "$(cat "$cache/complete" 2>/dev/null || true)" != "$recipe" ]; then
    rm -rf "$cache"
    mkdir -p "$cache"/{debs,qemu}
    # shellcheck source=tests/vm/unpacked.sh
    . tests/vm/unpacked.sh
    (cd "$cache/debs" && mapfile -t packages < <(not_installed qemu-system-arm) && apt-get download -qq "${packages[@]}") >&2 ||
        leave_out "QEMU's packages cannot be fetched"
    for deb in "$cache"/debs/*.deb; do dpkg -x "$deb" "$cache/qemu"; done
    rm -rf "$cache/debs"

    # The kernel has to know what runs arm64's programs; where qemu-user-static is registered it does.
    if ! grep -lqs 'magic 7f454c46020101.*b700' "$binfmt"/qemu-aarch64 "$binfmt"/spotd-arm64; then
        [ -e "$binfmt/register" ] || mount -t binfmt_misc none "$binfmt" 2>/dev/null || leave_out "there is no binfmt_misc"
        printf '%s' ':spotd-arm64:M::\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00:\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff:'"$(command -v qemu-aarch64-static):F" >"$binfmt/register" ||
            leave_out "arm64's programs cannot be registered with the kernel"
        ours=yes
    fi
    mirror=$(apt-get indextargets --format '$(REPO_URI)' | grep -m1 -E '/debian/?$') || leave_out "apt knows no Debian mirror"
    echo "arm: making an arm64 Debian under emulation: about a quarter of an hour" >&2
    debootstrap --arch=arm64 --variant=minbase \
        --include=systemd,systemd-sysv,dbus,procps,kmod,mosquitto,mosquitto-clients \
        "$suite" "$cache/root" "$mirror" >"$cache/log" 2>&1 || { tail "$cache/log" >&2; leave_out "debootstrap failed"; }
    # An initrd of what this machine needs; one of everything takes long under emulation.
    mkdir -p "$cache/root/etc/initramfs-tools/conf.d"
    echo MODULES=list >"$cache/root/etc/initramfs-tools/conf.d/spotd"
    printf '%s\n' virtio_pci virtio_blk ext4 >"$cache/root/etc/initramfs-tools/modules"
    chroot "$cache/root" env DEBIAN_FRONTEND=noninteractive apt-get -qqy --no-install-recommends -oDpkg::Options::=--force-confold install \
        linux-image-arm64 gstreamer1.0-plugins-base gstreamer1.0-plugins-good >>"$cache/log" 2>&1 ||
        { tail "$cache/log" >&2; leave_out "a kernel and GStreamer cannot be installed in it"; }
    chroot "$cache/root" apt-get clean
    cp "$here/arm-test.service" "$cache/root/etc/systemd/system/"
    chroot "$cache/root" systemctl --quiet enable arm-test.service
    chroot "$cache/root" systemctl --quiet disable mosquitto.service
    cp "$cache"/root/boot/vmlinuz-* "$cache/vmlinuz"
    cp "$cache"/root/boot/initrd.img-* "$cache/initrd"
    rm -rf "$cache"/root/boot/* "$cache"/root/usr/share/{doc,locale,man}/*
    mke2fs -q -t ext4 -d "$cache/root" "$cache/disk" 4G >&2
    rm -rf "$cache/root"
    echo "$recipe" >"$cache/complete"
fi

SPOTD_DEB_BUILT=$built tools/deb.sh "$triple" --no-strip --output "$work/spotd.deb" >"$work/deb.log" 2>&1 ||
    { cat "$work/deb.log" >&2; fail "the package is not built"; }
passed "package for $(dpkg-deb -f "$work/spotd.deb" Architecture), $(($(stat -c %s "$work/spotd.deb") / 1024)) KiB: $(dpkg-deb -f "$work/spotd.deb" Depends)"
cp "$here/guest.sh" tests/box/steps.sh "$work/"
tar -C "$work" -cf "$work/parts.tar" spotd.deb guest.sh steps.sh

libraries=$cache/qemu/usr/lib/x86_64-linux-gnu:$cache/qemu/lib/x86_64-linux-gnu:$cache/qemu/usr/lib/x86_64-linux-gnu/pmdk
echo "arm: starting the guest" >&2
begun=$SECONDS
LD_LIBRARY_PATH=$libraries timeout "$most_seconds" "$cache/qemu/usr/bin/qemu-system-aarch64" -L "$cache/qemu/usr/share/qemu" \
    -M virt -accel tcg,thread=multi -cpu "${SPOTD_ARM_CPU:-max,pauth-impdef=on}" -smp 2 -m 2048 -nographic -no-reboot -nodefaults -serial stdio \
    -kernel "$cache/vmlinuz" -initrd "$cache/initrd" -append 'root=/dev/vda rw console=ttyAMA0 panic=-1 loglevel=4 mitigations=off systemd.mask=serial-getty@ttyAMA0.service' \
    -drive "file=$cache/disk,format=raw,if=none,id=disk,snapshot=on" -device virtio-blk-pci,drive=disk \
    -drive "file=$work/parts.tar,format=raw,if=none,id=parts,readonly=on" -device virtio-blk-pci,drive=parts \
    </dev/null >"$cache/serial.log" 2>&1 || true
tr -d '\r' <"$cache/serial.log" | grep '^guest: ' || true
tr -d '\r' <"$cache/serial.log" | grep -q '^guest: all passed$' ||
    { tail -n 60 "$cache/serial.log" >&2; fail "the guest did not come to its end, in $((SECONDS - begun)) s of at most $most_seconds (SPOTD_ARM_SECONDS); all that it said is in $cache/serial.log"; }
passed "the package in an arm64 Debian, in $((SECONDS - begun)) s"
