"""Fencing: a machine without contact has ended its tasks before anybody gives them away."""

from datetime import UTC, datetime, timedelta

import pytest

from fleet.assemble.centre import CONTACT_TIMEOUT
from fleet.model import GpuNeed, RunResult, Task
from fleet.planner.reaper import CONTACT_LOST_AFTER
from fleet.supervisor.contact import FENCED_GRACE, Contact, grace
from fleet.supervisor.decide import decide
from fleet.supervisor.instructions import EndMachine, StopTask
from fleet.supervisor.situation import Held, Policy, State
from fleet.supervisor.work import CONSOLE_ENDS_WITHIN

T0 = datetime(2026, 1, 1, tzinfo=UTC)
POLICY = Policy(queues=(), idle_timeout=None, contact_timeout=CONTACT_TIMEOUT, max_lifetime=None)
TASK = Task(id="t", queue="train", position=0, enqueued_at=T0, need=GpuNeed(at_least=1, at_most=1))
SECOND = timedelta(seconds=1)


def stops(at: datetime, contact: Contact) -> list[RunResult | None]:
    state = State(
        at=at,
        enrolled_at=T0,
        gpus=(),
        cpus=1,
        held=(Held(task=TASK, gpus=("g",)),),
        server_seen_at=contact.server_at,
        centre_seen_at=contact.centre_at,
    )
    found = decide(state, POLICY)
    assert not any(isinstance(each, EndMachine) for each in found)  # its task has to end first
    return [each.then for each in found if isinstance(each, StopTask)]


@pytest.mark.parametrize(
    ("server_answers", "centre_answers", "is_fenced"),
    [
        ("always", "always", False),
        ("always", "never", False),
        ("never", "always", False),
        ("never", "never", True),
        ("now and then", "never", False),
        ("never", "now and then", False),
    ],
)
def test_a_machine_keeps_its_tasks_while_one_of_the_two_answers(server_answers, centre_answers, is_fenced):
    contact = Contact(T0, T0)
    often = {"always": SECOND, "now and then": CONTACT_TIMEOUT - SECOND, "never": timedelta(days=1)}
    for second in range(1, 3 * int(CONTACT_TIMEOUT.total_seconds())):
        at = T0 + second * SECOND
        if (at - contact.server_at) >= often[server_answers]:
            contact.server_answered(at)
        if (at - contact.centre_at) >= often[centre_answers]:
            contact.centre_answered(at)
        if fenced := stops(at, contact):
            assert (fenced, at) == ([RunResult.REQUEUED], T0 + CONTACT_TIMEOUT)
            break
    assert bool(fenced) is is_fenced


def test_an_answer_that_was_long_on_its_way_does_not_put_off_the_deadline():
    contact = Contact(T0, T0)
    contact.centre_answered(T0 + 10 * SECOND)
    contact.centre_answered(T0 + 3 * SECOND)
    assert (contact.centre_at, contact.server_at) == (T0 + 10 * SECOND, T0)
    assert not contact.is_overdue(T0 + 12 * SECOND, 3 * SECOND)
    assert contact.is_overdue(T0 + 13 * SECOND, 3 * SECOND)


def test_a_fenced_task_is_gone_before_the_centre_gives_it_away_whatever_its_grace():
    longest = grace("contact_lost", timedelta(hours=1))
    assert longest == FENCED_GRACE
    assert (
        CONTACT_TIMEOUT + longest + CONSOLE_ENDS_WITHIN <= CONTACT_LOST_AFTER - 20 * SECOND
    )  # left to clocks and slow kernels
    assert grace("contact_lost", 5 * SECOND) == 5 * SECOND
    assert grace("user_stopped", timedelta(hours=1)) == timedelta(hours=1)
