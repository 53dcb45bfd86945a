"""The demo's screen: a live table on a terminal, plain lines on a pipe. It shows a `Story` and nothing else."""

from __future__ import annotations

import io
import shlex
import shutil
import sys
import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from rich import box
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from edge.commands.colors import readable_hex
from edge.commands.demo.broker import HOST
from edge.commands.demo.listener import Received
from edge.commands.demo.story import Story
from edge.commands.demo.view import SceneView
from edge.contract.labels import LABELS, UNCERTAIN
from edge.publish.payloads import EventPayload, TelemetryFace

BASE = "mien/demo/camera"
DIM = "#767676"
BRIGHT = "default"
ACCENT = "#3f72dd"
"""These are read on black and on white."""
BLOCKS = " ▏▎▍▌▋▊▉█"
COLUMNS = "▁▂▃▄▅▆▇█"
WIDE = 116
"""From so many columns on every score has a bar of its own width."""
NARROW = 80
"""Below so many columns there are no bars of scores."""
PHONE = 50
"""Below so many columns bars are short and the time is left out, so that the emotion is not cut."""
PICTURE_FROM = 22
"""From so many rows on the scene is shown above the table."""
PICTURE_ROWS, TABLE_ROWS = 24, 5
"""Of the scene at most; of the faces below it."""
MIN_ROWS, MAX_ROWS = 3, 8
STATUS_INTERVAL_S = 2.0
"""Between two lines of faces and figures on a pipe."""


class Screen:
    """Where the demo is shown, for the time of a ``with`` block."""

    def __init__(self, console: Console, *, port: int, seconds: float, has_camera: bool) -> None:
        self._console, self._port, self._seconds, self._has_camera = console, port, seconds, has_camera
        self._view = None if has_camera else SceneView()
        self._saved: Path | None = None
        self._end_s: float | None = None

    def __enter__(self) -> Screen:
        """Begin."""
        return self

    def __exit__(self, *_: object) -> None:
        """Give the terminal back."""

    def show(self, story: Story) -> None:
        """Bring the picture up to date; called a few times a second."""
        raise NotImplementedError

    def tell(self, level: str, received: Received) -> None:
        """Take one message, for those who print lines."""

    def summarize(self, story: Story) -> None:
        """Print a summary and how to go on."""
        for line in summary_lines(story, port=self._port, has_camera=self._has_camera):
            self.print(line)
        if self._saved is not None:
            self.print(Text(f"  {'a frame:':<15}{self._saved}"))

    def save_frame(self, story: Story) -> bool:
        """Write one frame of the scene as a picture, once, when a face was read; whether it was written now."""
        told = story.faces
        if self._view is None or self._saved is not None or told is None:
            return False
        if sum(face.emotion != UNCERTAIN for face in told.faces) < 2:
            return False
        self._saved = self._view.save(told)
        return True

    def print(self, line: Text) -> None:
        """Print one line, however long."""
        self._console.print(line, soft_wrap=True)


