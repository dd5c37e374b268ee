"""This machine as a cloud: an instance is a supervised group of processes with its own directory and its own GPUs,
simulated (a number) or real (`gpus: real`, then there is one instance, which owns them all).

An instance lives in `<directory>/<intent id>/`:
    lock          held (flock) by its first process as long as it lives: that, not a pid, says whether it runs
    machine.json  what it was launched as, and the pid of its first process
    boot.json     environment of its supervisor with the join token, mode 0600; deleted as it is read
    console.log   what its processes print;  work/  the supervisor's own
    ended.json    how it ended; work/ is deleted then, the rest a week later
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from agent_hooks import gpus as gpu_sense
from fleet.errors import BadRequest, ProviderError, UnknownProviderFault
from fleet.model import Market, Offer, Resource
from fleet.providers.base import Finding, Launched, LaunchFailed, LaunchOrder, Machine, Surroundings
from fleet.providers.local_machine import inherited

STARTING_S = 5.0  # a Python process is there within a second, also on a busy machine
SIMULATED_MODEL = "Simulated GPU"
SIMULATED_MEMORY_GIB = 16.0
KEEP_ENDED_S = 7 * 86400


class LocalProvider:
    """Keeps the contract of `Provider` with processes."""

    list_lag = timedelta(0)

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def offers(self, resource: Resource, at: datetime) -> Sequence[Offer]:
        gpus, model, memory_gib = _gpus_of(resource)
        return [
            Offer(
                resource=resource.name,
                provider="local",
                type=f"local-{gpus}gpu" if gpus else "local-cpu",
                market=Market.ON_DEMAND,
                price_usd_per_hour=_number(resource, "usd_per_hour", 0.0),
                gpus=gpus,
                gpu_model=model,
                gpu_memory_gib=memory_gib,
                cpus=int(_number(resource, "cpus", os.cpu_count() or 1)),
                seen_at=at,
            )
        ]

    def launch(self, orders: Sequence[LaunchOrder]) -> Sequence[Launched | LaunchFailed]:
        return [self._launch_one(order) for order in orders]

    def list(self, cluster: str) -> Sequence[Machine]:
        if not self.directory.is_dir():
            return []
        machines = []
        for place in sorted(self.directory.iterdir()):
            if is_running(place) and (machine := _read_machine(place)) and machine.cluster == cluster:
                machines.append(machine)
        return machines

    def terminate(self, cloud_ids: Sequence[str]) -> None:
        for cloud_id in cloud_ids:
            place = self.directory / cloud_id.removeprefix("local-")
            if is_running(place) and (pid := _pid_of(place)):
                # Its first process passes this on, waits a little, then ends all that is left.
                with contextlib.suppress(ProcessLookupError):  # it has just ended by itself
                    os.kill(pid, signal.SIGTERM)

    def check(self, resource: Resource, at: datetime) -> Sequence[Finding]:
        if resource.settings.get("gpus") != "real":
            return []
        found = gpu_sense.NvmlGpus().read()
        if found:
            return [Finding(name="GPUs", found=", ".join(f"{g.index}: {g.model}" for g in found))]
        return [Finding(name="GPUs", found="none answers to NVML: CPU only")]

    def _launch_one(self, order: LaunchOrder) -> Launched | LaunchFailed:
        place = self.directory / order.instance
        launched = Launched(instance=order.instance, cloud_id=f"local-{order.instance}")
        try:
            self._forget_the_old()
            place.mkdir(parents=True, exist_ok=True, mode=0o700)
            with _lock(place) as lock:
                if lock is None:
                    _await_machine(place)
                    return launched  # the same order again: it runs already
                if (place / "machine.json").exists():
                    return launched  # it has run
                self._start(order, place, lock.fileno())
        except OSError as error:
            fault = UnknownProviderFault(f"this machine could not start {order.instance}: {error}")
            return LaunchFailed(instance=order.instance, error=fault)
        return launched

    def _forget_the_old(self) -> None:
        """Instances of long ago that ended leave a few small files; nobody will repeat their orders."""
        for launched in self.directory.glob("*/machine.json"):
            if time.time() - launched.stat().st_mtime > KEEP_ENDED_S and not is_running(launched.parent):
                shutil.rmtree(launched.parent, ignore_errors=True)

    def _start(self, order: LaunchOrder, place: Path, lock: int) -> None:
        facts = {
            "cluster": order.cluster,
            "instance": order.instance,
            "resource": order.resource.name,
            "launched_at": datetime.now(UTC).isoformat(),
        }
        # With the facts: its first process writes machine.json itself, if we are killed before we can.
        boot = {"machine": facts, "environment": _supervisor_environment(order, place)}
        _write(place / "boot.json", boot, mode=0o600)
        with (place / "console.log").open("ab") as console:
            process = subprocess.Popen(
                [sys.executable, "-m", "fleet.providers.local_machine", str(place), str(lock)],
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
                pass_fds=(lock,),
                env=inherited(os.environ),  # any task of the same user can read that of the first process
                start_new_session=True,  # it outlives this dispatcher
            )
        _write(place / "machine.json", facts | {"pid": process.pid})
        # Not waited for: the process has its own life. Without this, Popen would warn when collected.
        process.returncode = 0


def make(surroundings: Surroundings) -> LocalProvider:
    """What the entry point names."""
    return LocalProvider(surroundings.directory)


def is_running(place: Path) -> bool:
    """Whether the instance in this directory has a living first process: whether its lock is held."""
    if not (place / "lock").exists():
        return False
    with _lock(place) as lock:
        return lock is None


class _lock:
    """The instance's lock as a context: an open file if we got it, None if somebody holds it. Given back at the end,
    unless a child process inherited it and lives on."""

    def __init__(self, place: Path) -> None:
        self._file = (place / "lock").open("ab")

    def __enter__(self):  # type: ignore[no-untyped-def]  # an open file or None
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return None
        return self._file

    def __exit__(self, *_: object) -> None:
        self._file.close()


def _gpus_of(resource: Resource) -> tuple[int, str | None, float | None]:
    wanted = resource.settings.get("gpus", 0)
    if wanted == "real":
        found = gpu_sense.NvmlGpus().read()
        if not found:
            return 0, None, None
        return len(found), found[0].model, min(g.memory_gib for g in found)
    if not isinstance(wanted, int) or isinstance(wanted, bool) or wanted < 0:
        raise BadRequest(f"resources.{resource.name}.gpus: {wanted!r}; give a number of simulated GPUs, or `real`")
    if wanted == 0:
        return 0, None, None
    model = str(resource.settings.get("gpu_model") or SIMULATED_MODEL)
    return wanted, model, _number(resource, "gpu_memory", SIMULATED_MEMORY_GIB)


def _number(resource: Resource, key: str, default: float) -> float:
    value = resource.settings.get(key)
    if value is None:
        return default
    if not isinstance(value, int | float) or isinstance(value, bool) or value < 0:
        raise BadRequest(f"resources.{resource.name}.{key}: {value!r}; give a number, not below 0")
    return float(value)


def _supervisor_environment(order: LaunchOrder, place: Path) -> dict[str, str]:
    environment = {
        "FLEET_CENTRE_URL": order.first_boot.centre_url,
        "FLEET_INSTANCE": order.instance,
        "FLEET_JOIN_TOKEN": order.first_boot.join_token,
        "FLEET_DIR": str(place / "work"),
    }
    if order.first_boot.certificate_sha256:
        environment["FLEET_CENTRE_CERT_SHA256"] = order.first_boot.certificate_sha256
    if order.resource.settings.get("gpus") != "real":
        environment["FLEET_SIM_GPUS"] = json.dumps(
            [
                {
                    "index": n,
                    "uuid": f"GPU-sim-{order.instance}-{n}",
                    "model": order.offer.gpu_model,
                    "memory_gib": order.offer.gpu_memory_gib,
                }
                for n in range(order.offer.gpus)
            ]
        )
    return environment


def _read_machine(place: Path) -> Machine | None:
    try:
        data = json.loads((place / "machine.json").read_text())
        return Machine(
            cloud_id=f"local-{place.name}",
            cluster=data["cluster"],
            instance=data["instance"],
            resource=data["resource"],
            launched_at=datetime.fromisoformat(data["launched_at"]),
        )
    except FileNotFoundError:
        return None  # between lock and machine.json, in a launch that goes on right now
    except (OSError, ValueError, KeyError) as error:
        raise UnknownProviderFault(f"{place}/machine.json cannot be read: {error}; remove the directory") from error


def _await_machine(place: Path) -> None:
    """It runs, but whoever launched it was killed at once: until it has said what it is, `list` cannot show it.

    Raises:
        UnknownProviderFault: it does not say so in time; ask again.
    """
    deadline = time.monotonic() + STARTING_S
    while is_running(place) and not (place / "machine.json").exists():
        if time.monotonic() > deadline:
            raise UnknownProviderFault(f"{place} is being started; if this does not pass, remove the directory")
        time.sleep(0.02)


def _pid_of(place: Path) -> int | None:
    try:
        return int(json.loads((place / "machine.json").read_text())["pid"])
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError) as error:
        raise ProviderError(f"{place}/machine.json cannot be read: {error}") from error


def _write(path: Path, data: Mapping[str, object], mode: int = 0o644) -> None:
    """Whole or not at all: a reader never sees half a file."""
    part = path.with_name(path.name + ".part")
    with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "w") as file:
        json.dump(data, file)
    part.replace(path)
