"""What the daemon says about itself: the models, what is wrong, and the line for ``systemctl status``."""

from __future__ import annotations

import secrets
from collections import Counter

from edge import __version__
from edge.bundles.select import ChosenBundle
from edge.config.schema import Config
from edge.contract.manifest import AnyManifest
from edge.pipeline.build import BuiltPipeline
from edge.publish import Moment, Origin, Vitals
from edge.publish.encode import make_health
from edge.publish.payloads import (
    BootMark,
    CameraPart,
    DelegatePart,
    HealthPayload,
    InfoPayload,
    ModelPart,
    ParityPart,
    PrivacyPart,
)
from edge.publish.time_context import read_moment
from edge.publish.topics import VERSIONS
from edge.service.runtime import Runtime
from edge.system.host import resident_bytes
from edge.system.power import read_power
from edge.system.redact import redact


def describe_problems(runtime: Runtime) -> list[str]:
    """List what somebody should look at, for ``…/problem``."""
    built, camera = runtime.built, runtime.publisher.camera_state
    problems = [f"camera: {camera}"] if camera in ("stale", "lost") else []
    problems += [f"model: {bundle.reason}" for bundle in built.bundles if bundle.reason]
    if built.delegate_reason:
        problems.append(f"delegate: {built.delegate_reason}")
    if degraded := runtime.governor.describe():
        problems.append(degraded)
    if runtime.governor.is_under_voltage:
        problems.append("power: the supply is too weak (under-voltage)")
    if runtime.trace is not None and runtime.trace.problem:
        problems.append(runtime.trace.problem)
    return problems + runtime.sinks.problems()


def make_origin(built: BuiltPipeline, config: Config) -> Origin:
    """Name this start: a new random boot id, the camera, the model."""
    manifest = built.emotion.manifest
    return Origin(
        boot_id=secrets.token_hex(4),
        camera=config.camera.name,
        labels=manifest.labels,
        model=manifest.full_name,
        delegate=built.emotion.model.interpreter.delegate,
    )


def make_info(built: BuiltPipeline, config: Config, origin: Origin, *, previous: tuple[str, int] | None) -> InfoPayload:
    """Describe what runs here, for ``…/info``; ``previous`` is the boot id and last ``seq`` of the start before."""
    moment, emotion, camera = read_moment(), built.emotion.model, config.camera
    parity = ParityPart(
        samples=built.emotion.manifest.golden.count,
        worst_steps=emotion.parity.worst_steps,
        max_steps=emotion.parity.max_steps,
        class_flips=emotion.parity.class_flips,
    )
    delegate = DelegatePart(
        name=emotion.interpreter.delegate,
        requested=config.emotion.delegate,
        reason=built.delegate_reason,
        delegated_nodes=emotion.interpreter.delegated_nodes,
        total_nodes=emotion.interpreter.total_nodes,
    )
    camera_part = CameraPart(
        name=camera.name, source=redact(camera.source), width=camera.width, height=camera.height, fps=camera.fps
    )
    own_file = ModelPart(name=config.detect.detector, version=None, sha256=None, source=None, reason=None)
    return InfoPayload(
        boot_id=origin.boot_id,
        previous=BootMark(boot_id=previous[0], last_seq=previous[1]) if previous else None,
        ts=moment.utc(moment.now_ns),
        clock_synced=moment.clock_synced,
        version=__version__,
        schemas=dict(VERSIONS),
        camera=camera_part,
        model=_model_part(built.emotion),
        labels=list(origin.labels),
        detector=_model_part(built.detector_bundle) if built.detector_bundle else own_file,
        delegate=delegate,
        parity=parity,
        privacy=PrivacyPart(use_context=config.privacy.use_context, exemption=config.privacy.exemption),
    )


def _model_part(bundle: ChosenBundle[AnyManifest]) -> ModelPart:
    manifest = bundle.manifest
    return ModelPart(
        name=manifest.name,
        version=manifest.version,
        sha256=manifest.model.sha256,
        source=bundle.source,
        reason=bundle.reason,
    )


def make_vitals(runtime: Runtime, moment: Moment, *, fps: float) -> Vitals:
    """Collect what a health report says; from any thread."""
    stages = runtime.metrics.percentiles()
    return Vitals(
        uptime_s=(moment.now_ns - runtime.started_ns) / 1e9,
        fps=fps,
        frame_age=stages.pop("frame_age", None),
        stages=stages,
        drops=runtime.slot.dropped,
        reconnects=runtime.grabber.reconnects,
        # Copied at once: another thread adds to them.
        counts=dict(Counter(dict(runtime.metrics.counts)) + Counter(too_old=runtime.grabber.too_old))
        | {"corrupt": runtime.grabber.corrupt, "hung": runtime.grabber.hung}
        | runtime.commands.counts(),
        sinks=runtime.sinks.report(),
        temperature_c=read_power().temperature_c,
        degraded=runtime.governor.cause,
        rss_bytes=resident_bytes(),
    )


def report_health(runtime: Runtime, *, fps: float) -> HealthPayload:
    """Return a health report made now, beside those that are published; from any thread."""
    moment, publisher = read_moment(), runtime.publisher
    return make_health(
        make_vitals(runtime, moment, fps=fps), last_seq=publisher.last_seq, origin=publisher.origin, moment=moment
    )


def describe_models(built: BuiltPipeline) -> str:
    """Say in one line what runs where, for ``systemctl status``; a stand-in is named."""
    delegate = built.emotion.model.interpreter.delegate
    stand_ins = [f"{bundle.manifest.full_name} as a stand-in" for bundle in built.bundles if bundle.reason]
    failed = f" ({built.delegate_reason})" if built.delegate_reason else ""
    return ", ".join([*stand_ins, delegate + failed])


def describe_status(runtime: Runtime, *, camera: str, fps: float, faces: int) -> str:
    """Say in one line what goes on, for ``systemctl status``."""
    stages = runtime.metrics.percentiles()
    age = f"{stages['frame_age'].p50_ms:.0f} ms old" if "frame_age" in stages else "no frame yet"
    models = describe_models(runtime.built)
    degraded = runtime.governor.describe()
    parts = (f"camera {camera}, {fps:.1f} fps, {age}, {faces} faces, {models}", degraded, runtime.sinks.status())
    return ", ".join(filter(None, parts))
