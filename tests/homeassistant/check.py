#!/usr/bin/env python3
"""Whether a real Home Assistant makes the entities that spotd announces, and keeps their states right.

    python3 -m venv ha && ha/bin/pip install homeassistant==2024.3.3 paho-mqtt==1.6.1 'josepy<2'
    ha/bin/python3 tests/homeassistant/check.py target/debug/spotd

Starts a mosquitto, a Home Assistant that is set up as a person would over its own API (first user, MQTT integration),
and spotd with its demonstration; then asks Home Assistant for the entities and their states. Needs mosquitto and
mosquitto-clients. Not part of `make test`: Home Assistant is large and wants one version of Python.
"""

import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request

PATIENCE = 900


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def until(what, ready):
    print(f"... {what}", flush=True)
    end = time.monotonic() + PATIENCE
    while True:
        found = ready()
        if found:
            return found
        if time.monotonic() > end:
            sys.exit(f"FAILED: {what}: it never was")
        time.sleep(0.5)


class HomeAssistant:
    def __init__(self, port):
        self.base = f"http://127.0.0.1:{port}"
        self.token = None

    def call(self, path, body=None, form=False):
        headers = {"Content-Type": "application/x-www-form-urlencoded" if form else "application/json"}
        if self.token:
            headers["Authorization"] = f"Bearer {self.token}"
        data = None
        if body is not None:
            data = (urllib.parse.urlencode(body) if form else json.dumps(body)).encode()
        request = urllib.request.Request(self.base + path, data=data, headers=headers)
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
            text = answer.read().decode()
        return json.loads(text) if answer.headers.get_content_type() == "application/json" else text

    def is_there(self):
        try:
            self.call("/api/onboarding")
            return True
        except (OSError, urllib.error.URLError):
            return False

    def log_in(self):
        user = {"name": "test", "username": "test", "password": "open-sesame", "language": "en"}
        code = self.call("/api/onboarding/users", {"client_id": self.base + "/", **user})["auth_code"]
        grant = {"grant_type": "authorization_code", "code": code, "client_id": self.base + "/"}
        self.token = self.call("/auth/token", grant, form=True)["access_token"]

    def add_mqtt(self, port):
        flow = self.call("/api/config/config_entries/flow", {"handler": "mqtt"})
        done = self.call(
            f"/api/config/config_entries/flow/{flow['flow_id']}", {"broker": "127.0.0.1", "port": port}
        )
        if done["type"] != "create_entry":
            sys.exit(f"FAILED: Home Assistant does not take the broker: {done}")

    def entities(self):
        names = self.call("/api/template", {"template": "{{ integration_entities('mqtt') | list | to_json }}"})
        names = json.loads(names) if isinstance(names, str) else names
        return {name: self.call(f"/api/states/{name}") for name in names}


def main():
    # Ended by a signal it takes with it what it has started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended"))
    spotd = pathlib.Path(sys.argv[1]).resolve()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        folder = pathlib.Path(folder)
        running = []
        try:
            check(spotd, folder, running)
        finally:
            for process in reversed(running):
                process.terminate()
                process.wait()


def check(spotd, folder, running):
    def start(name, *command):
        with open(folder / f"{name}.log", "w") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log)
        running.append(process)
        return process

    broker, http = free_port(), free_port()
    (folder / "mosquitto.conf").write_text(f"listener {broker} 127.0.0.1\nallow_anonymous true\n")
    path = os.environ["PATH"] + ":/usr/sbin"
    mosquitto = next(p for p in (pathlib.Path(d) / "mosquitto" for d in path.split(":")) if p.is_file())
    start("mosquitto", str(mosquitto), "-c", str(folder / "mosquitto.conf"))

    (folder / "ha").mkdir()
    (folder / "ha" / "configuration.yaml").write_text(
        f"http:\n  server_host: 127.0.0.1\n  server_port: {http}\n"
    )
    start("hass", sys.executable, "-m", "homeassistant", "-c", str(folder / "ha"))
    ha = HomeAssistant(http)
    until("Home Assistant", ha.is_there)
    ha.log_in()
    ha.add_mqtt(broker)

    (folder / "spotd.toml").write_text(
        f"""[node]
name = "box 1"
[[source]]
id = "cam"
uri = "demo://1"
[log]
dir = "flags"
[mqtt]
url = "mqtt://127.0.0.1:{broker}"
discovery = true
snapshots = true
commands = true
"""
    )
    daemon = start("spotd", str(spotd), "run", "--config", str(folder / "spotd.toml"))

    def announced():
        got = subprocess.run(
            ["mosquitto_sub", "-p", str(broker), "-t", "homeassistant/#", "-W", "3", "-F", "%p"],
            capture_output=True, text=True,
        )
        return {json.loads(line)["unique_id"] for line in got.stdout.splitlines() if line.startswith("{")}

    wanted = until("announcements", announced)
    print(f"{len(wanted)} announced", flush=True)
    entities = {}

    def as_many():
        entities.clear()
        entities.update(ha.entities())
        return len(entities) >= len(wanted)

    try:
        until("as many entities", as_many)
    finally:
        print(f"{len(entities)} entities: {' '.join(sorted(entities))}", flush=True)
    if len(entities) != len(wanted):
        sys.exit("FAILED: more entities than were announced")

    def state(domain, name):
        # Of `score` and `highest_score` the one that is meant is the shorter.
        found = sorted((n for n in entities if n.startswith(domain + ".") and n.endswith(name)), key=len)
        return ha.call(f"/api/states/{found[0]}")["state"] if found else sys.exit(f"FAILED: no {domain} {name}")

    def score():
        return state("sensor", "cam_score")

    until("the source to be live", lambda: state("sensor", "cam_state") == "live")
    until("a score", lambda: score() not in ("unknown", "unavailable") and 0 <= float(score()) <= 1)
    for domain, name, expected in [
        ("binary_sensor", "_online", "on"),
        ("binary_sensor", "_flag_log", "off"),
        ("switch", "_watching", "on"),
        ("binary_sensor", "_looks_synthetic", "on"),
        ("binary_sensor", "_looks_synthetic", "off"),
    ]:
        until(f"{domain} {name} to be {expected}", lambda: state(domain, name) == expected)

    # A command of Home Assistant's: the switch pauses the source, and the state says so.
    switch = next(name for name in entities if name.startswith("switch."))
    ha.call("/api/services/switch/turn_off", {"entity_id": switch})
    until("the switch to be off", lambda: state("switch", "_watching") == "off")
    ha.call("/api/services/switch/turn_on", {"entity_id": switch})
    until("the switch to be on", lambda: state("switch", "_watching") == "on")
    button = next(name for name in entities if name.startswith("button."))
    ha.call("/api/services/button/press", {"entity_id": button})
    until("a picture", lambda: state("image", "_picture") not in ("unknown", "unavailable"))

    print(f"{'entity':58} state")
    for name, entity in sorted(ha.entities().items()):
        print(f"{name:58} {entity['state']} {entity['attributes'].get('unit_of_measurement', '')}")
    daemon.terminate()
    daemon.wait()
    until("the box to be offline", lambda: state("binary_sensor", "_online") == "off")
    until("its figures to be unavailable", lambda: score() == "unavailable")
    complaints = [
        line
        for line in (folder / "hass.log").read_text().splitlines()
        if ("WARNING" in line or "ERROR" in line) and "mqtt" in line.lower()
    ]
    if complaints:
        sys.exit("FAILED: Home Assistant complains:\n" + "\n".join(complaints))
    print(f"fine: {len(entities)} entities, as announced; offline and unavailable after the end; no complaint in its log")


main()
