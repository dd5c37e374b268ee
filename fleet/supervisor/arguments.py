"""PURE: the docker arguments of a task (or of the fleet file), from text to what the engine is asked for.

Only what is in the table is done; all else is refused in one line. A task shares its machine with the tasks of others, so
it may not take over the machine: no --privileged, no devices, no namespaces of the machine but its network and IPC, and
no directories that hold the machine's own state. The fleet file's own arguments (`is_ours`) may mount any directory.
"""

from __future__ import annotations

import argparse
import os.path
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn

from fleet.errors import AgentRefused

SIZE = re.compile(r"(\d+)([bkmg]?)b?", re.IGNORECASE)
FACTORS = {"": 1, "b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}
# What is in (or above) these is the machine's, not the tasks': its accounts, secrets, devices, the engine's own socket.
OF_THE_MACHINE = ("/boot", "/dev", "/etc", "/proc", "/root", "/run", "/sys", "/usr", "/var/lib", "/var/run")
CAPABILITIES = ("SYS_PTRACE", "SYS_NICE", "IPC_LOCK")  # profilers, priorities, pinned memory for RDMA
DEVICES = ("/dev/infiniband", "/dev/fuse")


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What was asked for; None or empty: nothing was."""

    environment: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    binds: tuple[str, ...] = ()
    network: str | None = None
    ipc: str | None = None
    user: str | None = None
    workdir: str | None = None
    hostname: str | None = None
    memory_bytes: int | None = None
    memory_swap_bytes: int | None = None
    shm_bytes: int | None = None
    cpus: float | None = None
    cpuset: str | None = None
    capabilities: tuple[str, ...] = ()
    devices: tuple[str, ...] = ()
    ulimits: tuple[tuple[str, int, int], ...] = ()
    hosts: tuple[tuple[str, str], ...] = ()
    dns: tuple[str, ...] = ()
    tmpfs: tuple[str, ...] = ()
    labels: tuple[tuple[str, str], ...] = ()


def read(text: str | Sequence[str], is_ours: bool = False) -> Options:
    """The options in `text`, written as for `docker run`.

    Raises:
        AgentRefused: one of them is unknown, or not allowed; the text names it.
    """
    try:
        words = shlex.split(text) if isinstance(text, str) else list(text)
    except ValueError as error:
        raise AgentRefused(f"docker arguments {text!r} cannot be read: {error}; see to the quotes") from error
    found = _parser().parse_args(words)
    return Options(
        environment=tuple(_pair(each, "--env", "=") for each in found.env),
        binds=tuple(_bind(each, is_ours) for each in found.volume),
        network=_one_of(found.network, "--network", ("host", "bridge", "none")),
        ipc=_one_of(found.ipc, "--ipc", ("host", "private", "shareable")),
        user=_user(found.user),
        workdir=found.workdir,
        hostname=found.hostname,
        memory_bytes=_bytes(found.memory, "--memory"),
        memory_swap_bytes=_bytes(found.memory_swap, "--memory-swap"),
        shm_bytes=_bytes(found.shm_size, "--shm-size"),
        cpus=_number(found.cpus, "--cpus"),
        cpuset=found.cpuset_cpus,
        capabilities=tuple(_allowed(each.upper(), "--cap-add", CAPABILITIES) for each in found.cap_add),
        devices=tuple(_device(each) for each in found.device),
        ulimits=tuple(_ulimit(each) for each in found.ulimit),
        hosts=tuple(_pair(each, "--add-host", ":") for each in found.add_host),
        dns=tuple(found.dns),
        tmpfs=tuple(found.tmpfs),
        labels=tuple(_pair(each, "--label", "=") for each in found.label),
    )


def merged(first: Options, then: Options) -> Options:
    """Both; where only one value is possible, that of `then`."""
    values: dict[str, Any] = {}
    for name in Options.__dataclass_fields__:
        one, other = getattr(first, name), getattr(then, name)
        values[name] = one + other if isinstance(other, tuple) else one if other is None else other
    return Options(**values)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise AgentRefused(f"docker arguments: {message}; fleet takes {', '.join(KNOWN)}")


MANY = {
    "env": "-e",
    "volume": "-v",
    "cap-add": None,
    "device": None,
    "ulimit": None,
    "add-host": None,
    "dns": None,
    "tmpfs": None,
    "label": "-l",
}
ONE = {
    "network": None,
    "ipc": None,
    "user": "-u",
    "workdir": "-w",
    "hostname": "-h",
    "memory": "-m",
    "memory-swap": None,
    "shm-size": None,
    "cpus": None,
    "cpuset-cpus": None,
}
# Fleet decides these; to ask for them does no harm.
FLAGS = {"rm": None, "tty": "-t", "interactive": "-i", "detach": "-d", "init": None}
KNOWN = tuple(f"--{name}" for name in (*MANY, *ONE))


def _parser() -> _Parser:
    parser = _Parser(add_help=False, allow_abbrev=False, usage="")
    for table, options in ((MANY, {"action": "append", "default": []}), (ONE, {}), (FLAGS, {"action": "store_true"})):
        for name, short in table.items():
            synonyms = ["--net"] if name == "network" else []
            parser.add_argument(*filter(None, (short, f"--{name}", *synonyms)), dest=name.replace("-", "_"), **options)
    return parser


def _refuse(option: str, value: str, why: str) -> NoReturn:
    raise AgentRefused(f"docker argument {option} {value}: {why}")


def _one_of(value: str | None, option: str, allowed: Sequence[str]) -> str | None:
    return None if value is None else _allowed(value, option, allowed)


def _allowed(value: str, option: str, allowed: Sequence[str]) -> str:
    if value.removeprefix("CAP_") not in allowed:
        _refuse(option, value, f"is not allowed; {' or '.join(allowed)} is")
    return value


def _pair(text: str, option: str, separator: str) -> tuple[str, str]:
    name, found, value = text.partition(separator)
    if option == "--label":
        if name.startswith("fleet."):
            _refuse(option, name, "labels that begin with fleet. are fleet's own")
        return name, value
    if not name or not found:
        _refuse(option, name, f"has no value; write NAME{separator}VALUE")
    if option == "--env" and not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
        _refuse(option, name, "is no name of a variable")
    return name, value


def _bind(text: str, is_ours: bool) -> str:
    source, *rest = text.split(":")
    if not 1 <= len(rest) <= 2 or not rest[0].startswith("/"):
        _refuse("--volume", text, "is not SOURCE:/TARGET or SOURCE:/TARGET:ro")
    if rest[1:] not in ([], ["ro"], ["rw"]):
        _refuse("--volume", text, "ends in an option that fleet does not know; ro and rw it does")
    if not source.startswith("/"):
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", source):
            _refuse("--volume", text, "is neither an absolute path nor the name of a volume")
        return text
    place = os.path.normpath(os.path.realpath(source))
    if not is_ours and any(_is_within(place, each) or _is_within(each, place) for each in OF_THE_MACHINE):
        _refuse("--volume", text, "holds what is the machine's own; mount a directory of data")
    return ":".join([place, *rest])


def _is_within(place: str, directory: str) -> bool:
    return place == directory or place.startswith(directory.rstrip("/") + "/")


def _device(text: str) -> str:
    if not any(_is_within(os.path.normpath(text.split(":")[0]), each) for each in DEVICES):
        _refuse("--device", text, f"is not allowed; {' and '.join(DEVICES)} are. GPUs come with the allocation")
    return text


def _user(text: str | None) -> str | None:
    if text is not None and not re.fullmatch(r"\d+(:\d+)?", text):
        _refuse("--user", text, "is not a number, or two with a colon")
    return text


def _bytes(text: str | None, option: str) -> int | None:
    if text is None or text == "-1":
        return None if text is None else -1
    found = SIZE.fullmatch(text)
    if found is None:
        _refuse(option, text, "is not a size like 512m or 8g")
    return int(found[1]) * FACTORS[found[2].lower()]


def _number(text: str | None, option: str) -> float | None:
    if text is None:
        return None
    if not re.fullmatch(r"\d{1,4}(\.\d+)?", text) or float(text) == 0:
        _refuse(option, text, "is not a number of CPUs")
    return float(text)


def _ulimit(text: str) -> tuple[str, int, int]:
    found = re.fullmatch(r"([a-z]+)=(-1|\d+)(?::(-1|\d+))?", text)
    if found is None:
        _refuse("--ulimit", text, "is not NAME=SOFT or NAME=SOFT:HARD, as memlock=-1")
    return found[1], int(found[2]), int(found[3] or found[2])
