"""The real unit under a real systemd: ready, watched, stopped, restarted, confined."""

import json
import re
import time

import pytest
from brokers import wait_until
from daemons import STOP_PATIENCE_S
from device.service import SYNTHETIC, Service

STILLS = "options = { loop = true }\n[track]\nconfirm_ms = 0\n"
"""Pictures that are shown again and again, each of them long enough to be believed."""

pytestmark = [pytest.mark.device, pytest.mark.timeout(600)]


def test_it_is_ready_with_frames_and_says_so_in_one_line(service: Service) -> None:
    service.configure()
    service.listen()
    service.start()
    assert service.show("ActiveState") == "active"
    service.wait_heard("availability", "online")
    service.wait_heard("camera", "live")
    service.wait_log("ready after")
    wait_until(lambda: "connected" in service.show("StatusText"), what=lambda: service.show("StatusText"))
    status = service.show("StatusText")
    assert re.match(r"camera live, [\d.]+ fps, \d+ ms old, 0 faces, xnnpack, mqtt: connected", status), status


def test_a_missing_camera_keeps_nobody_waiting(service: Service) -> None:
    service.configure('device = "pi"\n[camera]\nsource = "/dev/video0"\n', dropin="[Service]\nWatchdogSec=4\n")
    service.start()
    assert "camera lost" in service.show("StatusText")
    time.sleep(9)
    assert service.show("NRestarts") == "0", "waiting for a camera is progress"


def test_a_missing_broker_keeps_nobody_waiting(service: Service) -> None:
    service.configure(SYNTHETIC + "[mqtt]\nport = 1\n")
    service.start()
    service.wait_log("Connection refused")
    assert service.show("ActiveState") == "active"


def test_sigterm_says_offline_and_ends(service: Service) -> None:
    service.configure()
    service.listen()
    service.start()
    service.wait_heard("availability", "online")
    began = time.monotonic()
    service.stop()
    assert time.monotonic() - began < STOP_PATIENCE_S
    service.wait_heard("availability", "offline")
    assert service.show("Result") == "success"
    assert service.show("ExecMainStatus") == "0"


def test_a_killed_daemon_is_offline_and_comes_back(service: Service) -> None:
    service.configure(dropin="[Service]\nRestartSec=1\n")
    service.listen()
    service.start()
    service.wait_heard("availability", "online")
    service.kill("SIGKILL")
    service.wait_heard("availability", "offline")
    service.wait_heard("availability", "online", count=2)
    assert service.show("NRestarts") == "1"


def test_a_hung_daemon_is_found_by_the_watchdog_and_started_again(service: Service) -> None:
    service.configure(dropin="[Service]\nWatchdogSec=3\nRestartSec=1\n")
    service.listen()
    service.start()
    service.wait_heard("availability", "online")
    service.kill("SIGSTOP")
    service.wait_log("Watchdog timeout")
    service.wait_heard("availability", "online", count=2)
    assert service.show("NRestarts") == "1"


def test_a_mistake_in_the_configuration_is_told_once_and_not_tried_again(service: Service) -> None:
    service.configure("[camera]\nfps = 0\n", dropin="[Service]\nRestartSec=1\n")
    assert service.start(check=False) != 0
    time.sleep(2.5)
    assert service.show("ActiveState") == "failed"
    assert service.show("ExecMainStatus") == "78"
    assert service.show("NRestarts") == "0"
    assert "mien: error: /etc/mien/front.toml: camera.fps: 0 is not in 1..120" in service.log


def test_a_reload_applies_a_change_and_survives_a_mistake(service: Service) -> None:
    service.configure()
    service.start()
    service.configure(SYNTHETIC + "[smooth]\nenter = 0.7\n")
    service.container.run("systemctl", "reload", service.unit)
    service.wait_log("configuration: smooth.enter applied")
    service.configure("[camera]\nfps = 0\n")
    service.container.run("systemctl", "reload", service.unit)
    service.wait_log("camera.fps: 0 is not in 1..120; the present configuration stays")
    service.wait_for("ActiveState", "active")
    assert service.show("NRestarts") == "0"


