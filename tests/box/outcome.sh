# Sourced by what makes a guest, after setting name, what (is tried, and by which command) and left_out ("require" makes
# leaving it out a failure).
# shellcheck shell=bash disable=SC2154

leave_out() {
    {
        echo "!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!"
        echo "!!! LEFT OUT: $what: $*"
        echo "!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!"
    } >&2
    [ "$left_out" != require ] || exit 2
    exit 0
}
fail() { echo "$name: FAILED: $*" >&2; exit 1; }
passed() { echo "$name: ok: $*"; }
