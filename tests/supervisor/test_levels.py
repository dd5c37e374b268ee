"""What the centre wants of a machine in general: levels, each answer says them all."""

from dataclasses import replace
from datetime import timedelta

from fleet.model import Turns
from fleet.supervisor.levels import must_look_again, policy_under
from fleet.wire import Orders
from tests.supervisor.situations import POLICY, WHY, a_queue

ORDERS = Orders(drain=None, end=None, queues=POLICY.queues, idle_timeout=POLICY.idle_timeout, runs_seen=(), hint=0)


def test_orders_replace_what_they_speak_of_and_nothing_else():
    levels = {"above_gpus": {"train": 2.0}, "smaller": {"train": (1, 2)}, "turns": Turns(gangs=("a",))}
    levels |= {"idle_timeout": None, "queues": (a_queue("night"),)}
    now = policy_under(replace(ORDERS, **levels), POLICY)
    assert now == replace(POLICY, **levels)
    assert policy_under(ORDERS, now) == POLICY


def test_a_machine_looks_again_when_a_task_may_be_for_it_that_was_not():
    changes = ({"queues": (a_queue("night"),)}, {"above_gpus": {"train": 2.0}}, {"turns": Turns()})
    assert all(must_look_again(POLICY, policy_under(replace(ORDERS, **change), POLICY)) for change in changes)
    other = replace(ORDERS, idle_timeout=timedelta(seconds=5), drain=WHY, hint=7)
    assert not must_look_again(POLICY, policy_under(other, POLICY))
