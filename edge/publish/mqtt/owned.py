"""What a camera put onto the broker and has to take back one day: a list in the service's state folder.

A camera that is renamed, or whose discovery is switched off, would otherwise leave its retained topics and its Home
Assistant device behind for ever. The list is written before anything is published, and is the only thing that says what
is cleared: nobody else's topic is ever touched.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

import msgspec

from edge.publish.topics import TOPICS
from edge.system.files import DamagedFileError, decode_json, replacing, write_synced
from edge.system.host import machine_id

log = logging.getLogger(__name__)

_SIZE_MAX_BYTES: Final = 65_536


class OwnedList(msgspec.Struct, frozen=True, kw_only=True, tag_field="schema", tag="mien.owned/1"):
    """The file ``topics-CAMERA.json``.

    Attributes:
        camera: its name, which is in the names of its other files, too.
        owner: see `OwnedTopics.load`.
        machine: where this was written: a copy of the card in another machine clears nothing of the first one's.
        identity: of the device in Home Assistant.
        topics: full names of the retained topics that may be on the broker.
    """

    camera: str
    owner: str
    machine: str
    identity: str
    topics: list[str]


class OwnedTopics:
    """The list of one camera, and what is left of its former names.

    Attributes:
        identity: of the device in Home Assistant; None where none was noted.
        former: lists of this camera under other names.
    """

    def __init__(self, folder: Path | None = None, *, camera: str = "", owner: str = "") -> None:
        self._folder, self._camera, self._owner = folder, camera, owner
        self._notes = [] if folder is None else [folder / f"homeassistant-{camera}.topic"]
        self._lock: int | None = None
        self._stale: list[str] = []
        self._own: OwnedList | None = None
        self.identity: str | None = None
        self.former: list[OwnedList] = []

    @classmethod
    def load(cls, folder: Path | None, *, camera: str, owner: str) -> OwnedTopics:
        """Read the lists of a folder.

        Args:
            folder: the service's; None: nothing is kept over a restart.
            camera: its present name.
            owner: tells the lists of one service from those of others in the folder: the configuration file, or empty
                where the folder is the service's own. One that is in use by a process is left alone in any case.
        """
        owned = cls(folder, camera=camera, owner=owner)
        lists = [] if folder is None else list(_read_lists(folder, camera=camera, owner=owner))
        owned._own = next((each for each in lists if each.camera == camera), None)
        owned.former = [each for each in lists if each.camera != camera]
        owned.identity = next((each.identity for each in (owned._own, *owned.former) if each), None)
        return owned

    @property
    def topics(self) -> list[str]:
        """Everything that may be on the broker."""
        lists = [each.topics for each in (self._own, *self.former) if each]
        return list(dict.fromkeys([*(topic for topics in lists for topic in topics), *self._read_notes()]))

    def claim(self, topics: Sequence[str], *, identity: str) -> list[str]:
        """Note what is going to be published, and return what is out there and is not any more.

        A disk that is full or read-only forgets the list; what is known of it is taken back all the same.
        """
        self._stale = [topic for topic in self.topics if topic not in topics]
        if self._write([*topics, *self._stale], identity):
            self._remove([self._path(each.camera) for each in self.former] + self._notes)
        return self._stale

    def withdrawn(self, topic: str) -> bool:
        """Note that the broker has cleared a topic; return whether it was one that is to be cleared."""
        if topic not in self._stale:
            return False
        self._stale = [each for each in self._stale if each != topic]
        if not self._stale and self._own is not None:
            log.info("mqtt: what this camera had on the broker under other names is cleared")
            self._write([each for each in self._own.topics if each != topic], self._own.identity)
        elif self._own is not None:
            self._own = msgspec.structs.replace(self._own, topics=[each for each in self._own.topics if each != topic])
        return True

    def forget(self) -> None:
        """Remove the lists: everything is cleared."""
        self._remove([self._path(each.camera) for each in (self._own, *self.former) if each] + self._notes)

    def close(self) -> None:
        """Let go of the list: another process may clear it."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _path(self, camera: str) -> Path:
        assert self._folder is not None, "lists come out of a folder"
        return self._folder / f"topics-{camera}.json"

    def _write(self, topics: Iterable[str], identity: str) -> bool:
        """Write the list, hold it, and return whether it is on the disk."""
        if self._folder is None:
            return False
        kept = OwnedList(
            camera=self._camera, owner=self._owner, machine=machine_id(), identity=identity, topics=list(topics)
        )
        try:
            if kept != self._own:
                self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
                with replacing(self._path(self._camera)) as beside:
                    beside.touch(mode=0o600)
                    write_synced(beside, msgspec.json.encode(kept) + b"\n")
                self.close()
            self._own = kept
            if self._lock is None:
                self._lock = os.open(self._path(self._camera), os.O_RDONLY | os.O_CLOEXEC)
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            log.info("mqtt: %s: %s", self._path(self._camera), error.strerror)
            return False
        return True

    def _remove(self, paths: Iterable[Path]) -> None:
        try:
            for path in paths:
                path.unlink(missing_ok=True)
        except OSError as error:
            log.info("mqtt: %s: %s", error.filename, error.strerror)

    def _read_notes(self) -> Iterator[str]:
        """Where versions before 0.2 told Home Assistant of the camera."""
        for note in self._notes:
            with contextlib.suppress(OSError, UnicodeDecodeError):
                topic = note.read_text(encoding="utf-8").strip()
                if _is_topic(topic) and topic.endswith("/config"):
                    yield topic


def topics_of_others(folder: Path, *, camera: str) -> set[str]:
    """Return what the other lists of a folder name, in use or not: that is not to be cleared by hand."""
    found: set[str] = set()
    for path in folder.glob("topics-*.json"):
        with contextlib.suppress(OSError, DamagedFileError):
            kept = decode_json(path.read_bytes()[:_SIZE_MAX_BYTES], OwnedList)
            found |= set(kept.topics) if kept.camera != camera else set()
    return found


def retained_topics(base: str) -> list[str]:
    """Full names of the retained topics of a camera, Home Assistant's left out."""
    return [f"{base}/{name}" for name, topic in TOPICS.items() if topic.is_retained]


def _read_lists(folder: Path, *, camera: str, owner: str) -> Iterator[OwnedList]:
    """Read the lists of a folder that are this service's; damaged, foreign and locked ones are left out."""
    for path in sorted(folder.glob("topics-*.json")):
        try:
            with path.open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                kept = decode_json(file.read(_SIZE_MAX_BYTES), OwnedList)
        except (OSError, DamagedFileError) as error:
            log.info("mqtt: %s is left alone: %s", path, error)
            continue
        is_ours = kept.machine == machine_id() and (kept.owner == owner or kept.camera == camera)
        if is_ours and path.name == f"topics-{kept.camera}.json" and all(map(_is_topic, kept.topics)):
            yield kept


def _is_topic(text: str) -> bool:
    """Return whether it can be the full name of a topic of ours: no filter, and not of the broker's own."""
    return (
        0 < len(text) <= 512 and text.isprintable() and "/" in text and not (set("#+ ") & set(text) or text[0] == "$")
    )
