"""`mien run` with a store whose newest bundle is not what it should be: it falls back, says so, and keeps running."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from brokers import SILENT_PORT, Mosquitto, Subscriber
from bundles import NAME, SHIPPED, change_golden, edit_manifest, flip_byte, make_bundle
from daemons import decoded, ended, toml_for
from rich.console import Console

from edge.bundles.select import TRIALS
from edge.bundles.signing import SIGNATURE_FILE, make_key, sign_bundle
from edge.commands.bundle import install_bundle
from edge.contract.bundle import load_bundle

Start = Callable[..., subprocess.Popen[str]]


class Device:
    """A store with bundles 9.0.1 and 9.1.0, a state folder, and daemons that use both."""

    def __init__(self, tmp_path: Path, run: Start, clip: Path) -> None:
        self.store, self.state = tmp_path / "store", tmp_path / "state"
        self.state.mkdir()
        self._run, self._clip = run, clip
        for version in ("9.0.1", "9.1.0"):
            bundle = make_bundle(tmp_path / f"bundle-{version}", version=version)
            install_bundle(bundle, into=self.store, console=Console(quiet=True))
        self.before, self.newest = sorted((self.store / NAME).iterdir())

    def start(
        self, *arguments: str, extra: str = "", mqtt: str = "", port: int = SILENT_PORT, camera: str | None = None
    ) -> "subprocess.Popen[str]":
        sinks = '[publish]\nsinks = ["jsonl", "mqtt"]\n'
        return self._run(
            toml_for(camera or self._clip, port=port, extra=mqtt + sinks + extra, loop=camera is None),
            *arguments,
            MIEN_BUNDLES=str(self.store),
            STATE_DIRECTORY=str(self.state),
        )

    @property
    def attempt(self) -> dict[str, Any]:
        """What the state folder says of the newest bundle."""
        file = self.state / "attempts.json"
        entries = json.loads(file.read_text())["entries"] if file.is_file() else {}
        found: dict[str, Any] = entries.get(f"bundle {self.newest}", {})
        return found

    def info(self, extra: str = "") -> dict[str, Any]:
        """What a short run says of its model; it must end well."""
        child = self.start("--max-frames", "3", extra=extra)
        output, self.errors = child.communicate(timeout=60)
        assert child.returncode == 0, self.errors
        rows = [json.loads(line) for line in output.splitlines()]
        told: dict[str, Any] = next(row["payload"]["model"] for row in rows if row["kind"] == "info")
        return told


@pytest.fixture
def device(tmp_path: Path, run: Start, clip: Path) -> Device:
    return Device(tmp_path, run, clip)


def test_the_newest_installed_bundle_runs_and_a_version_can_be_asked_for(device: Device) -> None:
    told = device.info()
    assert (told["version"], told["source"], told["reason"]) == ("9.1.0", str(device.newest), None)
    assert device.info(f'[emotion]\nbundle = "{NAME}@9.0.1"\n')["source"] == str(device.before)
    assert device.info(f'[emotion]\nbundle = "{NAME}@{SHIPPED}"\n')["source"] == "shipped"


SPOILED = [
    ("flipped byte", lambda folder: flip_byte(folder / "model.tflite"), r"model\.tflite: sha256: "),
    ("missing model", lambda folder: (folder / "model.tflite").unlink(), r"model\.tflite: No such file"),
    ("missing manifest", lambda folder: (folder / "manifest.json").unlink(), r"manifest\.json: No such file"),
    ("empty manifest", lambda folder: (folder / "manifest.json").write_bytes(b""), r"manifest\.json: "),
    ("future", lambda folder: edit_manifest(folder, lambda m: m.update(schema="mien.manifest/3")), "schema"),
    ("golden", change_golden, "golden samples differ by up to "),
    ("gate", lambda folder: edit_manifest(folder, lambda m: m.update(status="failed")), "status: failed"),
]


@pytest.mark.parametrize(("spoil", "why"), [case[1:] for case in SPOILED], ids=[case[0] for case in SPOILED])
def test_a_bundle_that_does_not_verify_gives_way_to_the_one_before_it(spoil: Any, why: str, device: Device) -> None:
    spoil(device.newest)
    told = device.info()
    assert (told["version"], told["source"]) == ("9.0.1", str(device.before))
    assert re.match(re.escape(str(device.newest)) + ".*" + why, told["reason"]), told["reason"]
    assert f"WARNING edge.bundles.select: {told['reason']}; trying the bundle before it" in device.errors
    assert f"ERROR edge.bundles.select: {NAME}@9.0.1 is used instead of {NAME}" in device.errors


def test_with_all_installed_ones_broken_the_shipped_one_runs(device: Device) -> None:
    flip_byte(device.newest / "golden.npz")
    (device.before / "model.tflite").unlink()
    told = device.info()
    assert (told["version"], told["source"]) == (SHIPPED, "shipped")
    assert str(device.newest / "golden.npz") in told["reason"]
    assert str(device.before / "model.tflite") in told["reason"]


def test_a_folder_that_does_not_verify_gives_way_to_the_shipped_one(device: Device, tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "own", name="emotion-own")
    assert device.info(f'[emotion]\nbundle = "{bundle}"\n')["name"] == "emotion-own"
    flip_byte(bundle / "model.tflite")
    assert device.info(f'[emotion]\nbundle = "{bundle}"\n')["source"] == "shipped"


def test_when_no_bundle_verifies_the_exit_status_is_78_with_one_line(device: Device, tmp_path: Path) -> None:
    """A copy of the program whose own bundles are damaged, too."""
    shutil.copytree(Path(sys.modules["edge"].__path__[0]), tmp_path / "program" / "edge")
    shipped = list((tmp_path / "program" / "edge" / "models").glob("emotion-*"))
    for bundle in (device.newest, device.before, *shipped):
        flip_byte(bundle / "model.tflite")
    (tmp_path / "mien.toml").write_text('[camera]\nsource = "synthetic"\n')
    done = subprocess.run(
        [sys.executable, "-m", "edge", "run", "--config", str(tmp_path / "mien.toml")],
        cwd=tmp_path / "program",
        env=os.environ | {"MIEN_BUNDLES": str(device.store), "PYTHONPATH": str(tmp_path / "program")},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 78, done.stderr
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("mien: error:")]
    assert line.startswith(f"mien: error: {NAME}: no bundle can be used: {device.newest}/model.tflite: sha256")
    assert line.count("sha256: ") == 2 + len(shipped)
    assert "Traceback" not in done.stderr


def test_with_a_trusted_key_only_what_it_signed_runs(device: Device, tmp_path: Path) -> None:
    pytest.importorskip("nacl", reason="pip install 'mien[signatures]'")
    public = make_key(tmp_path / "secret.key")
    make_key(tmp_path / "other.key")
    trusting = f'[bundles]\ntrusted_keys = ["{public}"]\n'
    told = device.info(trusting)
    assert told["source"] == "shipped"
    assert told["reason"].count(f"{SIGNATURE_FILE}: no such file: the bundle is not signed") == 2
    sign_bundle(load_bundle(device.before), tmp_path / "secret.key")
    sign_bundle(load_bundle(device.newest), tmp_path / "other.key")
    told = device.info(trusting)
    assert told["source"] == str(device.before)
    assert "manifest.sig: signed by " in told["reason"]
    sign_bundle(load_bundle(device.newest), tmp_path / "secret.key")
    assert device.info(trusting)["source"] == str(device.newest)


def test_a_bundle_with_which_the_service_does_not_become_ready_gives_way_after_some_starts(device: Device) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # a camera that never answers: the kill is in time
        for start in range(TRIALS):
            child = device.start(camera=f"http://127.0.0.1:{silent.getsockname()[1]}/video")
            _wait_for_attempt(device, child, failures=start)
            child.kill()
            assert child.wait() == -signal.SIGKILL, f"start {start}"
    told = device.info()
    assert told["source"] == str(device.before)
    assert told["reason"] == f"{device.newest}: the service did not become ready with it in {TRIALS} starts"
    install_bundle(device.newest, into=device.store, console=Console(quiet=True))
    assert device.info()["source"] == str(device.newest.with_name("0003-9.1.0")), "installed again is tried again"


def test_a_bundle_that_was_ready_once_is_not_on_trial_again(device: Device) -> None:
    for _ in range(TRIALS + 1):
        child = device.start()
        assert child.stderr is not None
        assert any("ready after" in line for line in child.stderr)
        child.kill()
        child.wait()
    assert device.attempt["confirmed"]
    assert device.info()["source"] == str(device.newest)


def test_a_stop_in_order_or_a_wrong_password_file_is_not_held_against_a_bundle(device: Device) -> None:
    """The file is looked for when the models are there."""
    wrong = '[camera]\nsource = "synthetic"\n[mqtt]\nusername = "u"\npassword_file = "/nowhere/secret"\n'
    for _ in range(2):
        child = device.start()
        _wait_for_attempt(device, child)
        child.send_signal(signal.SIGTERM)
        assert ended(child, timeout_s=60)[0] == 0
        child = device._run(wrong, MIEN_BUNDLES=str(device.store), STATE_DIRECTORY=str(device.state))
        assert ended(child, timeout_s=60)[0] == 78
    assert (device.attempt["failures"], device.attempt["open"]) == (0, False)


def test_a_fallback_is_told_over_mqtt_and_the_selftest_is_of_what_runs(
    device: Device, mosquitto: Callable[..., Mosquitto], subscribe: Callable[..., Subscriber]
) -> None:
    broker = mosquitto()
    heard = subscribe(broker.port, "mien/pi/front/#")
    flip_byte(device.newest / "model.tflite")
    child = device.start(port=broker.port, mqtt="requests = true\n")
    heard.wait_for("info")
    reason = decoded(heard.on("info"))[0]["model"]["reason"]  # type: ignore[index]
    assert str(device.newest) in reason
    heard.publish("mien/pi/front/request/selftest", b"")
    heard.wait_for("selftest", count=2)
    answer = next(answer for answer in decoded(heard.on("selftest")[1:]) if answer)
    assert answer["result"]["model"] == f"{NAME}@9.0.1"  # type: ignore[index]
    heard.wait_for("problem")
    assert decoded(heard.on("problem"))[0]["problems"] == [f"model: {reason}"]
    child.send_signal(signal.SIGTERM)
    assert ended(child)[0] == 0


def _wait_for_attempt(device: Device, child: "subprocess.Popen[str]", *, failures: int = 0) -> None:
    """Until the newest bundle is on trial; the daemon has not even opened the camera then."""
    wanted = {"open": True, "failures": failures}
    while not wanted.items() <= device.attempt.items():  # one look: the file changes between two
        assert child.poll() is None, child.communicate()
        time.sleep(0.001)
