"""What `mien watch` concludes from what a broker tells; what is away or old is never the present."""

from __future__ import annotations

import json

import pytest
from publish_samples import ORIGIN, an_info, event_message, moment, some_vitals

from edge.commands.watch import describe_heard, make_table, parse_broker
from edge.config.schema import MqttConfig
from edge.errors import UsageError
from edge.page.fleet import CAMERAS_MAX, Fleet, Tile
from edge.publish.encode import encode, make_health, make_state

BASE = "mien/pi/front"
NOW_MS = 1_796_000_000_000


def a_fleet(*, is_connected: bool = True) -> Fleet:
    fleet = Fleet("mien")
    fleet.tell_broker("broker:1883", is_connected=is_connected, now_ms=NOW_MS)
    return fleet


def tell(
    fleet: Fleet, kind: str, data: bytes | str, *, retained: bool = False, base: str = BASE, at_s: float = 0
) -> None:
    payload = data.encode() if isinstance(data, str) else data
    fleet.take(f"{base}/{kind}", payload, retained=retained, now_ms=NOW_MS + round(at_s * 1000))


def tell_live(fleet: Fleet, *, retained: bool = False, base: str = BASE) -> None:
    for kind, data in (("camera", "live"), ("count", "2"), ("emotion", "happy"), ("availability", "online")):
        tell(fleet, kind, data, retained=retained, base=base)


def only(fleet: Fleet) -> Tile:
    (tile,) = fleet.tiles()
    return tile


def test_a_camera_is_shown_as_it_tells_of_itself() -> None:
    fleet = a_fleet()
    tell_live(fleet)
    tell(fleet, "health", encode(make_health(some_vitals(), last_seq=0, origin=ORIGIN, moment=moment())), at_s=1)
    tell(fleet, "problem", json.dumps({"ts": "2026-12-01T00:00:00.000Z", "problems": ["mqtt: refused"]}))
    tile = only(fleet)
    assert (tile.camera, tile.count, tile.emotion, tile.problems) == ("live", "2", "happy", ["mqtt: refused"])
    assert (tile.fps, tile.age_ms) == (14.99, 3.14)


@pytest.mark.parametrize("word", ["offline", "stopped"])
def test_what_an_offline_device_had_told_is_not_its_present(word: str) -> None:
    fleet = a_fleet()
    tell_live(fleet)
    tell(fleet, "availability", word, at_s=60)
    tile = only(fleet)
    assert (tile.camera, tile.count, tile.emotion) == ("offline", "unknown", "unknown")
    assert tile.away_ms == NOW_MS + 60_000
    assert fleet.board(BASE).latest("camera") == b"offline"  # type: ignore[union-attr]
    tell_live(fleet)
    tile = only(fleet)
    assert (tile.camera, tile.count, tile.away_ms) == ("live", "2", None)


def test_since_when_a_device_is_away_is_not_known_where_the_broker_had_only_kept_it() -> None:
    fleet = a_fleet()
    state = make_state(None, timestamp_ns=1, last_seq=0, origin=ORIGIN, moment=moment(), reason="stopped")
    tell(fleet, "state", encode(state), retained=True)
    tell(fleet, "availability", "offline", retained=True)
    tile = only(fleet)
    assert (tile.camera, tile.away_ms, tile.heard_ms) == ("offline", None, None)
    assert describe_heard(tile, NOW_MS).startswith("not yet; told ")


@pytest.mark.parametrize("camera", ["lost", "stale", "paused", "opening"])
def test_faces_are_unknown_while_a_camera_does_not_see(camera: str) -> None:
    fleet = a_fleet()
    tell_live(fleet)
    tell(fleet, "camera", camera)
    tile = only(fleet)
    assert (tile.camera, tile.count, tile.emotion) == (camera, "unknown", "unknown")


def test_without_the_broker_nothing_is_known() -> None:
    fleet = a_fleet()
    tell_live(fleet)
    fleet.tell_broker("the connection is lost", is_connected=False, now_ms=NOW_MS + 5000)
    tile = only(fleet)
    assert (tile.camera, tile.count) == ("unknown", "unknown")
    assert fleet.lost_ms == NOW_MS + 5000
    assert "not live since" in str(make_table(fleet, now_ms=NOW_MS).caption)
    fleet.tell_broker("broker:1883", is_connected=True, now_ms=NOW_MS + 9000)
    assert (only(fleet).camera, fleet.lost_ms) == ("unknown", None), "it has not told again yet"
    tell_live(fleet, retained=True)
    assert (only(fleet).camera, only(fleet).count) == ("live", "2")


