"""`mien doctor` on real machines' troubles: brokers that are there, refuse, or speak TLS; cameras that are not."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from brokers import Mosquitto, Subscriber, free_port, wait_until
from daemons import decoded, toml_for
from tools import require_tool

from edge.bundles.locate import MODELS_DIR
from edge.commands.doctor.examine import CHECKS, run_check
from edge.commands.doctor.findings import Finding, Subject, run_child
from edge.commands.doctor.machine import check_outbox
from edge.commands.doctor.parts import _usb_corals
from edge.commands.schema import make_schema
from edge.config.loader import load_config, make_config
from edge.errors import EXIT_CLEAN, EXIT_RUNTIME

Start = Callable[..., subprocess.Popen[str]]
Brokers = Callable[..., Mosquitto]

PASSWORD = "correct-horse-battery"

pytestmark = pytest.mark.timeout(600)


def doctor(file: Path | None, *more: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "edge", "doctor", *(["--config", str(file)] if file else []), *more]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=150, check=False, env={**os.environ, **environment}
    )


def report(file: Path | None, **environment: str) -> dict[str, Any]:
    done = doctor(file, "--json", **environment)
    assert "Traceback" not in done.stderr, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    jsonschema.validate(found, make_schema("doctor"))
    assert done.returncode == (EXIT_CLEAN if found["healthy"] else EXIT_RUNTIME)
    assert found["healthy"] == all(row["status"] != "wrong" for row in found["findings"])
    assert all(row["fix"] for row in found["findings"] if row["status"] == "wrong")
    return found


def look(check: str, file: Path) -> list[tuple[str, str]]:
    """One check alone, in this process; the whole command takes as long as all of them."""
    findings = run_check(check, Subject(load_config(file), file))
    assert all(finding.fix for finding in findings if finding.status == "wrong")
    return [(finding.status, finding.found) for finding in findings if finding.check == check]


def rows(found: dict[str, Any], check: str) -> list[tuple[str, str]]:
    return [(row["status"], row["found"]) for row in found["findings"] if row["check"] == check]


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Writes a configuration with a source that works and the given lines in ``[mqtt]``."""

    def put(mqtt: str = "", *, source: str = "synthetic", more: str = "") -> Path:
        file = tmp_path / "mien.toml"
        file.write_text(
            f'device = "pi"\n[camera]\nname = "front"\nsource = {json.dumps(source)}\n{more}\n'
            f'[mqtt]\nhost = "127.0.0.1"\n{mqtt}\n'
        )
        return file

    return put


@pytest.mark.broker
def test_a_machine_with_nothing_wrong_is_healthy_and_nothing_is_published(
    mosquitto: Brokers, subscribe: Callable[..., Subscriber], write: Callable[..., Path], tmp_path: Path
) -> None:
    broker = mosquitto()
    subscriber = subscribe(broker.port)
    file = write(f'port = {broker.port}\noutbox_dir = "{tmp_path}"')
    before = sorted(path.name for path in tmp_path.iterdir())
    found = report(file)
    assert found["healthy"], found
    assert rows(found, "broker") == [("ok", f"127.0.0.1:{broker.port}: connected, not encrypted")]
    assert rows(found, "camera") == [("ok", "synthetic: delivers 640x480 pixels")]
    (models,) = rows(found, "models")
    assert models[0] == "ok"
    assert "emotion-ferplus@" in models[1]
    assert rows(found, "outbox")[0][0] == "ok"
    assert subscriber.messages == []
    assert sorted(path.name for path in tmp_path.iterdir()) == before
    printed = doctor(file)
    assert printed.returncode == EXIT_CLEAN
    assert printed.stdout.endswith("nothing is wrong\n")
    assert all(line.startswith(("ok", "note", " ", "nothing")) for line in printed.stdout.splitlines())


@pytest.mark.broker
def test_a_running_daemon_is_left_alone_and_its_problems_are_told(
    run: Start, mosquitto: Brokers, subscribe: Callable[..., Subscriber], tmp_path: Path
) -> None:
    broker = mosquitto()
    subscriber = subscribe(broker.port, "mien/pi/front/#")
    child = run(toml_for("/dev/video77", port=broker.port, loop=False))
    wait_until(
        lambda: [problem["problems"] for problem in decoded(subscriber.on("problem"))][-1:] == [["camera: lost"]],
        what="the daemon's problem",
    )
    found = report(tmp_path / "mien-0.toml")
    assert rows(found, "daemon") == [("wrong", "camera: lost")]
    assert rows(found, "camera")[0][0] == "wrong"
    assert "there is no camera /dev/video77" in rows(found, "camera")[0][1]
    assert subscriber.on("availability") == [b"online"], "its connection was not taken over"
    assert child.poll() is None


