"""What the loop asks of others, each as an errand whose answer comes back as an event."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from fleet.errors import CentreRefused, FleetError, ServerRefused
from fleet.model import Queue, Reason
from fleet.queues.base import Claims
from fleet.supervisor.clock import Clock
from fleet.supervisor.contact import Contact
from fleet.supervisor.errands import Errands, Report, Urgency
from fleet.supervisor.events import Ailing, Event, Ordered, Peeked, Refused, Sensed, Watched
from fleet.supervisor.jobs import Job
from fleet.supervisor.senses import Senses, Sight
from fleet.supervisor.stats import machine_stats
from fleet.supervisor.superior import Superior
from fleet.wire import Enrolled, Heartbeat

log = logging.getLogger(__name__)

HOLD_EVERY = timedelta(seconds=15)  # a claim that does not start is taken back by fleet's own server after 45 s
WORKER_TIMEOUT_S = 90  # three reports: a worker of a dead machine soon leaves the server's list


@dataclass(frozen=True, slots=True, kw_only=True)
class Worker:
    """What the server's list of workers is told of one of ours."""

    id: str
    task: str | None
    queues: tuple[str, ...]
    gpus: tuple[str, ...]  # uuids


def worker_base(enrolled: Enrolled) -> str:
    """What the names of all workers of a machine begin with; its own name too."""
    return f"{enrolled.cluster}:{enrolled.resource}:{enrolled.instance}"


def worker_of(job: Job) -> Worker:
    return Worker(id=job.worker, task=job.task.id, queues=(), gpus=tuple(gpu.uuid for gpu in job.gpus))


class Calls:
    """One errand at a time for the server, one for the centre."""

    def __init__(
        self, *, claims: Claims, centre: Superior, senses: Senses, contact: Contact, clock: Clock, report: Report
    ) -> None:
        self._claims, self._centre, self._senses = claims, centre, senses
        self._contact, self._clock = contact, clock
        self._report = report
        self.server = Errands(report)
        self.dispatcher = Errands(report)

    def peek(self, queues: Sequence[Queue], first: int) -> None:
        """What waits at the heads of these queues, the `first` tasks of each?"""

        def call() -> Event:
            asked_at = self._clock.now()
            tasks = self._claims.waiting(queues, first)
            self._contact.server_answered(asked_at)
            return Peeked(tasks=tasks, asked_at=asked_at)

        if not self.server.has("peek"):
            self.server.ask(Urgency.PEEK, "peek", call)

    def watch(self, jobs: Sequence[Job]) -> None:
        """How does the server see the tasks that run here?"""
        keys, tasks = tuple(job.key for job in jobs), [job.task.id for job in jobs]

        def call() -> Event:
            asked_at = self._clock.now()
            states = self._claims.states(tasks)
            self._contact.server_answered(asked_at)
            return Watched(asked=keys, states=states, asked_at=asked_at)

        if not self.server.has("watch"):
            self.server.ask(Urgency.WATCH, "watch", call)

    def hold(self, jobs: Sequence[Job]) -> None:
        """These are claimed, and what comes before their agents takes long: the server shall not take the claims back."""
        tasks = [job.task.id for job in jobs]

        def call() -> None:
            for task in tasks:
                asked_at = self._clock.now()
                try:
                    self._claims.ping(task)
                except ServerRefused as error:  # it was deleted, say: the others are to be held all the same
                    log.warning("server refused a sign of life", extra={"task": task, "error": str(error)})
                self._contact.server_answered(asked_at)

        if not self.server.has("hold"):
            self.server.ask(Urgency.CLAIM, "hold", call)

    def register(self, worker: Worker) -> None:
        """Announce a worker, and report what it does: from then on the server can pass its user's wish to stop on."""

        def call() -> None:
            asked_at = self._clock.now()
            self._claims.register(worker.id, worker.queues, WORKER_TIMEOUT_S)
            self._claims.report(worker.id, worker.task, worker.queues, {}, asked_at)
            self._contact.server_answered(asked_at)

        self.server.ask(Urgency.REPORT, "register", call)

    def unregister(self, worker: str) -> None:
        self.server.ask(Urgency.REPORT, "unregister", lambda: self._claims.unregister(worker))

    def report(self, workers: Sequence[Worker]) -> None:
        """Read the machine, and report all workers with it."""

        def call() -> Event:
            sight, host = self._senses.read(tasks=sum(worker.task is not None for worker in workers))
            self._senses.listen(lambda sight: self._report(Ailing(sight=sight)))
            for worker in workers:
                own = [gpu for gpu in sight.gpus if gpu.uuid in worker.gpus]
                asked_at = self._clock.now()
                try:
                    stats = machine_stats(host, own)
                    self._claims.report(worker.id, worker.task, worker.queues, stats, asked_at)
                    self._contact.server_answered(asked_at)
                except ServerRefused as error:  # its task was deleted, say: the others want their report too
                    log.warning("server refused a report", extra={"worker": worker.id, "error": str(error)})
            return Sensed(sight=sight, host=host)

        if not self.server.has("report"):
            self.server.ask(Urgency.REPORT, "report", call)

    def knock(self, queues: Sequence[Queue]) -> None:
        """Is the server there? For the start of a supervisor that follows one that lost contact, before its deadlines count."""
        asked_at = self._clock.now()
        try:
            self._claims.waiting(queues[:1], 1)
        except FleetError as error:
            log.warning("server not reached", extra={"error": str(error)})
        else:
            self._contact.server_answered(asked_at)

    def sense(self) -> Sight:
        """The GPUs now; for the start, before there is anything to wait for."""
        return self._senses.look()

    def beat(self, facts: Heartbeat) -> None:
        """Tell the dispatcher; the answer is its orders."""

        def call() -> Event:
            asked_at = self._clock.now()
            try:
                orders = self._centre.heartbeat(facts)
            except CentreRefused as error:
                text = f"the dispatcher does not want this machine any more: {error}"
                return Refused(reason=Reason(code="centre_refused", text=text))
            if self._centre.is_remote:
                self._contact.centre_answered(asked_at)
            return Ordered(orders=orders, to=facts)

        self.dispatcher.ask(Urgency.REPORT, "beat", call)
