"""30-nvidia.sh on a stock machine with GPUs: apt is real, and so are its archives, but for what their packages hold. Names and
dependencies are of packages.ubuntu.com (24.04, nvidia-graphics-drivers-580-server, linux-restricted-modules-aws, fabric-manager-580),
packages.debian.org (bookworm, nvidia-graphics-drivers) and of NVIDIA's "Installing the NVIDIA Container Toolkit"."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from fleet.assemble.baking import versions
from fleet.assemble.package import MIRROR, write_package
from tests.apt_archive import ARCHITECTURE, Archive, Package, served
from tests.system import docker_engine
from tests.system.box.image import Unavailable, stock_image
from tests.system.docker_engine import DockerEngine
from tests.waiting import PATIENCE

WHY_NOT = docker_engine.why_not() or next(
    (
        f"no {each} here; apt-get install {package}"
        for each, package in (("gpg", "gnupg"), ("dpkg-deb", "dpkg"))
        if not shutil.which(each)
    ),
    None,
)
pytestmark = [
    pytest.mark.system,
    pytest.mark.xdist_group("docker"),
    pytest.mark.skipif(WHY_NOT is not None, reason=str(WHY_NOT)),
]
KERNEL = "6.8.0-1021-aws"
OLD_KERNEL = "6.8.0-1001-aws"  # for which the archive has headers alone
BRANCH = versions()["nvidia"]["driver"]
DRIVER, TOOLKIT = f"{BRANCH}.173.02-0ubuntu0.24.04.1", versions()["nvidia"]["toolkit"]
SMI = f'#!/bin/sh\necho "GPU 0: NVIDIA A10G (UUID: GPU-1)"\n# {DRIVER}\n'
# "Container Toolkit": `nvidia-ctk runtime configure --runtime=docker` adds the runtime to /etc/docker/daemon.json.
CTK = """#!/bin/sh
[ "$*" = "runtime configure --runtime=docker" ] || exit 2
mkdir -p /etc/docker
echo '{"runtimes": {"nvidia": {"args": [], "path": "nvidia-container-runtime"}}}' >/etc/docker/daemon.json
"""


def ubuntus(kind: str) -> list[Package]:
    """The driver with open kernel modules (`-open`) or with the others."""
    server, part = f"{BRANCH}-server", "restricted"
    kernel_common, headless = f"nvidia-kernel-common-{server}", f"nvidia-headless-no-dkms-{server}{kind}"
    modules = f"linux-modules-nvidia-{server}{kind}-{KERNEL}"
    return [
        Package(name=modules, depends=[kernel_common], part=part),
        Package(name=headless, version=DRIVER, depends=[kernel_common], part=part),
        Package(name=f"nvidia-dkms-{server}{kind}", version=DRIVER, depends=[kernel_common], part=part),
        Package(
            name=f"nvidia-headless-{server}{kind}",
            version=DRIVER,
            depends=[f"nvidia-dkms-{server}{kind}", headless],
            part=part,
        ),
    ]


def ubuntu() -> list[Package]:
    fabric = {
        "/lib/systemd/system/nvidia-fabricmanager.service": "[Service]\nExecStart=/bin/true\n[Install]\nWantedBy=multi-user.target\n"
    }
    return [
        *ubuntus("-open"),
        *ubuntus(""),
        Package(name=f"nvidia-kernel-common-{BRANCH}-server", version=DRIVER, part="restricted"),
        Package(
            name=f"nvidia-utils-{BRANCH}-server", version=DRIVER, files={"/usr/bin/nvidia-smi": SMI}, part="restricted"
        ),
        Package(name=f"nvidia-fabricmanager-{BRANCH}", version=DRIVER, files=fabric, part="multiverse"),
        Package(name=f"linux-headers-{OLD_KERNEL}"),
    ]


def debian() -> list[Package]:
    return [
        Package(name=f"linux-headers-{KERNEL}"),
        Package(name="firmware-nvidia-gsp", part="non-free-firmware"),
        Package(name="nvidia-support", part="contrib"),
        Package(name="nvidia-kernel-dkms", depends=["firmware-nvidia-gsp"], part="non-free"),
        Package(name="libcuda1", depends=["nvidia-support"], part="non-free"),
        Package(name="nvidia-smi", files={"/usr/bin/nvidia-smi": SMI}, part="non-free"),
        Package(name="nvidia-persistenced", part="contrib"),
    ]


def toolkit() -> list[Package]:
    """A newer one is there, too: the pinned one is taken."""
    return [
        Package(name="libnvidia-container1", version=TOOLKIT),
        Package(name="libnvidia-container-tools", version=TOOLKIT, depends=["libnvidia-container1"]),
        Package(name="nvidia-container-toolkit-base", version=TOOLKIT, files={"/usr/bin/nvidia-ctk": CTK}),
        Package(
            name="nvidia-container-toolkit",
            version=TOOLKIT,
            depends=["libnvidia-container-tools", f"nvidia-container-toolkit-base (= {TOOLKIT})"],
            files={"/usr/bin/nvidia-container-runtime-hook": "#!/bin/sh\n"},
        ),
        Package(name="nvidia-container-toolkit", version="99.0.0-1", depends=["no-such-package"]),
    ]


@dataclass(frozen=True, slots=True)
class Ran:
    code: int
    said: str
    installed: dict[str, str]
    files: dict[str, str]


Run = Callable[..., Ran]
# Twice, and what the second changed.
SCRIPT = """
set -u; echo force-unsafe-io >/etc/dpkg/dpkg.cfg.d/test
cp /mnt/apt/sources.list /etc/apt/sources.list; rm -f /etc/apt/sources.list.d/*; cp /mnt/apt/key.asc /usr/share/keyrings/test.asc
printf '#!/bin/sh\\necho "$KERNEL"\\n' >/usr/local/bin/uname; chmod 755 /usr/local/bin/uname
cp -r /mnt/package /opt/fleet-package
bash /opt/fleet-package/provision/30-nvidia.sh; code=$?
picture() { find /etc /usr /opt /var/lib/dpkg/info -type f -printf '%p %s %T@\\n' | sort; }
picture >/tmp/before
if [ $code = 0 ]; then bash /opt/fleet-package/provision/30-nvidia.sh || code=99; fi
picture >/tmp/after
for file in /etc/docker/daemon.json /etc/apt/apt.conf.d/52fleet-driver /etc/apt/sources.list /etc/apt/sources.list.d/nvidia-container-toolkit.list; do
  mkdir -p "/mnt/out/$(dirname $file)"; cp "$file" "/mnt/out/$file" 2>/dev/null
done
diff /tmp/before /tmp/after >/mnt/out/changed
ls /etc/systemd/system/multi-user.target.wants >/mnt/out/enabled 2>/dev/null
dpkg-query -W -f '${Package} ${Version} ${db:Status-Status}\\n' >/mnt/out/packages
exit $code
"""


@pytest.fixture(scope="module")
def archives(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Archive, str]]:
    archive = Archive(tmp_path_factory.mktemp("archives"))
    archive.suite("noble", ubuntu())
    archive.suite("bookworm", debian())
    archive.flat(f"libnvidia-container/stable/deb/{ARCHITECTURE}", toolkit())
    (archive.www / "libnvidia-container" / "gpgkey").write_text(archive.key)
    with served(archive.www) as url:
        yield archive, url
    archive.close()


@pytest.fixture(scope="module")
def stock(engine: DockerEngine) -> Iterator[str]:
    try:
        root = stock_image()
    except Unavailable as why:
        pytest.skip(str(why))
    docker = ["/usr/bin/docker", "-H", engine.url]
    with subprocess.Popen(["tar", "-C", str(root), "-c", "."], stdout=subprocess.PIPE) as tar:
        subprocess.run([*docker, "import", "-", "stock-gpu:latest"], stdin=tar.stdout, check=True, capture_output=True)
    yield "stock-gpu:latest"
    subprocess.run([*docker, "rmi", "-f", "stock-gpu:latest"], capture_output=True, check=False)


@pytest.fixture
def run(
    engine: DockerEngine, archives: tuple[Archive, str], stock: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Run:
    """Provision a machine of this distribution, with these devices on its PCI bus."""
    archive, url = archives

    def run(
        distribution: str,
        *devices: tuple[str, str],
        mirror: str = f"{url}/libnvidia-container",
        before: str = "",
        kernel: str = KERNEL,
        **told: str,
    ) -> Ran:
        monkeypatch.setenv(MIRROR, mirror)
        write_package(tmp_path / "package")
        (tmp_path / "apt").mkdir()
        (tmp_path / "out").mkdir()
        parts = {"ubuntu": "noble main restricted multiverse", "debian": "bookworm main"}[distribution]
        (tmp_path / "apt" / "sources.list").write_text(f"deb [signed-by=/usr/share/keyrings/test.asc] {url} {parts}\n")
        (tmp_path / "apt" / "key.asc").write_text(archive.key)
        (tmp_path / "os-release").write_text(f"ID={distribution}\n")
        for number, (device, kind) in enumerate(devices):
            place = tmp_path / "sys" / "bus/pci/devices" / f"0000:00:{number:02x}.0"
            place.mkdir(parents=True)
            for name, value in (("vendor", "0x10de"), ("device", device), ("class", kind)):
                (place / name).write_text(f"{value}\n")
        (tmp_path / "sys").mkdir(exist_ok=True)
        binds = [f"{tmp_path}/{n}:/mnt/{n}" for n in ("package", "apt", "out", "sys")] + [
            f"{tmp_path}/os-release:/etc/os-release:ro"
        ]
        given = {"FLEET_SYSFS": "/mnt/sys", "KERNEL": kernel, **told}
        command = ["/usr/bin/docker", "-H", engine.url, "run", "--rm", "--network=host"]
        command += [word for bind in binds for word in ("-v", bind)] + [
            w for k, v in given.items() for w in ("-e", f"{k}={v}")
        ]
        done = subprocess.run(
            [*command, "--entrypoint=/bin/bash", stock, "-c", before + SCRIPT],
            capture_output=True,
            text=True,
            timeout=120 * PATIENCE,
            check=False,
        )
        said = done.stdout + done.stderr
        print(said)
        rows = [line.split() for line in (tmp_path / "out" / "packages").read_text().splitlines()]
        files = {
            str(f.relative_to(tmp_path / "out")): f.read_text() for f in (tmp_path / "out").rglob("*") if f.is_file()
        }
        return Ran(
            done.returncode, said, {name: version for name, version, state in rows if state == "installed"}, files
        )

    return run


A10G, V100, A100 = ("0x2237", "0x030200"), ("0x1db1", "0x030200"), ("0x20b0", "0x030200")
NVSWITCH = ("0x1af1", "0x068000")


def drivers(ran: Ran) -> set[str]:
    return {name for name in ran.installed if "nvidia" in name and "container" not in name} | (
        {"headers"} & {"headers" for name in ran.installed if name.startswith("linux-headers-")}
    )


def test_ubuntu_gets_the_modules_that_are_built_and_signed_for_its_kernel_and_the_pinned_toolkit(run: Run) -> None:
    ran = run("ubuntu", A10G)
    assert ran.code == 0, ran.said
    server = f"{BRANCH}-server"
    assert drivers(ran) == {
        f"linux-modules-nvidia-{server}-open-{KERNEL}",
        f"nvidia-headless-no-dkms-{server}-open",
        f"nvidia-kernel-common-{server}",
        f"nvidia-utils-{server}",
    }
    assert {ran.installed[each.name] for each in toolkit()} == {TOOLKIT}
    assert json.loads(ran.files["etc/docker/daemon.json"])["runtimes"]["nvidia"]["path"] == "nvidia-container-runtime"
    assert '"nvidia-"' in ran.files["etc/apt/apt.conf.d/52fleet-driver"]
    assert ran.files["changed"] == ""  # a second run found everything done


def test_for_a_kernel_that_ubuntu_has_no_modules_for_they_are_built(run: Run) -> None:
    ran = run("ubuntu", A10G, kernel=OLD_KERNEL)
    assert ran.code == 0, ran.said
    assert {"headers", f"nvidia-dkms-{BRANCH}-server-open", f"nvidia-utils-{BRANCH}-server"} <= drivers(ran)
    assert ran.files["changed"] == ""


def test_gpus_before_turing_get_the_modules_that_know_them(run: Run) -> None:
    ran = run("ubuntu", V100)
    assert ran.code == 0, ran.said
    assert f"linux-modules-nvidia-{BRANCH}-server-{KERNEL}" in drivers(ran)
    assert not [name for name in drivers(ran) if "-open" in name]


def test_gpus_that_are_joined_by_switches_get_their_fabric_manager_of_the_drivers_version(run: Run) -> None:
    ran = run("ubuntu", A100, NVSWITCH)
    assert ran.code == 0, ran.said
    assert ran.installed[f"nvidia-fabricmanager-{BRANCH}"] == ran.installed[f"nvidia-utils-{BRANCH}-server"]
    assert "nvidia-fabricmanager.service" in ran.files["enabled"]


def test_debian_gets_its_driver_from_the_parts_of_its_archive_that_were_off_and_no_x(run: Run) -> None:
    ran = run("debian", A10G)
    assert ran.code == 0, ran.said
    assert drivers(ran) == {
        "headers",
        "firmware-nvidia-gsp",
        "nvidia-support",
        "nvidia-kernel-dkms",
        "nvidia-smi",
        "nvidia-persistenced",
    }
    assert ran.files["etc/apt/sources.list"].split()[3:] == [
        "bookworm",
        "main",
        "contrib",
        "non-free",
        "non-free-firmware",
    ]
    assert ran.files["changed"] == ""


def test_a_kernel_that_its_archive_has_forgotten_is_said(run: Run) -> None:
    ran = run("debian", A10G, kernel="6.1.0-1-cloud-amd64")
    assert ran.code == 1
    assert (
        ran.said.rstrip()
        .splitlines()[-1]
        .startswith("fleet provision: linux-headers-6.1.0-1-cloud-amd64 is not in the archive")
    )


def test_an_archive_that_cannot_be_reached_is_named_with_the_way_out(run: Run) -> None:
    ran = run("ubuntu", A10G, mirror="http://127.0.0.1:9/libnvidia-container")
    assert ran.code == 1
    last = ran.said.rstrip().splitlines()[-1]
    assert last.startswith(
        "fleet provision: NVIDIA's archive http://127.0.0.1:9/libnvidia-container cannot be reached from here"
    )
    assert MIRROR in last


def test_a_driver_that_the_image_brings_is_kept(run: Run) -> None:
    ran = run("ubuntu", A10G, before="printf '#!/bin/sh\\n' >/usr/bin/nvidia-smi; chmod 755 /usr/bin/nvidia-smi\n")
    assert ran.code == 0, ran.said
    assert drivers(ran) == set()
    assert ran.installed["nvidia-container-toolkit"] == TOOLKIT


def test_an_installation_that_a_reboot_broke_off_is_brought_to_its_end(run: Run) -> None:
    broken = (
        "mkdir -p /etc/fleet /tmp/x/DEBIAN /tmp/x/usr/bin; touch /etc/fleet/driver-by-fleet /tmp/x/usr/bin/nvidia-smi; "
        f"printf 'Package: nvidia-utils-{BRANCH}-server\\nVersion: 1\\nArchitecture: all\\nMaintainer: a\\nDescription: b\\n' >/tmp/x/DEBIAN/control; "
        "chmod 755 /tmp/x/usr/bin/nvidia-smi; dpkg-deb -b /tmp/x /tmp/x.deb; dpkg --unpack /tmp/x.deb\n"
    )
    ran = run("ubuntu", A10G, before=broken)
    assert ran.code == 0, ran.said
    assert f"linux-modules-nvidia-{BRANCH}-server-open-{KERNEL}" in drivers(ran)
    assert f"nvidia-utils-{BRANCH}-server" in drivers(ran)


def test_a_bake_gets_all_of_it_on_a_machine_without_a_gpu(run: Run) -> None:
    ran = run("ubuntu", FLEET_BAKE="1", FLEET_GPU="1")
    assert ran.code == 0, ran.said
    assert {f"nvidia-utils-{BRANCH}-server", f"nvidia-fabricmanager-{BRANCH}"} <= drivers(ran)


def test_a_cpu_machine_is_left_alone(run: Run) -> None:
    ran = run("ubuntu")
    assert ran.code == 0, ran.said
    assert drivers(ran) == set()
    assert "nvidia-container-toolkit" not in ran.installed
