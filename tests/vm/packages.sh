#!/usr/bin/env bash
# Fetches what the guest is made of and prints the folder: QEMU, busybox, a Debian kernel (not the cloud flavour,
# which has no cameras), and v4l2loopback, built for that kernel: vivid has no JPEG, and this hands through
# what is written into it. Packages are unpacked into the cache and not installed: QEMU's dependencies may
# replace packages of this machine. Exit code 3: they cannot be had here.
set -euo pipefail
cache=${SPOTD_CACHE:-$HOME/.cache/spotd}/vm
recipe=3 # goes up when what is fetched here changes

give_up() { echo "$*" >&2; exit 3; }

[ "$(uname -m)" = x86_64 ] || give_up "only made for x86-64, and this is $(uname -m)"
for tool in apt-get apt-cache dpkg dpkg-query strip pkg-config make gcc; do
    command -v "$tool" >/dev/null || give_up "'$tool' is missing"
done

if [ "$(cat "$cache/complete" 2>/dev/null || true)" = "$recipe" ]; then
    echo "$cache"
    exit
fi

kernel_package() {
    apt-cache depends linux-image-amd64 2>/dev/null | sed -n 's/.*Depends: \(linux-image-[0-9].*-amd64\)$/\1/p' | head -n 1
}
update() {
    if [ "$(id -u)" = 0 ]; then apt-get update -qq; else sudo -n apt-get update -qq; fi >&2
}

image=$(kernel_package)
if [ -z "$image" ]; then
    update || true
    image=$(kernel_package)
fi
[ -n "$image" ] || give_up "apt knows no package linux-image-amd64; these tests are made for Debian"
version=${image#linux-image-}

# shellcheck source=tests/vm/unpacked.sh
. "$(dirname "$0")/unpacked.sh"
mapfile -t packages < <(not_installed qemu-system-x86)
common=linux-headers-${version%-amd64}-common
kbuild=$(apt-cache depends "linux-headers-$version" | sed -n 's/.*Depends: \(linux-kbuild-.*\)$/\1/p' | head -n 1)
packages+=("$image" "linux-headers-$version" "$common" "$kbuild" v4l2loopback-dkms busybox-static)

rm -rf "$cache"
mkdir -p "$cache/debs" "$cache/root"
cd "$cache/debs"
# Some hundred megabytes with the kernel; they stay in the cache.
echo "vm: fetching ${#packages[@]} packages for QEMU and $image" >&2
apt-get download -qq "${packages[@]}" >&2 || { update && apt-get download -qq "${packages[@]}" >&2; } ||
    give_up "apt-get download failed"
for deb in *.deb; do dpkg -x "$deb" ../root; done
cd ..
rm -rf debs

mkdir -p modules
find "root/lib/modules/$version/kernel/drivers/media" -name '*.ko*' \
    \( -path '*/v4l2-core/*' -o -path '*/mc/*' -o -path '*/common/*' -o -path '*/cec/*' -o -path '*/rc/rc-core*' \
    -o -path '*/vivid/*' \) -exec cp {} modules/ \;

# A disk, for what is to survive a power cut.
for module in virtio virtio_ring virtio_pci virtio_pci_legacy_dev virtio_pci_modern_dev virtio_blk ext4 jbd2 mbcache \
    crc16 crc32c_generic libcrc32c; do
    find "root/lib/modules/$version/kernel" -name "$module.ko*" -exec cp {} modules/ \;
done

# Headers name each other by where they would be installed.
sources=$cache/root/usr/src
sed -i "s|/usr/src/|$sources/|" "$sources/linux-headers-$version/Makefile"
loopback=$(echo "$sources"/v4l2loopback-*)
make -s -C "$sources/linux-headers-$version" CC=gcc M="$loopback" modules >"$cache/loopback.log" 2>&1 ||
    { tail "$cache/loopback.log" >&2; give_up "v4l2loopback could not be built"; }
cp "$loopback/v4l2loopback.ko" modules/

cp "root/boot/vmlinuz-$version" vmlinuz
echo "$version" >version
# Hundreds of megabytes that are not needed any more.
rm -rf root/lib/modules root/boot root/usr/share/doc root/usr/src root/usr/lib/linux-kbuild-*
echo "$recipe" >complete
echo "$cache"
