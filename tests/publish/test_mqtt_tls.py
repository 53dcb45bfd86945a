"""The MQTT sink over TLS: an authority made by openssl, a real mosquitto, and everything that may be wrong."""

from __future__ import annotations

import random
import socket
import ssl
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from brokers import Mosquitto, wait_until
from publish_samples import event_message
from tools import require_tool

from edge.config.schema import MqttConfig
from edge.errors import ConfigError, config_context
from edge.publish.mqtt.backoff import Backoff
from edge.publish.mqtt.credentials import check_credentials, make_tls_context, read_password
from edge.publish.mqtt.sink import MqttSink

pytestmark = pytest.mark.broker

Start = Callable[..., MqttSink]
Brokers = Callable[..., Mosquitto]


@dataclass(frozen=True)
class Authority:
    """A certificate authority in a folder."""

    folder: Path
    openssl: str

    @classmethod
    def make(cls, folder: Path, openssl: str) -> Authority:
        folder.mkdir()
        authority = cls(folder, openssl)
        authority._run(
            "req", "-x509", *KEY, "-subj", "/CN=test authority", "-days", "2", "-keyout", "ca.key", "-out", "ca.pem"
        )
        return authority

    def issue(self, name: str, *, san: str, days: int = 2) -> tuple[Path, Path]:
        """Certificate and key for a subject alternative name."""
        (self.folder / "san").write_text(f"subjectAltName={san}\n")
        self._run("req", *KEY, "-subj", f"/CN={name}", "-keyout", f"{name}.key", "-out", f"{name}.csr")
        self._run(
            *("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial"),
            *("-days", str(days), "-extfile", "san", "-out", f"{name}.pem"),
        )
        return self.folder / f"{name}.pem", self.folder / f"{name}.key"

    @property
    def certificate(self) -> Path:
        return self.folder / "ca.pem"

    def _run(self, *arguments: str) -> None:
        subprocess.run([self.openssl, *arguments], cwd=self.folder, check=True, capture_output=True)


KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority.make(tmp_path_factory.mktemp("tls") / "ca", require_tool("openssl", "apt-get install openssl"))


@pytest.fixture(scope="module")
def server(authority: Authority) -> tuple[Path, Path]:
    return authority.issue("server", san="DNS:localhost")


@pytest.fixture(scope="module")
def client(authority: Authority) -> tuple[Path, Path]:
    return authority.issue("client", san="DNS:pi")


@pytest.fixture
def start_sink() -> Iterator[Start]:
    sinks: list[MqttSink] = []

    def start(port: int, **config: Any) -> MqttSink:
        sink = MqttSink(
            MqttConfig(**{"host": "localhost", "port": port, "tls": True} | config),
            device="pi",
            camera="front",
            backoff=Backoff(base_s=0.05, cap_s=0.2, rng=random.Random(1)),
            connect_timeout_s=1,
        )
        sinks.append(sink)
        sink.start()
        return sink

    yield start
    for sink in sinks:
        sink.stop(timeout_s=2)


def tls_settings(authority: Authority, server: tuple[Path, Path], *more: str) -> tuple[str, ...]:
    certificate, key = server
    files = (f"cafile {authority.certificate}", f"certfile {certificate}", f"keyfile {key}")
    return ("allow_anonymous true", *files, *more)


def wait_status(sink: MqttSink, text: str) -> None:
    wait_until(lambda: text in sink.status(), what=lambda: f"status {text!r}, have {sink.status()!r}")


def delivers(sink: MqttSink) -> None:
    sink.send(event_message(1))
    wait_until(lambda: sink.counts()["sent"] == 1, what=lambda: sink.status())


def test_an_own_authority_is_trusted_when_it_is_named(
    mosquitto: Brokers, start_sink: Start, authority: Authority, server: tuple[Path, Path]
) -> None:
    broker = mosquitto(*tls_settings(authority, server))
    delivers(start_sink(broker.port, ca_file=str(authority.certificate)))


