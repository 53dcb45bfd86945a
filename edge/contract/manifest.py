"""The manifest of a model bundle: complete, or the load fails. No defaults, no fallbacks.

`EmotionManifest` and `DetectManifest` are told apart by ``task``. Unknown keys, wrong types and values out of range are
errors that name the file and the key.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Annotated, Any, Final, Literal, TypeAlias

import msgspec
from msgspec import UNSET, Meta, UnsetType

from edge.contract.crop import GEOMETRIES
from edge.contract.labels import NONE, UNCERTAIN, UNKNOWN
from edge.errors import BundleError

SCHEMA: Final = "mien.manifest/1"
SCHEMA_2: Final = "mien.manifest/2"
"""Has two more keys for emotion models, `EmotionManifest.copies_sha256` and `EmotionManifest.logit_offsets`."""

_END: Final = r"$(?!\n)"
"""Without the second half ``$`` also stands before a line's end."""
NAME_PATTERN = rf"^[a-z0-9][a-z0-9._-]{{0,62}}{_END}"
_SHOWN: Final = r"[^\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\ufffe\uffff]"
Name = Annotated[str, Meta(pattern=NAME_PATTERN, description="lower case, digits, . _ -")]
Sha256 = Annotated[
    str, Meta(pattern=rf"^[0-9a-f]{{64}}{_END}", description="SHA-256, 64 lower-case hexadecimal digits")
]
Count = Annotated[int, Meta(ge=0, le=2**53)]
Side = Annotated[int, Meta(ge=1, le=8192)]
Steps = Annotated[int, Meta(ge=0, le=65_535, description="of the output's quantization")]
Text = Annotated[str, Meta(max_length=4096, description="shown to people as it is, never read as markup")]
Label = Annotated[str, Meta(pattern=rf"^(?! ){_SHOWN}{{1,64}}(?<! ){_END}")]
Offset = Annotated[float, Meta(ge=-100, le=100)]
Measured = Annotated[float, Meta(ge=-1e6, le=1e6)]
Scale = Annotated[float, Meta(ge=1e-12, le=1e6)]
Share = Annotated[float, Meta(ge=0, le=1)]


