from __future__ import annotations

import io
import subprocess
import sys
import tempfile
from pathlib import Path

import cv2
import pytest
from rich.console import Console
from rich.text import Text

from edge.commands.colors import luminance, readable_hex
from edge.commands.demo.story import Story
from edge.commands.demo.terminal import ACCENT, DIM, TerminalScreen, open_screen, program, summary_lines
from edge.contract.labels import LABELS, UNCERTAIN
from edge.publish.payloads import (
    Box,
    EventPayload,
    Extent,
    FacesPayload,
    HealthPayload,
    Latency,
    QualityPart,
    StateFace,
    StatePayload,
    TelemetryFace,
)

BOX, EXTENT = Box(x=1, y=2, w=30, h=40), Extent(w=640, h=480)
QUALITY = QualityPart(face_px=30, blur=0.1, yaw=0, brightness=0.5)


def make_event(seq: int, kind: str = "emotion_changed", **changes: object) -> EventPayload:
    values: dict[str, object] = {
        "boot_id": "b", "seq": seq, "ts": f"2026-11-21T02:20:{seq % 60:02d}.000Z", "frame_age_ms": 9.0,
        "camera": "camera", "type": kind, "mono_ms": seq, "clock_synced": True, "track": f"t{seq % 5}",
        "emotion": "happy", "previous": "neutral", "confidence": 0.9, "scores": {}, "dwell_ms": 640,
        "evidence_frames": 3, "reason": None, "box": BOX, "frame": EXTENT, "quality": QUALITY, "model": "m@1",
        "delegate": "xnnpack",
    }  # fmt: skip
    return EventPayload(**(values | changes))  # type: ignore[arg-type]


def make_faces(count: int, *, scores: dict[str, float] | None = None) -> FacesPayload:
    scores = dict.fromkeys(LABELS, 1 / 7) if scores is None else scores
    faces = [
        TelemetryFace(
            track=f"t{i}", box=BOX, score=0.9, observed=True, emotion=LABELS[i % 7], confidence=0.5 + i / 50,
            scores=scores or None, reason=None, quality=QUALITY, landmarks=[],
        )
        for i in range(count)
    ]  # fmt: skip
    return FacesPayload(
        boot_id="b", ts="2026-11-21T02:20:10.500Z", mono_ms=1, clock_synced=True, frame_age_ms=9.0, camera="camera",
        number=1, detected=True, frame=EXTENT, faces=faces,
    )  # fmt: skip


def make_story(faces: int = 4, events: int = 30) -> Story:
    story = Story()
    for seq in range(1, events + 1):
        kind = ("face_appeared", "emotion_changed", "face_left")[seq % 3]
        story.take("event", make_event(seq, kind))
    story.take("faces", make_faces(faces))
    latency = Latency(p50=6.2, p95=7.9, p99=9.0)
    health = HealthPayload(
        boot_id="b", last_seq=events, ts="2026-11-21T02:20:10.000Z", mono_ms=1, clock_synced=True, camera="camera",
        uptime_s=3.0, fps=19.9, frame_age_ms=latency, stages_ms={"step": latency}, drops=0, reconnects=0,
        queue_depth=0, counts={"frames": 598}, sinks={}, temperature_c=None, rss_bytes=88 << 20,
    )  # fmt: skip
    story.take("health", health)
    return story


def draw(story: Story, *, width: int, height: int, encoding: str = "utf-8", colour: str = "truecolor") -> str:
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors="replace")
    console = Console(
        file=stream, width=width, height=height, force_terminal=True, highlight=False,
        color_system=colour or None, legacy_windows=False,  # type: ignore[arg-type]
    )  # fmt: skip
    console.print(TerminalScreen(console, port=4711, seconds=30, has_camera=False).picture(story), end="")
    stream.flush()
    return stream.buffer.getvalue().decode(encoding)  # type: ignore[attr-defined]


def plain(text: str) -> list[str]:

    return [Text.from_ansi(line).plain for line in text.splitlines()]


@pytest.mark.parametrize("faces", [0, 1, 4, 12])
@pytest.mark.parametrize(("width", "height"), [(80, 24), (60, 14), (40, 10), (116, 30), (200, 60)])
def test_the_picture_fits_the_terminal(width: int, height: int, faces: int) -> None:
    lines = plain(draw(make_story(faces), width=width, height=height))
    assert max(map(len, lines)) <= width
    assert len(lines) <= max(height, 13)


@pytest.mark.parametrize("width", [80, 160])
def test_every_face_shows_all_seven_scores_by_name(width: int) -> None:
    lines = plain(draw(make_story(4), width=width, height=30))
    header = next(line for line in lines if "confidence" in line)
    assert all(label[:3] in header for label in LABELS)
    assert all(any(f" t{i} " in line and LABELS[i] in line for line in lines) for i in range(4))


def test_more_faces_than_rows_are_counted() -> None:
    assert any("+8" in line and "more" in line for line in plain(draw(make_story(12), width=80, height=24)))


def test_the_newest_events_are_shown() -> None:
    text = "\n".join(plain(draw(make_story(events=50), width=80, height=24)))
    assert "#50" in text
    assert "#1 " not in text


def test_without_colour_no_colour_is_sent() -> None:
    assert "\x1b[38" not in draw(make_story(), width=80, height=24, colour="")


