"""Manifest, golden samples and bundle: complete, or the load fails with file and key."""

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge.bundles.locate import find_bundle
from edge.contract.bundle import load_bundle, load_detect_bundle, load_emotion_bundle
from edge.contract.golden import Golden, compare_golden, decode_golden, encode_golden
from edge.contract.manifest import decode_manifest
from edge.errors import EXIT_CONFIG, BundleError
from edge.system.files import encode_json

LABELS = ["angry", "disgust", "fear", "happy", "sad", "surprise", "neutral"]


def manifest_of(model: bytes, golden: bytes) -> dict[str, Any]:
    return {
        "schema": "mien.manifest/1",
        "task": "emotion",
        "name": "planted",
        "version": "1.0.0",
        "status": "passed",
        "model": {"file": "model.tflite", "sha256": hashlib.sha256(model).hexdigest(), "bytes": len(model)},
        "edgetpu_model": None,
        "input": {"shape": [1, 48, 48, 1], "dtype": "int8", "colour": "grey"},
        "outputs": [{"name": "logits", "shape": [1, 7], "dtype": "int8", "scale": 0.1, "zero_point": 3}],
        "quantization": {"scheme": "int8", "recipe": "test", "calibration": None},
        "trained_from": {"git": "0" * 40, "recipe": "test", "datasets": [{"name": "x", "count": 3}]},
        "metrics": [{"name": "accuracy", "dataset": "x", "n": 3, "float32": 0.5, "quantized": 0.5}],
        "golden": {
            "file": "golden.npz",
            "sha256": hashlib.sha256(golden).hexdigest(),
            "count": 2,
            "max_steps_xnnpack": 1,
            "max_steps_other": 4,
        },
        "licence": "Apache-2.0",
        "notices": [],
        "labels": LABELS,
        "crop": {"geometry": "square", "version": 1, "size_px": 48, "margin": 0.99},
        "temperature": 1.2,
        "thresholds": {"margin": 0.1},
    }


def golden_of(count: int = 2) -> Golden:
    rng = np.random.default_rng(3)
    inputs = rng.integers(0, 256, (count, 48, 48, 1), np.uint8)
    outputs = rng.integers(-128, 128, (count, 7), np.int8)
    return Golden(inputs, (outputs,), tuple(f"synthetic seed {i}" for i in range(count)))


@pytest.fixture
def planted(tmp_path: Path) -> tuple[Path, dict[str, Any]]:
    model, golden = b"not really a model", encode_golden(golden_of())
    manifest = manifest_of(model, golden)
    (tmp_path / "model.tflite").write_bytes(model)
    (tmp_path / "golden.npz").write_bytes(golden)
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    return tmp_path, manifest


def rewrite(folder: Path, manifest: dict[str, Any]) -> None:
    (folder / "manifest.json").write_text(json.dumps(manifest))


def test_a_complete_bundle_loads_and_its_manifest_survives_a_round_trip(planted: tuple[Path, dict[str, Any]]) -> None:
    bundle = load_emotion_bundle(planted[0])
    assert bundle.manifest.full_name == "planted@1.0.0"
    assert decode_manifest(encode_json(bundle.manifest), file="again") == bundle.manifest


