"""One agent process for each allocation: `clearml-agent execute --disable-monitoring --id T`, in a world of its own.

The agent prepares the task's code and environment and then becomes the task's process; watching it, its console and
its status are ours. What it may see (devices, credentials, directories) is in its environment, never in its arguments.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from signal import Signals

from fleet.errors import AgentUnusable
from fleet.model import AgentSettings, Gpu, ServerAccess, Task
from fleet.supervisor import shares
from fleet.supervisor.agent_home import agent_python, agent_version, can_start_in_conda
from fleet.supervisor.agents import Agent, Found, Order, Outcome
from fleet.supervisor.private import write_private
from fleet.supervisor.processes import MARK, Guard, die_with_parent, kill_marked, mark_of, signal_group
from fleet.supervisor.task_user import PASS, TaskUser, let_pass
from fleet.supervisor.vouched import NAME, VARIABLE, bundle
from fleet.supervisor.wiped import wipe

# Of the environment that we were started in, the agents get all but what would speak for another identity or device.
FOREIGN = ("FLEET_", "CLEARML_", "TRAINS_")
DEVICES = ("CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES")
NO_DEVICE = "none"  # what the stock agent itself sets for a CPU task


@dataclass(slots=True, kw_only=True)
class Process:
    """A running agent, leader of its own process group, and the pipe that its console comes from."""

    mark: str
    process: subprocess.Popen[bytes]
    output: int  # file descriptor, ours to close

    @property
    def pid(self) -> int:
        return self.process.pid

    def end(self) -> int:
        return os.pidfd_open(self.pid)

    def text(self, data: bytes) -> bytes:
        return data

    def ask_to_end(self) -> None:
        signal_group(self.pid, Signals.SIGTERM)

    def kill(self) -> None:
        signal_group(self.pid, Signals.SIGKILL)
        kill_marked(self.mark)


class Runner:
    """Starts agents as processes, below `directory`; each allocation has its own part of it until `clean`."""

    is_quick = True

    def __init__(
        self,
        settings: AgentSettings,
        access: ServerAccess,
        directory: Path,
        guard: Guard,
        private: Path | None = None,
        user: TaskUser | None = None,
    ) -> None:
        """`private`: where files with credentials lie, in memory if the machine can; None: `directory`. `user`: whose processes
        tasks are; None: ours."""
        self._settings = settings
        self._access = access
        self._directory = directory
        self._guard = guard
        self._user = user
        self._conf = (private or directory) / "clearml.conf"
        self._vouched = bundle(access, {**os.environ, **settings.environment})

    def prepare(self) -> None:
        """What all agents share, once, so that nothing but directories is made when a task has come.

        Raises:
            AgentUnusable: no task can ever run here; the text says what an operator has to change.
        """
        check(self._settings)
        wipe(self._directory)  # of a supervisor before us
        self._directory.mkdir(parents=True, mode=0o700)
        self._write_shared()
        if self._user:
            self._directory.chmod(PASS)
            let_pass(self._directory.parent)
            self._user.check(self._directory, self._conf, agent_python())

    def place(self, mark: str) -> Path:
        """The directory of one allocation. Short, because sockets are made in it, and their paths may have 107 bytes."""
        return self._directory / mark

    def start(self, order: Order) -> Process:
        """Start the agent. Called by the main thread alone: the kernel ties the child's life to that of the thread.

        Raises:
            OSError: no process, no disk or no memory left; nothing was started.
            ValueError: something that cannot be put into an environment; nothing was started.
        """
        if not self._conf.exists():  # what is in memory may go with its user's last session
            self._conf.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._write_shared()
        place = self.place(order.mark)
        self._make(place)
        read_end, write_end = os.pipe()
        try:
            process = subprocess.Popen(
                command(order.task.id),
                env=environment(self._settings, self._access, order, place, self._conf, self._ours()),
                stdin=subprocess.DEVNULL,
                stdout=write_end,
                stderr=write_end,
                cwd=place,
                start_new_session=True,
                preexec_fn=die_with_parent,
                **(self._user.rights if self._user else {}),
            )
        except (OSError, ValueError):
            os.close(read_end)
            raise
        finally:
            os.close(write_end)
        self._guard.add(process.pid)
        return Process(mark=order.mark, process=process, output=read_end)

    def _make(self, place: Path) -> None:
        """The directory of one allocation; its user's, from the inside out."""
        parts = [place / part for part in ("tmp", "venvs")]
        for part in parts:
            part.mkdir(parents=True, exist_ok=True)
        if self._user:
            for each in (*parts, place):
                self._user.own(each)

    def _ours(self) -> Mapping[str, str]:
        return self._user.environment(os.environ) if self._user else os.environ

    def _write_shared(self) -> None:
        shared = {self._conf: conf(self._settings)}
        if self._vouched:
            shared[self._conf.with_name(NAME)] = self._vouched
        for path, text in shared.items():
            write_private(path, text)
            if self._user:
                let_pass(path.parent)
                self._user.share(path)

    def sweep(self) -> None:
        """Nothing of an earlier supervisor is left: see `found`."""

    def warm_up(self) -> None:
        """Nothing takes long."""

    def close(self) -> None:
        """Nothing is left: the guard sees to it."""

    def call_off(self, mark: str) -> None:
        """Its start does not wait for anything."""

    def bury(self, agent: Agent) -> Outcome:
        assert isinstance(agent, Process)
        agent.kill()  # before the wait: until then its group's number cannot be given to strangers
        exit_code = agent.process.wait()
        self._guard.remove(agent.pid)
        return Outcome(exit_code=exit_code)

    def clean(self, mark: str) -> None:
        wipe(self.place(mark))

    def mark_of(self, pid: int) -> str | None:
        return mark_of(pid)

    def found(self) -> tuple[Found, ...]:
        """None: the processes of a supervisor end with it (see `processes`)."""
        return ()

    def adopt(self, found: Found, since: datetime) -> Agent:
        raise ProcessLookupError(f"agent {found.id} was a process, and ended with its supervisor")


