"""One container for each allocation: the agent runs in the task's image, and its end is the end of all that it started.

Containers are ours by their labels. They outlive a supervisor that is killed: the next one of this instance finds them
(`found`), and takes them over or removes them.
"""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import shutil
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from signal import Signals
from urllib.parse import urlsplit

from fleet.errors import AgentRefused, AgentUnusable
from fleet.model import AgentSettings, ServerAccess
from fleet.queues.base import TaskContainer
from fleet.supervisor import bootstrap
from fleet.supervisor.agents import Agent, Found, Order, Outcome
from fleet.supervisor.arguments import Options, merged, read
from fleet.supervisor.endings import Endings
from fleet.supervisor.engine import Engine, EngineFault, Frames, Seen, Wanted
from fleet.supervisor.images import Images
from fleet.supervisor.leftovers import Leftovers
from fleet.supervisor.runner import NO_DEVICE, conf, told
from fleet.supervisor.successor import Successor
from fleet.supervisor.vault import Vault
from fleet.supervisor.vouched import NAME, VARIABLE, bundle

log = logging.getLogger(__name__)

GIB = 1 << 30
KILL_AGAIN_S = 2.0  # an engine that is restarted is away for seconds, and its containers may go on
LOOPBACK = ("127.", "localhost", "[::1]")
# Where the stock agent mounts its caches in a container of its own; those that containers may share at the same time.
CACHES = {
    "pip-cache": "/root/.cache/pip",
    "pip-download-cache": "/root/.clearml/pip-download-cache",
    "vcs-cache": "/root/.clearml/vcs-cache",
    "venvs-cache": "/root/.clearml/venvs-cache",
    "cache": "/clearml_agent_cache",
}
CONF = """\
agent.package_manager.system_site_packages: true
agent.venvs_cache.path: "/root/.clearml/venvs-cache"
sdk.storage.cache.default_base_dir: "/clearml_agent_cache"
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """Whose containers these are."""

    cluster: str
    instance: str

    @property
    def labels(self) -> dict[str, str]:
        return {"fleet.cluster": self.cluster, "fleet.instance": self.instance}


@dataclass(slots=True, kw_only=True)
class Container:
    """A running agent in its container."""

    mark: str
    id: str
    engine: Engine = field(repr=False)
    endings: Endings = field(repr=False)
    pid: int = 0
    output: int = -1
    frames: Frames = field(default_factory=Frames)

    def end(self) -> int:
        return self.endings.descriptor(self.id)

    def text(self, data: bytes) -> bytes:
        return self.frames.text(data)

    def ask_to_end(self) -> None:
        self._signal(Signals.SIGTERM)

    def kill(self) -> None:
        self._signal(Signals.SIGKILL)

    def _signal(self, number: Signals) -> None:
        def call() -> None:
            while not self._is_told(number) and number is Signals.SIGKILL:  # nobody asks again for its end
                time.sleep(KILL_AGAIN_S)

        threading.Thread(target=call, name=f"signal {self.mark}", daemon=True).start()

    def _is_told(self, number: Signals) -> bool:
        try:
            self.engine.kill(self.id, number)
        except EngineFault as fault:
            log.warning("container not signalled", extra={"container": self.id[:12], "error": str(fault)})
            return False
        return True


class Containers:
    """Agents in containers. `directory` is the supervisor's own, `private` (in memory) for its eyes alone; `wish` asks the server what container a task wants."""

    is_quick = False

    def __init__(
        self,
        settings: AgentSettings,
        access: ServerAccess,
        owner: Owner,
        directory: Path,
        private: Path,
        wish: Callable[[str], TaskContainer],
        successor: Successor,
    ) -> None:
        self._settings, self._access, self._owner = settings, access, owner
        self._directory, self._wish = directory, wish
        self._default = settings.image or ""
        self._cache = Path(settings.docker.cache or directory.parent / "cache")
        self._vault = Vault(private / "agents")
        self._successor = successor
        self._engine_: Engine | None = None
        self._calling_off: set[str] = set()
        self._ids: dict[str, str] = {}  # of containers by mark, until `clean`
        self._leftovers = Leftovers(lambda id_: self._engine.remove(id_))

    def prepare(self) -> None:
        try:
            self._ours = read(self._settings.docker.arguments, is_ours=True)
            self._open()
        except AgentRefused as error:
            raise AgentUnusable(f"agent.docker.arguments: {error}") from error
        except EngineFault as fault:
            raise AgentUnusable(
                f"{fault}; agent.mode docker needs a Docker engine on the machine that we may use"
            ) from fault
        self._refuse_unreachable(self._settings.docker.network)
        self._directory.mkdir(parents=True, mode=0o700, exist_ok=True)
        for name in CACHES:
            (self._cache / name).mkdir(parents=True, exist_ok=True)
        record = self._directory.parent / "images.json"
        self._images = Images(self._engine, self._default, self._settings.docker.prune_above, record)

    def _open(self) -> None:
        """Find the engine. Raises: EngineFault."""
        if self._engine_ is None:
            self._engine_ = Engine()
            self._endings = Endings(self._engine_, self._owner.labels)

    @property
    def _engine(self) -> Engine:
        assert self._engine_ is not None, "prepare and found come first"
        return self._engine_

    def sweep(self) -> None:
        self._successor.open()
        self._vault.keep_only(self._ids)
        try:
            for seen in self._engine.with_labels(self._owner.labels):
                if seen.id not in self._ids.values():
                    log.info("container of an earlier supervisor removed", extra={"container": seen.id[:12]})
                    self._engine.remove(seen.id)
        except EngineFault as fault:
            raise AgentUnusable(f"{fault}; what an earlier supervisor left may still hold GPUs") from fault
        if not self._ids:
            shutil.rmtree(self._directory, ignore_errors=True)
            self._directory.mkdir(parents=True, mode=0o700)

    def warm_up(self) -> None:
        """Have the default image, the newest one under its name.

        Raises:
            AgentUnusable: it is not here and cannot be pulled.
        """
        try:
            self._images.pull(self._default)
            self._images.use(self._default)
        except EngineFault as fault:
            with contextlib.suppress(EngineFault):
                if self._engine.image(self._default) is not None:
                    log.warning("image not pulled: the one that is here is used", extra={"error": str(fault)})
                    return
            raise AgentUnusable(f"agent.image: {fault}; correct its name, log in, or bake it into the image") from fault

    def place(self, mark: str) -> Path:
        return self._directory / mark

    def start(self, order: Order) -> Container:
        """As `Agents.start`: pulls the image where it is missing, creates the container, hands it its secrets, starts it."""
        wish = self._wish(order.task.id)
        options = self._options(wish)
        image = wish.image or self._default
        with self._images.kept(image):
            self._have(image, order.mark)
            return self._made(order, wish, options)

    def _made(self, order: Order, wish: TaskContainer, options: Options) -> Container:
        files = bootstrap.files(self._environment(order, options), self._conf(), wish.setup_script)
        files |= {NAME: vouched} if (vouched := bundle(self._access)) else {}
        try:
            place = self._vault.put(order.mark, files)
            return self._create(order, wish, options, place)
        except OSError:
            self.clean(order.mark)
            raise

    def _options(self, wish: TaskContainer) -> Options:
        options = merged(self._ours, read(wish.arguments))
        if options.network in ("bridge", "none"):
            try:
                self._refuse_unreachable(options.network)
            except AgentUnusable as error:
                raise AgentRefused(f"docker argument --network {options.network}: {error}") from error
        if options.ipc == "host" and str(self._vault.place("")).startswith("/dev/shm"):
            raise AgentRefused("docker argument --ipc host: on this machine /dev/shm holds secrets; ask for --shm-size")
        shm = options.shm_bytes or int(self._settings.docker.shm_gib * GIB)
        return merged(options, Options(shm_bytes=shm))

    def _refuse_unreachable(self, network: str) -> None:
        host = urlsplit(self._access.api_url).netloc
        if network != "host" and host.startswith(LOOPBACK):
            text = f"a container in network {network} cannot reach {self._access.api_url}; use host"
            raise AgentUnusable(f"agent.docker.network: {text}, or a server that does not listen on loopback alone")

    def _have(self, image: str, mark: str) -> None:
        """Raises: EngineFault, AgentRefused: there is no such image."""
        try:
            self._images.have(image, goes_on=lambda: mark not in self._calling_off)
        except EngineFault as fault:
            text = f"image {image} is not on this machine, and {fault}"
            if fault.status == 404:
                raise AgentRefused(f"{text}; correct its name in the task, or push it") from fault
            raise EngineFault(text, fault.status) from fault
        self._images.use(image)

    def _create(self, order: Order, wish: TaskContainer, options: Options, place: Path) -> Container:
        image = wish.image or self._default
        caches = [f"{(self._cache / name).absolute()}:{target}:rw" for name, target in CACHES.items()]
        wanted = Wanted(
            name=f"fleet-{order.task.id}-{secrets.token_hex(3)}",
            image=image,
            command=bootstrap.command(self._settings.version, wish.has_repository),
            labels=self._labels(order),
            environment=_shown(order),
            gpus=tuple(gpu.uuid or str(gpu.index) for gpu in order.gpus),
            options=options,
            binds=(f"{place}:{bootstrap.MOUNT}:ro", *caches),
            network=self._settings.docker.network,
        )
        container = Container(
            mark=order.mark, id=self._engine.create(wanted), engine=self._engine, endings=self._endings
        )
        self._ids[order.mark] = container.id
        self._give_secrets(container, image, options)
        self._endings.expect(container.id)
        self._engine.start(container.id)
        return self._connect(container, None)

    def _give_secrets(self, container: Container, image: str, options: Options) -> None:
        """Its secrets are for the user that it runs as, and for nobody else."""
        config = (self._engine.image(image) or {}).get("Config") or {}
        user = (options.user or str(config.get("User") or "0")).split(":")[0]
        uid = int(user) if user.isdigit() else self._engine.uid_of(container.id, user)
        if uid is None:
            raise AgentRefused(f"image {image}: its user {user} is not in its /etc/passwd; give --user a number")
        if uid == 0:
            return
        # The machine's caches are mounted where root looks for them, and are root's.
        (self._vault.place(container.mark) / "clearml.conf").write_text(conf(self._settings))
        if uid != os.geteuid():
            self._vault.give(container.mark, uid)

    def _connect(self, container: Container, since: datetime | None) -> Container:
        """Its console and its number on this machine."""
        container.output = self._engine.log(container.id, since)
        seen = self._engine.see(container.id)
        container.pid = seen.pid if seen else 0
        if container.pid:
            self._successor.add(container.pid, container.id)
        return container

    def call_off(self, mark: str) -> None:
        self._calling_off.add(mark)

    def bury(self, agent: Agent) -> Outcome:
        """The engine has killed what was left of it; it is removed by `clean`."""
        assert isinstance(agent, Container)
        self._successor.remove(agent.pid, agent.id)
        return self._endings.outcome(agent.id)

    def clean(self, mark: str) -> None:
        """Remove the container, its secrets and its directory; what an engine that is away leaves goes with the next one."""
        self._vault.drop(mark)
        shutil.rmtree(self.place(mark), ignore_errors=True)
        self._calling_off.discard(mark)
        id_ = self._ids.pop(mark, None)
        if id_ is None:
            return
        self._leftovers.remove(id_)
        self._endings.forget(id_)
        self._images.make_room()

    def close(self) -> None:
        """This supervisor ends, and nothing of it is to stay."""
        with contextlib.suppress(EngineFault):
            for seen in self._engine.with_labels(self._owner.labels):
                self._engine.remove(seen.id)
        self._successor.close()
        self._vault.close()
        self._engine.close()

    def mark_of(self, pid: int) -> str | None:
        """By its cgroup, which has the container's id in its path."""
        try:
            text = Path(f"/proc/{pid}/cgroup").read_text()
        except OSError:
            return None
        return next((mark for mark, id_ in tuple(self._ids.items()) if id_ in text), None)

    # --- of an earlier supervisor

    def found(self) -> tuple[Found, ...]:
        """Those that carry our labels.

        Raises:
            EngineFault: the engine does not answer.
        """
        self._open()
        self._successor.open()
        return tuple(map(_found, self._engine.with_labels(self._owner.labels)))

    def adopt(self, found: Found, since: datetime) -> Container:
        container = Container(mark=found.mark, id=found.id, engine=self._engine, endings=self._endings)
        self._endings.expect(found.id)
        try:
            # What was read is kept with the millisecond in which it was read; the engine's log knows parts of it.
            self._connect(container, since + timedelta(milliseconds=1))
        except EngineFault:
            self._endings.forget(found.id)
            raise
        self._ids[found.mark] = found.id
        return container

    # --- what a container is told

    def _labels(self, order: Order) -> dict[str, str]:
        return {
            **self._owner.labels,
            "fleet.allocation": order.mark,
            "fleet.task": order.task.id,
            "fleet.worker": order.worker,
            "fleet.gpus": ",".join(gpu.uuid for gpu in order.gpus),
        }

    def _environment(self, order: Order, options: Options) -> Mapping[str, str]:
        return {
            **dict(options.environment),
            **told(self._settings, self._access, order, {}),
            "CLEARML_CONFIG_FILE": f"{bootstrap.MOUNT}/clearml.conf",
            **({VARIABLE: f"{bootstrap.MOUNT}/{NAME}"} if self._access.authority else {}),
        }

    def _conf(self) -> str:
        return CONF + conf(self._settings)


def _shown(order: Order) -> dict[str, str]:
    """For the engine and what it is made of, so in its records: the NVIDIA hook hides all GPUs but these."""
    devices = ",".join(gpu.uuid for gpu in order.gpus) or NO_DEVICE
    return {"NVIDIA_VISIBLE_DEVICES": devices, "TINI_KILL_PROCESS_GROUP": "1"}


def _found(seen: Seen) -> Found:
    return Found(
        id=seen.id,
        mark=seen.labels.get("fleet.allocation", ""),
        task=seen.labels.get("fleet.task", ""),
        worker=seen.labels.get("fleet.worker", ""),
        gpus=tuple(filter(None, seen.labels.get("fleet.gpus", "").split(","))),
        is_running=seen.is_running,
        started_at=seen.started_at,
    )
