"""One view of what can be evaluated: a bundle on the device's own code, or a training run through Keras."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

from convert.datasets.dataset import Colour
from edge.bundles.locate import find_bundle
from edge.contract.bundle import load_emotion_bundle
from edge.contract.crop import MEASURED_MARGIN
from edge.contract.manifest import Prior
from edge.errors import DataError, UsageError
from edge.records import Floats
from training.backend import start_keras

Pixels = npt.NDArray[np.uint8]
RUN_FILE: Final = "run.json"


@dataclass(frozen=True, slots=True)
class EvaluatedModel:
    """A classifier of face crops.

    Attributes:
        name: ``emotion-ferplus@1.0.0`` or the run folder's name.
        kind: what it is.
        labels: its classes in its order.
        size_px: side of its input.
        colour: of its input.
        prior: the operating point.
        copies_sha256: of the list of test pictures that it was trained on, if its bundle names one.
        temperature: what its scores are divided by before softmax where it ships; 1 for a run.
        logits: (n, size_px, size_px, channels) uint8 to (n, labels) float32 logits, up to a constant a picture.
        margin: side of its crop as a multiple of the face's height; of a run the data's.
    """

    name: str
    kind: Literal["bundle", "run"]
    labels: tuple[str, ...]
    size_px: int
    colour: Colour
    temperature: float
    prior: Prior
    copies_sha256: str | None
    logits: Callable[[Pixels], Floats]
    margin: float = MEASURED_MARGIN


def load_evaluated_model(name_or_path: str, *, prior: Prior = "natural") -> EvaluatedModel:
    """A run folder, a bundle's folder, or the name of a bundle that ships.

    Args:
        name_or_path: of the model.
        prior: the operating point of a bundle; a run has the natural one.

    Raises:
        UsageError: another operating point of a run.
        BundleError: neither, or a bundle that does not verify or does not have the operating point.
        DataError: a run without weights.
    """
    path = Path(name_or_path).expanduser()
    if not (path / RUN_FILE).is_file():
        return _load_bundle(find_bundle(name_or_path), prior)
    if prior != "natural":
        raise UsageError(f"--prior {prior}: {path} is a run; the operating points are a bundle's")
    return _load_run(path)


def _load_bundle(path: Path, prior: Prior) -> EvaluatedModel:
    """The code that ships is the code that is measured: golden samples, integer shift, softmax and all."""
    from edge.infer import load_model
    from edge.infer.classifier import EmotionClassifier

    bundle = load_emotion_bundle(path)
    classifier = EmotionClassifier(bundle.manifest, load_model(bundle).interpreter, prior=prior)
    temperature = bundle.manifest.temperature

    def logits(pixels: Pixels) -> Floats:
        scores = classifier.classify(pixels)
        unscaled: Floats = np.log(np.maximum(scores, np.finfo(np.float32).tiny)) * np.float32(temperature)
        return unscaled

    return EvaluatedModel(
        name=bundle.manifest.full_name,
        kind="bundle",
        labels=bundle.manifest.labels,
        size_px=bundle.manifest.crop.size_px,
        colour=bundle.manifest.input.colour,
        temperature=temperature,
        prior=prior,
        copies_sha256=bundle.manifest.copies_sha256 or None,
        logits=logits,
        margin=bundle.manifest.crop.margin,
    )


def _load_run(path: Path) -> EvaluatedModel:
    from training.fit.run_folder import load_run, model_file

    recipe, _ = load_run(path)
    weights = model_file(path)
    if not weights.is_file():
        raise DataError(weights, "no such file: the run has not finished an epoch")
    start_keras()
    from training.fit.saved_models import load_keras_model
    from training.fit.trainer import predict_logits

    model = load_keras_model(weights)

    def logits(pixels: Pixels) -> Floats:
        return predict_logits(model.predict_on_batch, pixels)[:, 0]

    return EvaluatedModel(
        name=path.resolve().name,
        kind="run",
        labels=recipe.data.classes,
        size_px=recipe.input.size_px,
        colour=recipe.input.colour,
        temperature=1.0,
        prior="natural",
        copies_sha256=None,
        logits=logits,
    )