@pytest.mark.broker
def test_a_wrong_password_is_named_and_neither_password_is_shown(
    mosquitto: Brokers, write: Callable[..., Path], tmp_path: Path
) -> None:
    passwords = tmp_path / "passwords"
    passwords.touch(mode=0o600)
    tool = require_tool("mosquitto_passwd", "apt-get install mosquitto")
    subprocess.run([tool, "-b", str(passwords), "anna", PASSWORD], check=True, capture_output=True)
    broker = mosquitto("allow_anonymous false", f"password_file {passwords}")
    secret = tmp_path / "secret"
    mqtt = f'port = {broker.port}\nusername = "anna"\npassword_file = "{secret}"'
    secret.write_text("wrong-donkey\n")
    done = doctor(write(mqtt), "--json")
    (row,) = rows(json.loads(done.stdout), "broker")
    assert row[0] == "wrong"
    assert "refused: Not authorized" in row[1]
    assert "wrong-donkey" not in done.stdout + done.stderr
    secret.write_text(f"{PASSWORD}\n")
    found = look("broker", write(mqtt))
    assert [status for status, _ in found] == ["ok", "note"]
    assert found[1][1] == f"{secret} can be read by everybody"
    secret.chmod(0o600)
    found += look("broker", write(mqtt))
    assert found[2:] == [("ok", f"127.0.0.1:{broker.port}: connected, not encrypted")]
    assert PASSWORD not in str(found)
    secret.unlink()
    (row,) = look("broker", write(mqtt))
    assert row == ("wrong", f"{tmp_path / 'mien.toml'}: mqtt.password_file: {secret}: No such file or directory")


@pytest.mark.broker
def test_a_broker_whose_authority_is_unknown_is_named_and_told_nothing(
    mosquitto: Brokers, write: Callable[..., Path], tmp_path: Path
) -> None:
    openssl = require_tool("openssl", "apt-get install openssl")
    command = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=localhost -days 2"
    command += " -addext subjectAltName=IP:127.0.0.1 -keyout key.pem -out cert.pem"
    subprocess.run([openssl, *command.split()], cwd=tmp_path, check=True, capture_output=True)
    broker = mosquitto("allow_anonymous true", f"certfile {tmp_path}/cert.pem", f"keyfile {tmp_path}/key.pem")
    (row,) = look("broker", write(f"port = {broker.port}\ntls = true"))
    assert row == ("wrong", f"127.0.0.1:{broker.port}: TLS: self-signed certificate")
    assert "CONNACK" not in broker.log
    trusted = f'port = {broker.port}\ntls = true\nca_file = "{tmp_path}/cert.pem"'
    assert look("broker", write(trusted)) == [("ok", f"127.0.0.1:{broker.port}: connected, TLS")]
    (row,) = look("broker", write(f"port = {broker.port}"))  # spoken to in plain
    assert row[0] == "wrong"
    assert "is this an MQTT broker?" in row[1]


@pytest.mark.parametrize(
    ("mqtt", "problem"),
    [
        ("port = {port}", "127.0.0.1:{port}: unreachable: Connection refused"),
        (
            'port = 1883\nhost = "no-such-host.invalid"',
            "no-such-host.invalid:1883: unknown host no-such-host.invalid: ",
        ),
        ('port = 1\ntls = true\nca_file = "/nowhere.pem"', "mqtt.ca_file: /nowhere.pem: No such file or directory"),
    ],
)
def test_a_broker_that_cannot_be_reached_is_named_with_its_fix(
    mqtt: str, problem: str, write: Callable[..., Path]
) -> None:
    port = free_port()
    text = mqtt.format(port=port)
    file = write(text) if "host" not in text else write()
    if "host" in text:
        file.write_text(file.read_text().replace('host = "127.0.0.1"', text))
    (row,) = look("broker", file)
    assert row[0] == "wrong"
    assert problem.format(port=port) in row[1]


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ("/dev/video77", "there is no camera /dev/video77"),
        ("/dev/null", "is not a camera"),
        ("nowhere.mp4", "nowhere.mp4: "),
        ("rtsp://anna:hunter2@127.0.0.1:{port}/live", "127.0.0.1"),
        ("picamera2:0", "picamera2"),
    ],
)
def test_a_camera_that_cannot_be_opened_is_named_without_its_password(
    source: str, problem: str, write: Callable[..., Path]
) -> None:
    file = write(f"port = {free_port()}", source=source.format(port=free_port()))
    ((status, found),) = look("camera", file)
    assert status == "wrong"
    assert problem in found
    assert "hunter2" not in found
    assert [status for status, _ in look("picamera2", file)] == (["wrong"] if source.startswith("picamera2") else [])


def test_a_delegate_that_cannot_be_had_is_wrong_and_the_coral_rows_say_what_is_missing(
    write: Callable[..., Path],
) -> None:
    file = write(f"port = {free_port()}", more='[emotion]\ndelegate = "edgetpu"')
    found = report(file)
    assert rows(found, "delegate")[0][0] == "wrong"
    assert rows(found, "models")[0][0] == "ok", "the CPU runs the model"
    assert ("wrong", "there is no Edge TPU") in rows(found, "coral")


