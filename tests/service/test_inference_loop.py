"""Frames and news of the camera in one turn of the loop."""

from __future__ import annotations

import time
from collections import deque
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from publish_samples import ORIGIN, a_face, a_step, an_info, moment

from edge.capture.grabber import CameraState
from edge.capture.latest_frame import LatestSlot
from edge.config.schema import Config, PowerConfig, PublishConfig
from edge.publish.base import Message
from edge.publish.publisher import Publisher
from edge.records import Frame
from edge.service.governor import Governor
from edge.service.inference_loop import InferenceLoop
from edge.system.metrics import Metrics


class _Pipeline:
    """Two faces in every frame."""

    def step(self, frame: Frame) -> Any:
        return a_step(a_face(1), a_face(2), at_s=frame.timestamp_ns / 1e9)

    def end_all(self, reason: str, timestamp_ns: int) -> tuple[()]:
        return ()


@pytest.mark.parametrize("state", [CameraState.PAUSED, CameraState.LOST, CameraState.OPENING])
def test_a_frame_from_before_a_pause_does_not_bring_the_faces_back(state: CameraState) -> None:
    publisher = Publisher(PublishConfig(), origin=ORIGIN, max_frame_age_ms=1000)
    sent: list[Message] = list(publisher.start(an_info(), moment=moment(1)))
    slot: LatestSlot[Frame] = LatestSlot()
    slot.put(Frame(number=7, timestamp_ns=time.monotonic_ns(), image=np.zeros((8, 8, 3), np.uint8), source="front"))
    slot.close()
    runtime: Any = SimpleNamespace(
        page=None, started_ns=0, config=Config(), slot=slot, publisher=publisher, metrics=Metrics(), send=sent.extend,
        camera_news=deque([(CameraState.LIVE, ""), (state, "")]),
        live=SimpleNamespace(take=lambda: None),
        built=SimpleNamespace(pipeline=_Pipeline(), delegate_supervisor=None, bundles=(), delegate_reason=""),
        sinks=SimpleNamespace(problems=list, report=dict), commands=SimpleNamespace(counts=dict),
        grabber=SimpleNamespace(reconnects=0, too_old=0, corrupt=0, hung=0),
        trace=None, governor=Governor(PowerConfig()),
    )  # fmt: skip
    loop = InferenceLoop(runtime, max_frames=None)
    loop.run()
    assert loop.inferred == 0
    assert {message.payload for message in sent if message.kind == "count"} == {"unknown"}
