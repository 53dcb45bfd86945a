"""`mien run` as its user runs it: a real process, a real broker, a real clip; and what can be wrong at start."""

import json
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from brokers import Mosquitto, Subscriber, free_port, wait_until
from daemons import STOP_PATIENCE_S, decoded, ended, toml_for

Start = Callable[..., subprocess.Popen[str]]


def test_a_clip_becomes_events_state_and_a_clean_goodbye_on_a_real_broker(
    clip: Path, run: Start, mosquitto: Callable[..., Mosquitto], subscribe: Callable[..., Subscriber]
) -> None:
    broker = mosquitto()
    subscriber = subscribe(broker.port, "mien/pi/front/#")
    child = run(toml_for(clip, port=broker.port, extra="[publish]\nfaces_hz = 5\n"))
    subscriber.wait_for("event", count=2)
    subscriber.wait_for("count", b"2")
    subscriber.wait_for("faces", count=3)
    late = subscribe(broker.port, "mien/pi/front/#")
    assert late.wait_for("availability") == [b"online"]
    info = decoded(late.wait_for("info"))[0]
    assert info["model"]["name"] == "emotion-ferplus"  # type: ignore[index]
    assert info["parity"]["class_flips"] == 0  # type: ignore[index]
    child.send_signal(signal.SIGTERM)
    sent = time.monotonic()
    assert ended(child)[0] == 0
    assert time.monotonic() - sent < STOP_PATIENCE_S
    subscriber.wait_for("availability", b"offline")
    events = decoded(subscriber.on("event"))
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    assert [event["type"] for event in events[:2]] == ["face_appeared"] * 2
    assert {event["reason"] for event in events if event["type"] == "face_left"} <= {"left", "stopped"}
    present = {event["track"] for event in events if event["type"] == "face_appeared"}
    assert present == {event["track"] for event in events if event["type"] == "face_left"}
    state = decoded(subscriber.on("state"))[-1]
    assert state["faces"] is None
    assert state["last_seq"] == len(events)


def test_a_broker_that_is_not_there_neither_blocks_nor_stops_the_daemon(clip: Path, run: Start) -> None:
    toml = toml_for(clip, port=free_port(), extra='[publish]\nsinks = ["mqtt", "jsonl"]\nfaces_hz = 120\n')
    child = run(toml, "--max-frames", "40")
    output, _ = child.communicate(timeout=30)
    assert child.returncode == 0
    assert sum('"faces"' in line for line in output.splitlines()) >= 40


def test_max_frames_stops_cleanly_and_a_file_that_ends_is_no_error(clip: Path, run: Start) -> None:
    jsonl = '[publish]\nsinks = ["jsonl"]\n'
    assert ended(run(toml_for(clip, port=1, extra=jsonl), "--max-frames", "5"))[0] == 0
    assert ended(run(toml_for(clip, port=1, extra=jsonl, loop=False)))[0] == 0


def test_a_killed_daemon_leaves_offline_behind(
    clip: Path, run: Start, mosquitto: Callable[..., Mosquitto], subscribe: Callable[..., Subscriber]
) -> None:
    broker = mosquitto()
    subscriber = subscribe(broker.port, "mien/pi/front/#")
    child = run(toml_for(clip, port=broker.port))
    subscriber.wait_for("availability", b"online")
    child.kill()
    subscriber.wait_for("availability", b"offline")


def test_a_camera_that_is_not_there_is_a_state_and_the_service_is_ready(
    run: Start, mosquitto: Callable[..., Mosquitto], subscribe: Callable[..., Subscriber]
) -> None:
    broker = mosquitto()
    subscriber = subscribe(broker.port, "mien/pi/front/#")
    child = run(toml_for("/dev/video77", port=broker.port, loop=False))
    subscriber.wait_for("camera", b"lost")
    subscriber.wait_for("availability", b"online")
    assert decoded(subscriber.on("state"))[-1]["faces"] is None
    assert child.stderr is not None
    assert any("ready after" in line for line in child.stderr), "it ended without being ready"
    child.send_signal(signal.SIGTERM)
    assert ended(child)[0] == 0


