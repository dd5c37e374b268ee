"""When the passing of time alone will make a dispatcher act: at which passes it finds a machine late, silent or over age."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta
from typing import Protocol

from fleet.model import Instance, Resource

REAPER_PATIENCE = timedelta(seconds=180)
LIFETIME_GRACE = timedelta(minutes=15)


class RequestPass(Protocol):
    def __call__(self, at: datetime, *, is_after: bool = False) -> None: ...


class Deadlines:
    """Asks for the passes at which something is overdue. One too many does no harm."""

    def __init__(self, resources: Sequence[Resource], request_pass: RequestPass) -> None:
        self._resources = {resource.name: resource for resource in resources}
        self._request_pass = request_pass
        self._unconfirmed: Sequence[str] = ()

    def of_launch(self, resource: Resource, at: datetime, *, boots_in_time: bool) -> None:
        """A machine was launched at `at`."""
        if not boots_in_time:
            self._request_pass(at + resource.boot_timeout, is_after=True)
        if resource.max_lifetime:
            self._request_pass(at + resource.max_lifetime + LIFETIME_GRACE, is_after=True)

    def of_silence(self, at: datetime) -> None:
        """A machine is not heard any more from `at` on."""
        self._request_pass(at + REAPER_PATIENCE, is_after=True)

    def of_a_new_dispatcher(self, at: datetime) -> None:
        """It counts no silence from before its first pass, at `at`: what was due then is due so much later."""
        for deadline in {REAPER_PATIENCE, *(resource.boot_timeout for resource in self._resources.values())}:
            self._request_pass(at + deadline, is_after=True)

    def of_late_answers(
        self, at: datetime, instance_of: Callable[[str], Instance | None], unconfirmed: Iterable[Instance]
    ) -> None:
        """Launches that were confirmed only now, by their repetition: the store counts from here. `unconfirmed`: those
        that no cloud has answered yet."""
        for known in map(instance_of, self._unconfirmed):
            if known and known.launched_at == at and known.resource in self._resources:
                self.of_launch(self._resources[known.resource], at, boots_in_time=False)
        self._unconfirmed = [instance.id for instance in unconfirmed if instance.launched_at is None]
