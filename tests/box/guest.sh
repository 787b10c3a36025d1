#!/bin/bash
# Runs inside, under systemd, once the system is up.
set -u
# shellcheck source=tests/box/steps.sh
. /root/steps.sh
logged() { journalctl --quiet --no-pager -u spotd --output=cat "${@:2}" | grep -q -- "$1"; }

# videoscale and videoconvert run on ORC, which writes machine code at run time.
source_of() {
    printf '[[source]]\nid = "%s"\nfps = 5\nuri = "pipeline:videotestsrc is-live=true pattern=zone-plate kx2=8 ky2=8 ! video/x-raw,format=RGB,width=640,height=480,framerate=10/1 ! videoscale ! videoconvert ! video/x-raw,format=I420,width=480,height=360 ! appsink"\n' "$1"
}
config() {
    printf '[node]\nname = "box"\n'
    source_of cam
    printf '[[source]]\nid = "away"\nuri = "rtsp://127.0.0.1:1/none"\n'
    printf '[verdict]\nwindow = 3\nmin_frames = 1\nthreshold = 0.001\nunsure_from = 0.001\n'
    printf '[mqtt]\nurl = "mqtt://127.0.0.1:18833"\nuser = "spotd"\npassword_file = "%%d/mqtt-password"\n'
}
config >/etc/spotd/spotd.toml
(umask 077 && echo geheim >/etc/spotd/mqtt-password)
mkdir -p /etc/systemd/system/spotd.service.d
cat >/etc/systemd/system/spotd.service.d/test.conf <<'UNIT'
[Service]
LoadCredential=mqtt-password:/etc/spotd/mqtt-password
Environment=SPOTD_TEST_HANG=/var/lib/spotd/hang
WatchdogSec=12
RestartSec=1
UNIT
mosquitto_passwd -b -c /root/passwords spotd geheim 2>/dev/null
chmod 644 /root/passwords
cp /root/passwords /etc/mosquitto/box-passwords
printf 'listener 18833 127.0.0.1\nallow_anonymous false\npassword_file /etc/mosquitto/box-passwords\n' >/etc/mosquitto/box.conf
systemd-run --quiet --unit=broker mosquitto -c /etc/mosquitto/box.conf
systemctl daemon-reload

begun=$SECONDS
systemctl start spotd || fail "it does not start"
[ "$(value ActiveState)" = active ] || fail "it is not active"
passed "ready after $((SECONDS - begun)) s, with a camera that is away"
wait_for "status" says '1 live, 1 retrying'
wait_for "flagged" says 'SYNTHETIC: cam'
passed "status: $(value StatusText)"
echo "guest: memory that is writable and executable: $(grep -c ' rwx' "/proc/$(value MainPID)/maps") mappings; executable and not a file's: $(grep -c ' r-x.* 00:00 0 *$' "/proc/$(value MainPID)/maps")"
grep -q 'Seccomp:[[:space:]]2' "/proc/$(value MainPID)/status" || fail "no filter of system calls"
passed "user $(stat -c %U "/proc/$(value MainPID)"), system calls filtered"

wait_for "fields" logged 'event .* start' SPOTD_SOURCE=cam
logged 'tried again' SPOTD_SOURCE=away PRIORITY=4 || fail "the journal lacks level and source of a warning"
event=$(journalctl --no-pager -u spotd -o json SPOTD_SOURCE=cam | sed -n 's/.*"SPOTD_EVENT":"\([^"]*\)".*/\1/p' | head -n 1)
[ -n "$event" ] && logged 'start' "SPOTD_EVENT=$event" || fail "the journal lacks the event"
! logged '\[20..-..-..T' || fail "the lines have time stamps of their own"
passed "journal: level, source and event are fields, no second time stamp"

wait_for "the broker, with the credential as password" \
    mosquitto_sub -h 127.0.0.1 -p 18833 -u spotd -P geheim -t 'spotd/box/source/cam/state' -C 1 -W 2
passed "MQTT with a credential of systemd"

pid=$(value MainPID)
mapfile -t streams </root/streams
{ config; printf '[[source]]\nid = "%s"\nfps = 1\nuri = "%s"\n' rtsp "${streams[0]}" srt "${streams[1]}"; } >/etc/spotd/spotd.toml
systemctl reload spotd || fail "no reload"
wait_for "the streams" says '3 live'
wait_for "frames by RTSP" logged delivers SPOTD_SOURCE=rtsp
wait_for "frames by SRT" logged delivers SPOTD_SOURCE=srt
passed "RTSP and SRT under the unit: $(value StatusText)"

