"""`python -m agent_hooks idle`: ends a machine on which an ordinary `clearml-agent daemon` has nothing to do.

Exit codes: 0 the machine ends (or would, with --dry-run), 1 the way to end it failed, 2 wrong usage,
3 told to stop (SIGTERM) before there was a reason to end.
"""

from __future__ import annotations

import argparse
import logging
import os
import queue
import re
import shlex
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from agent_hooks.awake import KEEP_ALIVE, Guards, why_awake
from agent_hooks.daemon import DOCKER_SOCKET, Daemon, is_engine_closed
from agent_hooks.gpus import NvmlGpus
from agent_hooks.health import NvmlHealth
from agent_hooks.hooks import Hooks, Moment
from agent_hooks.notice import NoticeKind, Watch
from agent_hooks.power import Power, RunCommand, power_of
from agent_hooks.signs import signs_of

log = logging.getLogger("agent_hooks.idle")

LOOK_EVERY_S = 5.0
HEALTH_EVERY_S = 60.0
TOLD_TO_STOP = 3
UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86400}


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What the command line asks for; seconds."""

    idle_timeout_s: float
    max_lifetime_s: float | None = None
    guards: Guards = field(default_factory=Guards)


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What was seen; seconds of one clock."""

    at_s: float
    started_s: float
    idle_since_s: float | None  # None: a task runs, or something keeps the machine awake


def why_end(seen: Seen, wanted: Wanted) -> str | None:
    """PURE: why this machine has to end now, as one sentence; None: it stays."""
    if wanted.max_lifetime_s is not None and seen.at_s - seen.started_s >= wanted.max_lifetime_s:
        return f"its longest life, {wanted.max_lifetime_s:g} s, is over"
    if seen.idle_since_s is not None and seen.at_s - seen.idle_since_s >= wanted.idle_timeout_s:
        return f"no task for {wanted.idle_timeout_s:g} s"
    return None


class Idle:
    """One machine, until it has a reason to end."""

    def __init__(self, wanted: Wanted, daemon: Daemon, hooks: Hooks, gpus: NvmlGpus) -> None:
        self._wanted, self._daemon, self._hooks, self._gpus = wanted, daemon, hooks, gpus
        self._health = NvmlHealth(gpus)
        self._started_s = self._now()
        self._health_at_s = 0.0
        self._last_said: str | None = None
        self._sick: frozenset[str] = frozenset()
        self.told_to_stop = threading.Event()
        self._taken_back: str | None = None

    def listen(self, watches: Sequence[Watch]) -> None:
        """Each in a thread of its own, since it waits for its cloud."""
        for watch in watches:
            threading.Thread(target=self._listen, args=(watch,), daemon=True).start()

    def _listen(self, watch: Watch) -> None:
        """Hooks hear of a notice at once; of one that takes the machine back also the main loop."""
        told: set[NoticeKind] = set()
        while True:
            for notice in watch.look():
                if notice.kind in told:
                    continue
                told.add(notice.kind)
                log.warning("notice", extra={"why": notice.text})
                self._tell(Moment.NOTICE, notice.text)  # 20 s at most: the end waits for it
                if notice.kind is NoticeKind.PREEMPTION:
                    self._taken_back = notice.text

    def run(self, alive: Callable[[], None]) -> str | None:
        """Look until there is a reason to end; None: told to stop."""
        idle_since: float | None = self._started_s
        while not self.told_to_stop.is_set():
            why = self._daemon.why_busy() or why_awake(self._wanted.guards, self._gpus)
            if why != self._last_said:
                log.info("awake" if why else "idle", extra={"why": why or "no task, and nothing else"})
                self._last_said = why
            now = self._now()
            idle_since = None if why else idle_since if idle_since is not None else now
            self._look_after_gpus(now)
            if self._taken_back and not self._daemon.why_busy():
                return self._taken_back  # a daemon without a task takes none that would be lost
            reason = why_end(Seen(at_s=now, started_s=self._started_s, idle_since_s=idle_since), self._wanted)
            alive()
            if reason and idle_since is not None and self._daemon.why_busy():
                continue  # it has taken a task while its GPUs and who is logged in were looked at
            if reason:
                return reason
            pause_s = 1.0 if self._taken_back else LOOK_EVERY_S
            self.told_to_stop.wait(min(pause_s, max(self._wanted.idle_timeout_s / 3, 0.2)))
        return None

    def leave(self, reason: str) -> None:
        """The daemon goes, and hooks are told; what ends the machine comes after."""
        if self._daemon.is_there() and not self._daemon.stop():
            log.warning("the daemon did not stop in time")
        self._tell(Moment.DRAIN, reason)
        self._tell(Moment.SHUTDOWN, reason)

    def _tell(self, moment: Moment, reason: str) -> None:
        failure = self._hooks.run(moment, {"FLEET_REASON": reason})
        if failure:
            log.warning("hook failed", extra={"hook": failure.hook, "why": failure.text})

    def _look_after_gpus(self, now: float) -> None:
        """What is wrong with a GPU is said once; taking it out of service is for people, as the daemon cannot."""
        if self._health_at_s and now - self._health_at_s < HEALTH_EVERY_S:
            return
        self._health_at_s = now
        found = {finding.text for finding in self._health.look()}
        for text in sorted(found - self._sick):
            log.warning("GPU not well", extra={"why": text})
        self._sick = frozenset(found)

    @staticmethod
    def _now() -> float:
        return time.clock_gettime(time.CLOCK_BOOTTIME)