def test_a_bundle_with_a_flipped_byte_is_wrong_though_another_runs(write: Callable[..., Path], tmp_path: Path) -> None:
    bundle = tmp_path / "mine"
    shutil.copytree(MODELS_DIR / "emotion-nano", bundle)
    model = bytearray((bundle / "model.tflite").read_bytes())
    model[len(model) // 2] ^= 1
    (bundle / "model.tflite").write_bytes(model)
    file = write(f"port = {free_port()}", more=f'[emotion]\nbundle = "{bundle}"')
    found = look("models", file)
    assert "wrong" in [status for status, _ in found]
    assert any("sha256" in text for _, text in found), found


def test_secrets_of_a_service_are_looked_for_where_systemd_takes_them_from(monkeypatch: pytest.MonkeyPatch) -> None:
    def path(file: str, name: str = "mqtt-password") -> str:
        subject = Subject(make_config(), Path(file))
        return subject.secret_path(name, credential="mqtt-password", suffix="password")

    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    assert path("/etc/mien/front.toml") == "/etc/mien/front.password"
    assert path("/etc/mien/front.toml", "/run/mine") == "/run/mine"
    assert path("/home/pi/front.toml") == "mqtt-password"
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", "/run/credentials/mien@front.service")
    assert path("/etc/mien/front.toml") == "mqtt-password"


def test_a_coral_is_found_by_its_numbers(tmp_path: Path) -> None:
    for place, vendor, product in (("1-1", "18d1", "9302"), ("1-2", "046d", "0825"), ("2-1", "1a6e", "089a")):
        (tmp_path / place).mkdir()
        (tmp_path / place / "idVendor").write_text(f"{vendor}\n")
        (tmp_path / place / "idProduct").write_text(f"{product}\n")
    assert list(_usb_corals(devices=tmp_path)) == ["USB 18d1:9302 at 1-1", "USB 1a6e:089a at 2-1"]


def test_a_configuration_that_cannot_be_read_is_a_finding_and_exit_code_1(tmp_path: Path) -> None:
    (tmp_path / "mien.toml").write_text("[camera]\nfps = 0\n")
    found = report(tmp_path / "mien.toml")
    assert rows(found, "config") == [("wrong", f"{tmp_path}/mien.toml: camera.fps: 0 is not in 1..120")]
    assert len(found["findings"]) == 1


def test_an_outbox_folder_is_judged_without_being_made(tmp_path: Path) -> None:
    def found(folder: Path, **mqtt: Any) -> Finding:
        (finding,) = check_outbox(Subject(make_config({"mqtt": {"outbox_dir": str(folder)} | mqtt}), None))
        return finding

    assert found(tmp_path / "new" / "deep").status == "ok"
    assert not (tmp_path / "new").exists()
    (tmp_path / "file").touch()
    assert found(tmp_path / "file").status == "wrong"
    assert found(Path("/proc/mien")).status == "wrong"
    disk = os.statvfs(tmp_path)
    if disk.f_bavail * disk.f_frsize < 2 * 268_435_456:
        assert found(tmp_path, queue_max_bytes=268_435_456).status == "wrong"


def test_a_child_that_crashes_or_hangs_is_a_finding_not_the_end() -> None:
    crash = "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)"
    assert run_child("-c", crash, timeout_s=60) == (False, "crashed (SIGSEGV)")
    assert run_child("-c", "import time; time.sleep(99)", timeout_s=0.5) == (False, "did not end within 0.5 s")
    assert run_child("-c", "raise SystemExit('mien: error: no')", timeout_s=60) == (False, "no")


@pytest.mark.parametrize("module", ["paho", "numpy", "cv2", "ai_edge_litert"])
def test_a_missing_package_is_a_finding_with_its_fix_not_the_end(module: str, tmp_path: Path) -> None:
    """A folder in front of the path hides the real package."""
    (tmp_path / module).mkdir()
    (tmp_path / module / "__init__.py").write_text(
        f"raise ModuleNotFoundError('No module named {module}', name='{module}')"
    )
    done = subprocess.run(
        [sys.executable, "-m", "edge", "doctor", "--json"],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": f"{tmp_path}:{Path(__file__).resolve().parents[2]}"},
        timeout=120,
        check=False,
    )
    assert (done.returncode, "Traceback" in done.stderr) == (1, False), done.stderr
    assert done.stdout.startswith("{"), (done.stdout, done.stderr)
    rows = {row["check"]: row for row in json.loads(done.stdout)["findings"]}
    assert set(rows) >= {"python", "packages", "clock"} or module == "numpy"
    assert rows["packages"]["status"] == "wrong"
    assert module in rows["packages"]["found"]
    assert "-m pip install" in rows["packages"]["fix"]


def test_every_check_is_in_the_readme() -> None:
    readme = (Path(__file__).resolve().parents[2] / "edge" / "README.md").read_text()
    assert all(f"`{name}`" in readme for name in CHECKS)
