"""The order of the emotion labels: FER2013's, everywhere."""

from __future__ import annotations

from typing import Final

LABELS: Final = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
UNCERTAIN: Final = "uncertain"
"""Published instead of a label when the face cannot be read; never a model's output."""
NONE: Final = "none"
"""Published as the dominant emotion when there is no face."""
UNKNOWN: Final = "unknown"
"""Published instead of a number or an emotion while nothing is known: before the first frame, and without a camera."""
