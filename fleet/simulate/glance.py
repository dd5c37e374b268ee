"""A pass without a look at clouds and queues, where nothing can have happened to them that the simulation does not know of.

Most passes find a new task, or that a machine fell idle or went. What comes of that the planner decides here as in a whole
pass, from what the store knows, and the dispatcher carries it out; but clouds are not listed, nothing is swept and nothing
is learned. Whatever is more than that is left to a whole pass, and so is everything where something may go wrong.
"""

from __future__ import annotations

from dataclasses import replace

from fleet.dispatcher.passes import Dispatcher
from fleet.model import Budget, Launch, MarketPolicy, Plan, Task
from fleet.simulate.faults import Faults
from fleet.simulate.setting import Setting


class Glances:
    """Of one simulation."""

    def __init__(self, setting: Setting) -> None:
        policy = setting.policy
        is_spot = any(resource.market is not MarketPolicy.ON_DEMAND for resource in policy.resources)
        is_calm = replace(setting.faults, seed=0) == Faults()
        # What money and the lot of spot are reckoned from is read by whole passes alone.
        self.are_possible = is_calm and not is_spot and replace(policy.budget, max_instances=None) == Budget()

    def made(self, dispatcher: Dispatcher, tasks: tuple[Task, ...]) -> Plan | None:
        """The plan of a pass now, carried out; None: a whole pass is needed, and nothing was done.

        `tasks`: those that wait.
        """
        last, parts = dispatcher.planned, dispatcher.parts
        if last is None or last.backoffs or last.holds:
            return None
        # Who said goodbye is gone at once, and a look at the clouds would show it.
        there = tuple([i for i in parts.store.instances(last.cluster) if i.goodbye_at is None])
        made = dispatcher.foreseen(tasks, there)
        if made is None or made.turns != parts.store.turns() or made.kept != dispatcher.kept:
            return None
        if not all(isinstance(action, Launch) for action in made.actions):
            return None
        dispatcher.act(made)
        return made