def check(settings: AgentSettings) -> None:
    """Can this machine run agents as these settings want it?

    Raises:
        AgentUnusable: it cannot.
    """
    if settings.mode not in ("venv", "interpreter"):
        raise AgentUnusable(f"agent.mode {settings.mode!r} is unknown; use venv, interpreter or docker")
    if settings.package_manager == "conda" and _which("conda", settings) is None:
        raise AgentUnusable("agent.package_manager conda is not on this machine; put conda in the image, or use pip")
    if settings.python and _which(settings.python, settings) is None:
        raise AgentUnusable(f"agent.python {settings.python} is not on this machine; put it in the image")
    installed = agent_version()
    if installed is None:
        raise AgentUnusable(f"clearml-agent is not installed for {agent_python()}; install fleet[agent]")
    if settings.version not in (None, installed):
        raise AgentUnusable(f"agent.version {settings.version} is wanted, this machine has {installed}; bake it anew")
    if settings.package_manager == "conda" and settings.mode == "venv" and not can_start_in_conda():
        raise AgentUnusable(
            f"agent.package_manager conda: clearml-agent {installed} makes an environment and then cannot start the task in "
            "it (a fault of that release: 'CommandSequence' object has no attribute 'update_envs'); use uv, poetry or pip, "
            "or put clearml-agent 2.0.1 into the image"
        )


def _which(program: str | None, settings: AgentSettings) -> str | None:
    """Where the agents will find it: their PATH is that of the fleet file, where it says one."""
    return shutil.which(program, path=settings.environment.get("PATH")) if program else None


def command(task: str) -> list[str]:
    return [agent_python(), "-m", "clearml_agent", "execute", "--disable-monitoring", "--id", task]


def environment(
    settings: AgentSettings, access: ServerAccess, order: Order, place: Path, conf_file: Path, ours: Mapping[str, str]
) -> dict[str, str]:
    """The whole environment of one agent, and so of its task. `ours`: that of the supervisor."""
    kept = {key: value for key, value in ours.items() if not key.startswith(FOREIGN) and key not in DEVICES}
    return {
        **kept,
        **_python(settings),
        **told(settings, access, order, kept),
        "CLEARML_CONFIG_FILE": str(conf_file),
        **({VARIABLE: str(conf_file.with_name(NAME))} if access.authority else {}),
        # Agents that share this directory destroy each other's environments.
        "CLEARML_AGENT__AGENT__VENVS_DIR": json.dumps(str(place / "venvs")),
        "TMPDIR": str(place / "tmp"),
    }


def told(settings: AgentSettings, access: ServerAccess, order: Order, known: Mapping[str, str]) -> dict[str, str]:
    """What an agent is told wherever it runs, and what is secret of it. `known`: what its environment says already."""
    devices = ",".join(gpu.uuid or str(gpu.index) for gpu in order.gpus) or NO_DEVICE
    return {
        **shares.hints(order.task, order.gpus, {**known, **settings.environment}),
        **settings.environment,
        **dict.fromkeys(DEVICES, devices),
        **facts(order.task, order.gpus),
        MARK: order.mark,
        "CLEARML_API_HOST": access.api_url,
        "CLEARML_FILES_HOST": access.files_url,
        "CLEARML_WEB_HOST": access.web_url,
        "CLEARML_API_ACCESS_KEY": access.access_key,
        "CLEARML_API_SECRET_KEY": access.secret_key,
        "CLEARML_WORKER_ID": order.worker,
        "PYTHONUNBUFFERED": "1",  # a console that is seen as it happens
    }


def facts(task: Task, gpus: Sequence[Gpu]) -> dict[str, str]:
    """What a task and its hooks are told of where they are."""
    return {
        "FLEET_TASK_ID": task.id,
        "FLEET_TASK_NAME": task.name.replace("\0", "").encode(errors="replace").decode(),  # as a user typed it
        "FLEET_QUEUE": task.queue,
        "FLEET_RESUMES": str(task.resumes),
        "FLEET_GPU_INDICES": ",".join(str(gpu.index) for gpu in gpus),
        "FLEET_GPU_UUIDS": ",".join(gpu.uuid for gpu in gpus),
        **shares.facts(task, gpus),
    }


def _python(settings: AgentSettings) -> dict[str, str]:
    """Mode `interpreter`: run tasks in an interpreter as it is.

    The first switch alone means the agent's own interpreter; with the second the given one is looked up. The second
    alone would still install the task's requirements into it.
    """
    if settings.mode != "interpreter":
        return {}
    skip = {"CLEARML_AGENT_SKIP_PYTHON_ENV_INSTALL": "1"}
    if settings.python in (None, agent_python()):
        return skip
    return {**skip, "CLEARML_AGENT_SKIP_PIP_VENV_INSTALL": str(_which(settings.python, settings))}


def conf(settings: AgentSettings) -> str:
    """The agents' clearml.conf. Without credentials: those are in the environment of each."""
    lines = ["agent.disable_agent_update_check: true"]
    if settings.mode == "venv" and settings.python:
        lines += [
            f"agent.python_binary: {json.dumps(str(_which(settings.python, settings)))}",
            "agent.ignore_requested_python_version: true",
        ]
    if settings.package_manager:
        lines.append(f"agent.package_manager.type: {json.dumps(settings.package_manager)}")
    return "\n".join([*lines, settings.extra_conf, ""])
