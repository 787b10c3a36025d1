#!/usr/bin/env bash
# Puts the libtorch that the trainer links into the cache, and prints the folder's path as its last line.
#
#   tools/libtorch.sh            -> ${SPOTD_CACHE:-$HOME/.cache/spotd}/libtorch-2.11.0
#
# Safe to run again: a finished folder is left alone. The library comes from PyPI's wheels, which any
# python3 can unpack; nothing is installed into that python. x86-64 Linux, CPU only: for a GPU see
# docs/TRAINING.md.
set -euo pipefail

version=2.11.0
cache=${SPOTD_CACHE:-$HOME/.cache/spotd}
dest=$cache/libtorch-$version
wheels=$cache/dl

say() { echo "libtorch: $*" >&2; }
die() { say "error: $*"; exit 1; }

if [ "$(cat "$dest/build-version" 2>/dev/null)" = "$version" ]; then
    say "$dest is there already"
    echo "$dest"
    exit 0
fi

[ "$(uname -s)-$(uname -m)" = Linux-x86_64 ] ||
    die "the trainer is for x86-64 Linux only (this is $(uname -s) $(uname -m)); the daemon itself does not need libtorch"

# What the three wheels are, and their SHA-256 as PyPI publishes them. One torch wheel per Python
# version exists; ours is cp311 whatever python3 unpacks it, because only its C++ part is used.
torch=torch-2.11.0-cp311-cp311-manylinux_2_28_x86_64.whl
cupti=nvidia_cuda_cupti-13.0.85-py3-none-manylinux_2_25_x86_64.whl
cudart=nvidia_cuda_runtime-13.0.96-py3-none-manylinux2014_x86_64.manylinux_2_17_x86_64.whl
sha() {
    case $1 in
    "$torch") echo 7aa2f9bbc6d4595ba72138026b2074be1233186150e9292865e04b7a63b8c67a ;;
    "$cupti") echo 4eb01c08e859bf924d222250d2e8f8b8ff6d3db4721288cf35d14252a4d933c8 ;;
    "$cudart") echo 7f82250d7782aa23b6cfe765ecc7db554bd3c2870c43f3d1821f1d18aebf0548 ;;
    esac
}
intact() { [ -f "$wheels/$1" ] && echo "$(sha "$1")  $wheels/$1" | sha256sum --check --status; }

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; elif command -v sudo >/dev/null; then sudo "$@"; else
        die "root is needed for: $*"
    fi
}
need_python() {
    python3 -c 'import zipfile' 2>/dev/null && { [ "$1" != pip ] || python3 -m pip --version >/dev/null 2>&1; } && return
    command -v apt-get >/dev/null ||
        die "python3 with pip is needed to fetch libtorch, and this system has no apt-get to install it"
    say "installing python3 and python3-pip with apt-get: pip fetches libtorch's wheels, nothing else"
    as_root apt-get update -qq >&2
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends python3 python3-pip >&2 ||
        die "apt-get could not install python3-pip"
}

mkdir -p "$wheels"
free_mb=$(df --output=avail -m "$cache" | tail -1)
[ "$free_mb" -ge 1300 ] || die "$cache has ${free_mb} MB free; 1300 MB are needed while unpacking"

for wheel in "$torch" "$cupti" "$cudart"; do
    intact "$wheel" && continue
    need_python pip
    name=${wheel%%-*}
    rest=${wheel#*-}
    say "fetching $name ${rest%%-*} ($wheel)"
    rm -f "$wheels/$wheel"
    python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all: \
        --implementation cp --python-version 3.11 --abi cp311 --abi none \
        --platform manylinux_2_28_x86_64 --platform manylinux_2_25_x86_64 --platform manylinux2014_x86_64 \
        --dest "$wheels" "${name//_/-}==${rest%%-*}" >&2 ||
        die "pip could not download ${name//_/-}==${rest%%-*}; is PyPI reachable? Putting $wheel into $wheels by hand also works"
    intact "$wheel" || die "$wheels/$wheel is missing or not what PyPI published (SHA-256 differs); delete it and try again"
done

need_python zipfile
say "unpacking into $dest (about 500 MB, from $wheels)"
work=$(mktemp -d "$cache/libtorch-unpack.XXXXXX")
trap 'rm -rf "$work"' EXIT
python3 - "$work" "$wheels/$torch" "$wheels/$cupti" "$wheels/$cudart" <<'PY'
import fnmatch, os, shutil, sys, zipfile

out, wheels = sys.argv[1], sys.argv[2:]
os.makedirs(f"{out}/lib")
libraries = ["libtorch_cpu.so", "libc10.so", "libgomp*", "libcudart.so.13", "libcupti.so.13"]
for wheel in wheels:
    with zipfile.ZipFile(wheel) as z:
        for entry in z.infolist():
            base = os.path.basename(entry.filename)
            if entry.filename.startswith("torch/include/") and base:
                to = f"{out}/{entry.filename.removeprefix('torch/')}"
            elif any(fnmatch.fnmatch(base, pattern) for pattern in libraries):
                to = f"{out}/lib/{base}"
            else:
                continue
            os.makedirs(os.path.dirname(to), exist_ok=True)
            with z.open(entry) as source, open(to, "wb") as target:
                shutil.copyfileobj(source, target, 1 << 20)
missing = [p for p in libraries if not fnmatch.filter(os.listdir(f"{out}/lib"), p)]
if missing:
    sys.exit(f"libtorch: error: the wheels hold no {', '.join(missing)}")
os.symlink("libtorch_cpu.so", f"{out}/lib/libtorch.so")
PY
# Written last: it marks the folder as finished, and arms tch's check of the version.
echo "$version" >"$work/build-version"
chmod 755 "$work"
rm -rf "$dest"
mv "$work" "$dest"
trap - EXIT
say "$dest is ready"
echo "$dest"
