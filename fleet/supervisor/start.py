"""From the environment to a running supervisor: settings, enrolment, parts."""

from __future__ import annotations

import ctypes
import logging
import os
import re
import shutil
import socket
import sys
import time
from collections.abc import MutableMapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from agent_hooks import gpus as sensed
from agent_hooks import host, notices
from agent_hooks.acceptance import try_gpus
from agent_hooks.health import Health, NoHealth, NvmlHealth
from agent_hooks.hooks import Hooks
from agent_hooks.identity import statement
from agent_hooks.metadata import NoAnswer
from agent_hooks.power import ExitProcess, Power, power_of
from agent_hooks.signs import Signs, signs_of
from fleet import __version__
from fleet.errors import AgentUnusable, CentreRefused, CentreUnreachable, ConfigError, FleetError
from fleet.model import Reason
from fleet.pinned import read_fingerprint
from fleet.queues.client import ClearMLServer
from fleet.supervisor.agents import Agents
from fleet.supervisor.calls import worker_base
from fleet.supervisor.centre import Centre
from fleet.supervisor.claims import FIRST_LOOK
from fleet.supervisor.comeback import Comeback
from fleet.supervisor.first import init_script
from fleet.supervisor.handed import taken
from fleet.supervisor.identity import Identity
from fleet.supervisor.loop import Supervisor
from fleet.supervisor.memory import open_memory
from fleet.supervisor.parts import Parts
from fleet.supervisor.private import hold, private_directory
from fleet.supervisor.processes import Guard, adopt_orphans
from fleet.supervisor.renewal import Renewing
from fleet.supervisor.runner import Runner
from fleet.supervisor.senses import Senses
from fleet.supervisor.stats import gpus_of
from fleet.supervisor.superior import Alone, Superior
from fleet.supervisor.takeover import take_over
from fleet.supervisor.task_user import task_user
from fleet.supervisor.unserved import say_what_is_served
from fleet.wire import Enroll, Enrolled, Heartbeat, Proof

log = logging.getLogger("fleet.supervisor")

PIN = "FLEET_CENTRE_CERT_SHA256"
ENROLL_WITHIN_S = 600.0  # a machine that does not find its dispatcher so long has no purpose
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 10.0
M_ARENA_MAX = -8
LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")
INSTANCE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")  # directories are called so
USUAL_FIELDS = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What the environment says."""

    centre_url: str
    instance: str
    join_token: str = field(repr=False)
    directory: Path
    simulated_gpus: str | None
    hooks: Path
    metrics_file: Path | None
    power: Power
    signs: Signs
    certificate_sha256: str | None = None


def main() -> int:
    """Run until this machine's end; the exit status."""
    _log_to_stderr()
    _save_memory()
    try:
        alone = taken(sys.argv[1:])
        return _run(settings(os.environ, alone), alone)
    except FleetError as error:
        print(f"fleet supervise: {error}", file=sys.stderr)
        return 1


def settings(environ: MutableMapping[str, str], alone: Enrolled | None = None) -> Settings:
    """Read the settings, and take the token out of `environ`: no process of ours shall inherit it. `alone`: without a dispatcher.

    Raises:
        ConfigError: names that are missing.
    """
    token = environ.pop("FLEET_JOIN_TOKEN", "")
    values = {"FLEET_JOIN_TOKEN": token, **environ}
    if alone:
        values |= dict.fromkeys(("FLEET_CENTRE_URL", "FLEET_JOIN_TOKEN"), "none") | {"FLEET_INSTANCE": alone.instance}
    missing = [n for n in ("FLEET_CENTRE_URL", "FLEET_INSTANCE", "FLEET_JOIN_TOKEN") if not values.get(n)]
    if missing:
        raise ConfigError(f"{', '.join(missing)} not set in the environment; a machine of fleet is started with them")
    instance = values["FLEET_INSTANCE"]
    if not INSTANCE.fullmatch(instance):
        raise ConfigError(
            f"FLEET_INSTANCE {instance!r} is no name of an instance; letters, digits, _, . and - make one"
        )
    return Settings(
        centre_url=values["FLEET_CENTRE_URL"],
        instance=instance,
        join_token=token,
        directory=Path(environ.get("FLEET_DIR") or Path.home() / ".cache" / "fleet" / instance),
        simulated_gpus=environ.get("FLEET_SIM_GPUS"),
        hooks=Path(environ.get("FLEET_HOOKS_DIR", "/etc/fleet/hooks")),
        metrics_file=Path(file) if (file := environ.get("FLEET_METRICS_FILE")) else None,
        power=_power(environ.get("FLEET_POWER", "exit")),
        signs=signs_of(environ),
        certificate_sha256=read_fingerprint(pin, PIN) if (pin := environ.get(PIN)) else None,
    )


