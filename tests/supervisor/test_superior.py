"""A machine without a dispatcher: who answers its heartbeats, and how it is told what it works by."""

import os
from dataclasses import replace
from datetime import timedelta

import pytest

from fleet.errors import ConfigError
from fleet.model import AgentSettings, Run, RunResult, ServerAccess, Turns
from fleet.supervisor.handed import hand, taken
from fleet.supervisor.superior import Alone
from fleet.wire import Enrolled, Heartbeat
from tests.supervisor.situations import T0, a_queue, at

ENROLLED = Enrolled(
    instance="box",
    token="",
    cluster="lab",
    resource="standalone",
    server=ServerAccess(api_url="http://s", files_url="http://f", web_url="http://w", access_key="k", secret_key="s"),
    queues=(a_queue("train"),),
    agent=AgentSettings(),
    idle_timeout=None,
    poll_interval=timedelta(seconds=2),
    heartbeat_interval=timedelta(seconds=60),
    contact_timeout=timedelta(hours=1),
    max_lifetime=None,
    turns=Turns(is_alone=True),
)


def test_its_file_orders_nothing_new_and_knows_every_run_that_ended() -> None:
    run = Run(task="t1", instance="box", queue="train", worker="w", gpus=(), claimed_at=T0)
    facts = Heartbeat(
        instance="box",
        at=at(9),
        is_pulling=True,
        is_ending=False,
        reason=None,
        idle_since=None,
        allocations=(),
        runs=(run, replace(run, task="t2", ended_at=at(5), result=RunResult.COMPLETED)),
        gpus=(),
    )
    orders = Alone(ENROLLED).heartbeat(facts)
    assert (orders.drain, orders.end, orders.runs_seen) == (None, None, ("t2",))
    assert (orders.queues, orders.idle_timeout, orders.turns) == (ENROLLED.queues, None, ENROLLED.turns)


def test_what_it_works_by_is_handed_on_in_memory_and_not_in_arguments() -> None:
    arguments = hand(ENROLLED)
    assert "s" not in "".join(arguments[1:])
    assert os.readlink(f"/proc/self/fd/{arguments[1]}").startswith("/memfd:")
    assert taken(arguments) == ENROLLED
    with pytest.raises(
        ConfigError, match="--standalone 0x: not understood; start it with: fleet supervise --standalone"
    ):
        taken(["--standalone", "0x"])
    assert taken([]) is None