BAD = [
    ('[camera]\nsource = "nowhere.mp4"\n', 1, "nowhere.mp4: "),
    ('[camera]\nsorce = "0"\n', 78, "camera.sorce: unknown key; there are source,"),
    ("[camera]\nfps = 0\n", 78, "camera.fps: 0 is not in 1..120"),
    ('[emotion]\nbundle = "emotion-x"\n', 78, "emotion-x: no such bundle; shipped are "),
    ('[detect]\nbundle = "emotion-ferplus"\n', 78, "task: not 'detect'"),
    ('[detect]\ndetector = "hog"\n', 78, "detect.detector: 'hog' is unknown; there are "),
    ('[emotion]\ndelegate = "npu"\n', 78, "emotion.delegate: 'npu' is unknown; there are "),
    ('[publish]\nsinks = ["kafka"]\n', 78, "publish.sinks: 'kafka' is unknown; there are mqtt, jsonl"),
    ('[mqtt]\npassword_file = "/nowhere/secret"\nusername = "u"\n', 78, "mqtt.password_file"),
    ("fps =\n", 78, "not TOML"),
]


@pytest.mark.parametrize(("toml", "code", "line"), BAD, ids=[line for _, _, line in BAD])
def test_what_cannot_work_is_one_line_and_a_documented_exit_code(
    toml: str, code: int, line: str, run: Start, clip: Path
) -> None:
    if "[camera]" not in toml and "fps" not in toml:
        toml = f"[camera]\nsource = {json.dumps(str(clip))}\n{toml}"
    found, errors = ended(run(toml))
    told = [text for text in errors.splitlines() if text.startswith("mien: error:")]
    assert found == code, errors
    assert len(told) == 1
    assert line in told[0]
    assert "Traceback" not in errors


