"""Every camera below a prefix, as the broker tells of it; what is away stays, and what it said last is not its present.

Filled by the thread that listens to the broker, read by those that show it.
"""

from __future__ import annotations

import re
import threading
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

import msgspec

from edge.contract.labels import UNKNOWN
from edge.page.board import Board
from edge.publish.base import Message
from edge.publish.payloads import EventPayload
from edge.publish.topics import TOPICS

CAMERAS_MAX: Final = 1000
PAYLOAD_MAX_BYTES: Final = 65_536
OFFLINE: Final = "offline"
HEARD_STEP_MS: Final = 1000
"""Being heard alone is news so often."""
_WORD = re.compile(r"[\w .:+-]{1,64}", re.ASCII)
"""Plain payloads; what is no such word is not understood."""


class Tile(msgspec.Struct, kw_only=True):
    """One camera as it is shown among others. Times are milliseconds since 1970 by this machine's clock, if not said.

    Attributes:
        base: its base topic.
        camera: state of the camera; ``offline`` when the device is, ``unknown`` while the broker is away.
        count: faces now; ``unknown`` unless the camera is live.
        emotion: the dominant one; as `count`.
        problems: as it told them last, and what is not understood of it.
        heard_ms: when it was last heard itself; None: only what the broker had kept.
        told_ms: the newest time in what it told, by its own clock; None: none.
        away_ms: when it went offline; None where it did not, or before this began.
        fps: of the last health report.
        age_ms: of its frames, median of the last health report.
        version: grows with every change.
    """

    base: str
    camera: str = UNKNOWN
    count: str = UNKNOWN
    emotion: str = UNKNOWN
    problems: list[str] = []
    heard_ms: int | None = None
    told_ms: int | None = None
    away_ms: int | None = None
    fps: float | None = None
    age_ms: float | None = None
    version: int = 0