def test_a_camera_that_says_nothing_is_silent() -> None:
    fleet = a_fleet()
    tell_live(fleet)
    assert describe_heard(only(fleet), NOW_MS + 119_000) == "119 s ago"
    assert describe_heard(only(fleet), NOW_MS + 121_000) == "silent for 121 s"


def test_a_camera_that_was_forgotten_goes() -> None:
    fleet = a_fleet()
    tell_live(fleet)
    tell(fleet, "availability", b"")
    assert fleet.tiles() == []
    assert fleet.bases() == set()


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        ("camera", "live\nevent: x\ndata: 1"),
        ("emotion", '"happy"'),
        ("count", "2" * 65),
        ("camera", b"\xff"),
        ("health", "{"),
        ("health", "[]"),
        ("health", "{}"),
        ("health", '{"fps": "many", "frame_age_ms": null}'),
        ("problem", '{"ts": "yesterday", "problems": []}'),
        ("problem", '{"problems": 7}'),
        ("event", '{"seq": 1}'),
        ("state", "x" * 70_000),
        ("health", "[" * 50_000),
    ],
)
def test_what_is_not_understood_is_said_and_changes_nothing_else(kind: str, data: str | bytes) -> None:
    fleet = a_fleet()
    tell_live(fleet)
    tell(fleet, kind, data)
    tile = only(fleet)
    assert (tile.camera, tile.count, tile.emotion) == ("live", "2", "happy")
    assert tile.problems[0].startswith(f"not understood here: {kind}: ")


def test_a_payload_over_several_lines_is_one_line_to_whoever_looks_on() -> None:
    fleet = a_fleet()
    tell(fleet, "info", json.dumps(json.loads(encode(an_info())), indent=2))
    data = fleet.board(BASE).latest("info")  # type: ignore[union-attr]
    assert data is not None
    assert b"\n" not in data


def test_events_are_kept_for_whoever_looks_at_the_camera() -> None:
    fleet = a_fleet()
    for seq in (1, 2):
        tell(fleet, "event", event_message(seq).data)
    assert [event["seq"] for event in json.loads(fleet.board(BASE).events())] == [1, 2]  # type: ignore[union-attr]


def test_other_topics_are_none_of_ours() -> None:
    fleet = a_fleet()
    for topic in ("mien/pi/camera", "mien/pi/front/request/pause", "mien/pi/front/nothing", "other/pi/front/x/camera"):
        fleet.take(topic, b"live", retained=False, now_ms=NOW_MS)
    assert fleet.tiles() == []


def test_only_what_changed_is_told_again() -> None:
    fleet = a_fleet()
    for name in ("a", "b"):
        tell_live(fleet, base=f"mien/{name}/front")
    version = max(tile.version for tile in fleet.tiles())
    assert fleet.tiles(after=version) == []
    tell(fleet, "count", "3", base="mien/b/front")
    assert [tile.base for tile in fleet.tiles(after=version)] == ["mien/b/front"]


def test_cameras_are_bounded_and_that_is_said() -> None:
    fleet = a_fleet()
    for number in range(CAMERAS_MAX + 1):
        tell(fleet, "camera", "live", base=f"mien/pi-{number}/front")
    assert len(fleet.tiles()) == CAMERAS_MAX
    assert fleet.left_out
    assert make_table(fleet, now_ms=NOW_MS).caption == "there are more; they are not shown"


def test_a_prefix_may_have_several_levels() -> None:
    fleet = Fleet("home/mien")
    fleet.tell_broker("b", is_connected=True, now_ms=NOW_MS)
    fleet.take("home/mien/pi/front/camera", b"live", retained=False, now_ms=NOW_MS)
    assert only(fleet).base == "home/mien/pi/front"


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [("pi", "pi", None), ("pi:1884", "pi", 1884), ("[::1]:1884", "::1", 1884), ("::1", "::1", None)],
)
def test_a_broker_is_a_host_with_or_without_a_port(text: str, host: str, port: int | None) -> None:
    config = parse_broker(text, MqttConfig())
    assert (config.host, config.port) == (host, port)


@pytest.mark.parametrize("text", ["", "pi:", "pi:0", "pi:x", "pi:70000", ":1883"])
def test_what_is_no_broker_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="allowed is HOST or HOST:PORT"):
        parse_broker(text, MqttConfig())
