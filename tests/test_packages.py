"""What is missing is told with a command that works; what cannot be loaded is not told as missing."""

from __future__ import annotations

import os
import re
import resource
import subprocess
import sys
from pathlib import Path

import pytest
from tools import ROOT

from edge.errors import EXIT_RUNTIME, BrokenDependencyError, MissingDependencyError
from edge.infer.litert import import_runtime
from edge.packages import install_line, requirements
from edge.registry import load_entry

DECLARED = [
    "numpy>=1.26",
    "tomli>=2.0; python_version < '3.11'",
    'amqtt>=0.11; extra == "demo"',
    'mien[convert]; extra == "training"',
    'scikit-learn>=1.4; extra == "training"',
    "tensorflow<2.22,>=2.21; extra == 'convert'",
]


@pytest.mark.parametrize(
    ("extra", "expected"),
    [
        ("", ["numpy>=1.26", "tomli>=2.0; python_version < '3.11'"]),
        ("demo", ["amqtt>=0.11"]),
        ("training", ["tensorflow<2.22,>=2.21", "scikit-learn>=1.4"]),
        ("nothing", []),
    ],
)
def test_the_requirements_of_an_extra_are_those_of_the_metadata(extra: str, expected: list[str]) -> None:
    assert requirements(extra, DECLARED) == expected


def test_an_install_line_names_this_python_and_packages_that_are_on_the_index() -> None:
    line = install_line("demo")
    assert line.startswith(f"{sys.executable} -m pip install ")
    assert "amqtt" in line
    assert not re.search(r"install '?mien", line)


def test_nothing_tells_people_to_install_a_name_that_is_not_ours() -> None:
    for folder in ("edge", "convert", "training", "systemd"):
        for path in (ROOT / folder).rglob("*"):
            if path.is_file() and path.suffix in (".py", ".md", ".toml", ".service", ""):
                text = path.read_text(encoding="utf-8", errors="replace")
                assert not re.search(r"pip install '?\"?mien\b", text), path


def module(folder: Path, name: str, body: str) -> None:
    (folder / name).mkdir(parents=True)
    (folder / name / "__init__.py").write_text("")
    (folder / name / "interpreter.py").write_text(body)


def test_a_runtime_that_cannot_be_loaded_is_not_called_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module(tmp_path, "broken_runtime", "raise ImportError('libx.so: failed to map segment from shared object')")
    module(tmp_path, "hungry_runtime", "raise MemoryError")
    module(tmp_path, "needy_runtime", "import no_such_package")
    monkeypatch.syspath_prepend(tmp_path)
    for name, said in (
        ("broken_runtime", "is installed, but cannot be loaded: libx.so: failed to map segment"),
        ("hungry_runtime", "is installed, but cannot be loaded: too little memory"),
        ("needy_runtime", "is installed, but cannot be loaded: No module named 'no_such_package'"),
    ):
        monkeypatch.setattr("edge.infer.litert.RUNTIMES", (name,))
        with pytest.raises(BrokenDependencyError, match=f"{name} {said}") as error:
            import_runtime()
        assert error.value.exit_code == EXIT_RUNTIME
    monkeypatch.setattr("edge.infer.litert.RUNTIMES", ("no_such_runtime",))
    with pytest.raises(MissingDependencyError, match="inference needs ai-edge-litert: "):
        import_runtime()


def test_a_part_whose_package_cannot_be_loaded_is_not_called_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module(tmp_path, "broken_part", "raise ImportError('libx.so: cannot open shared object file')")
    module(tmp_path, "needy_part", "import no_such_package")
    monkeypatch.syspath_prepend(tmp_path)
    table = {"broken": "broken_part.interpreter:X", "needy": "needy_part.interpreter:X"}
    with pytest.raises(BrokenDependencyError, match="cannot open shared object file"):
        load_entry(table, "broken", what="part")
    with pytest.raises(MissingDependencyError, match="part 'needy' needs no_such_package: "):
        load_entry(table, "needy", what="part")


@pytest.mark.parametrize("bytes_", [300_000_000, 450_000_000, 600_000_000, 800_000_000])
def test_too_little_memory_is_a_run_time_failure_in_one_line(bytes_: int, tmp_path: Path) -> None:
    """78 would keep the unit down for ever."""
    (tmp_path / "mien.toml").write_text('camera.source = "synthetic"\npublish.sinks = ["jsonl"]\n')
    done = subprocess.run(
        [sys.executable, "-m", "edge", "run", "--config", str(tmp_path / "mien.toml"), "--max-frames", "2"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (bytes_, bytes_)),
        timeout=120,
        check=False,
    )
    assert done.returncode != 78, done.stderr
    if done.returncode == EXIT_RUNTIME:
        assert "Traceback" not in done.stderr
        assert "is not installed" not in done.stderr
