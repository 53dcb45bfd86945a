"""Checks a configuration as a whole, without a camera or a broker: names, options, bundles, files."""

from __future__ import annotations

from edge.bundles.signing import check_keys
from edge.capture import check_source
from edge.config.schema import Config, shown
from edge.detect import DETECTORS
from edge.errors import ConfigError
from edge.infer.delegates import parse_delegate
from edge.pipeline.build import build_pipeline
from edge.publish import check_sinks
from edge.track import TRACKERS


def check_config(config: Config, *, file: str) -> None:
    """What can be known of a configuration without opening a camera or a broker: names, options, bundles, files.

    Args:
        config: the decoded configuration.
        file: named in errors.

    Raises:
        MienError: what would stop the daemon at its start.
    """
    check_choices(config, file=file)
    build_pipeline(config, frame_wh=(config.camera.width, config.camera.height), file=file).pipeline.close()


def check_choices(config: Config, *, file: str) -> None:
    """Names of alternatives and options of sources: what the types of the configuration leave open.

    Args:
        config: the decoded configuration.
        file: named in errors.

    Raises:
        ConfigError: an unknown name; the message lists the valid ones.
    """
    for key, name, table in (
        ("detect.detector", config.detect.detector, DETECTORS),
        ("track.tracker", config.track.tracker, TRACKERS),
    ):
        if name not in table:
            raise ConfigError(file, key, f"{shown(name)} is unknown; there are {', '.join(table)}")
    parse_delegate(config.emotion, file=file)
    check_keys(config.bundles.trusted_keys, file=file)
    check_source(config.camera, file=file)
    check_sinks(config, file=file)
