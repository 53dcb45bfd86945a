"""What a camera left on the broker is cleared when it is renamed, and by hand; nothing else ever is."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from brokers import Mosquitto, Subscriber, wait_until
from daemons import ended, toml_for

Start = Callable[..., subprocess.Popen[str]]
Subscribe = Callable[..., Subscriber]

pytestmark = pytest.mark.broker

ON = "[homeassistant]\nenabled = true\n"


def renamed(toml: str, name: str) -> str:
    return toml.replace('name = "front"', f'name = "{name}"')


def retained(broker: Mosquitto, subscribe: Subscribe) -> dict[str, bytes]:
    """What the broker keeps now."""
    late = subscribe(broker.port, "#")
    late.wait_quiet()
    late.close()
    return {message.topic: message.payload for message in late.messages if message.retain}


def cameras(broker: Mosquitto, subscribe: Subscribe) -> set[str]:
    return {topic.split("/")[2] for topic in retained(broker, subscribe) if topic.startswith("mien/")}


def stop(child: subprocess.Popen[str]) -> str:
    child.send_signal(signal.SIGTERM)
    code, errors = ended(child)
    assert code == 0, errors
    return errors


def forget(folder: Path, toml: str, *arguments: str, state: Path) -> subprocess.CompletedProcess[str]:
    file = folder / "by-hand.toml"
    file.write_text(toml)
    return subprocess.run(
        [sys.executable, "-m", "edge", "forget", "--config", str(file), *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "STATE_DIRECTORY": str(state)},
    )


def test_a_camera_that_was_renamed_leaves_nothing_behind(
    clip: Path, run: Start, mosquitto: Callable[..., Mosquitto], subscribe: Subscribe, tmp_path: Path
) -> None:
    broker, state = mosquitto(), tmp_path / "state"
    heard = subscribe(broker.port)
    heard.publish("mien/pi/other/count", b"7", retain=True)
    heard.publish("mien/pi/front/own/note", b"mine", retain=True)  # below our base topic, and not of ours
    toml = toml_for(clip, port=broker.port, extra=ON)
    child = run(toml, STATE_DIRECTORY=str(state))
    heard.wait_for("count", b"2")
    first = json.loads(heard.wait_for("config")[0])
    stop(child)
    assert (state / "outbox-front.db").exists()
    child = run(renamed(toml, "back"), STATE_DIRECTORY=str(state))
    wait_until(lambda: (b"", "mien/pi/front/state") in [(m.payload, m.topic) for m in heard.messages], what="clearing")
    wait_until(lambda: cameras(broker, subscribe) == {"other", "back", "front"}, what="the new name")
    assert [topic for topic in retained(broker, subscribe) if "/front/" in topic] == ["mien/pi/front/own/note"]
    assert "other names is cleared" in stop(child)
    configs = {t: json.loads(p) for t, p in retained(broker, subscribe).items() if t.endswith("/config")}
    assert len(configs) == 1, "one device: the old one under its new name"
    [device] = configs.values()
    assert device["dev"]["ids"] == first["dev"]["ids"]
    assert {part.get("avty_t") for part in device["cmps"].values()} == {"mien/pi/back/availability", None}
    assert {path.name for path in state.iterdir()} == {"outbox-back.db", "topics-back.json"}


def test_events_that_wait_go_with_the_camera_to_its_new_name(
    clip: Path, run: Start, mosquitto: Callable[..., Mosquitto], subscribe: Subscribe, tmp_path: Path
) -> None:
    broker, state = mosquitto(), tmp_path / "state"
    broker.kill()
    toml = toml_for(clip, port=broker.port)
    child = run(toml, "--max-frames", "30", STATE_DIRECTORY=str(state))
    assert ended(child)[0] == 0
    with contextlib.closing(sqlite3.connect(state / "outbox-front.db")) as file:
        waiting = file.execute("SELECT count(*) FROM record").fetchone()[0]
    assert waiting
    broker.start()
    heard = subscribe(broker.port, "mien/pi/back/#")
    run(renamed(toml, "back"), STATE_DIRECTORY=str(state))
    heard.wait_for("history", count=waiting)
    assert not (state / "outbox-front.db").exists()


def test_another_camera_that_shares_the_folder_keeps_its_topics(
    clip: Path, run: Start, mosquitto: Callable[..., Mosquitto], subscribe: Subscribe, tmp_path: Path
) -> None:
    broker, state = mosquitto(), tmp_path / "state"
    heard = subscribe(broker.port)
    toml = toml_for(clip, port=broker.port, extra=f'outbox_dir = "{state}"\n')
    stop_me = run(toml)
    heard.wait_for("count", b"2")
    stop(stop_me)  # stopped, of another configuration file
    running = run(renamed(toml, "garden"), STATE_DIRECTORY=str(state))
    wait_until(lambda: cameras(broker, subscribe) == {"front", "garden"}, what="both")
    own_folder = renamed(toml_for(clip, port=broker.port), "hall")  # running, and in what looks like our own folder
    run(own_folder, STATE_DIRECTORY=str(state))
    wait_until(lambda: "hall" in cameras(broker, subscribe), what="the third one")
    assert {"front", "garden"} <= cameras(broker, subscribe)
    assert running.poll() is None


@pytest.mark.parametrize("version", ["5", "3.1.1"])
def test_forget_clears_a_former_name_without_a_list(
    version: str, clip: Path, run: Start, mosquitto: Callable[..., Mosquitto], subscribe: Subscribe, tmp_path: Path
) -> None:
    broker, state = mosquitto(), tmp_path / "state"
    heard = subscribe(broker.port)
    toml = toml_for(clip, port=broker.port, extra=f'version = "{version}"\n{ON}')
    child = run(toml)  # without a state folder: as an earlier version left it
    heard.wait_for("count", b"2")
    stop(child)
    child = run(renamed(toml, "back"), STATE_DIRECTORY=str(state))
    wait_until(lambda: "back" in cameras(broker, subscribe), what="the new name")
    done = forget(tmp_path, renamed(toml, "back"), "--camera", "front", state=state)
    assert done.returncode == 0, done.stderr
    assert "cleared mien/pi/front/availability\n" in done.stdout
    left = retained(broker, subscribe)
    assert {topic.split("/")[2] for topic in left if topic.startswith("mien/")} == {"back"}
    assert len([topic for topic in left if topic.endswith("/config")]) == 1
    refused = forget(tmp_path, renamed(toml, "back"), state=state)
    assert refused.returncode == 2
    assert f"process {child.pid} on this machine publishes to mien/pi/back already: stop it first" in refused.stderr
    stop(child)
    done = forget(tmp_path, renamed(toml, "back"), state=state)
    assert done.returncode == 0, done.stderr
    assert retained(broker, subscribe) == {}
    assert list(state.iterdir()) == []


def test_forget_does_not_clear_the_device_that_the_camera_took_along(
    clip: Path, run: Start, mosquitto: Callable[..., Mosquitto], subscribe: Subscribe, tmp_path: Path
) -> None:
    broker, state = mosquitto(), tmp_path / "state"
    heard = subscribe(broker.port)
    toml = toml_for(clip, port=broker.port, extra=ON)
    for name in ("front", "back"):
        child = run(renamed(toml, name), STATE_DIRECTORY=str(state))
        wait_until(lambda name=name: name in cameras(broker, subscribe), what=name)  # type: ignore[misc]
        if name == "front":
            stop(child)
    heard.wait_for("config", count=2)
    done = forget(tmp_path, renamed(toml, "back"), "--camera", "front", state=state)
    assert done.returncode == 0, done.stderr
    assert len([topic for topic in retained(broker, subscribe) if topic.endswith("/config")]) == 1


def test_forget_says_in_one_line_that_the_broker_is_away_and_keeps_what_is_noted(
    clip: Path, run: Start, mosquitto: Callable[..., Mosquitto], subscribe: Subscribe, tmp_path: Path
) -> None:
    broker, state = mosquitto(), tmp_path / "state"
    toml = toml_for(clip, port=broker.port)
    child = run(toml, STATE_DIRECTORY=str(state))
    wait_until(lambda: cameras(broker, subscribe) == {"front"}, what="the camera")
    stop(child)
    broker.kill()
    done = forget(tmp_path, toml, state=state)
    assert done.returncode == 1
    assert done.stderr == "mien: error: unreachable: Connection refused\n"
    assert (state / "topics-front.json").exists()
