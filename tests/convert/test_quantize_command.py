"""``mien-convert quantize`` from files to a judged bundle."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from workshop import Outcome, Workshop

from edge.contract.bundle import load_emotion_bundle
from edge.contract.labels import LABELS
from edge.errors import BundleError

pytestmark = pytest.mark.tensorflow
Run = Callable[..., Outcome]
CONTRACT = ("model.tflite", "manifest.json", "golden.npz")


def test_the_bundle_loads_on_the_device_and_says_that_it_passed(small_bundle: Path) -> None:
    bundle = load_emotion_bundle(small_bundle)
    manifest = bundle.manifest
    assert manifest.status == "passed"
    assert manifest.labels == LABELS
    assert (manifest.input.dtype, manifest.input.shape) == ("int8", (1, 24, 24, 1))
    assert (manifest.crop.size_px, manifest.crop.margin) == (24, 0.99)
    assert manifest.quantization.calibration is not None
    assert manifest.quantization.calibration.count == 140
    accuracy = next(metric for metric in manifest.metrics if metric.name == "accuracy")
    assert accuracy.n == 1540
    assert accuracy.float32 > 0.95
    assert accuracy.quantized > 0.95


def test_xnnpack_takes_the_whole_graph_and_the_input_scale_is_one(small_bundle: Path) -> None:
    from convert.tflite.graph import Graph
    from edge.infer import load_model

    bundle = load_emotion_bundle(small_bundle)
    loaded = load_model(bundle)
    assert (loaded.interpreter.delegated_nodes, loaded.interpreter.total_nodes) == (1, 1)
    assert loaded.parity.worst_steps == 0
    loaded.interpreter.close()
    graph = Graph(bundle.model)
    assert graph.quantization(graph.inputs[0]) == ([1.0], [-128])


def test_golden_samples_name_free_pictures_and_seeds_only(small_bundle: Path) -> None:
    golden = load_emotion_bundle(small_bundle).golden
    assert len(golden.inputs) == 16
    assert all("public domain" in origin or origin.startswith("synthetic seed") for origin in golden.origins)
    assert len({picture.tobytes() for picture in golden.inputs}) == 16


def test_the_report_lies_beside_the_bundle_and_card_and_json_inside(small_bundle: Path) -> None:
    assert sorted(path.name for path in small_bundle.iterdir()) == sorted([*CONTRACT, "MODEL_CARD.md", "report.json"])
    page = (small_bundle.parent / "small.report" / "report.html").read_text(encoding="utf-8")
    assert page.index("PASSED") < page.index("Confusion")
    assert "<script" not in page
    assert "http" not in page
    card = (small_bundle / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert "Verdict: passed" in card
    assert "not what a person feels" in card


def test_the_json_report_holds_both_models_on_the_same_pictures(small_bundle: Path) -> None:
    report = json.loads((small_bundle.parent / "small.json").read_bytes())
    assert report["schema"] == "mien.conversion/1"
    found = report["comparison"]
    assert found["n"] == 1540
    assert found["drop_low"] <= found["drop"] <= found["drop_high"]
    assert sum(map(sum, found["confusion_quantized"])) == 1540
    assert {one["name"] for one in found["slices"]} == {"darker", "brighter", "blurred", "smaller", "jpeg"}
    assert [form["name"] for form in report["forms"]] == ["float32", "int8"]
    assert report["forms"][1]["bytes"] < 0.4 * report["forms"][0]["bytes"]
    assert report["forms"][1]["int8_macs_share"] == 1.0
    assert len(report["layers"]) >= 5


def test_the_same_inputs_give_the_same_bytes(
    workshop: Workshop, mien_convert: Run, small_bundle: Path, tmp_path: Path
) -> None:
    again = tmp_path / "small"
    assert mien_convert(*workshop.arguments(again)).code == 0
    for name in CONTRACT:
        assert (again / name).read_bytes() == (small_bundle / name).read_bytes(), name


def test_an_existing_bundle_needs_force_and_anything_else_is_never_overwritten(
    workshop: Workshop, mien_convert: Run, small_bundle: Path, tmp_path: Path
) -> None:
    before = (small_bundle / "manifest.json").read_bytes()
    refused = mien_convert(*workshop.arguments(small_bundle))
    assert refused.code == 2
    assert "--force" in refused.err
    assert (small_bundle / "manifest.json").read_bytes() == before
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "dear.txt").write_text("precious")
    assert mien_convert(*workshop.arguments(tmp_path / "letters"), "--force").code == 2
    assert (tmp_path / "letters" / "dear.txt").read_text() == "precious"


def test_verify_measures_a_bundle_again_and_agrees(
    workshop: Workshop, mien_convert: Run, small_bundle: Path, tmp_path: Path
) -> None:
    said = mien_convert(
        "verify",
        small_bundle,
        "--reference",
        workshop.keras,
        "--data",
        workshop.evaluate,
        "--json",
        tmp_path / "v.json",
    )
    assert said.code == 0
    assert said.out.splitlines()[-1].startswith("passed: ")
    again = json.loads((tmp_path / "v.json").read_bytes())["comparison"]
    first = json.loads((small_bundle / "report.json").read_bytes())["comparison"]
    assert again["drop"] == first["drop"]
    assert again["confusion_quantized"] == first["confusion_quantized"]


def test_verify_refuses_another_model_as_reference(
    workshop: Workshop, mien_convert: Run, small_bundle: Path, tmp_path: Path
) -> None:
    from convert.frameworks import import_keras

    keras = import_keras()
    pixels = keras.Input((32, 32, 1))
    scaled = keras.layers.Rescaling(1 / 255)(pixels)
    keras.Model(pixels, keras.layers.Dense(7)(keras.layers.Flatten()(scaled))).save(tmp_path / "other.keras")
    said = mien_convert("verify", small_bundle, "--reference", tmp_path / "other.keras", "--data", workshop.evaluate)
    assert said.code == 1
    assert "not the same model" in said.err


def test_too_few_pictures_are_undecided_and_the_message_says_how_many_to_bring(
    workshop: Workshop, mien_convert: Run, tmp_path: Path
) -> None:
    from small_networks import save_faces

    few = save_faces(tmp_path / "few.npz", 70, seed=23)
    arguments = workshop.arguments(tmp_path / "small")
    arguments[arguments.index("--evaluate") + 1] = str(few)
    said = mien_convert(*arguments)
    assert said.code == 4
    assert "70 pictures decide nothing, bring about" in said.out
    assert load_emotion_bundle(tmp_path / "small").manifest.status == "undecided"


def test_a_model_that_breaks_fails_is_not_written_and_comes_back_by_repair(
    workshop: Workshop, mien_convert: Run, tmp_path: Path
) -> None:
    from small_networks import make_badly_scaled_network

    make_badly_scaled_network().save(tmp_path / "broken.keras")
    out = tmp_path / "broken"
    failed = mien_convert(*workshop.arguments(out, model=tmp_path / "broken.keras"))
    assert failed.code == 3
    assert failed.out.splitlines()[-1].startswith("failed: accuracy fell by")
    assert "no bundle was written (--repair looks for what brings it back" in failed.out
    assert not out.exists()
    forced = mien_convert(*workshop.arguments(out, model=tmp_path / "broken.keras"), "--force")
    assert forced.code == 3
    assert load_emotion_bundle(out).manifest.status == "failed"
    arguments = workshop.arguments(out, model=tmp_path / "broken.keras")
    repaired = mien_convert(*arguments, "--force", "--repair", "--json", tmp_path / "r.json")
    assert repaired.code == 0
    steps = json.loads((tmp_path / "r.json").read_bytes())["repair"]
    assert steps[0]["drop"] > 10
    chosen = next(step for step in steps if step["chosen"])
    assert chosen["drop"] < 0.5
    assert chosen["int8_macs_share"] == 1.0
    assert "equalized layers" in load_emotion_bundle(out).manifest.quantization.recipe


def test_the_runtime_refuses_a_bundle_that_failed(small_bundle: Path) -> None:
    import msgspec

    from edge.bundles.select import BundleRules, load_verified_model

    bundle = load_emotion_bundle(small_bundle)
    failed = type(bundle)(
        bundle.path, msgspec.structs.replace(bundle.manifest, status="failed"), bundle.model, None, bundle.golden
    )
    with pytest.raises(BundleError, match="allow_failed"):
        load_verified_model(failed, BundleRules())
    load_verified_model(failed, BundleRules(allow_failed=True))


@pytest.mark.parametrize(
    ("scheme", "io", "dtypes"),
    [
        ("int8", "uint8", ("uint8", "uint8")),
        ("int8", "float32", ("float32", "float32")),
        ("float16", "float32", ("float32", "float32")),
        ("dynamic", "float32", ("float32", "float32")),
        ("int16x8", "float32", ("float32", "float32")),
    ],
)
def test_every_scheme_and_kind_of_input_keeps_the_model(
    workshop: Workshop, scheme: str, io: str, dtypes: tuple[str, str], tmp_path: Path
) -> None:
    from small_networks import make_faces

    from convert.classifier.load import load_model
    from convert.classifier.quantize import check_io, quantize
    from convert.tflite.probe import probe_model

    model = load_model(workshop.keras, arithmetic=None)
    images, labels = make_faces(210, seed=31)
    pixels = images[..., np.newaxis]
    quantized = quantize(model.tflite, scheme=scheme, io=check_io(scheme, io), pixels=pixels[:70])  # type: ignore[arg-type]
    (tmp_path / "model.tflite").write_bytes(quantized.model)
    facts = probe_model(tmp_path / "model.tflite")
    assert (facts.inputs[0].dtype, facts.outputs[0].dtype) == dtypes
    from convert.classifier.repair import run_logits

    assert (run_logits(quantized.model, pixels).argmax(1) == labels).mean() > 0.95
    plan = {("int8", "uint8"): (1, 3), ("int16x8", "float32"): (0, len(facts.plan))}.get((scheme, io), (1, 1))
    assert (facts.delegated_nodes, len(facts.plan)) == plan


def test_a_float16_file_is_half_as_large_and_a_dynamic_one_a_quarter(workshop: Workshop) -> None:
    from small_networks import make_faces

    from convert.classifier.load import load_model
    from convert.classifier.quantize import quantize

    model = load_model(workshop.keras, arithmetic=None)
    pixels = make_faces(14, seed=32)[0][..., np.newaxis]
    sizes = {
        s: len(quantize(model.tflite, scheme=s, io="float32", pixels=pixels).model) for s in ("float16", "dynamic")
    }
    assert sizes["float16"] < 0.65 * len(model.tflite)
    assert sizes["dynamic"] < 0.5 * len(model.tflite)