def keys_of(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    if isinstance(value, dict):
        inner = [found for key, item in value.items() for found in keys_of(item, (*path, key))]
        return [(*path, key) for key in value] + inner
    if isinstance(value, list):
        return [found for index, item in enumerate(value) for found in keys_of(item, (*path, index))]
    return []


@pytest.mark.parametrize("path", keys_of(manifest_of(b"", b"")), ids=lambda path: ".".join(map(str, path)))
def test_every_key_of_the_manifest_is_demanded(path: tuple[Any, ...], planted: tuple[Path, dict[str, Any]]) -> None:
    folder, manifest = planted
    holder: Any = manifest
    for part in path[:-1]:
        holder = holder[part]
    del holder[path[-1]]
    rewrite(folder, manifest)
    with pytest.raises(BundleError, match=re.escape(str(path[-1]))) as caught:
        load_bundle(folder)
    assert "manifest.json" in str(caught.value)
    assert caught.value.exit_code == EXIT_CONFIG


def second(manifest: dict[str, Any]) -> dict[str, Any]:
    """Makes it one of ``mien.manifest/2``."""
    offsets = {"natural": [0.0] * 7, "balanced": [0.5, 0.0, 0.0, 0.0, 0.0, 0.0, -0.5]}
    manifest.update(schema="mien.manifest/2", copies_sha256="0" * 64, logit_offsets=offsets)
    return manifest


def test_a_bundle_of_the_second_schema_has_two_operating_points_and_survives_a_round_trip(
    planted: tuple[Path, dict[str, Any]],
) -> None:
    folder, manifest = planted
    rewrite(folder, second(manifest))
    loaded = load_emotion_bundle(folder).manifest
    assert loaded.offsets("natural") == (0.0,) * 7
    assert loaded.offsets("balanced") == (0.5, 0.0, 0.0, 0.0, 0.0, 0.0, -0.5)
    assert decode_manifest(encode_json(loaded), file="again") == loaded


def test_a_bundle_of_the_first_schema_is_read_and_written_as_it_was_and_has_one_operating_point(
    planted: tuple[Path, dict[str, Any]],
) -> None:
    folder, manifest = planted
    loaded = load_emotion_bundle(folder).manifest
    assert json.loads(encode_json(loaded)) == manifest
    assert loaded.offsets("natural") == (0.0,) * 7
    with pytest.raises(BundleError, match="balanced") as caught:
        loaded.offsets("balanced")
    assert caught.value.exit_code == EXIT_CONFIG


MISTAKES = [
    ("colour", lambda m: m["input"].update(colour="sepia"), "input.colour"),
    ("unknown key", lambda m: m.update(extra=1), "extra"),
    ("unknown inner key", lambda m: m["crop"].update(extra=1), "extra"),
    ("future schema", lambda m: m.update(schema="mien.manifest/3"), "schema"),
    ("second schema without its keys", lambda m: m.update(schema="mien.manifest/2"), "copies_sha256"),
    ("second schema without offsets", lambda m: (second(m), m.pop("logit_offsets")), "logit_offsets"),
    ("second schema's key in the first", lambda m: m.update(copies_sha256=None), "copies_sha256"),
    (
        "second schema's offsets in the first",
        lambda m: (second(m), m.update(schema="mien.manifest/1"), m.pop("copies_sha256")),
        "logit_offsets",
    ),
    (
        "offsets of another number",
        lambda m: second(m)["logit_offsets"].update(balanced=[0.5] * 6),
        "logit_offsets.balanced: 6",
    ),
    ("label count", lambda m: m.update(labels=LABELS[:6]), "6 labels, but the output has 7"),
    ("label twice", lambda m: m.update(labels=[*LABELS[:6], "angry"]), "twice"),
    ("crop version", lambda m: m["crop"].update(version=9), "crop.version: 9 is unknown"),
    ("crop size", lambda m: m["crop"].update(size_px=64), "crop.size_px"),
    ("channels", lambda m: m["input"].update(colour="bgr"), "input.colour"),
    ("temperature", lambda m: m.update(temperature=0), "temperature"),
    ("model hash", lambda m: m["model"].update(sha256="0" * 64), "sha256"),
    ("golden hash", lambda m: m["golden"].update(sha256="0" * 64), "sha256"),
    ("golden count", lambda m: m["golden"].update(count=3), "2 samples"),
    ("two outputs", lambda m: m.update(outputs=m["outputs"] * 2), "outputs"),
    ("task", lambda m: m.update(task="sing"), "task"),
]


@pytest.mark.parametrize(("spoil", "told"), [m[1:] for m in MISTAKES], ids=[m[0] for m in MISTAKES])
def test_a_wrong_manifest_is_refused_with_its_key(spoil: Any, told: str, planted: tuple[Path, dict[str, Any]]) -> None:
    folder, manifest = planted
    spoil(manifest)
    rewrite(folder, manifest)
    with pytest.raises(BundleError, match=re.escape(told)):
        load_bundle(folder)


@pytest.mark.parametrize("name", ["manifest.json", "model.tflite", "golden.npz"])
def test_a_missing_or_flipped_file_is_refused_by_name(name: str, planted: tuple[Path, dict[str, Any]]) -> None:
    path = planted[0] / name
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 0x40
    path.write_bytes(bytes(raw))
    with pytest.raises(BundleError, match=name):
        load_bundle(planted[0])
    path.unlink()
    with pytest.raises(BundleError, match=f"{name}: No such file"):
        load_bundle(planted[0])


def test_an_emotion_bundle_is_no_detector(planted: tuple[Path, dict[str, Any]]) -> None:
    with pytest.raises(BundleError, match="task"):
        load_detect_bundle(planted[0])


def test_an_unknown_name_lists_the_shipped_bundles(tmp_path: Path, planted: tuple[Path, dict[str, Any]]) -> None:
    with pytest.raises(BundleError, match="no such bundle"):
        find_bundle("emotion-unheard-of")
    (tmp_path / "empty").mkdir()
    with pytest.raises(BundleError, match="not a bundle"):
        find_bundle(str(tmp_path / "empty"))
    assert find_bundle(str(planted[0])) == planted[0]


def test_an_installed_bundle_wins_over_a_shipped_one(
    planted: tuple[Path, dict[str, Any]], tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = tmp_path_factory.mktemp("models")
    folder = models / "planted" / "0001-1.0.0"
    folder.parent.mkdir()
    folder.symlink_to(planted[0])
    monkeypatch.setenv("MIEN_BUNDLES", str(models))
    assert find_bundle("planted") == find_bundle("planted@1.0.0") == folder


def test_golden_samples_are_written_deterministically_and_read_back() -> None:
    golden = golden_of()
    raw = encode_golden(golden)
    assert raw == encode_golden(golden)
    again = decode_golden(raw, file="golden.npz")
    np.testing.assert_array_equal(again.inputs, golden.inputs)
    np.testing.assert_array_equal(again.outputs[0], golden.outputs[0])
    assert again.origins == golden.origins


def test_outputs_that_are_no_numbers_never_pass_the_golden_samples() -> None:
    boxes = np.ones((1, 2, 2, 3), np.float32)  # not a row of classes: no top class that could differ
    golden = Golden(np.zeros((1, 4, 4, 1), np.uint8), (boxes,), ("synthetic seed 0",))
    verdict = compare_golden(golden, (np.full_like(boxes, np.nan),), max_steps=4)
    assert not verdict.passed
    assert "inf steps" in str(verdict)


def test_golden_comparison_counts_steps_and_lost_top_classes() -> None:
    golden = golden_of(1)
    row = np.array([[0, 0, 0, 20, 0, 10, 0]], np.int8)
    golden = Golden(golden.inputs, (row,), golden.origins)
    assert compare_golden(golden, (row,), max_steps=0).passed
    one_off = row + np.int8(1)
    assert compare_golden(golden, (one_off,), max_steps=1).passed
    verdict = compare_golden(golden, (one_off,), max_steps=0)
    assert not verdict.passed
    assert "up to 1 steps, 0 allowed" in str(verdict)
    swapped = row.copy()
    swapped[0, 5] = 40
    assert compare_golden(golden, (swapped,), max_steps=4).class_flips == 1
