"""What is asked of the conversion of a classifier."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final

from convert.classifier.load import PLAIN, FloatModel, Form, Head, InputArithmetic
from convert.classifier.quantize import Io, Scheme, check_io
from convert.datasets.dataset import Colour, Dataset
from convert.evaluation.verdict import Limits
from edge.contract.crop import MEASURED_MARGIN
from edge.contract.manifest import TrainedFrom
from edge.errors import ModelFileError, UsageError

_NAME: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
_VERSION: Final = re.compile(r"\d+\.\d+\.\d+")


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantizeOptions:
    """How a classifier becomes a bundle, and what the manifest says of it.

    Attributes:
        name: of the bundle: lower case, digits and ``. _ -``.
        version: of the bundle, ``1.0.0``.
        licence: of the weights.
        labels: of the outputs in their order, by our names where they are ours.
        margin: side of the device's crop as a multiple of the face box's height.
        colour: of the input; ``grey`` for one channel.
        arithmetic: what the model expects of its input; None when it scales pixels 0..255 itself.
        head: what the model puts out.
        form: what else the file leaves open.
        notices: lines that must go with the weights.
        notes: for the model card.
        trained_from: where the weights come from; None when nothing but the model's file is known.
        scheme: see `convert.classifier.quantize.SCHEMES`.
        io: kind of input and output; None for the scheme's default.
        limits: what may be lost.
        repair: whether to look for what brings the model back when int8 fails the gate.
        qat_epochs: epochs of quantization-aware fine-tuning.
        edgetpu: whether to say what an Edge TPU takes, and to compile for it where its compiler is installed.
        calibration_count: pictures for the ranges.
        copies_sha256: of the list of test pictures with a copy among the training pictures; None where there is none.
        seed: of the draw of calibration pictures.
        expected_accuracy: of the float model as its owner knows it, 0..1; None where it is not known.
    """

    name: str
    version: str
    licence: str
    labels: tuple[str, ...]
    margin: float = MEASURED_MARGIN
    colour: Colour = "grey"
    arithmetic: InputArithmetic | None = None
    head: Head = "auto"
    form: Form = PLAIN
    notices: tuple[str, ...] = ()
    notes: str = ""
    trained_from: TrainedFrom | None = None
    scheme: Scheme = "int8"
    io: Io | None = None
    limits: Limits = field(default_factory=Limits)
    repair: bool = False
    qat_epochs: int = 0
    edgetpu: bool = False
    calibration_count: int = 512
    copies_sha256: str | None = None
    seed: int = 0
    expected_accuracy: float | None = None

    def __post_init__(self) -> None:
        """Refuse what no model can be converted with.

        Raises:
            UsageError: a bad name or version, or options that exclude each other; the message names the flag.
        """
        if not _NAME.fullmatch(self.name):
            raise UsageError(f"--name: {self.name!r}: lower case, digits and . _ - only, 63 at most")
        if not _VERSION.fullmatch(self.version):
            raise UsageError(f"--version: {self.version!r} is not three numbers such as 1.0.0")
        io = check_io(self.scheme, self.io)
        if self.edgetpu and (self.scheme != "int8" or io == "float32"):
            raise UsageError(
                f"--edgetpu: --scheme {self.scheme} --io {io}; an Edge TPU takes --scheme int8 with --io int8 or uint8"
            )

    def check_model(self, model: FloatModel) -> None:
        """Refuse a model that the labels or the colour do not fit.

        Raises:
            ModelFileError: another number of labels.
            UsageError: another colour.
        """
        if len(self.labels) != model.classes:
            raise ModelFileError(
                model.path,
                f"--labels: {len(self.labels)} labels ({', '.join(self.labels)}), but {model.classes} outputs",
            )
        if model.input_shape[2] == 1 and self.colour != "grey":
            raise UsageError(f"--color: {self.colour}, but the model takes one channel")
        if model.input_shape[2] == 3 and self.colour == "grey":
            raise UsageError("--color: the model takes three channels: say rgb or bgr")


@dataclass(frozen=True, slots=True)
class QuantizeData:
    """The labelled faces of a conversion.

    Attributes:
        calibration: for the ranges of the activations, the temperature and the thresholds.
        evaluation: others, for the verdict.
    """

    calibration: Dataset
    evaluation: Dataset


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyOptions:
    """How a bundle is compared with the float model that it was made of.

    Attributes:
        arithmetic: what the float classifier expects of its input; None when it scales pixels 0..255 itself.
        head: what the float classifier puts out.
        form: what else its file leaves open.
        limits: what may be lost.
        notes: for the model card of a detector.
    """

    arithmetic: InputArithmetic | None = None
    head: Head = "auto"
    form: Form = PLAIN
    limits: Limits = field(default_factory=Limits)
    notes: str = ""
