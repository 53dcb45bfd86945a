"""Turns the text of a command line into the values that conversion takes; every refusal names its flag."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, get_args

import msgspec

from convert.classifier.load import InputArithmetic, describe_origin
from convert.classifier.options import QuantizeData
from convert.datasets import read_datasets
from convert.datasets.class_names import label_index
from convert.datasets.reading import Held
from convert.sandbox.checks import check_model_file
from edge.contract.crop import MEASURED_MARGIN
from edge.contract.labels import LABELS
from edge.contract.manifest import Crop, TrainedFrom
from edge.errors import UsageError

MARGINS: Final = {"none": 1.0, "square": MEASURED_MARGIN}
"""Of ``--crop``; ``none`` is the square of the face's box itself."""
_COMMIT: Final = re.compile(r"[0-9a-f]{7,40}(-dirty)?|unknown")


def demand(value: str | None, flag: str, meaning: str) -> str:
    """Return a value that the manifest demands.

    Raises:
        UsageError: it was not given.
    """
    if not value:
        raise UsageError(f"{flag} is missing: the manifest demands {meaning}")
    return value


def parse_choice(text: str, flag: str, choices: Any) -> Any:
    """Return one of the words of a ``Literal``.

    Raises:
        UsageError: another word.
    """
    if text not in get_args(choices):
        raise UsageError(f"{flag}: {text!r} is not one of {', '.join(get_args(choices))}")
    return text


def parse_labels(text: str | None) -> tuple[str, ...]:
    """Return the labels of ``a,b,c`` or of a file with one a line; synonyms become our names (``anger`` → ``angry``).

    Raises:
        UsageError: none, one twice, or a file that cannot be read.
    """
    text = demand(text, "--labels", "the labels of the outputs in their order, a,b,c or a file with one a line")
    try:
        given = text.split(",") if "," in text else Path(text).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"--labels: {text}: {getattr(error, 'strerror', None) or 'not a text file'}") from None
    names = [name.strip().lower() for name in given if name.strip()]
    labels = tuple(name if (index := label_index(name)) is None else LABELS[index] for name in names)
    twice = sorted({label for label in labels if labels.count(label) > 1})
    if twice or len(labels) < 2:
        raise UsageError(f"--labels: {text}: {f'{twice[0]} stands twice' if twice else 'two labels at least'}")
    return labels


def parse_crop(text: str | None) -> float:
    """Return the margin of ``none``, ``square``, ``square:MARGIN``, or a JSON file with a crop or a manifest in it.

    Raises:
        UsageError: none given, or one that says nothing.
    """
    text = demand(text, "--crop", "which part of a face the model sees: none, square[:MARGIN] or a JSON file")
    if text in MARGINS:
        return MARGINS[text]
    if text.startswith("square:"):
        return parse_number(text.removeprefix("square:"), "--crop", high=4.0)
    try:
        raw = msgspec.json.decode(Path(text).read_bytes())
        return msgspec.convert(raw.get("crop", raw) if isinstance(raw, dict) else raw, Crop).margin
    except OSError as error:
        raise UsageError(f"--crop: {text!r}: {error.strerror}; wanted none, square[:MARGIN] or a JSON file") from None
    except msgspec.DecodeError as error:
        raise UsageError(f"--crop: {text}: {error}") from None


def parse_number(text: str, flag: str, *, high: float) -> float:
    """Return a number, also given as a fraction ``1/255``, in ``0 < number <= high``.

    Raises:
        UsageError: anything else.
    """
    above, slash, below = text.partition("/")
    try:
        number = float(above) / (float(below) if slash else 1)
    except (ValueError, ZeroDivisionError):
        raise UsageError(f"{flag}: {text!r} is not a number or a fraction such as 1/255") from None
    if not 0 < number <= high:
        raise UsageError(f"{flag}: {text} is not above 0 and up to {high:g}")
    return number


def parse_arithmetic(scale: str | None, mean: str | None) -> InputArithmetic | None:
    """Return what the model expects of its input; None when nothing is declared.

    Raises:
        UsageError: a mean without a scale, or numbers that are none.
    """
    if scale is None:
        if mean is not None:
            raise UsageError("--mean without --scale: the model gets (pixel - MEAN) * SCALE; --scale 1 for no factor")
        return None
    try:
        means = tuple(float(part) for part in mean.split(",")) if mean else (0.0,)
    except ValueError:
        raise UsageError(f"--mean: {mean!r} is not a number, or one a channel with commas") from None
    return InputArithmetic(tuple(parse_number(part, "--scale", high=1e6) for part in scale.split(",")), means)


def parse_size(text: str) -> tuple[int, int]:
    """Return width and height in pixels of ``640x480``.

    Raises:
        UsageError: anything else.
    """
    width, _, height = text.partition("x")
    if not (width.isdecimal() and height.isdecimal()):
        raise UsageError(f"--size: {text!r} is not WIDTHxHEIGHT")
    return int(width), int(height)


def read_origin(path: Path | None, *, git: str | None, model: Path) -> TrainedFrom | None:
    """Return where the weights come from; None when nothing is said of it.

    Args:
        path: JSON of a `TrainedFrom`, or None.
        git: commit of the code that trained; goes before the file's.
        model: the model file.

    Raises:
        UsageError: a file that does not hold it, or something that is no commit.
        ModelFileError: there is no such model, or nothing that one can be read from.
    """
    if path is None and git is None:
        return None
    if path is None:
        check_model_file(model)
        origin = describe_origin(model)
    else:
        try:
            origin = msgspec.json.decode(path.read_bytes(), type=TrainedFrom)
        except OSError as error:
            raise UsageError(f"--trained-from: {path}: {error.strerror}") from None
        except msgspec.DecodeError as error:
            raise UsageError(f"--trained-from: {path}: {error}") from None
    commit, where = (git, "--git") if git is not None else (origin.git, f"--trained-from: {path}: git")
    if not _COMMIT.fullmatch(commit):
        raise UsageError(f"{where}: {commit!r} is not a commit (7 to 40 hexadecimal digits) or unknown")
    return msgspec.structs.replace(origin, git=commit)


def hash_list(path: Path | None) -> str | None:
    """SHA-256 of a list of copies; None for none.

    Raises:
        UsageError: a file that cannot be read.
    """
    if path is None:
        return None
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise UsageError(f"--copies: {path}: {error.strerror or error}") from None


def read_data(calibrate: Sequence[str], evaluate: Sequence[str]) -> QuantizeData:
    """Return the labelled faces of a conversion; a file that both name parts of is decoded once."""
    held: Held = {}
    return QuantizeData(read_datasets(calibrate, held=held), read_datasets(evaluate, held=held))
