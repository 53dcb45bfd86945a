"""What data sets call their classes, and which of our labels that is.

A name that is no label of ours is never dropped silently: reading fails until the caller says what to do with it
(``contempt=drop``, ``contempt=disgust``, or ``1=surprise`` for sets that number their classes).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from edge.contract.labels import LABELS
from edge.errors import DataError

DROP: Final = "drop"
"""In a class map: leave the class out on purpose."""
DROPPED: Final = -1
"""Label of rows that are left out."""

SYNONYMS: Final[Mapping[str, str]] = {
    **{label: label for label in LABELS},
    **{"anger": "angry", "disgusted": "disgust", "fearful": "fear", "afraid": "fear", "scared": "fear"},
    **{"happiness": "happy", "sadness": "sad", "surprised": "surprise", "neutrality": "neutral"},
}
"""Names used by the public data sets, lower case, and our label for each."""


def label_index(name: str) -> int | None:
    """Our label's index for a class name of any data set, or None for a name that is no label of ours."""
    label = SYNONYMS.get(name.strip().lower())
    return None if label is None else LABELS.index(label)


def map_classes(
    names: npt.NDArray[np.str_], class_map: Mapping[str, str], *, source: str | Path
) -> npt.NDArray[np.int64]:
    """Labels in our order for the class names of a data set.

    Args:
        names: (n,) class names as the data set writes them.
        class_map: class name (any case) to ``drop`` or to a label; goes before the synonyms.
        source: file or folder, for messages.

    Returns:
        (n,) int64, ``DROPPED`` for rows that the map drops.

    Raises:
        DataError: for a name that is neither known nor mapped, a target that is no label, a map entry that names no
            class of this data set.
    """
    wanted = {key.strip().lower(): value.strip().lower() for key, value in class_map.items()}
    present, inverse = np.unique(names, return_inverse=True)
    known = {str(name).strip().lower() for name in present}
    for key, value in wanted.items():
        if key not in known:
            raise DataError(source, f"{key}={value}: no such class; there are {', '.join(sorted(known))}")
        if value != DROP and label_index(value) is None:
            raise DataError(source, f"{key}={value}: {value!r} is neither {DROP!r} nor one of {', '.join(LABELS)}")
    targets = [_target(str(name), wanted) for name in present]
    unknown = [str(name) for name, target in zip(present, targets, strict=True) if target is None]
    if unknown:
        first = unknown[0]
        raise DataError(
            source,
            f"class {', '.join(map(repr, unknown))}: not one of {', '.join(LABELS)}; "
            f"say what it is to be: {first}={DROP} or {first}=LABEL",
        )
    table = np.array(targets, np.int64)
    return table[inverse.reshape(-1)] if len(table) else np.zeros(0, np.int64)


def _target(name: str, wanted: Mapping[str, str]) -> int | None:
    chosen = wanted.get(name.strip().lower())
    if chosen == DROP:
        return DROPPED
    return label_index(chosen if chosen is not None else name)