def _run(settings: Settings, alone: Enrolled | None) -> int:
    gpus = _gpus(settings)
    directory = settings.directory.absolute()
    private = _made_ours(directory, settings.instance)
    identity, comeback = Identity(private), Comeback(directory, settings.instance)
    try:
        centre, enrolled = (Alone(alone), alone) if alone else _let_in(settings, identity, comeback, gpus)
    except CentreUnreachable as error:
        return _end_unwanted(settings.power, error)
    adopt_orphans()
    guard = Guard()
    claims = ClearMLServer(enrolled.server, first_entries=FIRST_LOOK)
    try:
        runner = _agents(enrolled, directory / "agents", guard, private, claims)
        memory = open_memory(directory, identity)
        runner.prepare()
        take_over(memory, runner, worker_base(enrolled), has_rebooted=comeback.has_rebooted)
        runner.sweep()
        first = init_script(enrolled.agent.init_script, private)
    except (AgentUnusable, OSError) as error:
        identity.forget()
        comeback.forget()
        guard.close()
        _say_unusable(centre, enrolled, str(error))
        raise AgentUnusable(str(error)) from error
    facts = {
        "FLEET_CLUSTER": enrolled.cluster,
        "FLEET_RESOURCE": enrolled.resource,
        "FLEET_INSTANCE": enrolled.instance,
    }
    parts = Parts(
        enrolled=enrolled,
        centre=centre,
        claims=claims,
        runner=runner,
        guard=guard,
        gpus=gpus,
        hooks=Hooks(settings.hooks, facts, at_startup=first),
        memory=memory,
        senses=Senses(gpus, _health(gpus, enrolled), settings.metrics_file),
        signs=settings.signs,
        watches=notices.watches(os.environ, has_gpus=bool(gpus.read())),
    )
    if alone:
        say_what_is_served(enrolled, gpus_of(gpus.read()))
    reason = Supervisor(parts).run()
    shutil.rmtree(private, ignore_errors=True)  # its identity too
    comeback.forget()
    log.info("ended", extra={"code": reason.code})
    return settings.power.end()


def _let_in(settings: Settings, identity: Identity, comeback: Comeback, gpus: sensed.Gpus) -> tuple[Superior, Enrolled]:
    """By the dispatcher: now, or before a restart; after a reboot it knows us by what we kept.

    Raises:
        CentreRefused, CentreUnreachable: as `_enroll`.
    """
    centre = Centre(settings.centre_url, settings.certificate_sha256)
    enrolled = identity.enrolled() or _enrolled_again(centre, settings, comeback, gpus)
    enrolled = enrolled or _enroll(centre, settings, gpus)
    identity.keep_enrolled(enrolled)
    comeback.keep(enrolled.token)
    return Renewing(centre, identity, enrolled, comeback), enrolled


def _enrolled_again(centre: Centre, settings: Settings, comeback: Comeback, gpus: sensed.Gpus) -> Enrolled | None:
    """None: it was never let in, or is known no more.

    Raises:
        CentreUnreachable: as `_enroll`.
    """
    if comeback.token is None:
        return None
    try:
        return _enroll(centre, replace(settings, join_token=comeback.token), gpus)
    except CentreRefused as error:
        log.warning("not known by the token from before the reboot", extra={"error": str(error)})
        return None


