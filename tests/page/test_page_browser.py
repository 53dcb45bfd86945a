"""The page in a real Chromium: what it shows follows what is told, and what is old is never shown as live."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from brokers import wait_until
from page_samples import Page, a_token
from publish_samples import (
    ORIGIN,
    a_face,
    a_step,
    an_info,
    event_message,
    moment,
    present,
    some_vitals,
    state_message,
)

from edge.commands.colors import EMOTION_RGB, hex_of
from edge.page.server import load_page
from edge.publish.base import Message, make_message
from edge.publish.encode import encode, make_faces, make_health
from edge.publish.payloads import ProblemPayload
from edge.records import Reason

pytestmark = pytest.mark.timeout(180)

PHONE_WH, DESK_WH = (390, 844), (1280, 900)


def faces(*tracks: tuple[str, str]) -> Message:
    """Return telemetry of these tracks and emotions, made now."""
    now = present()
    found = [a_face(track, emotion, at_s=now.now_ns / 1e9) for track, emotion in tracks]
    return make_message("faces", make_faces(a_step(*found, at_s=now.now_ns / 1e9), origin=ORIGIN, moment=now))


def pulse(*, clock_synced: bool = True, **changes: Any) -> bytes:
    """Return a health report, made now."""
    now = moment(present().now_ns / 1e9, synced=clock_synced)
    return encode(make_health(some_vitals(**changes), last_seq=0, origin=ORIGIN, moment=now))


class Look:
    """What a person sees of a page."""

    def __init__(self, driver: Any, page: Page, query: str = "") -> None:
        self.driver, self.page = driver, page
        driver.get(f"http://127.0.0.1:{page.port}/{query}")
        wait_until(lambda: self.run("lastHeard") or self.sees("#sign-in"), what="an answer", timeout_s=20)

    def run(self, script: str, *arguments: Any) -> Any:
        return self.driver.execute_script(f"return {script}", *arguments)

    def text(self, selector: str) -> str:
        """Return what is visible of the first element; empty where it is hidden."""
        return (
            str(self.run("document.querySelector(arguments[0]).innerText", selector)).strip()
            if self.sees(selector)
            else ""
        )

    def sees(self, selector: str) -> bool:
        script = "(e => !!e && e.getClientRects().length > 0)(document.querySelector(arguments[0]))"
        return bool(self.run(script, selector))

    def wait(self, selector: str, text: str, *, timeout_s: float = 20) -> None:
        wait_until(
            lambda: text in self.text(selector), what=lambda: f"{text!r}: {self.text(selector)!r}", timeout_s=timeout_s
        )

    def cards(self) -> list[str]:
        return [
            str(text) for text in self.run("[...document.querySelectorAll('.face .emotion')].map(e => e.innerText)")
        ]

    def wait_cards(self, *texts: str) -> None:
        wait_until(lambda: self.cards() == list(texts), what=lambda: self.cards(), timeout_s=10)

    def sign_in(self, token: str) -> None:
        self.run("document.getElementById('token').value = arguments[0]", token)
        self.run("document.querySelector('form').requestSubmit()")

    def resize(self, width: int, height: int) -> None:
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)


Open = Callable[..., Look]


@pytest.fixture
def look(browser: Any, serve: Callable[..., Page]) -> Iterator[Open]:
    def open_page(**changes: Any) -> Look:
        page = serve(**changes)
        page.board.put(make_message("info", an_info()))
        page.board.put(make_message("camera", "live"))
        return Look(browser, page)

    browser.get_log("browser")
    browser.execute_cdp_cmd("Network.clearBrowserCookies", {})  # one host, however many ports
    yield open_page
    # What a test causes itself: refusals, ends of connections, looking at what is painted.
    allowed = (
        *("Multiple readback", "401", "403", "404"),
        *("ERR_CONNECTION_REFUSED", "ERR_INCOMPLETE_CHUNKED_ENCODING", "ERR_CONNECTION_RESET"),
    )
    severe = [entry for entry in browser.get_log("browser") if not any(word in entry["message"] for word in allowed)]
    assert not severe, severe  # a script or a style that the policy stopped, an exception
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    browser.get("about:blank")


def test_faces_come_change_and_go_and_no_element_is_replaced(look: Open) -> None:
    seen = look()
    put = seen.page.board.put
    seen.wait("#camera", "live")
    put(faces(("aaaa", "happy"), ("bbbb", "sad")))
    seen.wait_cards("happy 91 %", "sad 91 %")
    seen.run("document.querySelectorAll('.face, #svg g').forEach((e, i) => { e.mark = i; })")
    put(faces(("aaaa", "angry"), ("bbbb", "uncertain"), ("cccc", "neutral")))
    seen.wait_cards("angry 91 %", "uncertain", "neutral 91 %")
    marks = seen.run("[...document.querySelectorAll('.face, #svg g')].map(e => e.mark ?? null)")
    assert [mark for mark in marks if mark is not None] == [0, 1, 2, 3]
    assert seen.run("document.getElementById('svg').getAttribute('aria-label')") == "angry, uncertain, neutral"
    put(faces(("bbbb", "sad")))
    seen.wait_cards("sad 91 %")
    put(faces())
    seen.wait("#nobody", "Nobody is there")


@pytest.mark.parametrize(
    ("state", "word", "told"),
    [("lost", "lost", "The camera is lost"), ("stale", "no new frame", "No new frame"), ("paused", "paused", "Paused")],
)
def test_a_camera_that_does_not_see_is_not_nobody(look: Open, state: str, word: str, told: str) -> None:
    seen = look()
    seen.page.board.put(faces(("aaaa", "happy")))
    seen.wait_cards("happy 91 %")
    seen.page.board.put(make_message("camera", state))
    seen.wait("#away", told)
    seen.wait("#camera", word)
    assert seen.cards() == []
    assert seen.text("#nobody") == "Nothing is known."
    seen.page.board.put(faces(("aaaa", "happy")))  # one that was under way
    time.sleep(0.5)
    assert seen.cards() == []
    seen.page.board.put(make_message("camera", "live"))
    seen.wait("#away", "No frame yet")
    seen.page.board.put(faces(("aaaa", "happy")))
    wait_until(lambda: not seen.sees("#away"), what=lambda: seen.text("#away"), timeout_s=10)


def test_a_daemon_that_is_gone_is_said_to_be_gone(look: Open) -> None:
    seen = look()
    seen.page.board.put(faces(("aaaa", "happy")))
    seen.wait_cards("happy 91 %")
    seen.page.thread.stop(timeout_s=5)
    seen.wait("#away", "Mien has not been heard since", timeout_s=30)
    assert (seen.cards(), seen.text("#camera"), seen.text("#rates")) == ([], "not live", "")


def test_a_daemon_that_is_gone_is_said_at_once_also_in_the_title(look: Open) -> None:
    seen = look()
    seen.wait("#camera", "live")
    seen.page.thread.stop(timeout_s=5)
    wait_until(lambda: seen.text("#camera") == "not live", what=lambda: seen.text("#camera"), timeout_s=5)
    assert seen.run("document.title") == "not live · front"


def test_frames_that_stop_are_not_shown_as_live(look: Open) -> None:
    seen = look()
    seen.wait("#away", "No frame yet")
    for fps in (15.0, 15.0, 0.0, 0.0):
        seen.page.board.put(faces(("aaaa", "happy")))
        seen.page.board.put_pulse(pulse(fps=fps))
        seen.wait_cards("happy 91 %")
    time.sleep(3)
    seen.page.board.put_pulse(pulse(fps=0.0))
    seen.wait("#away", "since ")
    assert seen.cards() == []
    seen.page.board.put(faces(("aaaa", "happy")))
    seen.wait_cards("happy 91 %")
    assert not seen.sees("#away")


def test_a_slow_rate_is_no_standstill(look: Open) -> None:
    seen = look()
    seen.page.board.put(faces(("aaaa", "happy")))
    seen.wait("#camera", "live")
    seen.page.board.put(faces(("aaaa", "happy")))
    for _ in range(5):
        seen.page.board.put_pulse(pulse(fps=15.0))
        time.sleep(1)
    assert seen.cards() == ["happy 91 %"]


def test_who_comes_later_is_not_shown_the_faces_of_then(look: Open) -> None:
    seen = look()
    seen.page.board.put(faces(("aaaa", "happy")))
    seen.page.board.put_pulse(pulse(fps=15.0))
    seen.wait_cards("happy 91 %")
    late = Look(seen.driver, seen.page)
    late.wait("#away", "No frame yet")
    assert late.cards() == []
    assert late.text("#rates") == ""


def test_why_no_emotion_is_named_stands_at_the_face(look: Open) -> None:
    seen = look()
    seen.wait("#camera", "live")
    now = present()
    face = a_face("aaaa", "uncertain", reason=Reason.TOO_SMALL, at_s=now.now_ns / 1e9)
    seen.page.board.put(
        make_message("faces", make_faces(a_step(face, at_s=now.now_ns / 1e9), origin=ORIGIN, moment=now))
    )
    seen.wait_cards("uncertain")
    assert seen.run("document.querySelector('#svg text').textContent") == "too small"


def test_the_last_events_that_never_came_are_said(look: Open) -> None:
    seen = look()
    for seq in (1, 2):
        seen.page.board.put(event_message(seq))
    seen.page.board.put(state_message(6))
    seen.wait("#events tr:nth-child(1)", "3–6")
    seen.page.board.put(event_message(4))  # late, and told once
    seen.page.board.put(event_message(7))
    seen.wait("#events tr:nth-child(1)", "7")
    assert seen.run("document.querySelectorAll('#events tr.gap').length") == 1


def test_a_clock_that_is_wrong_is_said_and_moves_nothing(look: Open) -> None:
    hour_ms = 3_600_000

    def put_second() -> None:
        seen.page.board.put_second(time.time_ns() // 1_000_000 + hour_ms)

    seen = look(second=lambda: put_second())
    seen.page.board.put(make_message("counts", '{"happy":2}'))
    seen.page.board.put_pulse(pulse(clock_synced=False))
    seen.wait("#clock", "not synchronized")
    seen.wait("#clock", "60 min ahead of this one")
    painted = "(c => [...c.getContext('2d').getImageData(c.width - 12, 0, 1, c.height).data].some(v => v > 200))"
    wait_until(lambda: seen.run(f"{painted}(document.getElementById('timeline'))"), what="a column", timeout_s=10)


def test_a_pause_that_is_not_carried_out_is_said(look: Open, tmp_path: Path) -> None:
    seen = look(control=a_token(tmp_path, "marlin"))
    seen.wait("#unlock", "Control")
    seen.run("document.getElementById('unlock').click()")
    seen.sign_in("marlin")
    seen.wait("#switch", "Pause")
    seen.run("document.getElementById('switch').click()")
    seen.wait("#asked", "Pause: asked for, and not done yet")
    seen.page.board.put(make_message("camera", "paused"))
    wait_until(lambda: seen.text("#asked") == "", what=lambda: seen.text("#asked"), timeout_s=10)


def test_problems_and_gaps_are_said(look: Open) -> None:
    seen = look()
    problem = ProblemPayload(
        boot_id="b00t",
        ts="2026-12-01T00:00:00.000Z",
        clock_synced=True,
        camera="front",
        problems=["mqtt: <b>refused</b>"],
    )
    seen.page.board.put(make_message("problem", problem))
    seen.wait("#problems", "mqtt: <b>refused</b>")  # text is shown as text
    for seq in (1, 2, 5):
        seen.page.board.put(event_message(seq))
    seen.wait("#events tr:nth-child(2)", "3–4")
    seen.wait("#events tr:nth-child(2)", "not seen here")
    assert seen.run("document.querySelectorAll('#events tr').length") == 4
    seen.page.board.put(event_message(1, boot_id="later"))
    seen.wait("#events tr:nth-child(2)", "Mien started again")


def test_the_token_opens_the_page_and_the_control_token_the_switch(look: Open, tmp_path: Path) -> None:
    seen = look(token=a_token(tmp_path, "swordfish"))
    seen.wait("#sign-in", "needs its token")
    assert not seen.sees("main")
    for told in ("trout", "swordfish"):
        seen.run(
            "(document.getElementById('token').value = arguments[0], document.querySelector('form').requestSubmit())",
            told,
        )
        if told == "trout":
            seen.wait("#wrong", "this is not the token")
    seen.wait("#camera", "live")
    assert not seen.sees("#sign-in")
    assert seen.run("document.cookie") == "", "no script may read it"
    assert not seen.sees("#switch")


def test_whoever_may_control_pauses_with_one_click(look: Open, tmp_path: Path) -> None:
    seen = look(control=a_token(tmp_path, "marlin"))
    seen.wait("#unlock", "Control")
    seen.run("document.getElementById('unlock').click()")
    seen.sign_in("marlin")
    seen.wait("#switch", "Pause")
    seen.run("document.getElementById('switch').click()")
    wait_until(lambda: seen.page.commands == ["pause"], what=lambda: seen.page.commands, timeout_s=10)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size_wh", [PHONE_WH, DESK_WH])
def test_everybody_can_read_it(look: Open, scheme: str, size_wh: tuple[int, int]) -> None:
    axe = pytest.importorskip("axe_core_python.selenium", reason="python -m pip install axe-core-python")
    seen = look()
    seen.resize(*size_wh)
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    seen.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    seen.page.board.put(faces(("aaaa", "happy"), ("bbbb", "uncertain")))
    for seq in range(1, 20):
        seen.page.board.put(event_message(seq))
    seen.wait_cards("happy 91 %", "uncertain")
    seen.wait("#events", "changed")
    found = axe.Axe().run(seen.driver)["violations"]
    assert [(one["id"], [node["html"] for node in one["nodes"]]) for one in found] == []
    assert seen.run("document.documentElement.scrollWidth") <= size_wh[0], "nothing scrolls sideways"


def test_a_display_on_a_wall_shows_the_scene_alone(look: Open) -> None:
    seen = look()
    seen = Look(seen.driver, seen.page, "?kiosk")
    seen.page.board.put(faces(("aaaa", "happy")))
    wait_until(lambda: seen.sees("#svg g rect"), what=lambda: "no box", timeout_s=10)
    assert not seen.sees("#faces")
    assert not seen.sees("#events")
    seen.page.board.put(make_message("camera", "lost"))
    seen.wait("#away", "The camera is lost")


def test_a_picture_stands_behind_the_faces_only_while_it_is_fresh_and_is_announced(look: Open) -> None:
    jpeg = cv2.imencode(".jpg", np.full((480, 640, 3), 90, np.uint8))[1].tobytes()
    shown: list[bytes | None] = [jpeg]
    seen = look(picture=lambda: shown[0])
    seen.page.board.put(faces(("aaaa", "happy")))
    wait_until(lambda: seen.sees("#picture"), what="the picture", timeout_s=10)
    assert "This page shows the camera's picture" in seen.text("#banner")
    assert not seen.sees("#privacy")
    seen.page.board.put(make_message("camera", "lost"))
    seen.wait("#away", "The camera is lost")
    assert not seen.sees("#picture")
    seen.page.board.put(make_message("camera", "live"))
    seen.page.board.put(faces(("aaaa", "happy")))
    wait_until(lambda: seen.sees("#picture"), what="the picture again", timeout_s=10)
    shown[0] = None
    wait_until(lambda: not seen.sees("#picture"), what="no picture", timeout_s=10)


def test_without_a_picture_the_page_says_so(look: Open) -> None:
    seen = look()
    seen.page.board.put(faces(("aaaa", "happy")))
    assert seen.text("#privacy") == "Boxes only: no picture leaves the machine."
    assert not seen.sees("#banner")
    assert not seen.sees("#picture")


def test_a_token_behind_the_address_opens_it_and_goes_from_there(look: Open, tmp_path: Path) -> None:
    seen = look(token=a_token(tmp_path, "swordfish"))
    seen = Look(seen.driver, seen.page, "?kiosk#token=swordfish")
    wait_until(lambda: seen.run("lastHeard"), what="an answer", timeout_s=20)
    assert seen.run("location.href") == f"http://127.0.0.1:{seen.page.port}/?kiosk"


def test_time_that_was_not_recorded_is_not_shown_as_nobody(look: Open) -> None:
    seen = look()
    seen.page.board.put(make_message("counts", '{"happy":0}'))
    columns = (
        "(at => { const c = document.getElementById('timeline'), x = Math.round((at) * (c.width - 1));"
        " return [...c.getContext('2d').getImageData(x, 2, 1, c.height - 40).data].some(v => v); })"
    )
    wait_until(lambda: not seen.run(f"{columns}(0.9995)"), what="nobody: empty", timeout_s=15)
    hatched = [seen.run(f"{columns}({at})") for at in (0.1, 0.102, 0.104, 0.106, 0.108, 0.5, 0.502, 0.504, 0.506)]
    assert any(hatched[:5])
    assert any(hatched[5:])


def test_emotions_have_the_colours_of_the_terminal() -> None:
    html = load_page()[0].decode()
    assert {emotion for emotion in EMOTION_RGB if f"--{emotion}: {hex_of(emotion)}" in html} == set(EMOTION_RGB)
