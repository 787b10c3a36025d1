# Sourced by run.sh, which has built the guest: cuts the power of a guest whose daemon writes to a real ext4, at moments
# that nobody chooses, starts it again each time and asks what is left.
# shellcheck shell=bash disable=SC2154 # work, cache and machine are run.sh's

power_said() { tr -d '\r' <"$1" | grep -aoE "$2" || true; }
power_failed() {
    echo "vm: power: $1; all that the guest said is in $2" >&2
    tail -n 40 "$2" >&2
    exit 1
}

power() {
    local cuts=3 most=${SPOTD_VM_SECONDS:-900} disk=$work/disk cut log guest scene begun=$SECONDS
    # Where it is, is no place for everybody's programs.
    PATH=$PATH:/usr/sbin:/sbin
    if ! command -v mkfs.ext4 >/dev/null; then
        echo "!!! LEFT OUT: the power cut (make test-vm): there is no mkfs.ext4 (package e2fsprogs)" >&2
        [ "${SPOTD_VM:-}" != require ] || exit 2
        return
    fi
    truncate -s 96M "$disk"
    mkfs.ext4 -q -F "$disk"
    : >"$work/acknowledged"
    for ((cut = 1; cut <= cuts + 1; cut++)); do
        log=$cache/power-$cut.log
        scene=power
        [ "$cut" -le "$cuts" ] || scene=power-last
        # What an earlier run has left there would be taken for this guest's, which starts in the background.
        : >"$log"
        "${machine[@]}" -drive "file=$disk,format=raw,if=virtio" -append "$kernel_says spotd.scene=$scene" \
            </dev/null >"$log" 2>&1 &
        guest=$!
        local since=$SECONDS
        if [ "$scene" = power-last ]; then
            while kill -0 $guest 2>/dev/null && [ $((SECONDS - since)) -lt "$most" ]; do sleep 0.2; done
        else
            # Some records, each time more; then whatever it is just doing.
            until [ "$(power_said "$log" 'event [0-9A-Z]{26} (start|update|end)$' | wc -l)" -ge $((cut * 8)) ]; do
                kill -0 $guest 2>/dev/null || power_failed "the guest ended by itself" "$log"
                [ $((SECONDS - since)) -lt "$most" ] || { kill -KILL $guest; power_failed "too slow" "$log"; }
                sleep 0.1
            done
            sleep "0.$(printf %03d $((RANDOM % 1000)))"
        fi
        kill -KILL $guest 2>/dev/null || true
        wait $guest 2>/dev/null || true
        # What the guest has said whole was acknowledged before; the last one only lists.
        [ "$scene" = power-last ] || power_said "$log" 'event [0-9A-Z]{26} (start|update|end)$' >>"$work/acknowledged"
        [ "$cut" = 1 ] || [ "$(power_said "$log" '^power: verify said .*')" = "power: verify said 0" ] ||
            power_failed "what the power cut has left does not verify" "$log"
    done
    [ "$(power_said "$log" '^power: done$')" ] || power_failed "the last guest did not come to its end" "$log"
    power_said "$log" '^power: kept event .*' | sed 's/^power: kept //' | sort >"$work/kept"
    sort -o "$work/acknowledged" "$work/acknowledged"
    comm -23 "$work/acknowledged" "$work/kept" >"$work/lost"
    [ ! -s "$work/lost" ] || power_failed "acknowledged and gone: $(tr '\n' ';' <"$work/lost")" "$log"
    echo "power cut $cuts times in $((SECONDS - begun)) s: $(wc -l <"$work/acknowledged") acknowledged records are all there," \
        "$(power_said "$log" '^power: [0-9]+ unfinished' | grep -oE '[0-9]+') unfinished ones were cut off, the log verifies"
}
