"""What `fleet doctor` says of the queues: those of the fleet file that the server does not have, and what is near their names."""

from __future__ import annotations

from collections.abc import Iterator

from fleet.assemble.check import Check
from fleet.config import Config
from fleet.nearest import nearest
from fleet.queues.client import ClearMLServer


def queues(config: Config, server: ClearMLServer, *, is_mending: bool) -> Iterator[Check]:
    """One line for all that are there, and one for each that is not. With `is_mending` those are made.

    Raises:
        ServerError: the server does not answer, or refuses.
    """
    wanted = [queue.name for queue in config.queues]
    there = set(server.queue_names())
    missing = [name for name in wanted if name not in there]
    if kept := [name for name in wanted if name in there]:
        yield Check(name="queues", found=f"on the server: {', '.join(kept)}")
    if is_mending and missing:
        server.ensure_queues(missing)
    for name in missing:
        if is_mending:
            yield Check(name=f"queue {name}", found="was not on the server; made now")
            continue
        near = nearest(name, sorted(there - set(wanted)))
        meant = f"if {near} is meant, which is there, mend `queues` in the fleet file; else " if near else ""
        fix = f"{meant}run fleet doctor --fix, which makes it (fleet dispatch does, too, when it starts)"
        yield Check(name=f"queue {name}", found="not on the server", fix=fix)
