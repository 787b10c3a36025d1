#!/usr/bin/env bash
# Makes a Python environment that ours is compared with: tools/peers.sh FOLDER [REQUIREMENTS]
set -euo pipefail
folder=${1:?folder of the environment}
wanted=${2:-$(cd "$(dirname "$0")/.." && pwd)/benches/peers/requirements.txt}
cmp -s "$wanted" "$folder/requirements.txt" && exit
command -v python3 >/dev/null || { echo "peers: python3 is needed (Debian: python3-venv)" >&2; exit 2; }
echo "peers: installing $(tr '\n' ' ' <"$wanted")into $folder"
rm -rf "$folder"
python3 -m venv "$folder" || { echo "peers: python3-venv is needed (apt install python3-venv)" >&2; exit 2; }
"$folder/bin/pip" install --quiet --disable-pip-version-check -r "$wanted"
cp "$wanted" "$folder/requirements.txt"
