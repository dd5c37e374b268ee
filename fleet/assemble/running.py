"""What the long-running commands do: put a centre together, run it until a signal, leave nothing half-done."""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from fleet.assemble.centre import Centre, machines_of
from fleet.assemble.closing import close
from fleet.assemble.conf import clearml_conf
from fleet.assemble.prices import refuse_unpriced
from fleet.assemble.signals import requests_to_end
from fleet.config import Config, Embedded
from fleet.errors import ConfigError
from fleet.model import Reason

Say = Callable[[str], None]

# How long `fleet up` waits at its end for the tasks of its machines to be put back.
PATIENCE = timedelta(seconds=30)


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
