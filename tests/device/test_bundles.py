"""Models on a device: root installs them, a service with a user of its own reads them and falls back."""

import json
from collections.abc import Iterator

import pytest
from brokers import wait_until
from device.container import Container
from device.service import SYNTHETIC, Service

pytestmark = [pytest.mark.device, pytest.mark.timeout(600)]

NAME = "emotion-ferplus"
STORE = f"/var/lib/mien/bundles/{NAME}"


@pytest.fixture
def device(installed: Container) -> Iterator[Container]:
    """The installed device with a copy of the shipped model under version 9.1.0 in ``/root/new``."""
    shipped = installed.run("sh", "-c", f"ls -d /opt/mien/current/lib/python3*/site-packages/edge/models/{NAME}")
    installed.run("cp", "-r", shipped.stdout.strip(), "/root/new")
    installed.run("sed", "-i", 's/"version": "[0-9.]*"/"version": "9.1.0"/', "/root/new/manifest.json")
    installed.run("chmod", "-R", "go-rwx", "/root/new")
    yield installed
    installed.run("rm", "-rf", "/var/lib/mien/bundles", "/root/new")


def model(service: Service) -> dict[str, object]:
    """The model in the newest ``info``."""
    found: dict[str, object] = json.loads(service.heard("info")[-1])["model"]
    return found


def test_what_root_installs_a_confined_service_runs_and_what_breaks_there_gives_way(
    device: Container, service: Service
) -> None:
    told = device.run("sh", "-c", "umask 077; mien bundle install /root/new").stdout
    assert f"installed as {STORE}/0001-9.1.0" in "".join(told.splitlines())
    service.configure(SYNTHETIC)
    service.listen()
    service.start()
    service.wait_heard("info")
    assert model(service) | {"sha256": ""} == {
        "name": NAME, "version": "9.1.0", "sha256": "", "source": f"{STORE}/0001-9.1.0", "reason": None,
    }  # fmt: skip
    attempts = json.loads(device.run("cat", "/var/lib/private/mien/front/attempts.json").stdout)
    assert attempts["entries"][f"bundle {STORE}/0001-9.1.0"]["confirmed"]
    service.stop()

    device.run("mien", "bundle", "install", "/root/new")
    device.run("sh", "-c", f"printf x | dd of={STORE}/0002-9.1.0/model.tflite bs=1 seek=5000 conv=notrunc")
    before = len(service.heard("info"))
    service.start()
    service.wait_heard("info", count=before + 1)
    assert model(service)["source"] == f"{STORE}/0001-9.1.0"
    assert f"{STORE}/0002-9.1.0/model.tflite: sha256: " in str(model(service)["reason"])
    service.wait_log(f"{NAME}@9.1.0 is used instead of {NAME}")
    assert f"{NAME}@9.1.0 as a stand-in" in service.show("StatusText")


def test_a_store_that_may_not_be_read_is_a_reason(device: Container, service: Service) -> None:
    device.run("mien", "bundle", "install", "/root/new")
    device.run("chmod", "700", "/var/lib/mien/bundles")
    service.configure(SYNTHETIC)
    service.listen()
    service.start()
    service.wait_heard("info")
    assert model(service)["source"] == "shipped"
    assert model(service)["reason"] == f"{STORE}/manifest.json: Permission denied"


def test_a_delegate_that_is_not_there_is_a_reason_under_the_unit_too(device: Container, service: Service) -> None:
    service.configure(SYNTHETIC + '[emotion]\ndelegate = "edgetpu"\n')
    service.listen()
    service.start()
    service.wait_heard("info")
    delegate = json.loads(service.heard("info")[-1])["delegate"]
    assert delegate["name"] == "xnnpack"
    assert "libedgetpu.so.1" in delegate["reason"] or "holds no model compiled for it" in delegate["reason"]
    # The status comes right after readiness, and not with it.
    wait_until(lambda: delegate["reason"] in service.show("StatusText"), what=lambda: service.show("StatusText"))
