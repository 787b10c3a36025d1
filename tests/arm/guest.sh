#!/bin/bash
# Runs inside the emulated machine, under systemd, once it is up.
set -u
cd /root/parts || exit 1
# shellcheck source=tests/box/steps.sh
. ./steps.sh
PATIENCE=1200 # seconds; the machine is emulated

passed "machine: $(uname -m), $(grep -c ^processor /proc/cpuinfo) cores, $(sed -n 's/^PRETTY_NAME=//p' /etc/os-release)"
# Not apt-get: without a network it does not take a file. What the package depends on has to be there already.
DEBIAN_FRONTEND=noninteractive dpkg --install spotd.deb >install 2>&1 ||
    { cat install; fail "the package cannot be installed"; }
grep -q 'spotd: not enabled; name a source' install || fail "it does not say that it waits for a source"
passed "installed: $(dpkg-query -W -f '${Package} ${Version} ${Architecture}' spotd), $(spotd --version)"

spotd bench --seconds 1 --threads 1 >bench 2>&1 || { cat bench; fail "spotd bench"; }
named=$(grep -iE -m1 'neon|dot|i8mm' bench) || { cat bench; fail "bench names no instruction set"; }
passed "bench: $named"

modprobe vivid n_devs=1 node_types=0x1 num_outputs=0 num_inputs=1 input_types=0 || fail "no vivid"
wait_for "the camera" test -e /dev/video0
printf '[node]\nname = "arm"\n[model]\nmax_tiles = 2\n[[source]]\nid = "cam"\nuri = "/dev/video0"\nfps = 1\n[verdict]\nwindow = 3\nmin_frames = 1\nthreshold = 0.001\nunsure_from = 0.001\n[mqtt]\nurl = "mqtt://127.0.0.1:18833"\n' >/etc/spotd/spotd.toml
mkdir -p /etc/systemd/system/spotd.service.d
# An emulated processor takes half a minute for what a real one does in a second.
printf '[Service]\nWatchdogSec=900\nTimeoutStopSec=300\n' >/etc/systemd/system/spotd.service.d/test.conf
printf 'listener 18833 127.0.0.1\nallow_anonymous true\n' >/etc/mosquitto/arm.conf
systemd-run --quiet --unit=broker mosquitto -c /etc/mosquitto/arm.conf
systemctl daemon-reload
wait_for "the broker" mosquitto_pub -h 127.0.0.1 -p 18833 -t ready -m 1
mosquitto_sub -h 127.0.0.1 -p 18833 -t 'spotd/arm/source/cam/event' -C 1 -W "$PATIENCE" >event &
subscriber=$!

systemctl start spotd || fail "it does not start"
wait_for "the camera's picture" says '1 live'
passed "camera: $(value StatusText)"
wait $subscriber || fail "no event came over MQTT"
grep -q '"verdict":"synthetic"' event && grep -q '"precision":"int8"' event || { cat event; fail "the record says something else"; }
passed "camera to flag log to MQTT: a record of $(wc -c <event) bytes"
systemctl stop spotd
[ "$(value Result)" = success ] || fail "it did not end well: $(value Result)"
spotd-verify /var/lib/spotd/flags >verify 2>&1 || { cat verify; fail "the log does not verify"; }
passed "stopped; the log verifies: $(tail -n 1 verify)"
DEBIAN_FRONTEND=noninteractive apt-get -qqy purge spotd >purge 2>&1 || { cat purge; fail "it cannot be purged"; }
[ ! -e /usr/bin/spotd ] || fail "purged, and still there"
passed "purged"
systemctl stop broker
echo "guest: all passed"
