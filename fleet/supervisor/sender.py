"""One thread tells the server of every task, in this order: it is in progress, its console, what it came to.

A task's result goes out when its whole log was accepted, and not before. While the server is away nothing is skipped:
the same message is repeated until it is accepted, or refused for good.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from fleet.errors import ServerError, ServerRefused
from fleet.model import RunResult, Task
from fleet.queues.base import OURS, Claims, TaskState, TaskStatus
from fleet.supervisor.errands import Report
from fleet.supervisor.events import Announced, Settled, Watched
from fleet.supervisor.instructions import StopTask
from fleet.supervisor.journal import Entry
from fleet.supervisor.ownership import is_still_ours, may_be_started
from fleet.supervisor.spool import Spool
from fleet.supervisor.verdict import result, verdict

log = logging.getLogger(__name__)

SEND_EVERY_S = 1.0  # for one task; what it prints meanwhile goes in one call
BATCH_BYTES = 256 * 1024
FIRST_DELAY_S = 0.25  # after a failure, doubled up to the longest
LONGEST_DELAY_S = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """How the processes of a task ended."""

    exit_code: int | None  # None: its agent never started
    stop: StopTask | None  # None: by itself
    why: str | None = None  # what the exit code does not say


@dataclass(slots=True, kw_only=True)
class Outbox:
    """What the server has to be told of one task."""

    key: str
    task: Task
    worker: str
    spool: Spool
    must_announce: bool = False  # its agent runs
    ending: Ending | None = None
    restored: Entry | None = None  # from the journal of a supervisor before us: it may be somebody else's by now
    send_at: float = 0.0  # monotonic seconds; not before


class Sender:
    """Holds the outboxes. All but `step` is called by the main thread."""

    def __init__(
        self, claims: Claims, now: Callable[[], datetime], report: Report, on_answer: Callable[[datetime], None]
    ) -> None:
        self._claims = claims
        self._now = now
        self._report = report
        self._on_answer = on_answer
        self._changed = threading.Condition()
        self._boxes: dict[str, Outbox] = {}
        self._fresh: set[str] = set()  # keys with something to send
        self._delay_s = 0.0

    def add(self, box: Outbox) -> None:
        with self._changed:
            self._boxes[box.key] = box

    def announce(self, key: str) -> None:
        """The agent of this task has started."""
        with self._changed:
            self._boxes[key].must_announce = True
            self._wake(key)

    def has_text(self, key: str) -> None:
        """Its spool has grown; of no interest before its outbox is here."""
        with self._changed:
            self._wake(key)

    def finish(self, key: str, ending: Ending) -> None:
        """Nothing more will be written to its spool: send the rest, then what it came to."""
        with self._changed:
            box = self._boxes[key]
            box.ending, box.send_at = ending, 0.0
            self._wake(key)

    def step(self) -> None:
        """Send the next thing that is due; for the thread's loop."""
        box = self._next()
        try:
            is_done = self._send(box)
        except (
            ServerError,
            OSError,
        ) as error:  # or no file descriptor is left, say: who gave up would hold the task for ever
            self._delay_s = min(max(2 * self._delay_s, FIRST_DELAY_S), LONGEST_DELAY_S)
            log.warning("messages of a task not sent", extra={"task": box.task.id, "error": str(error)})
            self.has_text(box.key)  # the same again
            time.sleep(self._delay_s)
            return
        self._delay_s = 0.0
        if is_done:
            with self._changed:
                del self._boxes[box.key]
                self._fresh.discard(box.key)

    def _wake(self, key: str) -> None:
        if key in self._boxes:
            self._fresh.add(key)
            self._changed.notify()

    def _next(self) -> Outbox:
        """Wait for the box that is due longest."""
        with self._changed:
            while True:
                due = min((self._boxes[key] for key in self._fresh), key=lambda box: box.send_at, default=None)
                wait_s = None if due is None else due.send_at - time.monotonic()
                if due is not None and wait_s is not None and wait_s <= 0:
                    self._fresh.discard(due.key)
                    return due
                self._changed.wait(wait_s)

    def _send(self, box: Outbox) -> bool:
        """One message; True: it was the last of this box."""
        if box.must_announce:
            self._announce(box)
            return False
        ending = box.ending  # before the spool is read: what was written before the end must be sent before it
        lines = box.spool.peek(BATCH_BYTES)
        if lines:
            self._try("log", box, lambda: self._claims.send_log(box.task.id, box.worker, lines))
            box.spool.confirm()
            with self._changed:
                if box.ending is None:  # it may have ended while this was on its way: then nothing shall wait
                    box.send_at = time.monotonic() + SEND_EVERY_S
            self.has_text(box.key)  # perhaps there is more
            return False
        if ending is None:
            return False
        self._settle(box, ending)
        return True

    def _announce(self, box: Outbox) -> None:
        """What its user chose while its image was pulled, say, is not taken back; nor is it taken from whoever was given it meanwhile."""
        asked_at = self._now()
        now = self._claims.states([box.task.id]).get(box.task.id)
        self._on_answer(asked_at)
        is_ours = may_be_started(now, box.worker)
        if is_ours:
            self._try("start", box, lambda: self._claims.started(box.task.id, box.worker, "its agent was started"))
        box.must_announce = False
        at = self._now()
        self._report(Announced(key=box.key, at=at, is_ours=is_ours))
        if not is_ours:  # for the first look at it after its start
            self._report(Watched(asked=(box.key,), states={box.task.id: now} if now else {}, asked_at=at))
        self.has_text(box.key)

    def _settle(self, box: Outbox, ending: Ending) -> None:
        asked_at = self._now()
        now = self._claims.states([box.task.id]).get(box.task.id)
        self._on_answer(asked_at)
        told = self._verdict(box, ending, now)
        if told:
            self._try("result", box, lambda: self._tell(box.task, told, ending, now))
        box.spool.remove()
        outcome = result(told, now)
        log.info("task settled", extra={"task": box.task.id, "result": outcome, "was": _status(now)})
        self._report(Settled(key=box.key, result=outcome))

    def _verdict(self, box: Outbox, ending: Ending, now: TaskState | None) -> RunResult | None:
        """What to tell the server; of a task that a supervisor before us had, only if it is ours still."""
        known, stop = box.restored, ending.stop
        if known is None:
            return verdict(ending.exit_code, stop, now)
        if not is_still_ours(now, box.worker, known.claimed_at, known.announced_at is not None, self._now()):
            return None
        if now and now.status is TaskStatus.STOPPED and stop and stop.then is RunResult.REQUEUED:
            return RunResult.REQUEUED  # half-way back to its queue, perhaps; what its user stopped, this leaves alone
        return verdict(ending.exit_code, stop, now)

    def _tell(self, task: Task, told: RunResult, ending: Ending, now: TaskState | None) -> None:
        ended = f"worker execution exit code {ending.exit_code}{f': {ending.why}' if ending.why else ''}"
        why = ending.stop.reason.text if ending.stop else ended
        if told is RunResult.COMPLETED:
            self._claims.completed(task.id, "worker execution done")
        elif told is RunResult.FAILED:
            self._claims.failed(task.id, why)
        elif told is RunResult.STOPPED:
            self._claims.stopped(task.id, why)
        else:
            if ending.stop and ending.stop.kill_at and ending.exit_code is not None:
                self._claims.mark_resumable(task.id)
            if now and now.status is TaskStatus.FAILED:  # a final state, but not one that its user chose
                self._claims.stopped(task.id, f"{OURS}: {why}")
            self._claims.put_back(task.id, task.queue, why)

    def _try(self, what: str, box: Outbox, call: Callable[[], None]) -> None:
        """A refusal is an answer too: to repeat the same would block what comes after it for ever."""
        asked_at = self._now()
        try:
            call()
        except ServerRefused as error:
            log.warning(
                "server refused a task's message", extra={"task": box.task.id, "what": what, "error": str(error)}
            )
        self._on_answer(asked_at)


def _status(now: TaskState | None) -> str:
    return now.status if now else "deleted"
