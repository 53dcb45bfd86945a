"""How a data set is named on a command line: ``[FORMAT:]PATH[@KEY=VALUE,…]``.

Examples::

    fer2013.csv
    fer2013:/data/fer2013.csv@split=public_test,labels=ferplus
    CK+48@contempt=drop
    folders:raf-db@1=surprise,2=fear,3=disgust,4=happy,5=sad,6=angry,7=neutral
    train_set@omit=disgust+fear
    holiday_photos@cut=faces
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal, get_args

from convert.datasets.class_names import label_index
from convert.datasets.split_names import SPLITS, split_named
from edge.contract.labels import LABELS
from edge.errors import UsageError

LabelKind = Literal["own", "ferplus", "ferplus_plurality"]
"""``own``: the data set's. ``ferplus``: FER+'s majority, pictures without one left out. ``ferplus_plurality``: the most
voted emotion, majority or not: the pictures that training on vote distributions uses."""
LABEL_KINDS: Final[tuple[LabelKind, ...]] = get_args(LabelKind)

_OPTIONS = re.compile(r"@(?=[^@/=,]+=)(?P<options>[^@]*)$")
_FORMAT = re.compile(r"^(?P<format>[a-z][a-z0-9_]+):(?P<path>.+)$", re.DOTALL)


@dataclass(frozen=True, slots=True)
class DatasetSpec:
    """One data set as asked for.

    Attributes:
        path: file or folder.
        format: key of the reader, None to find it out by looking.
        splits: splits to keep (`convert.datasets.split_names`); empty for all.
        labels: whose labels.
        omit: labels of ours whose pictures are left out.
        cut: whether the pictures are whole photographs, of each of which the largest face is taken.
        class_map: class name of the data set to ``drop`` or to a label.
    """

    path: Path
    format: str | None = None
    splits: tuple[str, ...] = ()
    labels: LabelKind = "own"
    omit: tuple[str, ...] = ()
    cut: bool = False
    class_map: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def parse(cls, text: str) -> DatasetSpec:
        """Reads ``[FORMAT:]PATH[@KEY=VALUE,…]``; values of ``split`` and ``omit`` are joined by ``+``.

        Raises:
            UsageError: for an option that says nothing.
        """
        format_key, path, written = _split(text)
        options = _read_options(text, written) if written is not None else {}
        if not path:
            raise UsageError(f"{text!r}: no path")
        return cls(
            path=Path(path).expanduser(),
            format=format_key,
            splits=_read_splits(text, options.pop("split", "")),
            labels=_read_label_kind(text, options.pop("labels", "own")),
            omit=_read_omitted(text, options.pop("omit", "")),
            cut=_read_cut(text, options.pop("cut", "")),
            class_map=options,
        )

    def canonical(self) -> str:
        """One line that says everything asked for except where the data lies; enters the hash of prepared data."""
        mapped = ",".join(f"{key.lower()}={value.lower()}" for key, value in sorted(self.class_map.items()))
        splits, omitted = "+".join(sorted(self.splits)), "+".join(sorted(self.omit))
        cut = "cut=faces;" if self.cut else ""  # hashes of what was prepared before stay what they are
        return f"split={splits};labels={self.labels};omit={omitted};{cut}{mapped}"


def absolute_spec(text: str) -> str:
    """Return ``[FORMAT:]PATH[@KEY=VALUE,…]`` with an absolute path: it names the same data from any folder.

    Raises:
        UsageError: the path is not UTF-8.
    """
    format_key, path, options = _split(text)
    absolute = Path(path).expanduser().absolute()
    try:
        str(absolute).encode()
    except UnicodeEncodeError as error:
        raise UsageError(f"{absolute}: a path that is not UTF-8; a run notes its data by path: rename it") from error
    return f"{f'{format_key}:' if format_key else ''}{absolute}{'' if options is None else f'@{options}'}"


def _split(text: str) -> tuple[str | None, str, str | None]:
    """Return format, path and options as they are written; None for what is not there."""
    rest, options = text, None
    if (match := _OPTIONS.search(text)) is not None and not Path(text).exists():
        rest, options = text[: match.start()], match["options"]
    named = None if Path(rest).exists() else _FORMAT.match(rest)
    return (named["format"], named["path"], options) if named else (None, rest, options)


def _read_options(text: str, options: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for part in options.split(","):
        key, equals, value = (piece.strip() for piece in part.partition("="))
        if not (key and equals and value):
            raise UsageError(f"{text!r}: {part!r} is not KEY=VALUE")
        if key in found:
            raise UsageError(f"{text!r}: {key} is given twice")
        found[key] = value
    return found


def _read_splits(text: str, value: str) -> tuple[str, ...]:
    names = [split_named(part) for part in value.split("+")] if value else []
    if None in names:
        raise UsageError(f"{text!r}: split={value}: not one of {', '.join(SPLITS)}")
    return tuple(name for name in names if name is not None)


def _read_label_kind(text: str, value: str) -> LabelKind:
    for kind in LABEL_KINDS:
        if value == kind:
            return kind
    raise UsageError(f"{text!r}: labels={value}: not one of {', '.join(LABEL_KINDS)}")


def _read_cut(text: str, value: str) -> bool:
    if value not in ("", "faces"):
        raise UsageError(f"{text!r}: cut={value}: not one of faces")
    return value == "faces"


def _read_omitted(text: str, value: str) -> tuple[str, ...]:
    indices = [label_index(part) for part in value.split("+")] if value else []
    if None in indices:
        raise UsageError(f"{text!r}: omit={value}: not one of {', '.join(LABELS)}")
    return tuple(LABELS[index] for index in indices if index is not None)