def open_screen(*, port: int, seconds: float, has_camera: bool, console: Console | None = None) -> Screen:
    """Return the screen that fits standard output.

    Args:
        port: of the broker.
        seconds: how long the demo will run, 0 without end.
        has_camera: whether a camera is shown rather than the scene.
        console: where to print; None: standard output.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal of few characters is no reason to stop
    console = console or Console(highlight=False)
    if console.is_terminal and not console.is_dumb_terminal:
        return TerminalScreen(console, port=port, seconds=seconds, has_camera=has_camera)
    return LineScreen(console, port=port, seconds=seconds, has_camera=has_camera)


def subscribe_line(port: int) -> str:
    """Return the command that subscribes to the same messages on this machine."""
    return f"mosquitto_sub -h {HOST} -p {port} -t 'mien/#' -v"


class TerminalScreen(Screen):
    """The live table; see `Screen`."""

    def __enter__(self) -> TerminalScreen:
        """Take the terminal."""
        self._live = Live(console=self._console, screen=True, auto_refresh=False)
        self._live.start()
        self._live.update(Text("\n  Mien is starting ...", style=DIM), refresh=True)
        return self

    def __exit__(self, *_: object) -> None:
        """Give it back as it was."""
        self._live.stop()

    def show(self, story: Story) -> None:
        """Draw the table anew."""
        if self._end_s is None and self._seconds and story.availability == "online":
            self._end_s = time.monotonic() + self._seconds
        if not self._has_blocks:
            self.save_frame(story)
        self._live.update(self.picture(story), refresh=True)

    def picture(self, story: Story) -> RenderableType:
        """Everything on the screen, as high and wide as the terminal is."""
        width, height = self._console.size
        footer = self._footer(width)
        scene = self._scene(story, rows=min(PICTURE_ROWS, height - TABLE_ROWS - 7 - len(footer)), width=width)
        height -= len(scene) and scene[0].plain.count("\n")
        rows = TABLE_ROWS if scene else max(MIN_ROWS, min(MAX_ROWS, (height - 6 - len(footer)) // 3))
        events = max(1, height - rows - 6 - len(footer))
        return Group(
            self._headline(story, width),
            *scene,
            _faces_panel(story, rows=rows, width=width, is_plain=self._is_plain),
            _events_panel(story, rows=events, width=width, is_plain=self._is_plain),
            *footer,
        )

    @property
    def _is_plain(self) -> bool:
        """Return whether the terminal lacks the characters of which bars are made."""
        return not self._console.encoding.lower().startswith("utf")

    @property
    def _has_blocks(self) -> bool:
        """Return whether the terminal can show the scene: 24-bit colours and block characters."""
        return self._console.color_system == "truecolor" and not self._is_plain

    def _scene(self, story: Story, *, rows: int, width: int) -> list[Text]:
        if self._view is None or story.faces is None or not self._has_blocks or self._console.height < PICTURE_FROM:
            return []
        return [self._view.half_blocks(story.faces, rows=rows, width=width)]

    def _headline(self, story: Story, width: int) -> RenderableType:
        between = ", " if self._is_plain else " · "
        figures = Text(figures_text(story, room=width - 14, between=between), style=BRIGHT)
        line = Table.grid(expand=True, padding=(0, 1))
        line.add_column(no_wrap=True)
        line.add_column(justify="right", no_wrap=True)
        line.add_row(Text.assemble((" mien", f"bold {ACCENT}"), (" demo", "bold")), figures)
        return line

    def _footer(self, width: int) -> list[Text]:
        left_s = self._seconds if self._end_s is None else max(0.0, self._end_s - time.monotonic())
        end = "Ctrl-C ends" if not self._seconds else f"{left_s:.0f} s left, Ctrl-C ends"
        line = Text(no_wrap=True, overflow="ellipsis").append(" " + subscribe_line(self._port), style=ACCENT)
        gap = width - line.cell_len - len(end) - 1
        return [line.append(" " * max(2, gap)).append(end, style=DIM)]


class LineScreen(Screen):
    """Plain lines for pipes and files; see `Screen`."""

    _shown_s = 0.0

    def __enter__(self) -> LineScreen:
        """Print the addresses to subscribe to."""
        self.print(f"mien demo: broker {HOST}:{self._port}, topics {BASE}/#")
        self.print(f"subscribe: {subscribe_line(self._port)}")
        return self

    def show(self, story: Story) -> None:
        """Every few seconds the faces and the figures in one line."""
        now_s = time.monotonic()
        if story.faces is None or now_s - self._shown_s < STATUS_INTERVAL_S:
            return
        self._shown_s = now_s
        if self.save_frame(story):
            self.print(f"a frame of the scene, with what was read: {self._saved}")
        faces = ", ".join(f"{face.track} {_claim(face)}" for face in story.faces.faces) or "nobody"
        self.print(f"faces: {faces} | {figures_text(story)}")

    def tell(self, level: str, received: Received) -> None:
        """Print an event at once."""
        if isinstance(received, EventPayload):
            self.print(f"event: {event_text(received).plain}")

    def print(self, line: Text | str) -> None:
        """Print one line, not through rich: it stays one line and goes out at once."""
        print(line, file=self._console.file, flush=True)


def figures_text(story: Story, *, room: int = 200, between: str = ", ") -> str:
    """Rate, latency, age and memory as the daemon reports them, or where it stands before it does.

    Args:
        story: what came back.
        room: so many characters; the last figures are left out where they do not fit.
        between: what separates two figures.
    """
    health = story.health
    if health is None or not health.fps:
        return f"camera {story.camera}" if story.camera else "starting"
    parts = [f"{health.fps:.1f} fps"]
    step = health.stages_ms.get("step")
    if step:
        parts.append(f"step p50 {step.p50:.1f} p95 {step.p95:.1f} ms")
    if health.frame_age_ms:
        parts.append(f"frame age {health.frame_age_ms.p50:.1f} ms")
    if health.rss_bytes:
        parts.append(f"{health.rss_bytes / 2**20:.0f} MiB")
    while len(parts) > 1 and len(between.join(parts)) > room:
        parts.pop()
    return between.join(parts)


def event_text(event: EventPayload, *, arrow: str = "->", is_narrow: bool = False) -> Text:
    """One event in a line: local time, number, face, what happened; on a narrow screen without what it was before."""
    line = Text(no_wrap=True, overflow="ellipsis")
    if is_narrow:
        line.append(f"{_local_time(event.ts)[:8]} ", style=DIM)
    else:
        line.append(f"{_local_time(event.ts)} ", style=DIM).append(f"#{event.seq:<4}", style=DIM)
    line.append(f"{event.track:<6}", style=BRIGHT)
    if event.type == "face_left":
        line.append(f"left after {event.dwell_ms / 1000:.1f} s", style=DIM)
        return line.append("" if event.reason in (None, "left") else f" ({event.reason})", style=DIM)
    if event.type == "face_appeared":
        line.append("is here " if is_narrow else "appeared  ", style=BRIGHT)
    elif event.previous and not is_narrow:
        line.append(event.previous, style=readable_hex(event.previous)).append(f" {arrow} ", style=DIM)
    line.append(event.emotion, style=f"bold {readable_hex(event.emotion)}")
    return line.append(f"  {_sureness(event.emotion, event.confidence, event.reason)}", style=DIM)


def _local_time(utc: str) -> str:
    """Return the time of day here."""
    return datetime.fromisoformat(utc.replace("Z", "+00:00")).astimezone().strftime("%H:%M:%S.%f")[:-3]


def program() -> str:
    """Return how this program is called again from here: by its name only where that leads to it."""
    called = Path(sys.argv[0])
    if called.name != "mien":
        return f"{shlex.quote(sys.executable)} -m edge"
    found = shutil.which("mien")
    if found is not None and Path(found).resolve() == called.resolve():
        return "mien"
    return shlex.quote(str(called))


def summary_lines(story: Story, *, port: int, has_camera: bool) -> list[Text]:
    """Return a summary and how to go on."""
    frames = story.health.counts.get("frames", 0) if story.health else 0
    missing = f"{story.missing_count} missing" if story.missing_count else "none missing"
    lines = [
        Text.assemble(("mien demo ", f"bold {ACCENT}"), (figures_text(story, room=66), BRIGHT)),
        Text(f"  {frames} frames, {story.face_count} faces followed"),
        Text(f"  {story.event_count} events published to mqtt://{HOST}:{port} and read back, {missing}"),
    ]
    if story.emotions:
        told = Text("  told: ")
        for i, (emotion, count) in enumerate(story.emotions.most_common()):
            told.append(", " if i else "").append(emotion, style=readable_hex(emotion)).append(f" {count}")
        lines.append(told)
    labels = story.info.labels if story.info else LABELS
    absent = [label for label in labels if not story.emotions[label]]
    if absent:
        lines.append(Text(f"  never told: {', '.join(absent)}"))
    mien = program()
    steps = [
        ("while it runs", subscribe_line(port)),
        ("without end", f"{mien} demo --seconds 0{' --camera 0' if has_camera else ''}"),
        ("your camera", f"{mien} demo --camera 0"),
        ("your broker", f"{mien} config example > mien.toml"),
        ("then", f"{mien} run --config mien.toml"),
    ]
    return lines + [Text.assemble(f"  {what + ':':<15}", (how, ACCENT)) for what, how in steps]


def _faces_panel(story: Story, *, rows: int, width: int, is_plain: bool) -> Panel:
    faces = story.faces.faces if story.faces else []
    labels = tuple(story.info.labels) if story.info else LABELS
    labels = labels if width >= NARROW else ()
    table = Table(box=None, expand=True, padding=(0, 1), header_style=DIM, pad_edge=False)
    table.add_column("face", width=6, no_wrap=True)
    table.add_column("emotion", width=9, no_wrap=True)
    table.add_column("confidence", width=14 if width >= NARROW else 9, no_wrap=True)
    for label in labels:
        style = f"{readable_hex(label)} not bold"
        table.add_column(label if width >= WIDE else label[:3], header_style=style, ratio=1, min_width=3, no_wrap=True)
    if width >= PHONE:
        table.add_column("for", width=6, justify="right", no_wrap=True)
    bar_px = max(3, (width - 57) // max(1, len(labels)) - 1) if width >= WIDE else 3
    shown = faces if len(faces) <= rows else faces[: rows - 1]
    for face in shown:
        table.add_row(*_face_cells(face, story, labels, bar_px=bar_px, is_plain=is_plain)[: len(table.columns)])
    if len(shown) < len(faces):
        table.add_row(Text(f"+{len(faces) - len(shown)}", style=DIM), Text("more", style=DIM))
    count = "nobody in view" if not faces else "1 face" if len(faces) == 1 else f"{len(faces)} faces"
    return _panel(table, title=count, height=rows + 3)


def _face_cells(
    face: TelemetryFace, story: Story, labels: Sequence[str], *, bar_px: int, is_plain: bool
) -> list[RenderableType]:
    colour = readable_hex(face.emotion)
    held_s = story.held_s(face.track)
    scores = story.scores(face.track)
    confidence = _bar(face.confidence, 9 if labels else 4, is_plain=is_plain)
    sureness = Text(confidence, style=colour).append(f" {_sureness(face.emotion, face.confidence, face.reason)}")
    cells: list[RenderableType] = [
        Text(face.track, style=BRIGHT if face.observed or face.followed else DIM),
        Text(face.emotion, style=f"bold {colour}"),
        sureness if face.emotion != UNCERTAIN else Text((face.reason or "").replace("_", " "), style=DIM),
    ]
    for label in labels:
        score = scores.get(label)
        cells.append(Text("", DIM) if score is None else _score_cell(label, score, bar_px=bar_px, is_plain=is_plain))
    cells.append(Text("" if held_s is None else f"{held_s:.1f} s", style=DIM))
    return cells


def _score_cell(label: str, score: float, *, bar_px: int, is_plain: bool) -> Text:
    if is_plain:
        return Text(f"{score * 100:.0f}")
    if bar_px > 3:
        return Text(_bar(score, bar_px, is_plain=False), style=readable_hex(label))
    step = min(len(COLUMNS) - 1, round(score * (len(COLUMNS) - 1)))
    return Text(COLUMNS[step] * 3, style=readable_hex(label) if score >= 0.05 else DIM)


def _events_panel(story: Story, *, rows: int, width: int, is_plain: bool) -> Panel:
    newest = list(story.events)[-rows:]
    lines = [event_text(event, arrow="->" if is_plain else "→", is_narrow=width < PHONE) for event in newest]
    title = f"events, read back from mqtt://{HOST} {BASE}/event" if width >= 70 else "events over MQTT"
    return _panel(Group(*lines), title=title, height=rows + 2)


def _panel(content: RenderableType, *, title: str, height: int) -> Panel:
    heading = Text(f" {title} ", style=BRIGHT)
    return Panel(content, title=heading, title_align="left", border_style=DIM, box=box.ROUNDED, height=height)


def _bar(share: float, width: int, *, is_plain: bool) -> str:
    """Return a horizontal bar of a share 0..1, exactly ``width`` characters."""
    if is_plain:
        return ("#" * round(share * width)).ljust(width)
    eighths = round(max(0.0, min(1.0, share)) * width * 8)
    full, part = divmod(eighths, 8)
    return ("█" * full + (BLOCKS[part] if part else "")).ljust(width)


def _sureness(emotion: str, confidence: float, reason: str | None) -> str:
    if emotion == UNCERTAIN and reason:
        return reason.replace("_", " ")
    return f"{confidence:4.0%}"


def _claim(face: TelemetryFace) -> str:
    return f"{face.emotion} {_sureness(face.emotion, face.confidence, face.reason).strip()}"
