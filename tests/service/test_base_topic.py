"""Two instances on one machine never publish to one base topic."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from edge.config.loader import load_config
from edge.config.schema import Config
from edge.errors import EXIT_CONFIG, ConfigError
from edge.service.base_topic import claim_base_topic


def config_of(folder: Path, text: str) -> Config:
    file = folder / "mien.toml"
    file.write_text(text)
    return load_config(file)


def test_the_same_topic_at_the_same_broker_is_refused_with_the_process_that_holds_it(tmp_path: Path) -> None:
    config = config_of(tmp_path, 'device = "pi"\n[mqtt]\nhost = "broker"\n')
    with claim_base_topic(config), pytest.raises(ConfigError) as raised:  # noqa: SIM117
        with claim_base_topic(config):
            pass
    assert str(raised.value) == (
        f"camera.name: camera: process {os.getpid()} on this machine publishes to mien/pi/camera already; "
        "give every camera a name of its own"
    )
    assert raised.value.exit_code == EXIT_CONFIG


@pytest.mark.parametrize(
    "other",
    [
        'device = "pi"\n[camera]\nname = "garden"\n[mqtt]\nhost = "broker"\n',
        'device = "pi2"\n[mqtt]\nhost = "broker"\n',
        'device = "pi"\n[mqtt]\nhost = "broker"\nprefix = "other"\n',
        'device = "pi"\n[mqtt]\nhost = "elsewhere"\n',
        'device = "pi"\n[mqtt]\nhost = "broker"\nport = 1884\n',
        'device = "pi"\n[mqtt]\nhost = "broker"\n[publish]\nsinks = ["jsonl"]\n',
    ],
)
def test_another_topic_another_broker_or_no_broker_is_taken(other: str, tmp_path: Path) -> None:
    first = config_of(tmp_path, 'device = "pi"\n[mqtt]\nhost = "broker"\n')
    second = config_of(tmp_path, other)
    with claim_base_topic(first), claim_base_topic(second):
        pass


def test_the_usual_port_is_the_same_written_or_not(tmp_path: Path) -> None:
    first = config_of(tmp_path, 'device = "pi"\n[mqtt]\nhost = "Broker"\n')
    second = config_of(tmp_path, 'device = "pi"\n[mqtt]\nhost = "broker"\nport = 1883\n')
    with claim_base_topic(first), pytest.raises(ConfigError):  # noqa: SIM117
        with claim_base_topic(second):
            pass


def test_a_process_that_is_killed_leaves_no_claim(tmp_path: Path) -> None:
    config = config_of(tmp_path, 'device = "pi"\n')
    program = (
        "import sys, time; from pathlib import Path; from edge.config.loader import load_config\n"
        "from edge.service.base_topic import claim_base_topic\n"
        "with claim_base_topic(load_config(Path(sys.argv[1]))):\n"
        "    print('held', flush=True); time.sleep(60)\n"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "mien.toml")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(ConfigError, match=re.escape(f"process {holder.pid} ")), claim_base_topic(config):
            pass
        holder.send_signal(signal.SIGKILL)
    with claim_base_topic(config):
        pass
