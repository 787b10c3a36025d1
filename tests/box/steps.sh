# Sourced inside a guest: what the tests under systemd say and wait for.
# shellcheck shell=bash
PATIENCE=90 # seconds

fail() {
    echo "guest: FAILED: $*"
    systemctl status --no-pager --full spotd
    journalctl --no-pager -u spotd | tail -n 60
    exit 1
}
passed() { echo "guest: ok: $*"; }
# wait_for WHAT COMMAND...: until the command succeeds.
wait_for() {
    local what=$1 until=$((SECONDS + PATIENCE))
    shift
    while [ $SECONDS -lt $until ]; do
        "$@" >/dev/null 2>&1 && return
        sleep 0.1
    done
    fail "$what: it never was"
}
value() { systemctl show --value --property "$1" spotd; }
says() { value StatusText | grep -q -- "$1"; }
