"""What other code imports from ``convert``."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from workshop import LABELS, Workshop

import convert
from convert.datasets import read_datasets
from edge.errors import UsageError

ROOT = Path(__file__).resolve().parents[2]
NAMED = {"name": "small", "version": "1.0.0", "licence": "CC0-1.0", "labels": tuple(LABELS.split(","))}


def test_every_public_name_is_there_and_none_loads_a_framework() -> None:
    code = (
        "import sys, convert\n"
        "for name in convert._MODULES: getattr(convert, name)\n"
        "assert not {'tensorflow', 'keras', 'onnx'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        convert.nothing  # noqa: B018


def test_options_that_no_model_can_have_are_refused_at_once() -> None:
    with pytest.raises(UsageError, match="--version: 'new'"):
        convert.QuantizeOptions(**{**NAMED, "version": "new"})
    with pytest.raises(UsageError, match="--io: 'int8' is not one of float32"):
        convert.QuantizeOptions(**NAMED, scheme="float16", io="int8")


@pytest.mark.tensorflow
def test_a_classifier_is_quantized_without_a_command_line_and_written_on_demand(
    workshop: Workshop, small_bundle: Path, tmp_path: Path
) -> None:
    data = convert.QuantizeData(read_datasets([str(workshop.calibrate)]), read_datasets([str(workshop.evaluate)]))
    steps: list[str] = []
    options = convert.QuantizeOptions(**NAMED, calibration_count=140)
    result = convert.quantize_classifier(workshop.keras, data, options, note=steps.append)
    assert result.report.comparison.status == "passed"
    assert result.bundle.model == (small_bundle / "model.tflite").read_bytes()
    assert "quantizing to int8 with 140 pictures" in steps
    assert result.write(tmp_path / "small")
    again = convert.verify_bundle(
        tmp_path / "small", workshop.keras, (str(workshop.evaluate),), convert.VerifyOptions()
    )
    assert again.report.comparison.status == "passed"
    assert convert.inspect_model(tmp_path / "small").delegated_nodes == 1