{ config; source_of more; } >/etc/spotd/spotd.toml
systemctl reload spotd || fail "no reload"
wait_for "the new source" says '2 live'
sed -i 's/^fps = 5/fbs = 5/' /etc/spotd/spotd.toml
systemctl reload spotd
wait_for "the refusal" says 'reload refused.*unknown key .fbs.*did you mean .fps'
wait_for "the old configuration" says '2 live'
[ "$(value MainPID)" = "$pid" ] && [ "$(value ActiveState)" = active ] || fail "a reload has ended it"
config >/etc/spotd/spotd.toml
systemctl reload spotd
wait_for "one source less" says '1 live'
! says refused || fail "the refusal stays"
passed "reloaded, a wrong file refused, process $pid still there"

# Longer than the watchdog's patience.
sleep 15
[ "$(value NRestarts)" = 0 ] || fail "it was restarted with a camera away"
passed "a camera that is away does not end it"
touch /var/lib/spotd/hang
chown spotd /var/lib/spotd/hang
for ((i = 0; i < 600; i++)); do
    [ "$(value NRestarts)" -ge 1 ] && [ "$(value ActiveState)" = active ] && break
    sleep 0.1
done
[ "$(value NRestarts)" -ge 1 ] || fail "a worker that hangs is not noticed"
logged "stage 'infer-[0-9]*' has hung" || fail "it does not say what hung"
logged 'Watchdog timeout' || fail "it was not the watchdog"
[ "$(value MainPID)" != "$pid" ] || fail "it is the same process"
wait_for "life after that" says '1 live'
passed "a worker that hung: ended by the watchdog and started again"

systemctl kill --signal=KILL spotd
wait_for "a restart" test ! -e "/proc/$pid"
wait_for "life after that" says '1 live'
spotd verify /var/lib/spotd/flags >/root/verify || { cat /root/verify; fail "the log after SIGKILL"; }
passed "the log is intact after SIGKILL"

begun=$(date +%s%N)
systemctl stop spotd
took=$((($(date +%s%N) - begun) / 1000000))
[ "$took" -lt 5000 ] || fail "it takes $took ms to stop"
[ "$(value Result)" = success ] || fail "it did not end well: $(value Result)"
passed "stopped in $took ms"

# Each with an error that names the thing and the way out.
sed -i 's|password_file = .*|password_file = "%d/none"|' /etc/spotd/spotd.toml
cat >/etc/systemd/system/spotd.service.d/once.conf <<'UNIT'
[Service]
Restart=no
UNIT
systemctl daemon-reload
systemctl start spotd 2>/dev/null && fail "it starts without its credential"
logged "no credential 'none'.*LoadCredential=none:FILE" PRIORITY=3 || fail "the missing credential is not named"
passed "a credential that is missing is named"
config | sed '/^\[mqtt\]/,$d' >/etc/spotd/spotd.toml
mv /var/lib/spotd/flags /var/lib/spotd/kept
install -d -m 0700 -o root /var/lib/spotd/flags
systemctl start spotd 2>/dev/null && fail "it starts without a log"
logged '/var/lib/spotd/flags.*' PRIORITY=3 || fail "the log folder is not named"
journalctl -u spotd --no-pager -o cat PRIORITY=3 | tail -n 1
rmdir /var/lib/spotd/flags
mv /var/lib/spotd/kept /var/lib/spotd/flags
passed "a log folder that cannot be written is named"
touch /dev/video9
chmod 0600 /dev/video9
sed -i 's|rtsp://127.0.0.1:1/none|/dev/video9|' /etc/spotd/spotd.toml
systemctl start spotd || fail "a camera without rights holds up the start"
wait_for "the group" logged 'group .video' SPOTD_SOURCE=away
passed "a camera without rights: the group is named"
sed 's/^\[node\]/[web]\nlisten = "127.0.0.1:18833"\n[node]/' -i /etc/spotd/spotd.toml
systemctl reload spotd
wait_for "the port" says 'reload refused.*18833'
passed "a port that is taken is named, and the reload refused"
systemctl stop spotd broker
echo "guest: all passed"
