"""How this machine ends, once nobody has work for it any more.

poweroff     systemd is asked, then /sbin/poweroff. The machine must have been launched so that a shutdown terminates it
             (AWS: InstanceInitiatedShutdownBehavior=terminate), so it needs no credentials of its cloud
delete-self  Google Cloud: an instance that is off is still paid for in part, so it deletes itself (`agent_hooks.gce`)
exit         the machine is a process group of its own (provider `local`), or is to stay (on premises): only we end
"""

from __future__ import annotations

import logging
import subprocess
from collections.abc import Callable, Sequence
from typing import Protocol

log = logging.getLogger(__name__)

POWEROFF = (("systemctl", "--no-ask-password", "poweroff"), ("/sbin/poweroff",))
COMMAND_WITHIN_S = 60.0


class Power(Protocol):
    """The last thing that a supervisor does."""

    def end(self) -> int:
        """End the machine. The answer, where one comes back, is the exit status of the process."""
        ...


class ExitProcess:
    """The machine ends with its first process, or stays."""

    def end(self) -> int:
        return 0


class Poweroff:
    """Each command in turn until one is obeyed.

    Exit status 0 also when none is: a service without the right to power off ends with success, and its unit has
    `SuccessAction=poweroff`.
    """

    def __init__(self, commands: Sequence[Sequence[str]] = POWEROFF) -> None:
        self._commands = commands

    def end(self) -> int:
        for command in self._commands:
            if ran(command):
                return 0
        log.warning("may not power off; the unit that started this process does it (SuccessAction=poweroff)")
        return 0


class RunCommand:
    """A command of the owner's; its exit status is ours."""

    def __init__(self, command: Sequence[str]) -> None:
        self._command = command

    def end(self) -> int:
        return 0 if ran(self._command) else 1


class FirstThatWorks:
    """`first`, and where it raises OSError with the reason, `fallback`."""

    def __init__(self, first: Callable[[], None], fallback: Power) -> None:
        self._first, self._fallback = first, fallback

    def end(self) -> int:
        try:
            self._first()
        except OSError as error:
            log.warning("this machine could not delete itself; powering off", extra={"why": str(error)})
            return self._fallback.end()
        return 0


def power_of(word: str) -> Power:
    """`poweroff`, `delete-self` or `exit`.

    Raises:
        ValueError: another word.
    """
    if word == "exit":
        return ExitProcess()
    if word == "poweroff":
        return Poweroff()
    if word == "delete-self":
        from agent_hooks.gce import delete_self  # urllib3, where nothing else needs it

        return FirstThatWorks(delete_self, Poweroff())
    raise ValueError(f"{word!r} is no way to end a machine; there are poweroff, delete-self and exit")


def ran(command: Sequence[str]) -> bool:
    """Whether it could be run, and succeeded in time."""
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=COMMAND_WITHIN_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        log.warning("command failed", extra={"command": command[0], "why": str(error)})
        return False
    if done.returncode:
        log.warning("command failed", extra={"command": command[0], "why": " ".join(done.stderr.split())[-300:]})
    return done.returncode == 0
