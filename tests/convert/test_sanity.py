"""Whether a float model is believed: other settings are found where they are right, and never where the declared is."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest
from tools import ROOT

from convert.classifier.load import FloatModel, InputArithmetic, apply_arithmetic
from convert.classifier.sanity import Setting, check_labels, check_scaling, describe_setting, find_doubt, left_out
from convert.datasets import Dataset
from convert.evaluation.verdict import EvaluationSet
from edge.contract.labels import LABELS
from edge.errors import UsageError

UNIT = InputArithmetic((1 / 255,))
PLAIN = InputArithmetic((1.0,))
IMAGENET = InputArithmetic((1 / 58.395, 1 / 57.12, 1 / 57.375), (123.675, 116.28, 103.53))


def faces(n: int, *, channels: int = 1, noise: float = 90, seed: int = 0) -> EvaluationSet:
    """Each class a pattern of its own under noise; the first classes are the most frequent."""
    rng = np.random.default_rng(seed)
    labels = rng.choice(7, n, p=np.array([5, 1, 4, 8, 4, 3, 5]) / 30)
    patterns = np.random.default_rng(99).integers(0, 256, (7, 12, 12, channels))
    pixels = np.clip(patterns[labels] + rng.normal(0, noise, (n, 12, 12, channels)), 0, 255).astype(np.uint8)
    return EvaluationSet("faces", "0" * 64, pixels, labels.astype(np.int64), 0)


def network(
    meant: InputArithmetic,
    declared: InputArithmetic | None,
    *,
    channels: int = 1,
    order: tuple[int, ...] = tuple(range(7)),
    scales_input: bool = False,
) -> FloatModel:
    """A nearest-pattern classifier behind a wave: only ``meant`` makes it see."""
    patterns = np.random.default_rng(99).integers(0, 256, (7, 12, 12, channels)).astype(np.uint8)
    inside = np.cos(3 * apply_arithmetic(patterns, meant)).reshape(7, -1)[list(order)]

    def run(values: np.ndarray) -> np.ndarray:
        seen = np.cos(3 * values).reshape(len(values), -1)
        distances = (seen**2).sum(1)[:, None] - 2 * seen @ inside.T + (inside**2).sum(1)
        return -distances.astype(np.float32)

    return FloatModel(
        Path("net.keras"), "keras", b"", (12, 12, channels), 7, False,
        lambda pixels: run(apply_arithmetic(pixels, declared)), scales_input=scales_input, run=run,
    )  # fmt: skip


def doubt(model: FloatModel, data: EvaluationSet, declared: InputArithmetic | None, **changes: object) -> str:
    options = {"labels": LABELS, "arithmetic": declared, "colour": "grey", **changes}
    found = find_doubt(model, data, **options)  # type: ignore[arg-type]
    return found.text if found else ""


@pytest.mark.parametrize("meant", [UNIT, InputArithmetic((1 / 127.5,), (127.5,))])
@pytest.mark.parametrize("n", [40, 150, 900])
def test_a_right_setting_is_never_suspect(meant: InputArithmetic, n: int) -> None:
    for seed in range(10):
        assert doubt(network(meant, meant), faces(n, seed=seed, noise=160), meant) == ""


@pytest.mark.parametrize(
    ("meant", "declared", "said"),
    [
        (UNIT, PLAIN, "--scale 1/255 "),
        (UNIT, InputArithmetic((1e-9,)), "--scale 1/255 "),
        (InputArithmetic((1 / 127.5,), (127.5,)), UNIT, "--scale 1/127.5 --mean 127.5"),
        (InputArithmetic((-1 / 255,), (255.0,)), UNIT, "--scale -1/255 --mean 255"),
    ],
)
def test_a_wrong_scale_is_suspect_and_the_right_one_is_named(
    meant: InputArithmetic, declared: InputArithmetic, said: str
) -> None:
    text = doubt(network(meant, declared), faces(600), declared)
    assert text.startswith(f"with {said}")
    assert "did you mean that?" in text


def test_a_model_whose_first_operator_is_taken_for_scaling_is_suspect() -> None:
    assert doubt(network(UNIT, None, scales_input=True), faces(600), None).startswith(
        "with --scale 1/255 the same model"
    )


@pytest.mark.parametrize(
    ("labels", "right"),
    [
        (("happy", "angry", "fear", "disgust", "sad", "surprise", "neutral"), LABELS),
        (tuple(reversed(LABELS)), LABELS),
        (("disgust", "angry", *LABELS[2:]), LABELS),
    ],
)
def test_labels_in_another_order_are_suspect_and_the_right_order_is_named(
    labels: tuple[str, ...], right: tuple[str, ...]
) -> None:
    data = faces(2000, noise=60)
    declared = np.array([labels.index(label) for label in LABELS])
    told = EvaluationSet("faces", data.sha256, data.pixels, declared[data.labels], 0)
    text = doubt(network(UNIT, UNIT), told, UNIT, labels=labels)
    assert text.startswith(f"with --labels {','.join(right)} the same model")


def test_colours_in_the_other_order_are_suspect() -> None:
    data = faces(600, channels=3)
    swapped = EvaluationSet("faces", data.sha256, np.ascontiguousarray(data.pixels[..., ::-1]), data.labels, 0)
    text = doubt(network(IMAGENET, IMAGENET, channels=3), swapped, IMAGENET, colour="bgr")
    assert "--color rgb the same model" in text


def test_settings_are_said_as_they_are_typed() -> None:
    said = describe_setting(Setting(IMAGENET, swapped=True), Setting(UNIT), labels=LABELS, colour="bgr")
    assert said == "with --scale 1/58.395,1/57.12,1/57.375 --mean 123.675,116.28,103.53 --color rgb"


def test_a_model_that_is_worse_than_the_commonest_label_is_suspect() -> None:
    data = faces(900)
    model = network(UNIT, UNIT)
    nonsense = FloatModel(
        Path("n"), "keras", b"", (12, 12, 1), 7, False,
        lambda pixels: np.eye(7, dtype=np.float32)[np.ones(len(pixels), int)],
        scales_input=False, run=lambda values: np.eye(7, dtype=np.float32)[np.ones(len(values), int)],
    )  # fmt: skip
    assert "always saying happy would be right on" in doubt(nonsense, data, UNIT)
    assert doubt(model, data, UNIT) == ""


def test_the_owners_own_figure_is_compared() -> None:
    data, model = faces(900, noise=160), network(UNIT, UNIT)
    right = float((model.predict(data.pixels).argmax(1) == data.labels).mean())
    assert doubt(model, data, UNIT, expected=right) == ""
    assert "--expect-accuracy says 20 %" in doubt(model, data, UNIT, expected=0.2)


def test_that_nothing_scales_the_input_is_said_only_where_it_is_true() -> None:
    data = faces(600)
    options = {"labels": LABELS, "arithmetic": None, "colour": "grey"}
    with pytest.raises(UsageError, match="nothing in the model scales its input, and with --scale 1/255 "):
        check_scaling(network(UNIT, None), data, **options)  # type: ignore[arg-type]
    check_scaling(network(PLAIN, None), data, **options)  # type: ignore[arg-type]  # folded into the first layer


def dataset(labels: list[int]) -> Dataset:
    n = len(labels)
    text = np.full(n, "", np.str_)
    images = np.zeros((n, 4, 4), np.uint8)
    return Dataset("faces", images, np.array(labels, np.int64), text, text, text, text, text, None, "0" * 64)


def test_a_label_with_a_typo_or_in_another_language_is_an_error() -> None:
    data = dataset([0, 1, 3, 3])
    check_labels(LABELS, data)
    check_labels((*LABELS, "contempt"), data)
    with pytest.raises(UsageError, match=r"--labels: hapy: no picture of faces has this label; did you mean happy\?"):
        check_labels(tuple("hapy" if label == "happy" else label for label in LABELS), data)
    with pytest.raises(UsageError, match=r"--labels: wut: .*; known are angry, disgust"):
        check_labels(("wut", "ekel"), data)


def test_pictures_whose_label_the_model_lacks_are_named_with_their_number() -> None:
    assert left_out(LABELS, dataset([0, 1, 3])) == ""
    assert left_out(("happy", "sad"), dataset([0, 0, 3, 6])) == "angry 2, neutral 1"


@pytest.mark.parametrize(
    ("found", "told", "recorded"), [("passed", "suspect", "undecided"), ("failed", "failed", "failed")]
)
def test_a_doubt_about_the_float_model_excuses_no_failure(found: str, told: str, recorded: str) -> None:
    pytest.importorskip("tensorflow", reason="pip install '.[convert]'")
    from dataclasses import make_dataclass

    from convert.classifier.api import _suspect
    from convert.classifier.sanity import Doubt
    from convert.evaluation.verdict import Run
    from edge.contract.bundle import Bundle, load_emotion_bundle

    shipped = load_emotion_bundle(ROOT / "edge" / "models" / "emotion-nano")
    manifest = msgspec.structs.replace(shipped.manifest, status=found)
    comparison = make_dataclass("Comparison", ["status", "reason"])(found, "why")
    run = Run(comparison, faces(1), np.zeros(0), np.zeros(0), 0, 0)
    bundle, after = _suspect(Bundle(shipped.path, manifest, shipped.model, None, shipped.golden), run, Doubt("doubt"))
    assert (after.comparison.status, bundle.manifest.status) == (told, recorded)
    assert after.comparison.reason == f"doubt (int8 against float: {found}, why)"