def test_an_authority_that_is_not_named_is_not_trusted_and_nothing_is_sent(
    mosquitto: Brokers, start_sink: Start, authority: Authority, server: tuple[Path, Path]
) -> None:
    broker = mosquitto(*tls_settings(authority, server))
    sink = start_sink(broker.port)
    sink.send(event_message(1))
    wait_status(sink, "TLS: self-signed certificate in certificate chain")
    assert sink.counts()["queued"] == 1
    assert "CONNACK" not in broker.log


def test_another_authority_is_not_trusted(
    mosquitto: Brokers, start_sink: Start, authority: Authority, server: tuple[Path, Path], tmp_path: Path
) -> None:
    other = Authority.make(tmp_path / "other", authority.openssl)
    broker = mosquitto(*tls_settings(authority, server))
    wait_status(start_sink(broker.port, ca_file=str(other.certificate)), "TLS: ")
    assert "CONNACK" not in broker.log


def test_a_wrong_host_name_is_named(
    mosquitto: Brokers, start_sink: Start, authority: Authority, server: tuple[Path, Path]
) -> None:
    broker = mosquitto(*tls_settings(authority, server))
    sink = start_sink(broker.port, host="127.0.0.1", ca_file=str(authority.certificate))
    wait_status(sink, "TLS: IP address mismatch, certificate is not valid for '127.0.0.1'")
    assert "CONNACK" not in broker.log


def test_a_certificate_that_has_expired_is_named(mosquitto: Brokers, start_sink: Start, authority: Authority) -> None:
    expired = authority.issue("expired", san="DNS:localhost", days=-1)
    broker = mosquitto(*tls_settings(authority, expired))
    wait_status(start_sink(broker.port, ca_file=str(authority.certificate)), "TLS: certificate has expired")


def test_a_client_certificate_is_shown_where_it_is_asked_for(
    mosquitto: Brokers,
    start_sink: Start,
    authority: Authority,
    server: tuple[Path, Path],
    client: tuple[Path, Path],
) -> None:
    broker = mosquitto(*tls_settings(authority, server, "require_certificate true"))
    ca_file = str(authority.certificate)
    delivers(start_sink(broker.port, ca_file=ca_file, cert_file=str(client[0]), key_file=str(client[1])))
    without = start_sink(broker.port, ca_file=ca_file)
    wait_status(without, "TLS: tlsv13 alert certificate required")
    assert without.counts()["reconnects"] == 0


def test_a_certificate_that_is_renewed_is_used_without_a_restart(
    mosquitto: Brokers, start_sink: Start, authority: Authority, server: tuple[Path, Path], tmp_path: Path
) -> None:
    other = Authority.make(tmp_path / "old", authority.openssl)
    ca_file = tmp_path / "trusted.pem"
    ca_file.write_bytes(other.certificate.read_bytes())
    broker = mosquitto(*tls_settings(authority, server))
    sink = start_sink(broker.port, ca_file=str(ca_file))
    wait_status(sink, "TLS: ")
    ca_file.write_bytes(authority.certificate.read_bytes())
    delivers(sink)


def test_a_port_without_tls_is_never_talked_to_in_plain(mosquitto: Brokers, start_sink: Start) -> None:
    broker = mosquitto()
    sink = start_sink(broker.port)
    sink.send(event_message(1))
    wait_until(lambda: "TLS" in sink.status() or "unreachable" in sink.status(), what=lambda: sink.status())
    assert sink.counts()["queued"] == 1
    assert "CONNACK" not in broker.log


def test_a_peer_that_never_finishes_the_handshake_blocks_nothing(start_sink: Start) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:  # the kernel accepts, nobody ever answers
        wait_status(start_sink(listener.getsockname()[1]), "unreachable: no answer within 1 s")