def test_a_terminal_without_unicode_gets_plain_characters() -> None:
    text = draw(make_story(), width=80, height=24, encoding="ascii")
    assert text.isascii()
    assert "####" in text
    assert "?" not in text


def test_scores_of_a_face_that_was_not_classified_in_this_frame_stay() -> None:
    story = make_story(2)
    before = dict(story.scores("t1"))
    story.take("faces", make_faces(2, scores={}))
    assert story.scores("t1") == before
    story.take("faces", make_faces(1, scores={}))
    assert story.scores("t1") == {}


def test_a_face_tells_for_how_long_it_has_shown_its_emotion() -> None:
    story = make_story(1)
    assert story.held_s("t0") is None
    faces = [StateFace(track="t0", emotion="angry", confidence=0.5, since="2026-11-21T02:20:08.250Z", reason=None)]
    state = StatePayload(
        boot_id="b",
        last_seq=1,
        ts="2026-11-21T02:20:10.000Z",
        mono_ms=1,
        clock_synced=True,
        camera="camera",
        faces=faces,
    )
    story.take("state", state)
    assert story.held_s("t0") == pytest.approx(2.25)


def test_a_lost_event_is_reported_and_a_repeated_one_counts_once() -> None:
    story = Story()
    for seq in (1, 2, 2, 5):
        story.take("event", make_event(seq))
    assert (story.event_count, story.missing_count) == (3, 2)
    text = "\n".join(line.plain for line in summary_lines(story, port=4711, has_camera=False))
    assert "3 events published to mqtt://127.0.0.1:4711 and read back, 2 missing" in text


def test_the_summary_says_how_to_subscribe_and_how_to_go_on_within_80_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", [".venv/bin/mien"])
    lines = [line.plain for line in summary_lines(make_story(), port=4711, has_camera=False)]
    text = "\n".join(lines)
    assert "mosquitto_sub -h 127.0.0.1 -p 4711 -t 'mien/#' -v" in text
    assert " demo --camera 0" in text
    assert " run --config" in text
    assert max(map(len, lines)) <= 80


def test_a_dumb_terminal_gets_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=True, width=80)
    screen = open_screen(port=4711, seconds=1, has_camera=False, console=console)
    with screen:
        screen.tell("event", make_event(1))
        screen.show(make_story(2))
    text = stream.getvalue()
    assert "\x1b" not in text
    assert "event: 02:20:01.000 #1" in text
    assert "faces: t0 angry 50%, t1 disgust 52%" in text


def test_what_is_said_to_do_next_runs_when_it_is_pasted(tmp_path: Path) -> None:
    lines = [line.plain for line in summary_lines(make_story(), port=4711, has_camera=False)]
    steps = [line.partition(":")[2].strip() for line in lines if program() in line]
    assert len(steps) == 4
    for step in steps:
        asked = step if ">" in step else f"{step} --help"
        done = subprocess.run(["sh", "-c", asked], cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert ">" in step or "Usage" in done.stdout
    assert "[camera]" in (tmp_path / "mien.toml").read_text()


def test_a_program_that_its_name_does_not_lead_to_is_called_by_its_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", [".venv/bin/mien"])
    monkeypatch.setenv("PATH", "/nowhere")
    assert program() == ".venv/bin/mien"


def test_emotions_that_were_never_told_are_named() -> None:
    story = Story()
    story.take("event", make_event(1))
    text = "\n".join(line.plain for line in summary_lines(story, port=4711, has_camera=False))
    named = next(line for line in text.splitlines() if "never told" in line)
    assert {label for label in LABELS if label in named} == set(LABELS) - set(story.emotions)


def contrast(one: float, other: float) -> float:
    low, high = sorted((one, other))
    return (high + 0.05) / (low + 0.05)


def test_every_colour_of_text_is_read_on_white_and_on_black() -> None:
    for colour in (DIM, ACCENT, *map(readable_hex, [*LABELS, UNCERTAIN, "bored"])):
        red, green, blue = bytes.fromhex(colour[1:])
        shade = luminance((red, green, blue))
        assert contrast(shade, 0.0) >= 4.4, colour
        assert contrast(shade, 1.0) >= 4.4, colour


def test_on_a_telephone_no_emotion_is_cut() -> None:
    lines = plain(draw(make_story(4), width=40, height=30))
    assert not any("…" in line for line in lines if "mosquitto_sub" not in line)
    assert all(any(f" t{i} " in line and LABELS[i] in line for line in lines) for i in range(4))


@pytest.mark.parametrize("width", [40, 80, 120])
def test_the_scene_is_shown_where_the_terminal_can(width: int) -> None:
    assert "▀" in draw(make_story(), width=width, height=30)
    assert "▀" not in draw(make_story(), width=width, height=20)
    assert "▀" not in draw(make_story(), width=width, height=30, encoding="ascii")
    assert "▀" not in draw(make_story(), width=width, height=30, colour="256")


def test_elsewhere_one_frame_is_written_and_its_path_printed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    stream = io.StringIO()
    screen = open_screen(port=4711, seconds=1, has_camera=False, console=Console(file=stream, width=80))
    with screen:
        screen.show(make_story(3))
    (written,) = tmp_path.glob("mien-demo-*.png")
    assert str(written) in stream.getvalue()
    assert cv2.imread(str(written)) is not None
