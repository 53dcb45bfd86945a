"""Checks a configuration as a whole, without a camera or a broker: names, options, bundles, files."""

from __future__ import annotations

from typing import Final

from edge.bundles.signing import check_keys
from edge.capture import check_source
from edge.config.loader import shown
from edge.config.schema import Config, PrivacyConfig
from edge.detect import DETECTORS
from edge.errors import ConfigError
from edge.infer.delegates import parse_delegate, without_own_library
from edge.page.access import check_page
from edge.pipeline.build import build_pipeline
from edge.publish import check_sinks
from edge.track import TRACKERS

NEEDS_EXEMPTION: Final = ("workplace", "education")
"""Where the EU's AI Act, Article 5(1)(f), forbids to infer emotions, except for medical or safety reasons."""


def check_config(config: Config) -> None:
    """What can be known of a configuration without opening a camera or a broker: names, options, bundles, files.

    A library that it names is not loaded.

    Args:
        config: the decoded configuration.

    Raises:
        MienError: what would stop the daemon at its start.
    """
    check_choices(config)
    looked_at, _ = without_own_library(config)
    build_pipeline(looked_at, frame_wh=config.camera.frame_wh).pipeline.close()


def check_choices(config: Config) -> None:
    """Names of alternatives and options of sources: what the types of the configuration leave open.

    Args:
        config: the decoded configuration.

    Raises:
        ConfigError: an unknown name; the message lists the valid ones.
    """
    for key, name, table in (
        ("detect.detector", config.detect.detector, DETECTORS),
        ("track.tracker", config.track.tracker, TRACKERS),
    ):
        if name not in table:
            raise ConfigError(key, f"{shown(name)} is unknown; there are {', '.join(table)}")
    parse_delegate(config.emotion)
    check_keys(config.bundles.trusted_keys)
    check_source(config.camera)
    check_sinks(config)
    check_page(config.page)
    check_privacy(config.privacy)


def check_privacy(privacy: PrivacyConfig) -> None:
    """Refuse what needs a reason and gives none.

    Raises:
        ConfigError: a workplace or a place of education without an exemption.
    """
    if privacy.use_context in NEEDS_EXEMPTION and privacy.exemption is None:
        raise ConfigError(
            "privacy.exemption",
            f"unset, and privacy.use_context is {privacy.use_context}: emotions may be read there for a medical or "
            "safety reason alone (EU AI Act, Article 5); write that reason here",
        )
