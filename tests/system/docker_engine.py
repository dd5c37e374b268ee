"""A Docker engine of the test's own, and an image that needs no registry: its programs are this machine's, mounted.

Everything is private (data, sockets, containerd's namespaces, a bridge), so that other engines of the machine are left alone.
GPUs: the engine takes `--gpus` when it finds a program called nvidia-container-runtime-hook; ours does nothing.
"""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import docker

from fleet.supervisor.engine import TASKS
from tests.waiting import PATIENCE, wait_for

IMAGE = "fleet-test:latest"
HOOK = "#!/bin/sh\ncat >/dev/null\n"
LINKS = {"bin": "usr/bin", "lib": "usr/lib", "lib64": "usr/lib64"}
PASSWD = "root:x:0:0:root:/root:/bin/sh\nresearcher:x:1234:1234::/tmp:/bin/sh\n"


@dataclass
class DockerEngine:
    """One that runs."""

    url: str
    api: docker.APIClient
    arguments: str  # with which a container of IMAGE finds this machine's programs, and python with clearml-agent

    def containers(self) -> list[dict]:
        return self.api.containers(all=True)

    def inspections(self) -> list[dict]:
        return [self.api.inspect_container(each["Id"]) for each in self.containers()]

    def names(self) -> list[str]:
        """Of its images."""
        return [tag for each in self.api.images() for tag in each["RepoTags"] or ()]

    def make_image(self, name: str = IMAGE, user: str = "") -> None:
        """Directories and links: a fraction of a second."""
        path = f"{sys.prefix}/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        changes = [f"ENV PATH={path}", *([f"USER {user}"] if user else [])]
        repository, tag = name.split(":")
        self.api.import_image_from_data(image_tar(), repository=repository, tag=tag, changes=changes)


def image_tar() -> bytes:
    """Directories and links."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as archive:
        for folder, mode in (
            ("usr", 0o755),
            ("sbin", 0o755),
            ("etc", 0o755),
            ("root", 0o755),
            ("tmp", 0o1777),
            ("var/tmp", 0o1777),
        ):
            info = tarfile.TarInfo(folder)
            info.type, info.mode = tarfile.DIRTYPE, mode
            archive.addfile(info)
        for link, target in LINKS.items():
            if Path("/", link).is_symlink():
                info = tarfile.TarInfo(link)
                info.type, info.linkname = tarfile.SYMTYPE, target
                archive.addfile(info)
        info = tarfile.TarInfo("etc/passwd")
        info.size = len(PASSWD)
        archive.addfile(info, io.BytesIO(PASSWD.encode()))
    return data.getvalue()


def why_not() -> str | None:
    """Why no engine can be started here; None: it can."""
    if os.geteuid() != 0:
        return "a Docker engine can only be started by root"
    missing = [each for each in ("dockerd", "ip") if shutil.which(each, path=f"{os.environ['PATH']}:/usr/sbin") is None]
    return f"{' and '.join(missing)} not on this machine: apt-get install docker.io iproute2" if missing else None


@contextlib.contextmanager
def running(inside: Sequence[str] = ()) -> Iterator[DockerEngine]:
    """Start one, and leave nothing of it. `inside`: a command that runs others in a network of the test's own."""
    place = Path(tempfile.mkdtemp(prefix="fleet-dockerd-"))
    number = os.getpid() % 200 + 20
    bridge = f"fltbr{number}"
    try:
        _ip("link", "add", bridge, "type", "bridge", inside=inside)
        _ip("addr", "add", f"172.29.{number}.1/24", "dev", bridge, inside=inside)
        with _daemon(place, bridge, inside) as url:
            api = docker.APIClient(base_url=url, version="auto", timeout=30 * PATIENCE)
            engine = DockerEngine(url, api, mounts())
            engine.make_image()
            try:
                yield engine
            finally:
                for each in engine.containers():
                    api.remove_container(each["Id"], force=True, v=True)
                api.close()
    finally:
        subprocess.run([*inside, "ip", "link", "del", bridge], check=False, capture_output=True)
        _unmount(place)
        for group in (TASKS, f"*/{TASKS}"):  # the engine leaves it, empty
            for each in Path("/sys/fs/cgroup").glob(group):
                with contextlib.suppress(OSError):
                    each.rmdir()
        shutil.rmtree(place, ignore_errors=True)


def mounts() -> str:
    """Arguments that bring this machine's programs into a container, for reading alone."""
    # Not all of /usr: the engine puts its own init into /sbin.
    wanted = {"/usr/bin", "/usr/lib", "/usr/lib64", *(f"/{each}" for each in LINKS if not Path("/", each).is_symlink())}
    wanted |= {os.path.realpath(place) for place in (sys.prefix, sys.base_prefix)} | {sys.prefix, sys.base_prefix}
    places = sorted(place for place in wanted if Path(place).exists())
    return " ".join(f"-v {place}:{place}:ro" for place in places)


@contextlib.contextmanager
def _daemon(place: Path, bridge: str, inside: Sequence[str]) -> Iterator[str]:
    hooks = place / "bin"
    hooks.mkdir()
    (hooks / "nvidia-container-runtime-hook").write_text(HOOK)
    (hooks / "nvidia-container-runtime-hook").chmod(0o755)
    socket = place / "docker.sock"
    names = f"fleet-{os.getpid()}"
    command = [
        *inside,
        *("dockerd", "--data-root", place / "data", "--exec-root", place / "exec", "-p", place / "pid"),
        *("-H", f"unix://{socket}", "--bridge", bridge, "--iptables=false", "--ip-forward=false"),
        *("--containerd-namespace", names, "--containerd-plugins-namespace", f"{names}-plugins"),
    ]
    environment = {**os.environ, "PATH": f"{hooks}:/usr/sbin:{os.environ['PATH']}"}
    environment.pop("DOCKER_HOST", None)
    log = place / "dockerd.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [str(each) for each in command], env=environment, stdout=out, stderr=out, start_new_session=True
        )
    try:
        wait_for(lambda: socket.exists() or process.poll() is not None, 30, "the engine starts")
        assert process.poll() is None, log.read_text()
        yield f"unix://{socket}"
    finally:
        process.terminate()
        try:
            process.wait(20 * PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _ip(*words: str, inside: Sequence[str]) -> None:
    subprocess.run([*inside, "ip", *words], check=True, capture_output=True)


def _unmount(place: Path) -> None:
    """What a killed engine may have left."""
    mounted = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
    for each in sorted((each for each in mounted if each.startswith(str(place))), reverse=True):
        subprocess.run(["umount", "-l", each], check=False, capture_output=True)
