"""A run becomes a bundle through `convert`, and the manifest says what it was trained on."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

pytest.importorskip("keras", reason="pip install 'mien[training]'")

from faces import make_recipe, write_faces

from edge.contract.bundle import load_emotion_bundle
from edge.contract.labels import LABELS
from edge.errors import EXIT_CLEAN, EXIT_GATE_FAILED, EXIT_UNDECIDED, UsageError
from training.data.splits import load_training_data
from training.evaluate.command import evaluate_command
from training.export import export_run
from training.fit.run_folder import RECORD, load_run
from training.fit.trainer import fit

pytestmark = pytest.mark.tensorflow


def train(tmp_path: Path) -> tuple[Path, str]:
    recipe = make_recipe(input={"size_px": 16}, data={"targets": ["own", "votes"]}, train={"epochs": 8, "mixup": 0.0})
    file = str(write_faces(tmp_path, count=210))
    fit(recipe, load_training_data([file], recipe), out=tmp_path / "run")
    return tmp_path / "run", file


def test_an_exported_run_is_a_bundle_with_its_origin(tmp_path: Path) -> None:
    run, file = train(tmp_path)
    code = export_run(
        run,
        evaluate=(f"{file}@split=public_test",),
        out=tmp_path / "tiny",
        licence="CC0-1.0",
        version="1.2.3",
        target="own",
        notices=("mind the notice",),
        notes="told to the card",
        force=True,
    )
    assert code in (EXIT_CLEAN, EXIT_GATE_FAILED, EXIT_UNDECIDED)
    manifest = load_emotion_bundle(tmp_path / "tiny").manifest
    assert manifest.labels == LABELS
    assert manifest.version == "1.2.3"
    assert manifest.trained_from.recipe == "tiny"
    assert manifest.trained_from.git == (load_run(run)[1].git or "unknown")
    assert manifest.notices == ("mind the notice",)
    assert "told to the card" in (tmp_path / "tiny" / "MODEL_CARD.md").read_text()
    assert manifest.quantization.calibration is not None
    assert manifest.quantization.calibration.source == "validation"
    assert manifest.quantization.calibration.count <= sum(load_run(run)[1].counts["validation"].values())
    assert manifest.trained_from.datasets[0].count == sum(load_run(run)[1].counts["train"].values())


def test_exporting_again_gives_the_same_bytes(tmp_path: Path) -> None:
    run, file = train(tmp_path)
    for folder in ("first", "second"):
        export_run(
            run, evaluate=(f"{file}@split=public_test",), out=tmp_path / folder, licence="CC0-1.0", version="1.0.0",
            name="tiny", force=True,
        )  # fmt: skip
    for name in ("model.tflite", "manifest.json", "golden.npz"):
        assert (tmp_path / "first" / name).read_bytes() == (tmp_path / "second" / name).read_bytes(), name


def test_an_unfinished_run_and_an_unknown_head_are_refused(tmp_path: Path) -> None:
    run, file = train(tmp_path)
    arguments = {"evaluate": (file,), "out": tmp_path / "bundle", "licence": "CC0-1.0", "version": "1.0.0"}
    with pytest.raises(UsageError, match=r"--target smile: .* has own, votes"):
        export_run(run, target="smile", **arguments)  # type: ignore[arg-type]
    _, record = load_run(run)
    (run / RECORD).write_bytes(msgspec.json.encode(msgspec.structs.replace(record, finished=False)))
    with pytest.raises(UsageError, match="training is not finished"):
        export_run(run, **arguments)  # type: ignore[arg-type]


def test_a_run_whose_pictures_changed_does_not_calibrate_on_them(tmp_path: Path) -> None:
    run, file = train(tmp_path)
    write_faces(tmp_path, count=210, seed=9)
    options = {"evaluate": (f"{file}@split=public_test",), "licence": "CC0-1.0", "version": "1.0.0"}
    with pytest.raises(UsageError, match="the pictures that it was selected on have changed"):
        export_run(run, out=tmp_path / "tiny", **options)
    with pytest.raises(UsageError, match="the pictures that it was selected on have changed"):
        evaluate_command(str(run), [file])
    assert not (tmp_path / "tiny").exists()


def test_a_run_that_noted_no_pictures_is_exported_and_evaluated_with_a_line(tmp_path: Path) -> None:
    run, file = train(tmp_path)
    record = msgspec.json.decode((run / RECORD).read_bytes())
    del record["fingerprint"], record["changes"]
    (run / RECORD).write_bytes(msgspec.json.encode(record))
    for use in (
        lambda say: evaluate_command(str(run), [file], say=say),
        lambda say: export_run(
            run,
            evaluate=(f"{file}@split=public_test",),
            out=tmp_path / "tiny",
            licence="CC0-1.0",
            version="1.0.0",
            say=say,
        ),
    ):
        lines: list[str] = []
        use(lines.append)
        assert len(lines) == 1
        assert "did not note which pictures it was selected on" in lines[0]


def test_a_verdict_on_pictures_that_were_learned_from_says_so(tmp_path: Path) -> None:
    run, file = train(tmp_path)
    lines: list[str] = []
    export_run(
        run,
        evaluate=(f"{file}@split=train",),
        out=tmp_path / "tiny",
        licence="CC0-1.0",
        version="1.0.0",
        say=lines.append,
    )
    learned = sum(load_run(run)[1].counts["train"].values())
    assert lines == [
        f"warning: {run} learned from {learned} of the 210 pictures that judge it; its accuracy on new ones is lower"
    ]