def test_the_password_comes_from_a_file_that_only_root_can_read(service: Service) -> None:
    broker = service.container
    broker.run("mosquitto_passwd", "-b", "-c", "/etc/mosquitto/users", "pi", "s3cret")
    broker.run("chown", "mosquitto", "/etc/mosquitto/users")
    broker.write("/run/second.conf", "listener 1884\nallow_anonymous false\npassword_file /etc/mosquitto/users\n")
    broker.run("systemd-run", "--unit=second", "mosquitto", "-c", "/run/second.conf")
    toml = SYNTHETIC + '[mqtt]\nport = 1884\nusername = "pi"\npassword_file = "mqtt-password"\n'
    service.configure(toml, password="s3cret")
    service.start()
    service.wait_log("mqtt: localhost:1884 connected")
    command = broker.run("sh", "-c", "tr '\\0' ' ' < /proc/$0/cmdline", service.show("MainPID")).stdout
    environment = broker.run("sh", "-c", "cat /proc/$0/environ", service.show("MainPID")).stdout
    assert "s3cret" not in command + environment + service.log
    broker.run("systemctl", "stop", "second")


def test_it_may_read_what_belongs_to_the_cameras_group_and_is_nobody_otherwise(service: Service) -> None:
    pictures = "$(dirname $(find /opt/mien/versions -name origins.json | head -1))"
    service.container.run("sh", "-c", f"rm -rf /srv/p && cp -r {pictures} /srv/p && chgrp -R video /srv/p")
    service.container.run("chmod", "750", "/srv/p")
    service.configure('device = "pi"\n[camera]\nsource = "/srv/p"\nname = "front"\n' + STILLS)
    service.listen()
    service.start()
    service.wait_heard("event", count=4)
    identity = service.container.run("grep", "-E", "^(Uid|CapEff|NoNewPrivs|Seccomp):", _status(service)).stdout
    fields = {line.split()[0]: line.split()[1] for line in identity.splitlines()}
    assert int(fields["Uid:"]) > 60_000
    assert int(fields["CapEff:"], 16) == 0
    assert (fields["NoNewPrivs:"], fields["Seccomp:"]) == ("1", "2")


def test_the_unit_is_confined(service: Service) -> None:
    rated = service.container.run("systemd-analyze", "security", "--threshold=20", service.unit).stdout
    exposure = re.search(r"Overall exposure level for \S+: ([\d.]+)", rated)
    assert exposure is not None, rated
    assert float(exposure[1]) <= 2.0
    checked = service.container.run("systemd-analyze", "verify", "--recursive-errors=no", service.unit)
    assert checked.stdout == ""


def test_it_may_reach_what_its_configuration_names_and_what_an_administrator_added(service: Service) -> None:
    here = "127.0.0.0/8 ::1/128"
    service.configure(dropin="[Service]\nIPAddressAllow=203.0.113.7\n")
    service.listen()
    service.start()
    service.wait_heard("availability", "online")
    assert set(service.show("IPAddressAllow").split()) == {*here.split(), "203.0.113.7/32"}
    for host, beside in (("192.168.7.9", "192.168.7.9/32"), ("broker.example", "192.168.0.0/16"), ("localhost", None)):
        service.configure(SYNTHETIC + f'[mqtt]\nhost = "{host}"\n')
        service.stop()
        service.start()
        allowed = service.show("IPAddressAllow").split()
        assert {*here.split(), "203.0.113.7/32", *filter(None, [beside])} <= set(allowed)
        assert ("192.168.0.0/16" in allowed) == (host == "broker.example")


def test_the_doctor_knows_whom_the_confinement_keeps_it_from(service: Service) -> None:
    service.container.run("sh", "-c", "echo 203.0.113.9 broker.example >> /etc/hosts")
    for dropin, status in (("", "wrong"), ("[Service]\nIPAddressAllow=203.0.113.9\n", "ok")):
        service.configure(SYNTHETIC + '[mqtt]\nhost = "broker.example"\n', dropin=dropin)
        said = service.container.run("mien", "doctor", "--config", "/etc/mien/front.toml", "--json", check=False).stdout
        (finding,) = [each for each in json.loads(said)["findings"] if each["check"] == "reach"]
        assert finding["status"] == status, finding
        assert (finding["fix"] == "") == (status == "ok")
    assert finding["found"] == "mien@front is let out to what it is to connect to"


def _status(service: Service) -> str:
    return f"/proc/{service.show('MainPID')}/status"