def test_a_port_with_tls_is_named_when_spoken_to_in_plain(
    mosquitto: Brokers, start_sink: Start, authority: Authority, server: tuple[Path, Path]
) -> None:
    broker = mosquitto(*tls_settings(authority, server))
    wait_status(start_sink(broker.port, tls=False), "is this an MQTT broker?")


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"tls": True, "ca_file": "none.pem"}, r"mqtt\.ca_file: none\.pem: No such file or directory"),
        ({"tls": True, "ca_file": "text"}, r"mqtt\.ca_file: text: no certificate or crl found"),
        ({"tls": True, "cert_file": "none.pem"}, r"mqtt\.cert_file: none\.pem: No such file or directory"),
        ({"tls": True, "cert_file": "text"}, r"mqtt\.cert_file: text: .+"),
        ({"tls": True, "key_file": "text"}, r"mqtt\.cert_file: unset, but there is a mqtt\.key_file"),
        ({"ca_file": "text"}, r"mqtt\.ca_file: is set, but mqtt\.tls is false: nothing would be encrypted"),
        (
            {"password_env": "MIEN_NOT_SET", "username": "x"},
            r"mqtt\.password_env: MIEN_NOT_SET is not in the environment",
        ),
        ({"password_file": "text"}, r"mqtt\.username: unset, but there is a password"),
        ({"password_file": "text", "password_env": "A", "username": "x"}, r"mqtt\.password_env: set either this or .*"),
        ({"password_file": "binary", "username": "x"}, r"mqtt\.password_file: binary: not UTF-8 text"),
    ],
)
def test_what_can_never_work_is_refused_at_start_in_one_line(
    config: dict[str, Any], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("text").write_text("hello\n")
    Path("binary").write_bytes(b"\xff\xfe\n")
    with pytest.raises(ConfigError, match=rf"^mien\.toml: {message}$"), config_context("mien.toml"):
        check_credentials(MqttConfig(**config))


def test_an_encrypted_key_is_refused_and_nobody_is_asked(authority: Authority, client: tuple[Path, Path]) -> None:
    locked = authority.folder / "locked.key"
    command = [authority.openssl, "ec", "-in", str(client[1]), "-aes128", "-passout", "pass:x", "-out", str(locked)]
    subprocess.run(command, check=True, capture_output=True)
    config = MqttConfig(tls=True, cert_file=str(client[0]), key_file=str(locked))
    with pytest.raises(ConfigError, match=r"mqtt\.key_file: is encrypted"):
        check_credentials(config)


def test_certificate_and_host_name_are_always_checked() -> None:
    context = make_tls_context(MqttConfig(tls=True))
    assert context.check_hostname
    assert context.verify_mode == ssl.CERT_REQUIRED
    assert context.minimum_version >= ssl.TLSVersion.TLSv1_2


@pytest.mark.parametrize(("text", "password"), [("s3cret\n", "s3cret"), ("s3cret\r\nx", "s3cret"), (" a b ", " a b ")])
def test_a_password_is_the_first_line_of_its_file(text: str, password: str, tmp_path: Path) -> None:
    (tmp_path / "p").write_bytes(text.encode())
    assert read_password(MqttConfig(username="x", password_file=str(tmp_path / "p"))) == password


def test_a_password_named_without_a_folder_is_the_one_systemd_hands_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = MqttConfig(username="x", password_file="mqtt-password")
    (tmp_path / "mqtt-password").write_text("s3cret\n")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert read_password(config) == "s3cret"
    (tmp_path / "mqtt-password").write_text("\n")  # what the unit hands over when there is no such file
    with pytest.raises(ConfigError, match=r"mqtt\.password_file: mqtt-password: its first line is empty"):
        read_password(config)
    monkeypatch.delenv("CREDENTIALS_DIRECTORY")
    with pytest.raises(ConfigError, match=r"mqtt\.password_file: mqtt-password: No such file or directory"):
        read_password(config)
