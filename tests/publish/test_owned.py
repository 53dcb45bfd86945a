"""The list of what a camera has on the broker: what is believed of it, and what is not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edge.publish.mqtt.owned import OwnedTopics
from edge.system import host

OLD, NEW = "mien/pi/old/state", "mien/pi/new/state"


def write_list(folder: Path, **changes: object) -> Path:
    path = folder / "topics-old.json"
    kept = {
        "schema": "mien.owned/1",
        "camera": "old",
        "owner": "",
        "machine": host.machine_id(),
        "identity": "mien_pi_old_12345678",
        "topics": [OLD],
    }
    path.write_text(json.dumps(kept | changes))
    return path


def load(folder: Path, *, owner: str = "", camera: str = "new") -> OwnedTopics:
    return OwnedTopics.load(folder, camera=camera, owner=owner)


def test_what_was_noted_and_is_not_published_any_more_is_to_be_cleared_until_the_broker_has_done_so(
    tmp_path: Path,
) -> None:
    old = write_list(tmp_path)
    first = load(tmp_path)
    assert first.identity == "mien_pi_old_12345678"
    assert first.claim([NEW], identity="mien_pi_old_12345678") == [OLD]
    assert not old.exists()
    first.close()  # it ended before the broker was there
    second = load(tmp_path)
    assert second.claim([NEW], identity="mien_pi_old_12345678") == [OLD]
    assert second.withdrawn(OLD)
    assert not second.withdrawn(NEW)
    second.close()
    assert load(tmp_path).claim([NEW], identity="x") == []


@pytest.mark.parametrize(
    "change",
    [
        {"machine": "another"},
        {"owner": "/etc/mien/other.toml"},
        {"topics": ["#"]},
        {"topics": ["mien/+/x"]},
        {"topics": ["$SYS/x"]},
        {"topics": [""]},
        {"topics": "mien/pi/old/state"},
        {"schema": "mien.owned/9"},
        {"camera": "../x"},
    ],
)
def test_a_list_that_is_not_ours_or_damaged_clears_nothing(change: dict[str, object], tmp_path: Path) -> None:
    write_list(tmp_path, **change)
    assert load(tmp_path).claim([NEW], identity="x") == []
    assert (tmp_path / "topics-old.json").exists()


@pytest.mark.parametrize("data", [b"", b"\xff", b"{}", b"[" * 100_000])
def test_a_file_that_is_no_list_clears_nothing(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "topics-old.json").write_bytes(data)
    (tmp_path / "homeassistant-new.topic").write_bytes(data)
    assert load(tmp_path).claim([NEW], identity="x") == []


def test_what_an_earlier_version_told_home_assistant_is_known(tmp_path: Path) -> None:
    told = "homeassistant/device/mien_pi_new_12345678/config"
    (tmp_path / "homeassistant-new.topic").write_text(f"{told}\n")
    owned = load(tmp_path)
    assert owned.claim([NEW], identity="") == [told]
    assert [path.name for path in tmp_path.iterdir()] == ["topics-new.json"]


def test_a_list_that_a_process_holds_is_left_alone(tmp_path: Path) -> None:
    running = load(tmp_path, camera="old")
    running.claim([OLD], identity="x")
    other = load(tmp_path)
    assert other.claim([NEW], identity="y") == []
    running.close()
    other.close()
    assert load(tmp_path).topics == [NEW, OLD]


def test_without_a_folder_or_with_one_that_cannot_be_written_nothing_fails(tmp_path: Path) -> None:
    assert OwnedTopics().claim([NEW], identity="x") == []
    (tmp_path / "file").write_text("")
    assert load(tmp_path / "file").claim([NEW], identity="x") == []
