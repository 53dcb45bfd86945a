"""The device's install: the wheel alone, in a fresh environment, without what only training and conversion need."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FORBIDDEN = ("tensorflow", "keras", "torch", "jax", "sklearn", "matplotlib", "onnx", "PIL", "amqtt")
FORBIDDEN += ("starlette", "uvicorn", "prometheus_client")
PROBE = """
import importlib, json, pkgutil, sys
import edge
optional = {"edge.capture.picamera2", "edge.commands.demo.broker"}
optional |= {f"edge.page.{name}" for name in ("fleet_app", "metrics", "server", "sink")}
names = [m.name for m in pkgutil.walk_packages(edge.__path__, "edge.") if m.name != "edge.__main__"]
for name in names:
    if name not in optional:
        importlib.import_module(name)
print(json.dumps(sorted({name.partition(".")[0] for name in sys.modules})))
"""


@pytest.fixture(scope="module")
def fresh_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Python of a new environment in which nothing but the wheel and its dependencies is installed."""
    folder = tmp_path_factory.mktemp("alone")
    pip = ["-m", "pip", "--disable-pip-version-check", "--quiet"]
    subprocess.run([sys.executable, *pip, "wheel", "--no-deps", "--wheel-dir", folder, ROOT], check=True)
    (wheel,) = folder.glob("mien-*.whl")
    subprocess.run([sys.executable, "-m", "venv", folder / "venv"], check=True)
    python = folder / "venv" / "bin" / "python"
    subprocess.run([python, *pip, "install", "--constraint", ROOT / "requirements.lock", wheel], check=True)
    return python


@pytest.mark.timeout(600)
def test_every_module_of_edge_imports_and_none_brings_training_packages(fresh_python: Path, tmp_path: Path) -> None:
    found = subprocess.run([fresh_python, "-c", PROBE], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr
    assert not set(FORBIDDEN) & set(json.loads(found.stdout))


@pytest.mark.timeout(600)
def test_the_command_reads_faces_from_a_picture_there(fresh_python: Path, tmp_path: Path) -> None:
    pictures = ROOT / "edge" / "capture" / "portraits"
    command = [fresh_python.parent / "mien", "replay", pictures, "--out", tmp_path / "o.jsonl"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in (tmp_path / "o.jsonl").read_text().splitlines()]
    assert len(rows) >= 4
    assert all(row["faces"] for row in rows)