def main(arguments: Sequence[str]) -> int:
    given = _parser().parse_args(arguments)
    power = given.end
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s: %(why)s")
    logging.getLogger().handlers[0].addFilter(_with_why)
    guards = Guards(
        ssh=given.ssh,
        gpu_percent=given.gpu_threshold,
        keep_alive_s=given.keep_alive_for,
        file=given.keep_alive,
    )
    wanted = Wanted(idle_timeout_s=given.idle_timeout, max_lifetime_s=given.max_lifetime, guards=guards)
    hooks = Hooks(Path(os.environ.get("FLEET_HOOKS_DIR", "/etc/fleet/hooks")))
    signs = signs_of(os.environ)
    daemon = Daemon(given.worker_process)
    _say_what_is_watched(daemon, given)
    idle = Idle(wanted, daemon, hooks, NvmlGpus())
    _stop_at_a_signal(idle.told_to_stop)
    idle.listen(_watches(given.notices, os.environ))
    signs.ready("watching a clearml-agent daemon")
    reason = idle.run(signs.alive)
    if reason is None:
        return TOLD_TO_STOP
    log.info("ending", extra={"why": reason})
    if given.dry_run:
        print(f"would end this machine: {reason}")
        return 0
    signs.ending(reason)
    idle.leave(reason)
    ended: int = power.end()
    return ended


def _say_what_is_watched(daemon: Daemon, given: argparse.Namespace) -> None:
    """For people who read the log: what was understood, and what cannot be seen."""
    there = (
        "is there" if daemon.is_there() else "is not there (yet): if it has another name, give it by --worker-process"
    )
    log.info("watching", extra={"why": f"ends after {given.idle_timeout:g} s without a task; a daemon {there}"})
    if is_engine_closed():
        text = f"{DOCKER_SOCKET} may not be used, so containers whose agent is gone are not seen; run this as root"
        log.warning("docker not seen", extra={"why": text})


def _stop_at_a_signal(told_to_stop: threading.Event) -> None:
    """By a thread: a handler may run in the middle of the event's own `wait`, and would wait for its lock for ever."""
    heard: queue.SimpleQueue[int] = queue.SimpleQueue()

    def tell() -> None:
        heard.get()
        told_to_stop.set()

    threading.Thread(target=tell, name="signals", daemon=True).start()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _: heard.put(number))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m agent_hooks idle", description=__doc__.splitlines()[0])
    add = parser.add_argument
    add(
        "--idle-timeout",
        type=_seconds,
        default=900.0,
        metavar="15m",
        help="end after so long without a task (default: 15m)",
    )
    add("--max-lifetime", type=_seconds, metavar="24h", help="end after so long, whatever runs (default: never)")
    add(
        "--gpu-threshold",
        type=_percent,
        default=5.0,
        metavar="5",
        help="a GPU used so much (%%) by others is not idle (default: 5)",
    )
    add("--ssh", action="store_true", help="somebody who is logged in keeps the machine awake")
    file = Path(os.environ.get("FLEET_KEEP_ALIVE", KEEP_ALIVE))
    add(
        "--keep-alive",
        type=Path,
        default=file,
        metavar="FILE",
        help="to touch it keeps the machine (default: %(default)s)",
    )
    add("--keep-alive-for", type=_seconds, default=8 * 3600.0, metavar="8h", help="for so long (default: 8h)")
    add("--end", type=_power, default="exit", metavar="poweroff|delete-self|exit|COMMAND", help="default: exit")
    add(
        "--worker-process",
        default="clearml-agent",
        metavar="NAME",
        help="the daemon's program (default: clearml-agent)",
    )
    add("--notices", choices=("ec2", "gce", "none"), default="none", help="whose notices are heard (default: none)")
    add("--dry-run", action="store_true", help="say what would be done, stop nothing")
    return parser


def _watches(cloud: str, environ: Mapping[str, str]) -> tuple[Watch, ...]:
    if cloud == "none":
        return ()
    from agent_hooks.notices import watches  # clients of the metadata servers, where they are wanted

    return watches({**environ, "FLEET_PROVIDER": {"ec2": "aws", "gce": "gcp"}[cloud]})


def _seconds(text: str) -> float:
    """`90s`, `15m`, `24h`, `1d`."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd])", text)
    if not match:
        raise argparse.ArgumentTypeError(f"{text!r} is no duration; write 90s, 15m, 24h or 1d")
    return float(match[1]) * UNITS_S[match[2]]


def _percent(text: str) -> float:
    if not re.fullmatch(r"\d{1,3}(\.\d+)?", text) or not 0 < float(text) <= 100:
        raise argparse.ArgumentTypeError(f"{text!r} is no percentage above 0 and up to 100")
    return float(text)


def _power(text: str) -> Power:
    """One of the words, else a command line."""
    try:
        return power_of(text)
    except ValueError:
        pass
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no command line: {error}") from error
    if not words:
        raise argparse.ArgumentTypeError("an empty command; write poweroff, delete-self, exit or a command")
    if (
        shutil.which(words[0]) is None
    ):  # found out at the end it would leave a machine that costs money, without its daemon
        raise argparse.ArgumentTypeError(
            f"{words[0]!r} is no program of this machine; write poweroff, delete-self, exit or a command"
        )
    return RunCommand(words)


def _with_why(record: logging.LogRecord) -> bool:
    if not hasattr(record, "why"):
        record.why = getattr(record, "hook", "") or "-"
    return True
