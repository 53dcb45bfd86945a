"""Delegate libraries as they come: each is a real shared object, tried in a real child process."""

import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from brokers import wait_until
from delegates import build_delegate

from edge.bundles.locate import find_bundle
from edge.config.schema import EmotionConfig
from edge.contract.bundle import load_emotion_bundle
from edge.errors import ConfigError
from edge.infer import load_model, load_on_delegate
from edge.infer.delegates import DelegateSpec, parse_delegate, probe_delegate

BUNDLE = find_bundle("emotion-ferplus")


def external(library: Path | str) -> DelegateSpec:
    return DelegateSpec("external", str(library), {})


def test_a_delegate_that_works_runs_a_part_of_the_model_and_reproduces_the_samples(tmp_path: Path) -> None:
    spec = external(build_delegate(tmp_path / "good.so"))
    assert probe_delegate(spec, bundle=BUNDLE) is None
    loaded = load_on_delegate(load_emotion_bundle(BUNDLE), spec)
    interpreter = loaded.interpreter
    assert (interpreter.delegate, interpreter.delegated_nodes) == ("external", 1)
    assert interpreter.total_nodes > 20, "XNNPACK's share is not the delegate's"
    assert loaded.parity.worst_steps == 0


FAULTS = [
    ("CRASH", "crashed when it was tried (SIGSEGV)"),
    ("CRASH_AFTER=3", "crashed when it was tried (SIGSEGV)"),
    ("REFUSE", "no device of this kind is plugged in"),
    ("IDLE", "took none of the model's 26 nodes"),
    ("WRONG", "top classes differ (delegate external)"),
]


@pytest.mark.parametrize(("macro", "told"), FAULTS, ids=[macro for macro, _ in FAULTS])
def test_a_delegate_that_does_not_work_is_a_reason(macro: str, told: str, tmp_path: Path) -> None:
    spec = external(build_delegate(tmp_path / "bad.so", macro))
    reason = probe_delegate(spec, bundle=BUNDLE)
    assert reason is not None
    assert told in reason
    assert "\n" not in reason


def test_a_delegate_that_hangs_is_given_up_and_its_process_is_gone(tmp_path: Path) -> None:
    library = build_delegate(tmp_path / "hang.so", "HANG")
    reason = probe_delegate(external(library), bundle=BUNDLE, timeout_s=3)
    assert reason == f"{library} did not answer within 3 s"
    assert not processes_with(library)


def test_a_try_that_is_cancelled_ends_soon(tmp_path: Path) -> None:
    library = build_delegate(tmp_path / "hang.so", "HANG")
    stop = threading.Event()
    reasons: list[str | None] = []

    def probe() -> None:
        reasons.append(probe_delegate(external(library), bundle=BUNDLE, timeout_s=600, cancelled=stop.is_set))

    thread = threading.Thread(target=probe)
    thread.start()
    wait_until(lambda: bool(processes_with(library)), what=lambda: "a child")
    stop.set()
    thread.join(30)
    assert reasons == ["stopped while it was tried"]
    assert not processes_with(library)


def test_a_hanging_child_does_not_outlive_a_parent_that_is_killed(tmp_path: Path) -> None:
    library = build_delegate(tmp_path / "hang.so", "HANG")
    code = (
        "import sys; from pathlib import Path; from edge.infer.delegates import DelegateSpec, probe_delegate\n"
        "probe_delegate(DelegateSpec('external', sys.argv[1], {}), bundle=Path(sys.argv[2]), timeout_s=600)"
    )
    parent = subprocess.Popen([sys.executable, "-c", code, str(library), str(BUNDLE)])
    try:
        # The library itself must be mapped: before that the child has not said yet that it wants to go with its parent.
        wait_until(lambda: maps(library) != [], what=lambda: "a child inside the library")
    finally:
        parent.kill()
        parent.wait()
    wait_until(lambda: not processes_with(library), what=lambda: str(processes_with(library)))


def test_missing_and_foreign_libraries_are_named(tmp_path: Path) -> None:
    missing = probe_delegate(external(tmp_path / "missing.so"), bundle=BUNDLE)
    assert missing is not None
    assert "missing.so: cannot open shared object file" in missing
    (tmp_path / "text.so").write_text("not a library")
    text = probe_delegate(external(tmp_path / "text.so"), bundle=BUNDLE)
    assert text is not None
    assert "text.so" in text
    foreign = probe_delegate(external("libc.so.6"), bundle=BUNDLE)
    assert foreign == "libc.so.6: no delegate (it has no tflite_plugin_create_delegate)"


def test_an_edge_tpu_wants_a_compiled_model() -> None:
    reason = probe_delegate(DelegateSpec("edgetpu", "libc.so.6", {}), bundle=BUNDLE)
    assert reason is not None
    assert "holds no model compiled for it" in reason


def test_a_damaged_bundle_is_a_reason_too(tmp_path: Path) -> None:
    shutil.copytree(BUNDLE, tmp_path / "copy")
    (tmp_path / "copy" / "golden.npz").unlink()
    spec = external(build_delegate(tmp_path / "good.so"))
    reason = probe_delegate(spec, bundle=tmp_path / "copy")
    assert reason is not None
    assert "golden.npz: No such file" in reason


def test_options_are_decoded_strictly() -> None:
    assert parse_delegate(EmotionConfig()) is None
    assert parse_delegate(EmotionConfig(delegate="edgetpu")) == DelegateSpec("edgetpu", "libedgetpu.so.1", {})
    given = EmotionConfig(delegate="edgetpu", options={"device": "usb:1", "library": "/opt/tpu.so"})
    assert parse_delegate(given) == DelegateSpec("edgetpu", "/opt/tpu.so", {"device": "usb:1"})
    with pytest.raises(ConfigError, match=r"emotion\.options: .*library"):
        parse_delegate(EmotionConfig(delegate="external"))
    with pytest.raises(ConfigError, match=r"emotion\.options\.libary: unknown key; there are library, options"):
        parse_delegate(EmotionConfig(delegate="external", options={"libary": "x"}))
    with pytest.raises(ConfigError, match="'npu' is unknown; there are xnnpack, edgetpu, external"):
        parse_delegate(EmotionConfig(delegate="npu"))


def test_the_cpu_needs_no_child() -> None:
    assert load_model(load_emotion_bundle(BUNDLE)).interpreter.delegate == "xnnpack"


def processes_with(library: Path) -> list[Path]:
    """Processes that try this library."""
    return [
        file.parent
        for file in Path("/proc").glob("[0-9]*/cmdline")
        if "edge.infer.probe" in (text := read(file)) and str(library) in text
    ]


def maps(library: Path) -> list[Path]:
    """Those of them that have loaded it."""
    return [process for process in processes_with(library) if str(library) in read(process / "maps")]


def read(file: Path) -> str:
    """What a file below /proc says; nothing when its process is gone."""
    try:
        return file.read_text(errors="replace")
    except OSError:
        return ""
