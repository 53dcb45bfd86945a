"""The demo's screen: a live table on a terminal, plain lines on a pipe. It shows a `Story` and nothing else."""

from __future__ import annotations

import io
import sys
import time
from collections.abc import Sequence

from rich import box
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from edge.commands.colors import hex_of
from edge.commands.demo.broker import HOST
from edge.commands.demo.listener import Received
from edge.commands.demo.story import Story
from edge.contract.labels import LABELS, UNCERTAIN
from edge.publish.payloads import EventPayload, TelemetryFace

BASE = "mien/demo/camera"
DIM = "#8a94a3"
BRIGHT = "#e8ecf2"
ACCENT = "#7aa2ff"
BLOCKS = " ▏▎▍▌▋▊▉█"
COLUMNS = "▁▂▃▄▅▆▇█"
WIDE = 116
"""From so many columns on every score has a bar of its own width."""
NARROW = 80
"""Below so many columns there are no bars of scores."""
MIN_ROWS, MAX_ROWS = 3, 8
STATUS_INTERVAL_S = 2.0
"""Between two lines of faces and figures on a pipe."""


class Screen:
    """Where the demo is shown, for the time of a ``with`` block."""

    def __init__(self, console: Console, *, port: int, seconds: float, has_camera: bool) -> None:
        self._console, self._port, self._seconds, self._has_camera = console, port, seconds, has_camera

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
        self._live.update(self.picture(story), refresh=True)

    def picture(self, story: Story) -> RenderableType:
        """Everything on the screen, as high and wide as the terminal is."""
        width, height = self._console.size
        footer = self._footer(width)
        rows = max(MIN_ROWS, min(MAX_ROWS, (height - 6 - len(footer)) // 3))
        events = max(1, height - rows - 6 - len(footer))
        return Group(
            self._headline(story, width),
            _faces_panel(story, rows=rows, width=width, is_plain=self._is_plain),
            _events_panel(story, rows=events, width=width, is_plain=self._is_plain),
            *footer,
        )

    @property
    def _is_plain(self) -> bool:
        """Return whether the terminal lacks the characters of which bars are made."""
        return not self._console.encoding.lower().startswith("utf")

    def _headline(self, story: Story, width: int) -> RenderableType:
        between = ", " if self._is_plain else " · "
        figures = Text(figures_text(story, room=width - 14, between=between), style=BRIGHT)
        line = Table.grid(expand=True, padding=(0, 1))
        line.add_column(no_wrap=True)
        line.add_column(justify="right", no_wrap=True)
        line.add_row(Text.assemble((" mien", f"bold {ACCENT}"), (" demo", "bold")), figures)
        return line

    def _footer(self, width: int) -> list[Text]:
        end = "Ctrl-C ends" if not self._seconds else f"{self._seconds:g} s, Ctrl-C ends"
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


def event_text(event: EventPayload, *, arrow: str = "->") -> Text:
    """One event in a line: time, number, face, what happened."""
    line = Text(no_wrap=True, overflow="ellipsis")
    line.append(f"{event.ts[11:23]} ", style=DIM).append(f"#{event.seq:<4}", style=DIM)
    line.append(f"{event.track:<6}", style=BRIGHT)
    if event.type == "face_left":
        line.append(f"left after {event.dwell_ms / 1000:.1f} s", style=DIM)
        return line.append("" if event.reason in (None, "left") else f" ({event.reason})", style=DIM)
    if event.type == "face_appeared":
        line.append("appeared  ", style=BRIGHT)
    elif event.previous:
        line.append(event.previous, style=hex_of(event.previous)).append(f" {arrow} ", style=DIM)
    line.append(event.emotion, style=f"bold {hex_of(event.emotion)}")
    return line.append(f"  {_sureness(event.emotion, event.confidence, event.reason)}", style=DIM)


def summary_lines(story: Story, *, port: int, has_camera: bool) -> list[Text]:
    """Return a summary and three ways to go on."""
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
            told.append(", " if i else "").append(emotion, style=hex_of(emotion)).append(f" {count}")
        lines.append(told)
    steps = [
        ("while it runs", subscribe_line(port)),
        ("without end", f"mien demo --seconds 0{' --camera 0' if has_camera else ''}"),
        ("your camera", "mien demo --camera 0"),
        ("your broker", "mien config example > mien.toml; mien run --config mien.toml"),
    ]
    return lines + [Text.assemble(f"  {what + ':':<15}", (how, ACCENT)) for what, how in steps]


def _faces_panel(story: Story, *, rows: int, width: int, is_plain: bool) -> Panel:
    faces = story.faces.faces if story.faces else []
    labels = tuple(story.info.labels) if story.info else LABELS
    labels = labels if width >= NARROW else ()
    table = Table(box=None, expand=True, padding=(0, 1), header_style=DIM, pad_edge=False)
    table.add_column("face", width=6, no_wrap=True)
    table.add_column("emotion", width=9, no_wrap=True)
    table.add_column("confidence", width=14, no_wrap=True)
    for label in labels:
        style = f"{hex_of(label)} not bold"
        table.add_column(label if width >= WIDE else label[:3], header_style=style, ratio=1, min_width=3, no_wrap=True)
    table.add_column("for", width=6, justify="right", no_wrap=True)
    bar_px = max(3, (width - 57) // max(1, len(labels)) - 1) if width >= WIDE else 3
    shown = faces if len(faces) <= rows else faces[: rows - 1]
    for face in shown:
        table.add_row(*_face_cells(face, story, labels, bar_px=bar_px, is_plain=is_plain))
    if len(shown) < len(faces):
        table.add_row(Text(f"+{len(faces) - len(shown)}", style=DIM), Text("more", style=DIM))
    count = "nobody in view" if not faces else "1 face" if len(faces) == 1 else f"{len(faces)} faces"
    return _panel(table, title=count, height=rows + 3)


def _face_cells(
    face: TelemetryFace, story: Story, labels: Sequence[str], *, bar_px: int, is_plain: bool
) -> list[RenderableType]:
    colour = hex_of(face.emotion)
    held_s = story.held_s(face.track)
    scores = story.scores(face.track)
    confidence = _bar(face.confidence, 9, is_plain=is_plain)
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
        return Text(_bar(score, bar_px, is_plain=False), style=hex_of(label))
    step = min(len(COLUMNS) - 1, round(score * (len(COLUMNS) - 1)))
    return Text(COLUMNS[step] * 3, style=hex_of(label) if score >= 0.05 else DIM)


def _events_panel(story: Story, *, rows: int, width: int, is_plain: bool) -> Panel:
    newest = list(story.events)[-rows:]
    lines = [event_text(event, arrow="->" if is_plain else "→") for event in newest]
    title = f"events, read back from mqtt://{HOST} {BASE}/event" if width >= 70 else "events over MQTT"
    return _panel(Group(*lines), title=title, height=rows + 2)


def _panel(content: RenderableType, *, title: str, height: int) -> Panel:
    heading = Text(f" {title} ", style=BRIGHT)
    return Panel(content, title=heading, title_align="left", border_style="#3d4654", box=box.ROUNDED, height=height)


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