class Strict(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Base of all manifest parts: keyword-only, immutable, unknown keys refused."""


class ModelFile(Strict, frozen=True):
    """The TFLite file inside the bundle."""

    file: Name
    sha256: Sha256
    bytes: Count


class InputSpec(Strict, frozen=True):
    """The model's one input, NHWC.

    ``int8`` has zero point -128 and ``uint8`` zero point 0, both scale exactly 1; ``float32`` takes pixels 0..255.
    """

    shape: tuple[Literal[1], Side, Side, Literal[1, 3]]
    dtype: Literal["int8", "uint8", "float32"]
    colour: Literal["grey", "bgr", "rgb"]


class OutputSpec(Strict, frozen=True):
    """One output tensor. A float32 output has scale 1 and zero point 0."""

    name: Text
    shape: Annotated[tuple[Annotated[int, Meta(ge=1, le=2**24)], ...], Meta(min_length=2, max_length=8)]
    dtype: Literal["int8", "uint8", "int16", "float32"]
    scale: Scale
    zero_point: Annotated[int, Meta(ge=-32_768, le=32_767)]


class Crop(Strict, frozen=True):
    """How a face is cut out of the frame: see `edge.contract.crop`."""

    geometry: Literal["square"]
    version: int
    size_px: Annotated[int, Meta(ge=16, le=512)]
    margin: Annotated[float, Meta(ge=0.1, le=4)]


class Calibration(Strict, frozen=True):
    """The pictures that the ranges of the activations were taken from."""

    source: Text
    count: Count
    sha256: Sha256


class Quantization(Strict, frozen=True):
    """How the numbers were made small."""

    scheme: Literal["int8", "int16x8", "float16", "dynamic", "float32"]
    recipe: Text
    calibration: Calibration | None


class DataSetUse(Strict, frozen=True):
    """A data set that the weights were trained on."""

    name: Text
    count: Count


class TrainedFrom(Strict, frozen=True):
    """Where the weights come from."""

    git: Text
    recipe: Text
    datasets: tuple[DataSetUse, ...]


class Metric(Strict, frozen=True):
    """One measured figure of the float model and of the model in this bundle, on the same images."""

    name: Text
    dataset: Text
    n: Count
    float32: Measured
    quantized: Measured


class GoldenSpec(Strict, frozen=True):
    """The golden samples: ``max_steps`` bounds the difference of raw output integers, by kind of kernel."""

    file: Name
    sha256: Sha256
    count: Annotated[int, Meta(ge=1, le=10_000)]
    max_steps_xnnpack: Steps
    max_steps_other: Steps


class Manifest(Strict, frozen=True, tag_field="task"):
    """What every bundle says of itself."""

    schema: Literal["mien.manifest/1", "mien.manifest/2"]
    name: Name
    version: Annotated[str, Meta(pattern=rf"^[0-9]{{1,9}}\.[0-9]{{1,9}}\.[0-9]{{1,9}}{_END}")]
    status: Literal["passed", "failed", "undecided", "unverified"]
    model: ModelFile
    edgetpu_model: ModelFile | None
    input: InputSpec
    outputs: tuple[OutputSpec, ...]
    quantization: Quantization
    trained_from: TrainedFrom
    metrics: tuple[Metric, ...]
    golden: GoldenSpec
    licence: Text
    notices: Annotated[tuple[Text, ...], Meta(max_length=64)]

    @property
    def full_name(self) -> str:
        """``name@version``, as published."""
        return f"{self.name}@{self.version}"


class Thresholds(Strict, frozen=True):
    """Measured on validation data: below ``margin`` between the two best scores the emotion is ``uncertain``."""

    margin: Share


class LogitOffsets(Strict, frozen=True):
    """Operating points: what is added to the logits, in the order of the labels, before the temperature.

    ``natural`` names each expression as often as it occurs, which statistics need; ``balanced`` gives up accuracy so
    that the rare ones are seen.
    """

    natural: tuple[Offset, ...]
    balanced: tuple[Offset, ...]


Prior: TypeAlias = Literal["natural", "balanced"]


class EmotionManifest(Manifest, frozen=True, tag="emotion"):
    """A classifier of face crops; the output is logits in the order of ``labels``.

    The last two keys are those of ``mien.manifest/2``: the SHA-256 of the list of test pictures with a copy among the
    training pictures (null where none was made), and the operating points.
    """

    labels: Annotated[tuple[Label, ...], Meta(min_length=1, max_length=256)]
    crop: Crop
    temperature: Annotated[float, Meta(ge=0.01, le=100)]
    thresholds: Thresholds
    copies_sha256: Sha256 | UnsetType | None = UNSET
    logit_offsets: LogitOffsets | UnsetType = UNSET

    def offsets(self, prior: Prior) -> tuple[float, ...]:
        """Return what is added to the logits at an operating point.

        Raises:
            BundleError: a bundle of ``mien.manifest/1``, which has the natural one only.
        """
        if isinstance(self.logit_offsets, LogitOffsets):
            return self.logit_offsets.balanced if prior == "balanced" else self.logit_offsets.natural
        if prior == "natural":
            return (0.0,) * len(self.labels)
        raise BundleError(self.full_name, f'logit_offsets: {SCHEMA} has none; "{prior}" needs a bundle of {SCHEMA_2}')


class HeadScale(Strict, frozen=True):
    """The affine map that brings one channel of a detector's output back: ``real = value * gain + offset``.

    ``value`` is the dequantized output: the integer less the zero point, times the scale.
    """

    gain: Annotated[float, Meta(gt=0, le=1e6)]
    offset: Annotated[float, Meta(ge=-1e6, le=1e6)]


class DetectManifest(Manifest, frozen=True, tag="detect"):
    """A YuNet face detector: one output (1, cells, 16), the first stride's cells row by row, then the next stride's.

    The channels are cls 1, obj 1, bbox 4, landmarks 10; ``heads[s][c]`` maps channel ``c`` of stride ``strides[s]``
    from its quantized range to the network's own values. The input has one black row on top and one black column on
    the left.
    """

    strides: tuple[Side, ...]
    heads: tuple[tuple[HeadScale, ...], ...]


AnyManifest: TypeAlias = EmotionManifest | DetectManifest


def decode_manifest(raw: bytes, *, file: str | Path) -> AnyManifest:
    """Decodes and checks a manifest.

    Args:
        raw: the JSON text.
        file: named in errors.

    Raises:
        BundleError: not JSON, a key missing, unknown or out of range, labels or outputs that do not fit together.
    """
    try:
        manifest: AnyManifest = msgspec.json.decode(raw, type=AnyManifest)
        json.loads(raw, object_pairs_hook=_refuse_twice)
    except (msgspec.DecodeError, _TwiceError) as error:
        raise BundleError(file, _in_words(str(error))) from None
    except UnicodeDecodeError:
        raise BundleError(file, "not a manifest: not UTF-8 text") from None
    except RecursionError:
        raise BundleError(file, "not a manifest: nested too deeply") from None
    if isinstance(manifest, EmotionManifest):
        _check_emotion(manifest, file)
    else:
        _check_detect(manifest, file)
    return manifest


def _in_words(problem: str) -> str:
    """Return msgspec's message without its root and its regular expressions."""
    return re.sub(r"matching regex '.*?'(?= - at )", "of the form that the schema demands", problem).replace("`$.", "`")


class _TwiceError(Exception):
    """A key stands twice: readers differ on which one counts."""


def _refuse_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        raise _TwiceError(f"{next(key for key in keys if keys.count(key) > 1)!r} stands twice")
    return found


def _check_schema(manifest: EmotionManifest, file: str | Path) -> None:
    for key in ("copies_sha256", "logit_offsets"):
        is_there = getattr(manifest, key) is not UNSET
        if is_there and manifest.schema == SCHEMA:
            raise BundleError(file, f"Object contains unknown field `{key}`, which is of {SCHEMA_2}")
        if not is_there and manifest.schema == SCHEMA_2:
            raise BundleError(file, f"Object missing required field `{key}` of {SCHEMA_2}")
    if isinstance(manifest.logit_offsets, LogitOffsets):
        for name in ("natural", "balanced"):
            count = len(getattr(manifest.logit_offsets, name))
            if count != len(manifest.labels):
                raise BundleError(
                    file, f"logit_offsets.{name}: {count} numbers, but there are {len(manifest.labels)} labels"
                )


def _check_emotion(manifest: EmotionManifest, file: str | Path) -> None:
    _check_schema(manifest, file)
    if len(manifest.outputs) != 1:
        raise BundleError(file, f"outputs: {len(manifest.outputs)} of them; an emotion model has exactly 1")
    classes = manifest.outputs[0].shape[-1]
    if len(manifest.labels) != classes:
        raise BundleError(file, f"labels: {len(manifest.labels)} labels, but the output has {classes} classes")
    if reserved := set(manifest.labels) & {UNCERTAIN, NONE, UNKNOWN}:
        raise BundleError(file, f"labels: {', '.join(sorted(reserved))}: the word means something else")
    if len(set(manifest.labels)) != classes:
        raise BundleError(file, f"labels: {', '.join(manifest.labels)}: a label stands twice")
    if manifest.crop.version not in GEOMETRIES:
        known = ", ".join(map(str, GEOMETRIES))
        raise BundleError(file, f"crop.version: {manifest.crop.version} is unknown; this version of Mien has {known}")
    if (manifest.crop.size_px, manifest.crop.size_px) != manifest.input.shape[1:3]:
        raise BundleError(
            file, f"crop.size_px: {manifest.crop.size_px} does not fit input.shape {manifest.input.shape}"
        )
    if (manifest.input.colour == "grey") != (manifest.input.shape[3] == 1):
        raise BundleError(file, f"input.colour: {manifest.input.colour} with {manifest.input.shape[3]} channels")


def _check_detect(manifest: DetectManifest, file: str | Path) -> None:
    if len(manifest.outputs) != 1:
        raise BundleError(file, f"outputs: {len(manifest.outputs)} of them; a detector has exactly 1")
    if not len(manifest.strides) == len(manifest.heads) > 0:
        raise BundleError(
            file,
            f"strides, heads: {len(manifest.strides)} and {len(manifest.heads)} of them; as many of each are needed",
        )
    height, width = (side - 1 for side in manifest.input.shape[1:3])
    if manifest.input.colour != "bgr" or any(width % s or height % s for s in manifest.strides):
        raise BundleError(
            file,
            f"input: {manifest.input.colour} {manifest.input.shape}; a detector takes bgr, sides one more than a"
            f" multiple of the strides {manifest.strides}",
        )
    cells = sum((width // s) * (height // s) for s in manifest.strides)
    if manifest.outputs[0].shape != (1, cells, 16):
        raise BundleError(
            file, f"outputs[0].shape: {manifest.outputs[0].shape}, the input and strides make {(1, cells, 16)}"
        )
    for index, head in enumerate(manifest.heads):
        if len(head) != 16:
            raise BundleError(file, f"heads[{index}]: {len(head)} channels; 16 are needed")
