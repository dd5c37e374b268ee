"""The Docker engine of this machine by its SDK: the few calls that containers of ours need. The SDK's types stay here.

The SDK is loaded when the first engine is made: a supervisor without docker mode does without its memory.
"""

from __future__ import annotations

import contextlib
import os
import socket
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from io import BytesIO
from typing import Any
from urllib.parse import quote

from fleet.supervisor import sdk
from fleet.supervisor.arguments import Options

DEFAULT_SOCKET = "unix:///var/run/docker.sock"
ANSWERS_WITHIN_S = 60  # an engine on a busy disk takes its time to remove a container
# Containers are here, and not among the services of the machine: the packet filter before its metadata knows them by that.
# A slice of systemd, or, for an engine without systemd, the name of a cgroup. Source: docs/adr/0051-metadata.md
TASKS = "fleet-tasks.slice"
NANO = 1_000_000_000
LOG_BYTES = "64m"  # that the engine keeps of a console; we have read it long before


class EngineFault(OSError):
    """The engine did not do it. `status`: its HTTP status; None: it was not reached."""

    def __init__(self, text: str, status: int | None = None) -> None:
        super().__init__(text)
        self.status = status


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A container to create."""

    name: str
    image: str
    command: tuple[str, ...]
    labels: Mapping[str, str]
    environment: Mapping[str, str]  # can be read by all who may ask the engine: nothing secret
    gpus: tuple[str, ...]  # uuids
    options: Options = field(repr=False)
    binds: tuple[str, ...] = ()
    network: str = "host"


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """A container as the engine has it now."""

    id: str
    labels: Mapping[str, str]
    is_running: bool
    pid: int
    exit_code: int
    is_out_of_memory: bool
    memory_bytes: int  # its limit; 0: none
    error: str = ""
    started_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Happened:
    """Something that became of a container."""

    id: str
    what: str  # die, oom
    at: float  # seconds since 1970


class Engine:
    """Safe to share between threads. Every method raises EngineFault, and nothing else, where the engine does not do it."""

    def __init__(self, url: str | None = None) -> None:
        url = url or os.environ.get("DOCKER_HOST") or DEFAULT_SOCKET
        if not url.startswith("unix://"):
            raise EngineFault(f"{url} is not the engine of this machine; unset DOCKER_HOST or set it to unix:///...")
        self._path = url.removeprefix("unix://")
        self._docker = sdk.load()
        with self._asking("connect"):
            self._api = self._docker.api.APIClient(base_url=url, version="auto", timeout=ANSWERS_WITHIN_S)

    def close(self) -> None:
        self._api.close()

    def place(self) -> str:
        """The directory that the engine keeps everything in."""
        with self._asking("info"):
            return str(self._api.info().get("DockerRootDir", ""))

    # --- images

    def image(self, name: str) -> Mapping[str, Any] | None:
        """What is known of an image on this machine; None: it is not here."""
        try:
            with self._asking(f"image {name}"):
                found: Mapping[str, Any] = self._api.inspect_image(name)
                return found
        except EngineFault as fault:
            if fault.status == 404:
                return None
            raise

    def pull(self, name: str) -> Iterator[str]:
        """Pull an image, and tell how far it is."""
        with self._asking(f"pull {name}"):
            repository, tag = self._docker.utils.parse_repository_tag(name)
            for line in self._api.pull(repository, tag=tag or "latest", stream=True, decode=True):
                if "error" in line:
                    raise EngineFault(f"docker: {name} cannot be pulled: {' '.join(line['error'].split())}")
                yield str(line.get("status", ""))

    def remove_image(self, name: str) -> None:
        with self._asking(f"remove image {name}"):
            self._api.remove_image(name)

    def images_in_use(self) -> frozenset[str]:
        """Ids of the images of all containers, also of ones that have ended."""
        with self._asking("list"):
            return frozenset(str(each["ImageID"]) for each in self._api.containers(all=True))

    # --- containers

    def create(self, wanted: Wanted) -> str:
        """Create a container; its id."""
        with self._asking(f"create {wanted.name}"):
            made = self._api.create_container(
                wanted.image,
                list(wanted.command),
                name=wanted.name,
                labels={**dict(wanted.options.labels), **wanted.labels},
                environment=dict(wanted.environment),
                user=wanted.options.user,
                working_dir=wanted.options.workdir,
                hostname=wanted.options.hostname,
                host_config=self._host(wanted),
            )
            return str(made["Id"])

    def _host(self, wanted: Wanted) -> Any:
        types, options = self._docker.types, wanted.options
        network = options.network or wanted.network
        given = {
            "network_mode": network,
            # On the machine's own network it would write packets past the machine's filter.
            "cap_drop": ["NET_RAW"] if network == "host" else None,
            "ipc_mode": options.ipc,
            "mem_limit": options.memory_bytes,
            "memswap_limit": options.memory_swap_bytes,
            # A limit that lets the container swap without end is none: without a word on swap there is none.
            **(
                {"memswap_limit": options.memory_bytes}
                if options.memory_bytes and not options.memory_swap_bytes
                else {}
            ),
            "shm_size": None if options.ipc == "host" else options.shm_bytes,
            "nano_cpus": int(options.cpus * NANO) if options.cpus else None,
            "cpuset_cpus": options.cpuset,
            "cap_add": list(options.capabilities) or None,
            "devices": list(options.devices) or None,
            "ulimits": [types.Ulimit(name=n, soft=s, hard=h) for n, s, h in options.ulimits] or None,
            "extra_hosts": dict(options.hosts) or None,
            "dns": list(options.dns) or None,
            "tmpfs": list(options.tmpfs) or None,
        }
        gpus = [types.DeviceRequest(device_ids=list(wanted.gpus), capabilities=[["gpu"]])] if wanted.gpus else None
        return self._api.create_host_config(
            binds=[*wanted.binds, *options.binds],
            cgroup_parent=TASKS,
            init=True,  # passes signals on, and buries orphans
            device_requests=gpus,
            log_config=types.LogConfig(type="json-file", config={"max-size": LOG_BYTES, "max-file": "2"}),
            **{key: value for key, value in given.items() if value is not None},
        )

    def start(self, id_: str) -> None:
        with self._asking("start"):
            self._api.start(id_)

    def kill(self, id_: str, signal: int) -> None:
        """Signal its first process. One that has ended already is no fault."""
        with self._asking("kill", ignore=(404, 409)):
            self._api.kill(id_, signal)

    def remove(self, id_: str) -> None:
        """Kill and remove it. One that is gone, or going, is no fault."""
        with self._asking("remove", ignore=(404, 409)):
            self._api.remove_container(id_, v=True, force=True)

    def see(self, id_: str) -> Seen | None:
        """A container as it is now; None: it is gone."""
        try:
            with self._asking("inspect"):
                return _seen(self._api.inspect_container(id_))
        except EngineFault as fault:
            if fault.status == 404:
                return None
            raise

    def with_labels(self, labels: Mapping[str, str]) -> tuple[Seen, ...]:
        """All containers, also ended ones, that have these labels."""
        wanted = [f"{name}={value}" for name, value in labels.items()]
        with self._asking("list"):
            ids = [str(each["Id"]) for each in self._api.containers(all=True, filters={"label": wanted})]
        return tuple(filter(None, map(self.see, ids)))

    def uid_of(self, id_: str, user: str) -> int | None:
        """The number of a user by its name in this container's /etc/passwd; None: not there."""
        with self._asking("read /etc/passwd"):
            chunks, _ = self._api.get_archive(id_, "/etc/passwd")
            with tarfile.open(fileobj=BytesIO(b"".join(chunks))) as archive:
                file = archive.extractfile("passwd")
                lines = file.read().decode(errors="replace").splitlines() if file else []
        rows = (line.split(":") for line in lines)
        return next((int(row[2]) for row in rows if row[0] == user and len(row) > 2 and row[2].isdigit()), None)

    # --- streams

    def happenings(self, labels: Mapping[str, str], since: float) -> Iterator[Happened]:
        """What becomes of containers with these labels, from then on, as it happens. Ends with the engine."""
        filters = {"type": "container", "event": ["die", "oom"], "label": [f"{k}={v}" for k, v in labels.items()]}
        with self._asking("events"):
            for event in self._api.events(since=since, filters=filters, decode=True):
                at = event["timeNano"] / NANO
                yield Happened(id=str(event["Actor"]["ID"]), what=str(event["Action"]), at=at)

    def log(self, id_: str, since: datetime | None = None) -> int:
        """A file descriptor with the container's console from then on, in frames (see `Frames`), until it ends.

        A socket of our own, because the SDK reads ahead, and would need a thread for each. HTTP 1.0: a body without chunks.
        """
        after = f"&since={since.timestamp():.9f}" if since else ""
        request = (
            f"GET /containers/{quote(id_)}/logs?follow=1&stdout=1&stderr=1{after} HTTP/1.0\r\nHost: docker\r\n\r\n"
        )
        with contextlib.ExitStack() as stack, self._asking("logs"):
            stream = stack.enter_context(socket.socket(socket.AF_UNIX))
            stream.settimeout(ANSWERS_WITHIN_S)
            stream.connect(self._path)
            stream.sendall(request.encode())
            head = _head(stream)
            status = head.split(b" ", 2)[1:2]
            if status != [b"200"]:
                raise EngineFault(f"docker: logs: {head.decode(errors='replace').splitlines()[:1]}")
            return stream.detach()

    @contextlib.contextmanager
    def _asking(self, what: str, ignore: Sequence[int] = ()) -> Iterator[None]:
        """Faults of the SDK, and of what it is made of, become ours."""
        from requests import RequestException
        from urllib3.exceptions import HTTPError

        try:
            yield
        except self._docker.errors.APIError as error:
            status = error.status_code
            if status not in ignore:
                text = " ".join(str(error.explanation or error).split())
                raise EngineFault(f"docker: {what}: {text}", status) from error
        except EngineFault:
            raise
        except self._docker.errors.StreamParseError as error:  # of no family: the stream ended within a word
            raise EngineFault(f"docker: {what}: the engine at {self._path} broke off its answer") from error
        except (self._docker.errors.DockerException, RequestException, HTTPError, OSError) as error:
            raise EngineFault(f"docker: {what}: the engine at {self._path} does not answer: {_root(error)}") from error


