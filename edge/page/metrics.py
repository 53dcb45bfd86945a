"""Metrics in Prometheus' text format. What is not known is absent, never 0; no track and no boot id is a label.

Names follow https://prometheus.io/docs/practices/naming/.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

import msgspec
from prometheus_client import CollectorRegistry, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from edge.page.board import Board
from edge.publish.payloads import HealthPayload, InfoPayload

BUCKETS_S: Final = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
DROPPED: Final = ("too_old", "corrupt", "governed")
"""Counts of the health report that are frames which were not inferred."""


class MetricsText:
    """The metrics of one daemon.

    Args:
        board: the newest messages.
        vitals: how the daemon does now.
    """

    def __init__(self, board: Board, vitals: Callable[[], HealthPayload]) -> None:
        self._board = board
        self._vitals = vitals
        self._registry = CollectorRegistry()
        self._step = Histogram(
            "mien_step_seconds", "Duration of a stage.", ["stage"], buckets=BUCKETS_S, registry=self._registry
        )
        self._age = Histogram(
            "mien_frame_age_seconds", "From capture to published.", buckets=BUCKETS_S, registry=self._registry
        )
        self._registry.register(self)
        self._stages: dict[str, Histogram] = {}

    def observe(self, stage: str, duration_ns: int) -> None:
        """Take a duration; see `edge.system.metrics.Metrics.observer`."""
        if stage == "frame_age":
            self._age.observe(duration_ns / 1e9)
            return
        histogram = self._stages.get(stage)
        if histogram is None:
            histogram = self._stages[stage] = self._step.labels(stage)
        histogram.observe(duration_ns / 1e9)

    def render(self) -> tuple[bytes, str]:
        """Return the text and its content type."""
        return generate_latest(self._registry), CONTENT_TYPE_LATEST

    def collect(self) -> Iterator[Metric]:
        """Yield what is read at each scrape."""
        vitals = self._vitals()
        yield from self._who()
        yield from self._faces()
        yield from _frames(vitals)
        yield from _sinks(vitals)
        yield from _machine(vitals)

    def _who(self) -> Iterator[Metric]:
        if raw := self._board.latest("info"):
            info = msgspec.json.decode(raw, type=InfoPayload)
            build = InfoMetricFamily("mien_build", "What runs here.")
            model = f"{info.model.name}@{info.model.version}"
            build.add_metric(
                [],
                {"version": info.version, "model": model, "delegate": info.delegate.name, "camera": info.camera.name},
            )
            yield build
        state = (self._board.latest("camera") or b"opening").decode()
        yield GaugeMetricFamily("mien_camera_up", "1 while the camera is live, else 0.", float(state == "live"))
        states = GaugeMetricFamily("mien_camera_state", "1 for the state that holds.", labels=["state"])
        for word in ("opening", "live", "stale", "lost", "paused"):
            states.add_metric([word], float(word == state))
        yield states

    def _faces(self) -> Iterator[Metric]:
        counts = msgspec.json.decode(self._board.latest("counts") or b"null")
        if counts is not None:
            yield GaugeMetricFamily("mien_faces", "Faces now; absent while unknown.", sum(counts.values()))
            by_emotion = GaugeMetricFamily("mien_faces_by_emotion", "Faces by their emotion.", labels=["emotion"])
            for emotion, count in counts.items():
                by_emotion.add_metric([emotion], count)
            yield by_emotion
        events = CounterMetricFamily("mien_events", "Events.", labels=["type"])
        for kind in ("face_appeared", "emotion_changed", "face_left"):
            events.add_metric([kind], self._board.counted.get(kind, 0))
        yield events


def _frames(vitals: HealthPayload) -> Iterator[Metric]:
    yield CounterMetricFamily("mien_frames", "Frames inferred.", vitals.counts.get("frames", 0))
    yield CounterMetricFamily(
        "mien_detector_runs", "Frames on which the detector ran.", vitals.counts.get("detected", 0)
    )
    dropped = CounterMetricFamily("mien_frames_dropped", "Frames that were not inferred.", labels=["why"])
    dropped.add_metric(["replaced"], vitals.drops)
    for why in DROPPED:
        dropped.add_metric([why], vitals.counts.get(why, 0))
    yield dropped
    yield CounterMetricFamily("mien_camera_reconnects", "Times the camera was opened again.", vitals.reconnects)


def _sinks(vitals: HealthPayload) -> Iterator[Metric]:
    mqtt = vitals.sinks.get("mqtt")
    if mqtt is None:
        return
    yield GaugeMetricFamily(
        "mien_mqtt_connected", "1 while the broker answers, else 0.", float(mqtt.status.startswith("connected"))
    )
    yield GaugeMetricFamily("mien_outbox_queued", "Events not acknowledged yet.", vitals.queue_depth)
    yield CounterMetricFamily("mien_outbox_dropped", "Events that had to be dropped.", mqtt.counts.get("dropped", 0))


def _machine(vitals: HealthPayload) -> Iterator[Metric]:
    yield GaugeMetricFamily("mien_uptime_seconds", "Since the start of the daemon.", vitals.uptime_s)
    if vitals.temperature_c is not None:
        yield GaugeMetricFamily("mien_temperature_celsius", "Of the processor.", vitals.temperature_c)
    if vitals.rss_bytes is not None:
        yield GaugeMetricFamily("mien_resident_memory_bytes", "Resident memory of the daemon.", vitals.rss_bytes)
