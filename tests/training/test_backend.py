"""The environment that Keras and its backend are loaded in."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

FAKE_KERAS = """
import os
print(os.environ.get("OMP_WAIT_POLICY"))
class ops:
    zeros = staticmethod(lambda count: None)
"""


@pytest.mark.parametrize(("given", "seen"), [(None, "PASSIVE"), ("ACTIVE", "ACTIVE")])
def test_threads_wait_asleep_from_the_moment_that_keras_is_loaded_unless_the_user_wants_otherwise(
    given: str | None, seen: str, tmp_path: Path
) -> None:
    (tmp_path / "keras.py").write_text(FAKE_KERAS)
    repository = Path(__file__).resolve().parents[2]
    variables = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    variables |= {"PYTHONPATH": f"{tmp_path}:{repository}"} | ({"OMP_WAIT_POLICY": given} if given else {})
    code = "import training.backend as b, contextlib; b.quiet_native_log = contextlib.nullcontext; b.start_keras()"
    done = subprocess.run([sys.executable, "-c", code], env=variables, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [seen]