def _root(error: BaseException) -> str:
    """What the system said, without what each layer above has put around it."""
    layers = [error]
    for each in layers:
        if isinstance(each, OSError) and each.strerror:
            return each.strerror
        inner = (*each.args, each.__cause__, each.__context__)
        layers += [one for one in inner if isinstance(one, BaseException) and one not in layers]
    return str(error)


class Frames:
    """The console of a container: frames of 8 bytes of head (which stream, length) and the text. Docker Engine API, "Attach"."""

    def __init__(self) -> None:
        self._rest = b""
        self._left = 0  # of the frame that is being read

    def text(self, data: bytes) -> bytes:
        """The text in what has come."""
        data = self._rest + data
        parts, at = [], 0
        while True:
            part = data[at : at + self._left]
            parts.append(part)
            at, self._left = at + len(part), self._left - len(part)
            if self._left or len(data) - at < 8:
                break
            self._left = int.from_bytes(data[at + 4 : at + 8], "big")
            at += 8
        self._rest = data[at:]
        return b"".join(parts)


def _head(stream: socket.socket) -> bytes:
    """The head of an answer, and not a byte more: what follows is for somebody else."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        byte = stream.recv(1)
        if not byte:
            break
        head += byte
    return head


def _seen(data: Mapping[str, Any]) -> Seen:
    state, config = data["State"], data["Config"]
    return Seen(
        id=str(data["Id"]),
        labels=dict(config.get("Labels") or {}),
        is_running=bool(state["Running"]),
        pid=int(state.get("Pid") or 0),
        exit_code=int(state["ExitCode"]),
        is_out_of_memory=bool(state.get("OOMKilled")),
        memory_bytes=int(data.get("HostConfig", {}).get("Memory") or 0),
        error=str(state.get("Error") or ""),
        started_at=_time(str(state.get("StartedAt") or "")),
    )


def _time(text: str) -> datetime | None:
    """The engine's times have nanoseconds, and year 1 for never."""
    with contextlib.suppress(ValueError):
        at = datetime.fromisoformat(text[:19]).replace(tzinfo=UTC)
        return at if at.year > 1 else None
    return None
