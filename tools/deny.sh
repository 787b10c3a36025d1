#!/usr/bin/env bash
# Licences, bans and sources of all dependencies, by cargo-deny (installed into the cache once); advisories
# too where their database can be fetched.
set -euo pipefail
cd "$(dirname "$0")/.."
tools=${SPOTD_CACHE:-$HOME/.cache/spotd}/tools
export PATH="$tools/bin:$PATH"
if ! cargo deny --version >/dev/null 2>&1; then
    echo "deny: installing cargo-deny into $tools: it checks licences and advisories"
    # Its own target folder: the project's is for the project.
    env -u CARGO_TARGET_DIR cargo install --locked --quiet --root "$tools" cargo-deny
fi
cargo deny --log-level error check licenses bans sources
if ! cargo deny --log-level error fetch db 2>/dev/null; then
    echo "*** deny: advisories NOT checked: their database cannot be fetched from here ***"
    exit 0
fi
cargo deny --log-level error check advisories
