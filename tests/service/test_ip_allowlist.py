"""Which addresses a service may reach."""

from __future__ import annotations

import ipaddress
import re
import subprocess
import sys
from pathlib import Path

import pytest

from edge.config.loader import load_config
from edge.service.ip_allowlist import HERE, NEAR, allowed_networks, main, with_additions

UNIT = Path(__file__).resolve().parents[2] / "systemd" / "mien@.service"
WORDS = {
    "localhost": ["127.0.0.0/8", "::1/128"],
    "link-local": ["169.254.0.0/16", "fe80::/64"],
    "multicast": ["224.0.0.0/4", "ff00::/8"],
}
"""systemd.resource-control(5)."""


@pytest.mark.parametrize(
    ("toml", "beside_here"),
    [
        ("", []),
        ('mqtt = { host = "127.0.0.1" }', []),
        ('mqtt = { host = "192.168.7.9" }', ["192.168.7.9/32"]),
        ('mqtt = { host = "2001:db8::9" }', ["2001:db8::9/128"]),
        ('mqtt = { host = "broker.local" }', list(NEAR)),
        ('camera = { source = "rtsp://me:secret@192.168.7.8:554/live" }', ["192.168.7.8/32"]),
        ('camera = { source = "network:http://10.0.0.7:81/video" }', ["10.0.0.7/32"]),
        ('camera = { source = "/srv/clip.mkv" }', []),
        ('camera = { source = "rtsp://cam/live" }', list(NEAR)),
        ('camera = { source = "gstreamer:souphttpsrc location=http://10.0.0.7 ! decodebin" }', list(NEAR)),
        ("page = { enabled = true }", []),
        ('page = { enabled = true, listen = "0.0.0.0:8089", token_file = "t" }', list(NEAR)),
        ('mqtt = { host = "broker.local" }\npublish = { sinks = ["jsonl"] }', []),
    ],
)
def test_it_is_what_the_configuration_names_or_near_where_that_is_a_name(
    toml: str, beside_here: list[str], tmp_path: Path
) -> None:
    (tmp_path / "mien.toml").write_text(toml)
    found = allowed_networks(load_config(tmp_path / "mien.toml"))
    assert [str(network) for network in found] == [*HERE, *beside_here]


def test_what_an_administrator_has_added_stays() -> None:
    narrow = [ipaddress.ip_network(network) for network in HERE]
    present = " ".join([*HERE, *NEAR, "203.0.113.7/32"])
    assert [str(network) for network in with_additions(narrow, present)] == [*HERE, "203.0.113.7/32"]


def test_the_units_own_list_is_the_one_that_names_need() -> None:
    found = re.search(r"^IPAddressAllow=(.*)$", UNIT.read_text(), re.MULTILINE)
    assert found is not None
    listed = [network for word in found[1].split() for network in WORDS.get(word, [word])]
    assert sorted(listed) == sorted([*HERE, *NEAR])


def test_a_configuration_that_cannot_be_read_leaves_everything_as_it_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mien.toml").write_text("mqtt = 5")
    assert main([str(tmp_path / "mien.toml"), "mien@front.service"]) == 1
    assert "mien@front.service keeps the addresses that it may reach: " in capsys.readouterr().out


def test_the_module_that_the_unit_names_runs_and_says_why_it_changed_nothing(tmp_path: Path) -> None:
    """The unit ignores the exit code of this line: a module that moved would go unnoticed on the device."""
    named = re.search(r"^ExecStartPre=-\+\S+ -I -m (\S+) ", UNIT.read_text(), re.MULTILINE)
    assert named is not None
    done = subprocess.run(
        [sys.executable, "-m", named[1], str(tmp_path / "none.toml"), "mien@none.service"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout.startswith("mien@none.service keeps the addresses that it may reach: ")
