"""Real pipelines in real child processes."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tools import require_tool

from edge.capture import open_source
from edge.capture.base import Source
from edge.config.loader import make_config
from edge.errors import ConfigError, MissingDependencyError, SourceError, SourceLostError
from edge.records import Frame

INSTALL = "apt-get install gstreamer1.0-tools gstreamer1.0-plugins-base"


@pytest.fixture(autouse=True)
def _gstreamer() -> None:
    require_tool("gst-launch-1.0", INSTALL)


def open_(pipeline: str, *, width: int = 320, height: int = 240, **options: Any) -> Source:
    camera = {"source": f"gstreamer:{pipeline}", "width": width, "height": height, "options": options}
    return open_source(make_config({"camera": camera}).camera, clock=time.monotonic_ns, paced=True)


def child_pid(source: Any) -> int:
    pid: int = source._child._process.pid
    return pid


def read_until_lost(source: Source, *, match: str = "the pipeline ended") -> list[Frame]:
    frames: list[Frame] = []
    with pytest.raises(SourceLostError, match=match):
        frames.extend(iter(source.read, None))
    return frames


def has_ended(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def until_ended(pid: int) -> None:
    end = time.monotonic() + 20
    while not has_ended(pid):
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.mark.parametrize(("width", "height"), [(320, 240), (322, 241), (65, 64)])
def test_pictures_arrive_whole_whatever_their_width(width: int, height: int) -> None:
    source = open_("videotestsrc pattern=red is-live=true", width=width, height=height)
    frames = [source.read() for _ in range(3)]
    source.close()

    for number, frame in enumerate(frames):
        assert frame is not None
        assert frame.number == number
        assert frame.size_wh == (width, height)
        assert np.all(np.abs(frame.image.astype(int) - (0, 0, 255)) <= 2), "red, in the order blue, green, red"
    assert source.live


def test_a_reader_that_is_slow_gets_the_newest_picture_and_not_a_backlog() -> None:
    source = open_("videotestsrc is-live=true num-buffers=100 ! video/x-raw,framerate=100/1", width=640, height=480)
    time.sleep(1.5)  # all hundred were made meanwhile
    frames = read_until_lost(source)
    source.close()

    assert len(frames) < 20


def test_closing_kills_the_pipeline_and_leaves_no_descriptor_behind() -> None:
    descriptors = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    source = open_("videotestsrc is-live=true")
    pid = child_pid(source)
    source.close()
    source.close()

    assert not Path(f"/proc/{pid}").exists(), "killed and reaped"
    assert len(os.listdir("/proc/self/fd")) == descriptors  # noqa: PTH208
    assert source.read() is None


def test_closing_from_another_thread_ends_a_read_that_hangs() -> None:
    source = open_("videotestsrc is-live=true")
    os.kill(child_pid(source), 19)  # SIGSTOP: a driver that froze
    frames: list[object] = []
    reader = threading.Thread(target=lambda: frames.extend(iter(source.read, None)), daemon=True)
    reader.start()
    time.sleep(0.2)
    source.close()
    reader.join(20)

    assert not reader.is_alive()
    until_ended(child_pid(source))


def test_a_pipeline_that_freezes_is_lost_after_the_time_out() -> None:
    source = open_("videotestsrc is-live=true", read_timeout_s=0.5)
    os.kill(child_pid(source), 19)
    read_until_lost(source, match=r"no frame for 0\.5 s")
    source.close()
    assert has_ended(child_pid(source)), "a stopped process is killed all the same"


def test_a_pipeline_that_ends_is_lost() -> None:
    """Its frames come half a second apart: of frames that wait, the newest one wins."""
    source = open_("videotestsrc num-buffers=2 is-live=true ! video/x-raw,framerate=2/1")
    assert source.read() is not None
    assert len(read_until_lost(source)) == 1
    source.close()


@pytest.mark.parametrize("pipeline", ["nosuchelement", "videotestsrc nosuchproperty=1", "videotestsrc ! ! queue", ""])
def test_a_pipeline_that_cannot_be_meant_is_a_configuration_error_of_one_line(pipeline: str) -> None:
    with pytest.raises(ConfigError, match=r"camera\.source: 'gstreamer:") as caught:
        open_(pipeline)
    assert "\n" not in str(caught.value)


def test_a_pipeline_with_an_open_quote_is_a_configuration_error() -> None:
    with pytest.raises(ConfigError, match="No closing quotation"):
        open_("videotestsrc 'pattern=ball")


def test_a_pipeline_whose_camera_is_missing_says_so_and_hides_the_password() -> None:
    with pytest.raises(SourceError, match="the pipeline ended: ERROR") as caught:
        open_("filesrc location=/nonexistent/password=5ecr3t ! rawvideoparse")
    assert "5ecr3t" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_without_the_program_the_install_line_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(MissingDependencyError, match="apt-get install gstreamer"):
        open_("videotestsrc")


PARENT = """
import sys, time
from edge.capture import open_source
from edge.config.loader import make_config
config = make_config({"camera": {"source": "gstreamer:videotestsrc is-live=true", "width": 64, "height": 64}}).camera
source = open_source(config, clock=time.monotonic_ns, paced=True)
print(source._child._process.pid, flush=True)
time.sleep(60)
"""


def test_the_pipeline_dies_with_its_parent_even_when_that_is_killed_and_it_is_frozen_itself() -> None:
    parent = subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    os.kill(pid, 19)
    parent.kill()
    parent.wait()
    parent.stdout.close()

    until_ended(pid)
