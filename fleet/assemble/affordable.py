"""Whether a fleet file can ever launch a machine for each queue, by its budgets and by the size of its machines: better said
by `fleet config check` than by a task that waits.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

from fleet.assemble.providers import providers_of
from fleet.assemble.state import state_of
from fleet.config import Config
from fleet.model import Snapshot, Task
from fleet.planner.plan import plan

# The first instant of a month of 31 days: nothing is spent, and whatever runs has the longest way to go.
NEW_MONTH = datetime(2026, 1, 1, tzinfo=UTC)
FOR_EVER = ("usd_per_hour", "usd_per_day", "usd_per_month", "price_unknown", "no_fit")


def unaffordable(config: Config) -> Iterator[str]:
    """One line for each queue for which no machine could be launched even if nothing were spent. Resources whose offers a cloud
    would have to be asked for are not looked at.

    Raises:
        ConfigError: a provider is not here.
    """
    near = tuple(r for r in config.resources if r.provider == "local")
    if not near:
        return
    providers = providers_of(config, state_of(config))
    offers = tuple(offer for r in near for offer in providers[r.provider].offers(r, NEW_MONTH))
    for queue in config.queues:
        if not set(queue.resources) <= {r.name for r in near}:
            continue
        task = Task(id="any", queue=queue.name, position=0, enqueued_at=NEW_MONTH, need=queue.need, user="anybody")
        world = Snapshot(
            pass_id="check",
            at=NEW_MONTH,
            cluster=config.cluster,
            tasks=(task,),
            queues=(queue,),
            resources=near,
            offers=offers,
            instances=(),
            budget=config.budget,
            poll_interval=config.poll_interval,
        )
        for waiting in plan(world).waiting:
            if waiting.instance is None and waiting.reason.code in FOR_EVER:
                yield f"queue {queue.name} will wait for ever: {waiting.reason.text}"
