"""`mien replay TRACE`: conclude again from what was seen, with the same settings or others."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import msgspec
from rich.console import Console

from edge.capture.paths import printable
from edge.commands.replay import (
    BOOT_ID,
    LineEncoder,
    open_output,
    refuse_overlap,
    say_written,
    show_progress,
    sigterm_as_interrupt,
)
from edge.commands.seen import StillsTable, StreamSummary
from edge.config.loader import override_config
from edge.config.schema import Config, QualityConfig, SmoothConfig
from edge.errors import ConfigError, SourceError
from edge.pipeline.trace import TraceReader
from edge.publish import Origin

SECTIONS: Final = ("smooth", "quality")
"""Sections whose settings come after what a trace holds."""


def replay_trace(trace: Path, *, overrides: Mapping[str, str], out: Path | None, console: Console) -> None:
    """Run a trace through smoothing and events; write what is asked for and say what was seen.

    Args:
        trace: the file.
        overrides: keys of `SECTIONS`; all else of the configuration was decided when the trace was made.
        out: JSON lines as of `edge.commands.replay`; ``-`` is standard output.
        console: progress and summary.

    Raises:
        SourceError: it cannot be read, or is damaged; what came before the damage is written.
        ConfigError: a key of another section, unknown or out of range.
        UsageError: the output would destroy the trace.
    """
    for key in overrides:
        if key.partition(".")[0] not in SECTIONS:
            raise ConfigError(
                key, "a trace is of what was seen with it; there are smooth.… and quality.…", file="--set"
            )

    def adjust(smooth: SmoothConfig, quality: QualityConfig) -> tuple[SmoothConfig, QualityConfig]:
        config = override_config(msgspec.structs.replace(Config(), smooth=smooth, quality=quality), overrides)
        return config.smooth, config.quality

    refuse_overlap(str(trace), None, out=out, render_to=None, trace=None)
    try:
        file = trace.open("rb")
    except OSError as error:
        raise SourceError(printable(trace), error.strerror or str(error)) from None
    with file, show_progress(console) as advance, sigterm_as_interrupt(), ExitStack() as stack:
        reader = TraceReader(file, printable(trace))
        header = reader.header
        adjust(header.smooth, header.quality)  # a key that is wrong is told before anything is written
        if "smooth.time_constant_ms" in overrides:
            said = "crops and mirror images are those that were read at the time constant of the trace"
            console.print(said, soft_wrap=True)
        seen = StillsTable() if header.stills else StreamSummary()
        stack.callback(seen.show, console)
        written = [out] if out is not None and out != Path("-") else []
        stack.push(lambda kind, *_: say_written(console, written, is_whole=kind is None))
        lines = stack.enter_context(open_output(out)) if out else None
        encoder = LineEncoder(Origin(BOOT_ID, header.camera, header.labels, header.model, header.delegate))
        for number, step in reader.steps(adjust):
            if lines:
                lines.write(encoder.encode(step, number) + b"\n")
            if number is not None:
                seen.add(step)
            elif isinstance(seen, StreamSummary):
                seen.add_events(step)
            advance()
