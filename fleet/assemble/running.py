"""What the long-running commands do: put a centre together, run it until a signal, leave nothing half-done."""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from fleet.assemble.access import access_of
from fleet.assemble.centre import Centre, machines_of
from fleet.assemble.closing import close
from fleet.assemble.prices import refuse_unpriced
from fleet.assemble.signals import requests_to_end
from fleet.assemble.state import authority_file, state_of
from fleet.assemble.workstation import workstation
from fleet.config import Config, Embedded, default_path
from fleet.config import load as load_file
from fleet.errors import ConfigError
from fleet.model import Plan, Reason

Say = Callable[[str], None]

LONGEST_USER = 200  # characters of a user's name
# How long `fleet up` waits at its end for the tasks of its machines to be put back.
PATIENCE = timedelta(seconds=30)


def load(config: Path | None) -> Config:
    """The fleet file that was named, else the default one."""
    return load_file(config or default_path())


def load_or_workstation(config: Path | None = None) -> Config:
    """As `load`, or this workstation where there is no fleet file and none was named."""
    return load(config) if config or default_path().exists() else workstation()


def run_dispatch(config: Config, say: Say) -> None:
    """Until SIGTERM or Ctrl-C. Then machines go on, and are found again by the next start, unless `on_shutdown` says otherwise."""
    refuse_unpriced(config)
    centre = Centre(config)

    def at_end(hurry: threading.Event) -> None:
        if left := close(centre, hurry):
            say(
                f"{machines_of(left)} did not hear of on_shutdown in time and will go on; `fleet dispatch` finds them again"
            )

    _run(centre, say, at_end)


def run_up(config: Config, say: Say) -> None:
    """As `run_dispatch`, but the machines are this one: they end with it, and their tasks wait for the next time."""
    centre = Centre(config)

    def end_machines(hurry: threading.Event) -> None:
        reason = Reason(code="operator", text="`fleet up` was ended")
        left = centre.end_machines(reason, PATIENCE, hurry)
        if left:
            say(f"{machines_of(left)} did not end in time; what is left of them is ended by the next start")

    _run(centre, say, end_machines, is_up=True)


def run_server(config: Config, say: Say) -> None:
    """The embedded server alone, until a signal."""
    if not isinstance(config.server, Embedded):
        raise ConfigError(
            f"{config.origin}: server.url is {config.server.api_url}, not embedded: there is nothing to run here"
        )
    _run(Centre(config, with_dispatcher=False), say, lambda _: None)


def plan_once(config: Config) -> Plan:
    """What a pass would decide now. Reads, and does nothing."""
    from fleet.assemble.preview import preview

    return preview(config)


def clearml_conf(config: Config, new_user: str | None) -> str:
    """The clearml.conf of the first user, or of a new one.

    Raises:
        ConfigError: the server is not ours or has never run here, or that can be nobody's name.
    """
    from fleet.server.conf import render_clearml_conf

    if not isinstance(config.server, Embedded):
        raise ConfigError(
            f"{config.origin}: the server is not ours; get credentials from its web page ({config.server.web_url})"
        )
    if new_user is not None and not (new_user.strip() and new_user.isprintable() and len(new_user) <= LONGEST_USER):
        raise ConfigError(f"{new_user[:LONGEST_USER]!r} cannot be a user's name; give 1 to {LONGEST_USER} characters")
    access = access_of(config, "user")
    if new_user is not None:
        from dataclasses import replace

        from fleet.assemble.memory import open_database
        from fleet.server import credentials

        database = open_database(config, "server")
        access_key, secret_key = credentials.create(database, new_user, "fleet server credentials")
        access = replace(access, access_key=access_key, secret_key=secret_key)
    return render_clearml_conf(access, str(authority_file(state_of(config))) if access.authority else None)


def configure_logging(is_verbose: bool) -> None:
    """Log lines to stderr: time, what, then the facts as fields."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Fields())
    logging.basicConfig(level=logging.INFO if is_verbose else logging.WARNING, handlers=[handler], force=True)
    logging.getLogger("alembic").setLevel(logging.WARNING)


class _Fields(logging.Formatter):
    """`09:00:01 INFO instance launched instance=i1 reason=...`"""

    STANDARD = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}

    def format(self, record: logging.LogRecord) -> str:
        at = datetime.fromtimestamp(record.created, UTC).astimezone()
        facts = " ".join(f"{k}={v}" for k, v in record.__dict__.items() if k not in self.STANDARD)
        line = f"{at:%H:%M:%S} {record.levelname} {record.getMessage()} {facts}".rstrip()
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


def _run(centre: Centre, say: Say, at_end: Callable[[threading.Event], None], is_up: bool = False) -> None:
    """Until the first signal; the second one cuts short what is done at the end."""
    stop, hurry = requests_to_end()
    centre.start()
    try:
        _greet(centre, say)
        if is_up:
            _show_conf(centre, say)
        stop.wait()
        at_end(hurry)
    finally:
        centre.stop()


def _show_conf(centre: Centre, say: Say) -> None:
    """For the person who started it. Not where it would end up in a log: it holds a secret."""
    if centre.server and sys.stdout.isatty():
        conf = clearml_conf(centre.config, None)
        say(f"\nput this into ~/clearml.conf, here or on a laptop (again with: fleet server credentials):\n\n{conf}")


def _greet(centre: Centre, say: Say) -> None:
    config = centre.config
    say(f"fleet runs: cluster {config.cluster}, dashboard and API at {centre.url}")
    if centre.tls and centre.tls.certificate.sha256:
        say(f"certificate: SHA-256 of its authority {centre.tls.certificate.sha256}")
    if centre.server:
        say(f"ClearML API at {centre.access.api_url}; a user's clearml.conf: fleet server credentials")
    if centre.loop:
        names = ", ".join(f"{q.name} ({q.need} GPU)" for q in config.queues)
        say(f"queues: {names}; see what goes on with: fleet status")