def _made_ours(directory: Path, instance: str) -> Path:
    """The private directory of this machine, held like the one that it works in: two supervisors would give each GPU away twice.

    Raises:
        ConfigError: another supervisor runs here, or a directory cannot be used.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        hold(directory)
        private = private_directory(instance, os.environ, directory)
    except OSError as error:
        raise ConfigError(f"FLEET_DIR {directory} cannot be used: {error.strerror}") from error
    hold(private)
    return private


def _power(word: str) -> Power:
    try:
        return power_of(word)
    except ValueError as error:
        raise ConfigError(f"FLEET_POWER: {error}") from error


def _end_unwanted(power: Power, error: CentreUnreachable) -> int:
    """Nobody let this machine in until its deadline: whoever starts us again would try for ever, so the machine ends."""
    print(f"fleet supervise: {error}", file=sys.stderr)
    return 1 if isinstance(power, ExitProcess) else power.end()


def _agents(enrolled: Enrolled, directory: Path, guard: Guard, private: Path, server: ClearMLServer) -> Agents:
    """Processes, or containers: what is only for these is loaded only then."""
    if enrolled.agent.mode != "docker":
        return Runner(enrolled.agent, enrolled.server, directory, guard, private, task_user(os.environ))
    from fleet.supervisor.containers import Containers, Owner
    from fleet.supervisor.successor import Successor

    owner = Owner(cluster=enrolled.cluster, instance=enrolled.instance)
    successor = Successor(private, within=enrolled.contact_timeout / 2)
    return Containers(enrolled.agent, enrolled.server, owner, directory, private, server.container, successor)


def _gpus(settings: Settings) -> sensed.Gpus:
    if settings.simulated_gpus is None:
        return sensed.NvmlGpus()
    try:
        return sensed.simulated(settings.simulated_gpus, settings.instance)
    except ValueError as error:
        raise ConfigError(f"FLEET_SIM_GPUS: {error}") from error


def _health(gpus: sensed.Gpus, enrolled: Enrolled) -> Health:
    """Who knows how the GPUs are, once each that nobody uses has been tried."""
    if not isinstance(gpus, sensed.NvmlGpus):
        return NoHealth()
    health = NvmlHealth(gpus, enrolled.min_driver)
    in_use = {process.gpu for process in gpus.processes()}
    for finding in try_gpus([reading.uuid for reading in gpus.read() if reading.uuid not in in_use]):
        health.keep(finding)
    return health


def _enroll(centre: Centre, settings: Settings, gpus: sensed.Gpus) -> Enrolled:
    """Present this machine until it is let in.

    Raises:
        CentreRefused: it is not expected. CentreUnreachable: nobody answered until the deadline.
    """
    enroll = Enroll(
        instance=settings.instance,
        join_token=settings.join_token,
        hostname=socket.gethostname(),
        cpus=host.cpus(),
        memory_gib=host.memory_gib(),
        gpus=gpus_of(gpus.read()),
        fleet_version=__version__,
        renews=True,
    )
    deadline = time.monotonic() + ENROLL_WITHIN_S
    pause_s = FIRST_PAUSE_S
    while True:
        try:
            enrolled = centre.enroll(replace(enroll, proof=_proof(settings.centre_url)))
        except CentreUnreachable as error:
            if time.monotonic() + pause_s > deadline:
                raise
            log.warning("dispatcher not reached", extra={"error": str(error), "again_in_s": pause_s})
            time.sleep(pause_s)
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
        else:
            log.info("enrolled", extra={"instance": enrolled.instance, "gpus": len(enroll.gpus)})
            return enrolled


def _proof(audience: str) -> Proof | None:
    """What the cloud says of this machine. Where that cannot be had, the dispatcher says whether it is needed."""
    try:
        said = statement(os.environ, audience)
    except NoAnswer as error:
        log.warning("no proof of who this machine is", extra={"why": str(error)})
        return None
    return Proof(kind=said.kind, text=said.text) if said else None


def _say_unusable(centre: Superior, enrolled: Enrolled, why: str) -> None:
    """Tell the dispatcher before we end, so that it does not launch the same again and again."""
    from datetime import UTC, datetime

    goodbye = Heartbeat(
        instance=enrolled.instance,
        at=datetime.now(UTC),
        is_pulling=False,
        is_ending=True,
        reason=Reason(code="agent_unusable", text=why),
        idle_since=None,
        allocations=(),
        runs=(),
        gpus=(),
    )
    try:
        centre.heartbeat(goodbye)
    except (CentreUnreachable, CentreRefused) as error:
        log.warning("goodbye not delivered", extra={"error": str(error)})


def _save_memory() -> None:
    """glibc gives each thread an arena of its own; ours allocate little, and share two."""
    ctypes.CDLL(None).mallopt(M_ARENA_MAX, 2)


class _OneLine(logging.Formatter):
    """A constant sentence, then its facts as fields: made for reading and for grep."""

    def format(self, record: logging.LogRecord) -> str:
        fields = {k: v for k, v in record.__dict__.items() if k not in USUAL_FIELDS}
        facts = "".join(f" {key}={_quoted(value)}" for key, value in fields.items())
        at = self.formatTime(record, "%Y-%m-%dT%H:%M:%S")
        line = f"{at}.{record.msecs:03.0f} {record.levelname.lower()} {record.getMessage()}:{facts}".rstrip(":")
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


def _quoted(value: object) -> str:
    text = " ".join(str(value).split())
    return repr(text) if " " in text or not text else text


def _log_to_stderr() -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_OneLine())
    word = os.environ.get("FLEET_LOG_LEVEL", "INFO").upper()
    logging.basicConfig(level=word if word in LEVELS else logging.INFO, handlers=[handler])
    logging.getLogger("urllib3").setLevel(logging.ERROR)
    if word not in LEVELS:  # no reason for a machine not to work
        log.warning("FLEET_LOG_LEVEL is none of the levels", extra={"it_is": word, "levels": ", ".join(LEVELS)})