def test_twenty_faces_make_no_backlog_the_newest_frame_is_next_and_drops_are_counted(
    tmp_path: Path, run: Start
) -> None:
    """At 60 frames a second with twenty faces a small machine cannot keep up: age stays bounded, frames are dropped."""
    import cv2
    import numpy as np
    from clips import free_faces

    head = cv2.resize(cv2.imread(str(free_faces()[0])), (120, 140))
    frame = np.full((720, 1280, 3), 90, np.uint8)
    for index in range(20):
        top, left = 20 + index // 7 * 230, 20 + index % 7 * 175
        frame[top : top + 140, left : left + 120] = head
    path = tmp_path / "twenty.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 60, (1280, 720))
    for _ in range(60):
        writer.write(frame)
    writer.release()
    out = tmp_path / "out.jsonl"
    extra = f'[publish]\nsinks = ["jsonl"]\nfaces_hz = 120\nhealth_s = 1\n[jsonl]\npath = "{out}"\n'
    child = run(toml_for(path, port=1, extra=extra), "--max-frames", "150")
    assert ended(child, timeout_s=60)[0] == 0
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    faces = [row["payload"] for row in rows if row["kind"] == "faces"]
    steady = faces[30:]
    assert len(steady) > 50
    assert max(len(row["faces"]) for row in steady) >= 18
    third = len(steady) // 3
    early, late = (
        sorted(row["frame_age_ms"] for row in part)[third // 2] for part in (steady[:third], steady[-third:])
    )
    assert late < 3 * early + 50, "with a backlog every frame would be older than the one before"
    numbers = [row["number"] for row in steady]
    assert numbers == sorted(set(numbers))


def test_sighup_applies_what_can_be_applied_and_names_what_cannot(
    clip: Path, run: Start, mosquitto: Callable[..., Mosquitto], subscribe: Callable[..., Subscriber], tmp_path: Path
) -> None:
    broker = mosquitto()
    subscriber = subscribe(broker.port, "mien/pi/front/#")
    child = run(toml_for(clip, port=broker.port))
    file = tmp_path / "mien-0.toml"
    subscriber.wait_for("count", b"2")
    assert not subscriber.on("faces")
    file.write_text(toml_for(clip, port=broker.port, extra="[publish]\nfaces_hz = 10\n[track]\nkeep_ms = 9\n"))
    child.send_signal(signal.SIGHUP)
    subscriber.wait_for("faces", count=3)
    file.write_text(toml_for(clip, port=broker.port, extra="[publish]\nfaces_hz = -1\n"))
    child.send_signal(signal.SIGHUP)
    there = len(subscriber.on("faces"))
    subscriber.wait_for("faces", count=there + 8)
    child.send_signal(signal.SIGTERM)
    code, errors = ended(child)
    assert code == 0
    assert "INFO edge.config.reload: configuration: publish.faces_hz applied\n" in errors
    assert "WARNING edge.config.reload: configuration: track.keep_ms: not before a restart\n" in errors
    assert f"{file}: publish.faces_hz: -1 is not in 0..120; the present configuration stays\n" in errors
    assert len(subscriber.wait_for("info")) == 1, "it is the same run"


def test_requests_are_carried_out_and_answered(
    clip: Path, run: Start, mosquitto: Callable[..., Mosquitto], subscribe: Callable[..., Subscriber]
) -> None:
    broker = mosquitto()
    subscriber = subscribe(broker.port, "mien/pi/front/#")
    child = run(toml_for(clip, port=broker.port, extra="requests = true\n"))

    def ask(verb: str, payload: bytes = b"") -> dict[str, object]:
        before = len(subscriber.on(verb))  # the request is heard as well
        subscriber.publish(f"mien/pi/front/request/{verb}", payload)
        subscriber.wait_for(verb, count=before + 2)
        return next(answer for answer in decoded(subscriber.on(verb)[before:]) if "status" in answer)

    subscriber.wait_for("availability", b"online")
    subscriber.wait_for("count", b"2")
    assert ask("ping", b'{"transaction": "a"}') | {"boot_id": ""} == {
        "schema": "mien.response/1", "boot_id": "", "verb": "ping", "transaction": "a", "status": "ok", "reason": None,
        "result": {},
    }  # fmt: skip
    tested = ask("selftest", b"{}")["result"]
    assert isinstance(tested, dict)
    assert tested["worst_steps"] <= tested["max_steps"]
    assert ask("reload", b"{}")["result"] == {"applied": [], "pending": []}
    assert "unknown verb; there are pause, ping" in str(ask("explode", b"{}")["reason"])
    assert "not a request" in str(ask("ping", b'{"transaction": {}}')["reason"])

    assert ask("pause", b"{}")["status"] == "ok"

    def left() -> list[object]:
        return [event["reason"] for event in decoded(subscriber.on("event")) if event["type"] == "face_left"]

    wait_until(lambda: left()[-2:] == ["paused", "paused"], what=lambda: f"two faces that left: {left()}")
    subscriber.wait_for("camera", b"paused")
    wait_until(lambda: subscriber.on("count")[-1] == b"unknown", what="unknown, not nobody")
    assert subscriber.on("counts")[-1] == b"null"
    assert decoded(subscriber.on("state"))[-1]["reason"] == "paused"
    assert subscriber.on("active")[-1] == b"OFF"
    appeared = len(subscriber.on("event"))
    assert ask("resume", b"{}")["status"] == "ok"
    subscriber.wait_for("camera", b"live", count=2)
    subscriber.wait_for("event", count=appeared + 2)
    for word, state in (b"OFF", b"paused"), (b"ON", b"live"):  # what a switch sends
        told = len(subscriber.on("camera"))
        subscriber.publish("mien/pi/front/active/set", word)
        wait_until(lambda: state in subscriber.on("camera")[told:], what=f"the camera is {state!r}")  # noqa: B023
        wait_until(lambda: subscriber.on("active")[-1] == word, what="the switch")  # noqa: B023
    answered = len(subscriber.on("ping"))
    subscriber.publish("mien/pi/front/request/ping", b"PRESS")
    subscriber.wait_for("ping", count=answered + 2)
    assert b'"status":"ok"' in subscriber.on("ping")[-1]

    def ask_back(topic: str) -> list[tuple[str, bytes]]:  # as MQTT 5 asks
        seen = len(subscriber.messages)
        subscriber.publish("mien/pi/front/request/ping", b"", reply=(topic, b"no. 7"))

        def answers() -> list[tuple[str, bytes]]:
            return [
                (each.topic, each.properties.CorrelationData)
                for each in subscriber.messages[seen:]
                if each.payload.startswith(b'{"schema":"mien.response/1"')
            ]

        wait_until(lambda: bool(answers()), what="an answer")
        return answers()

    assert ask_back("mien/pi/front/response/mine") == [("mien/pi/front/response/mine", b"no. 7")]
    assert ask_back("mien/pi/front/event") == [("mien/pi/front/response/ping", b"no. 7")], "an answer is no event"
    child.send_signal(signal.SIGTERM)
    assert ended(child)[0] == 0


def test_without_being_asked_to_it_takes_no_requests(
    clip: Path, run: Start, mosquitto: Callable[..., Mosquitto], subscribe: Callable[..., Subscriber]
) -> None:
    broker = mosquitto()
    subscriber = subscribe(broker.port, "mien/pi/front/#")
    run(toml_for(clip, port=broker.port))
    subscriber.wait_for("availability", b"online")
    subscriber.publish("mien/pi/front/request/ping", b"{}")
    subscriber.wait_for("count", b"2")
    subscriber.wait_quiet()
    assert subscriber.on("ping") == [b"{}"], "only the request itself"
    assert "SUBSCRIBE from mien-" not in broker.log
