"""Turns what stands on the command line into what conversion needs; every refusal names its flag."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final, get_args

import msgspec

from convert.classifier.load import Head, InputArithmetic
from convert.datasets.class_names import label_index
from convert.datasets.dataset import Colour
from edge.contract.bundle import MANIFEST_FILE
from edge.contract.labels import LABELS
from edge.contract.manifest import Crop, TrainedFrom
from edge.errors import UsageError

MEASURED_MARGIN: Final = 0.99
"""Of ``--crop square``: what FER2013's crops measure, see `edge.contract.crop`."""
WHOLE_BOX_MARGIN: Final = 1.0
"""Of ``--crop none``: the square of the face's box itself."""
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
_VERSION: Final = re.compile(r"\d+\.\d+\.\d+")
_COMMIT: Final = re.compile(r"[0-9a-f]{7,40}(-dirty)?|unknown")


def demand(value: str | None, flag: str, meaning: str) -> str:
    """A value that the manifest demands.

    Raises:
        UsageError: it was not given.
    """
    if not value:
        raise UsageError(f"{flag} is missing: the manifest demands {meaning}")
    return value


def parse_labels(text: str | None) -> tuple[str, ...]:
    """``a,b,c`` or a file with one label a line; synonyms of ours become ours (``anger`` → ``angry``).

    Raises:
        UsageError: none, one twice, or a file that cannot be read.
    """
    text = demand(text, "--labels", "the labels of the outputs in their order, a,b,c or a file with one a line")
    given = text.split(",")
    if "," not in text:
        try:
            given = Path(text).read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"--labels: {text}: {getattr(error, 'strerror', None) or 'not a text file'}") from None
    names = [name.strip().lower() for name in given if name.strip()]
    ours = [label_index(name) for name in names]
    labels = tuple(name if index is None else LABELS[index] for name, index in zip(names, ours, strict=True))
    twice = sorted({label for label in labels if labels.count(label) > 1})
    if twice or len(labels) < 2:
        raise UsageError(f"--labels: {text}: {f'{twice[0]} stands twice' if twice else 'two labels at least'}")
    return labels


def parse_crop(text: str | None) -> float:
    """The margin of a crop: ``none``, ``square``, ``square:MARGIN``, or a JSON file with a crop or a manifest in it.

    Raises:
        UsageError: none given, or one that says nothing.
    """
    text = demand(text, "--crop", "which part of a face the model sees: none, square[:MARGIN] or a JSON file")
    if text == "none":
        return WHOLE_BOX_MARGIN
    if text == "square":
        return MEASURED_MARGIN
    if text.startswith("square:"):
        return parse_number(text.removeprefix("square:"), "--crop", low=0.0, high=4.0)
    try:
        raw = msgspec.json.decode(Path(text).read_bytes())
        return msgspec.convert(raw.get("crop", raw) if isinstance(raw, dict) else raw, Crop).margin
    except OSError as error:
        raise UsageError(f"--crop: {text!r}: {error.strerror}; wanted none, square[:MARGIN] or a JSON file") from None
    except msgspec.DecodeError as error:
        raise UsageError(f"--crop: {text}: {error}") from None


def parse_number(text: str, flag: str, *, low: float, high: float) -> float:
    """A number, also as a fraction ``1/255``, in ``low < number <= high``.

    Raises:
        UsageError: anything else.
    """
    above, slash, below = text.partition("/")
    try:
        number = float(above) / float(below) if slash else float(above)
    except (ValueError, ZeroDivisionError):
        raise UsageError(f"{flag}: {text!r} is not a number or a fraction such as 1/255") from None
    if not low < number <= high:
        raise UsageError(f"{flag}: {text} is not above {low:g} and up to {high:g}")
    return number


def parse_arithmetic(scale: str | None, mean: str | None) -> InputArithmetic | None:
    """What the model expects of its input; None when nothing is declared.

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
    scales = tuple(parse_number(part, "--scale", low=0.0, high=1e6) for part in scale.split(","))
    return InputArithmetic(scales, means)


def parse_colour(text: str | None, *, channels: int) -> Colour:
    """The input's colour: grey follows from one channel, three must be named.

    Raises:
        UsageError: not named, or one that the channels exclude.
    """
    if channels == 1:
        if text not in (None, "grey"):
            raise UsageError(f"--color: {text}, but the model takes one channel")
        return "grey"
    if text not in ("rgb", "bgr"):
        raise UsageError(f"--color: {text or 'missing'}; the model takes three channels: say rgb or bgr")
    return text  # type: ignore[return-value]


def parse_head(text: str) -> Head:
    """What the model puts out.

    Raises:
        UsageError: an unknown word.
    """
    if text not in get_args(Head):
        raise UsageError(f"--head: {text!r} is not one of {', '.join(get_args(Head))}")
    return text  # type: ignore[return-value]


def parse_name(text: str | None, out: Path) -> str:
    """The bundle's name; its folder's where none is given.

    Raises:
        UsageError: not lower case, digits, ``. _ -``.
    """
    name = text or out.resolve().name
    if not _NAME.fullmatch(name):
        raise UsageError(f"--name: {name!r}: lower case, digits and . _ - only, 63 at most")
    return name


def parse_version(text: str | None) -> str:
    """The bundle's version.

    Raises:
        UsageError: none, or not three numbers.
    """
    version = demand(text, "--version", "a version such as 1.0.0")
    if not _VERSION.fullmatch(version):
        raise UsageError(f"--version: {version!r} is not three numbers such as 1.0.0")
    return version


def read_origin(path: Path | None, *, git: str | None, model: Path, sha256: str) -> TrainedFrom:
    """Where the weights come from; without a file all that is known is the model file itself.

    Args:
        path: JSON of a `TrainedFrom`, or None.
        git: commit of the code that trained, put in the file's place where given.
        model: the model file.
        sha256: its hash.

    Raises:
        UsageError: a file that does not hold it, or something that is no commit.
    """
    origin = TrainedFrom(git="unknown", recipe=f"brought as {model.name}, sha256 {sha256}", datasets=())
    if path is not None:
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


def model_file(path: Path) -> Path:
    """The TFLite file of a bundle's folder, or the path itself."""
    return path / "model.tflite" if (path / MANIFEST_FILE).is_file() else path