@dataclass
class _Camera:
    """What is known of one camera."""

    board: Board
    tile: Tile
    words: dict[str, str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    strange: str = ""


class Fleet:
    """All cameras that were heard of.

    Args:
        prefix: first levels of their topics.

    Attributes:
        broker: what the connection to the broker is up to.
        is_connected: whether it stands.
        lost_ms: since when it does not; None while it does.
        left_out: whether there are more cameras than `CAMERAS_MAX`.
    """

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self.broker, self.is_connected = "connecting", False
        self.lost_ms: int | None = None
        self.left_out = False
        self._lock = threading.Lock()
        self._cameras: dict[str, _Camera] = {}
        self._version = 0

    def take(self, topic: str, data: bytes, *, retained: bool, now_ms: int) -> None:
        """Take a message; what is not understood is said at its camera and changes nothing else.

        Args:
            topic: below the prefix.
            data: its payload.
            retained: whether the broker had kept it.
            now_ms: milliseconds since 1970.
        """
        base, _, kind = topic.rpartition("/")
        if kind not in TOPICS or base.count("/") != self.prefix.count("/") + 2:
            return
        with self._lock:
            if not data:  # how a retained message is cleared: the camera is forgotten
                if kind == "availability" and retained is False:
                    self._forget(base)
                return
            camera = self._find(base)
            if camera is None:
                return
            tile, before = camera.tile, msgspec.structs.replace(camera.tile)
            try:
                self._note(camera, kind, data, now_ms)
            except (msgspec.MsgspecError, ValueError, KeyError, TypeError, RecursionError) as error:
                camera.strange = f"not understood here: {kind}: {str(error)[:120]}"
            self._settle(camera, now_ms, was_online=before.camera not in (OFFLINE, UNKNOWN), retained=retained)
            is_changed = tile != before
            if not retained:
                tile.heard_ms = now_ms
            if is_changed or (tile.heard_ms or 0) - (before.heard_ms or 0) >= HEARD_STEP_MS:
                self._touch(camera)

    def tell_broker(self, status: str, *, is_connected: bool, now_ms: int) -> None:
        """Note what the connection is up to: without it nothing is known of any camera."""
        with self._lock:
            self.broker = status
            if self.is_connected and not is_connected:
                self.lost_ms = now_ms
            elif is_connected:
                self.lost_ms = None
            self.is_connected = is_connected
            for camera in self._cameras.values():
                if is_connected:  # what the broker has kept it tells again; the rest is of before
                    camera.words.clear()
                    camera.problems, camera.strange = [], ""
                self._settle(camera, now_ms, was_online=False, retained=True)
                self._touch(camera)

    def tick(self, now_ms: int) -> None:
        """Note who is there, for the time line of each camera; once a second."""
        with self._lock:
            for camera in self._cameras.values():
                camera.board.put_second(now_ms)

    def tiles(self, *, after: int = 0) -> list[Tile]:
        """Return those that changed after a version, by name."""
        with self._lock:
            found = [msgspec.structs.replace(c.tile) for c in self._cameras.values() if c.tile.version > after]
        return sorted(found, key=lambda tile: tile.base)

    def bases(self) -> set[str]:
        """Return the base topics of all."""
        with self._lock:
            return set(self._cameras)

    def board(self, base: str) -> Board | None:
        """Return what there is to see of one camera; None: nobody has heard of it."""
        with self._lock:
            camera = self._cameras.get(base)
            return camera.board if camera is not None else None

    def _find(self, base: str) -> _Camera | None:
        camera = self._cameras.get(base)
        if camera is None:
            if len(self._cameras) >= CAMERAS_MAX:
                self.left_out = True
                return None
            camera = self._cameras[base] = _Camera(Board(), Tile(base=base))
        return camera

    def _forget(self, base: str) -> None:
        if self._cameras.pop(base, None) is not None:
            self._version += 1

    def _touch(self, camera: _Camera) -> None:
        self._version += 1
        camera.tile.version = self._version

    def _note(self, camera: _Camera, kind: str, data: bytes, now_ms: int) -> None:
        """Decode a payload; keep of it what a tile shows, and hand it on to whoever looks at this camera.

        Raises:
            ValueError: it is none of ours.
        """
        if len(data) > PAYLOAD_MAX_BYTES:
            raise ValueError("too long")
        if TOPICS[kind].payload is str and kind != "counts":
            word = data.decode("ascii")
            if not _WORD.fullmatch(word):
                raise ValueError("not a word")
            camera.words[kind] = word
            if kind not in ("camera", "availability"):
                camera.board.put(Message(kind, word, data))
            return
        decoded = msgspec.json.decode(data)
        clean = msgspec.json.encode(decoded)  # in one line, whoever wrote it
        payload: Any = msgspec.json.decode(clean, type=EventPayload) if kind == "event" else ""
        camera.board.put(Message(kind, payload, clean))
        if kind == "counts":
            return
        _take_figures(camera, kind, decoded)

    def _settle(self, camera: _Camera, now_ms: int, *, was_online: bool, retained: bool) -> None:
        """Conclude what the tile says: nothing is known of a camera that is not live."""
        tile, words = camera.tile, camera.words
        state = words.get("camera", UNKNOWN)
        if not self.is_connected:
            state = UNKNOWN
        elif words.get("availability", "online") != "online":  # also `stopped`, of earlier versions
            state = OFFLINE
            if was_online and not retained:
                tile.away_ms = now_ms
        else:
            tile.away_ms = None
        if state != tile.camera:
            tile.camera = state
            camera.board.put(Message("camera", state, state.encode()))
        is_live = state == "live"
        tile.count = words.get("count", UNKNOWN) if is_live else UNKNOWN
        tile.emotion = words.get("emotion", UNKNOWN) if is_live else UNKNOWN
        tile.problems = [*camera.problems, *filter(None, [camera.strange])]


def _take_figures(camera: _Camera, kind: str, decoded: dict[str, Any]) -> None:
    """Keep what a tile shows of a payload.

    Raises:
        ValueError, KeyError, TypeError: a field that is missing or of another kind.
    """
    tile = camera.tile
    told = datetime.fromisoformat(decoded["ts"].replace("Z", "+00:00")) if "ts" in decoded else None
    if told is not None:
        tile.told_ms = max(tile.told_ms or 0, round(told.timestamp() * 1000))
    if kind == "problem":
        camera.problems = [str(problem)[:300] for problem in decoded["problems"]][:20]
    if kind == "health":
        tile.fps = float(decoded["fps"])
        age = decoded["frame_age_ms"]
        tile.age_ms = None if age is None else float(age["p50"])
