"""A pass that only looks: for `fleet plan`."""

from __future__ import annotations

import uuid
from dataclasses import replace
from datetime import UTC, datetime

from fleet.assemble.access import PATIENCE_S, access_of
from fleet.assemble.memory import open_database
from fleet.assemble.providers import providers_of
from fleet.assemble.state import state_of
from fleet.config import Config
from fleet.dispatcher.breakers import Breakers
from fleet.dispatcher.history import History
from fleet.dispatcher.learning import Learner
from fleet.dispatcher.spending import spent
from fleet.model import Plan, Snapshot
from fleet.planner.plan import plan
from fleet.queues.client import ClearMLServer
from fleet.schedule import in_force
from fleet.store.sql import SqlStore


def preview(config: Config) -> Plan:
    """What a dispatcher would decide now.

    Raises:
        ServerError: the ClearML server does not answer.
        StoreError: the memory does not.
    """
    state, at = state_of(config), datetime.now(UTC)
    providers = providers_of(config, state)
    tasks = ClearMLServer(access_of(config, "fleet"), patience_s=PATIENCE_S).waiting(config.queues)
    store = SqlStore(open_database(config, "fleet"))
    limits = in_force(config.resources, config.queues, config.budget, at)
    instances = store.instances(config.cluster)
    history = History(store, config.cluster)
    history.keep_up(instances, at, has_closed=False)
    made = plan(
        Snapshot(
            pass_id=uuid.uuid4().hex[:8],
            at=at,
            cluster=config.cluster,
            tasks=tasks,
            queues=limits.queues,
            resources=limits.resources,
            offers=tuple(o for r in config.resources for o in providers[r.provider].offers(r, at)),
            instances=instances,
            budget=limits.budget,
            backoffs=Breakers(store, history).look(instances, at),
            pools=history.pools,
            habits=Learner(store, config.cluster, config.wait_usd_per_hour).look(at),
            fairness=config.fairness,
            starvation_after=config.starvation_after,
            holds=store.turns().holds,
            listening_since=at,  # silence that only this look has not heard is nobody's fault
            poll_interval=config.poll_interval,
            **spent(store, config.cluster, config.budget, at),
        )
    )
    return replace(made, notes=(*limits.notes, *made.notes))
