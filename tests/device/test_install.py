"""The real installer on a Debian without a network: install, upgrade, an upgrade that fails, uninstall."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from device.container import Container
from device.service import SYNTHETIC, Service

pytestmark = [pytest.mark.device, pytest.mark.timeout(600)]


@pytest.fixture
def device(boot: Callable[[], Container]) -> Iterator[Container]:
    """A device on which nothing was installed yet."""
    yield (container := boot())
    container.close()


def install(device: Container, wheelhouse: str = "present", *options: str, check: bool = True) -> tuple[int, str]:
    done = device.run("/src/systemd/install", "--wheelhouse", f"/wheels/{wheelhouse}", *options, check=check)
    return done.returncode, done.stdout


def version(device: Container) -> str:
    return device.run("mien", "--version").stdout.strip()


def versions(device: Container) -> list[str]:
    return device.run("ls", "/opt/mien/versions").stdout.split()


def everything(device: Container) -> str:
    """Every file that could be ours."""
    places = (
        "/opt",
        "/etc/mien",
        "/etc/systemd/system",
        "/etc/udev",
        "/usr/local",
        "/var/lib/private",
        "/var/lib/mien",
    )
    return device.run("find", *places, check=False).stdout


def test_install_upgrade_rollback_and_uninstall(device: Container, tmp_path: Path) -> None:
    bare = everything(device)
    assert "would run: install" in install(device, "present", "--dry-run")[1]
    assert everything(device) == bare, "a dry run changes nothing"

    _, told = install(device)
    assert "systemctl enable --now mien@front" in told
    device.run("systemctl", "start", "mosquitto")
    service = Service(device, "front", heard=tmp_path / "heard")
    own = SYNTHETIC + "# my own line\n"
    service.configure(own)
    device.run("systemctl", "enable", "--now", service.unit)
    first = version(device)

    install(device)
    assert device.run("cat", "/etc/mien/front.toml").stdout == own, "the configuration is the owner's"
    assert service.show("ActiveState") == "active"
    assert len(versions(device)) == 2, "the present version and the one before"

    install(device, "next")
    assert version(device) == "mien 7.7.7" != first
    assert service.show("ActiveState") == "active"
    assert _runs(service) == device.run("readlink", "-f", "/opt/mien/current").stdout.strip()
    kept = versions(device)

    code, told = install(device, "broken", check=False)
    assert code == 1
    assert "the new version did not become ready and was taken back" in told
    assert version(device) == "mien 7.7.7"
    assert service.show("ActiveState") == "active"
    assert versions(device) == kept

    device.run("/src/systemd/install", "--uninstall")
    assert not device.exists("/opt/mien")
    assert device.exists("/etc/mien/front.toml")
    assert device.run("systemctl", "start", service.unit, check=False).returncode != 0
    device.run("/src/systemd/install", "--uninstall", "--purge")
    assert everything(device) == bare, "nothing is left behind"


def test_a_second_camera_has_a_name_of_its_own_and_leaves_the_first_alone(device: Container, tmp_path: Path) -> None:
    install(device)
    assert 'name = "front"' in device.run("cat", "/etc/mien/front.toml").stdout.splitlines()
    service = Service(device, "front", heard=tmp_path / "heard")
    service.configure(SYNTHETIC)
    device.run("systemctl", "start", "mosquitto")
    device.run("systemctl", "enable", "--now", service.unit)
    before = service.show("MainPID"), versions(device)

    _, told = install(device, "next", "garden")
    assert "systemctl enable --now mien@garden" in told
    assert (service.show("MainPID"), versions(device)) == before, "neither reinstalled nor restarted"
    assert device.run("cat", "/etc/mien/front.toml").stdout == SYNTHETIC
    written = device.run("cat", "/etc/mien/garden.toml").stdout
    assert written == device.run("cat", "/etc/mien/mien.toml.example").stdout.replace(
        '# name = "camera"', 'name = "garden"'
    )
    assert device.run("mien", "config", "check", "/etc/mien/garden.toml").returncode == 0

    other = Service(device, "garden", heard=tmp_path / "other")
    other.configure(SYNTHETIC)  # its owner copied the first one's file
    assert device.run("systemctl", "start", other.unit, check=False).returncode != 0
    assert other.show("ExecMainStatus") == "78"
    assert "camera.name: front: process" in other.log
    assert service.show("MainPID") == before[0]


def test_a_wheelhouse_without_mien_changes_nothing(device: Container) -> None:
    bare = everything(device)
    device.run("mkdir", "/run/empty")
    assert device.run("/src/systemd/install", "--wheelhouse", "/run/empty", check=False).returncode == 1
    assert everything(device).replace("/opt/mien/versions\n", "").replace("/opt/mien\n", "") == bare


def _runs(service: Service) -> str:
    """The folder of the version that the service runs from."""
    command = service.container.run("sh", "-c", "tr '\\0' '\\n' < /proc/$0/cmdline", service.show("MainPID")).stdout
    return command.splitlines()[0].removesuffix("/bin/python").removesuffix("/bin/python3")
