"""How long after `tasks.enqueue` is sent the cloud is called for a machine.

Each sample is the whole way: embedded server, its hint, the dispatcher's pass, the intent; the local provider then starts
a real supervisor. The task is taken back at once, so that the instance finds nothing and ends itself.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator

from benchmarks import rig
from benchmarks.client import Client
from benchmarks.figures import line, spread
from benchmarks.rig import Centre

GOAL_MS = 100.0
SAMPLES = 24
QUEUES = 6  # each with a resource of its own, so that the instance of the last sample has no room for the next
# Samples shall not fall in step with the dispatcher's own interval.
LONGEST_PAUSE_S = 0.5

FLEET_FILE = """\
listen: 127.0.0.1:0
agent: {mode: interpreter}
resources:
%s
queues:
%s
"""


def measure(is_quick: bool) -> Iterator[str]:
    count = 2 if is_quick else SAMPLES
    names = [f"queue{n}" for n in range(min(QUEUES, count))]
    resources = "\n".join(
        f"  {name}: {{provider: local, gpus: 1, max_instances: 1, idle_timeout: 1s}}" for name in names
    )
    served = "\n".join(f"  {name}: {{resources: [{name}], gpus: 1}}" for name in names)
    with rig.directory() as place, rig.centre(place, FLEET_FILE % (resources, served)) as centre:
        client = Client(centre.access)
        ids = rig.queues(client, names)
        called, confirmed = [], []
        for number in range(count):
            name = names[number % len(names)]
            intent_s, launched_s = _sample(centre, client, name, ids[name])
            called.append(1000 * intent_s)
            confirmed.append(1000 * launched_s)
    figures = spread(called)
    yield line(
        "launch.enqueue_to_launch_call",
        figures["p50"],
        "ms",
        goal=GOAL_MS,
        **figures,
        to_process_started_p50=spread(confirmed)["p50"],
    )


def _sample(centre: Centre, client: Client, name: str, queue: str) -> tuple[float, float]:
    """Seconds from the call of `tasks.enqueue` to the intent, and to the cloud's yes."""
    rig.wait_for("the last instance is gone", lambda: all(i.resource != name for i in centre.instances()))
    task = rig.a_task(client)
    time.sleep(random.uniform(0.0, LONGEST_PAUSE_S))
    sent_at = time.time()
    client.call("tasks.enqueue", task=task, queue=queue)
    instance = rig.wait_for(
        "the instance is launched",
        lambda: next((i for i in centre.instances() if i.resource == name and i.launched_at), None),
    )
    client.call("tasks.dequeue", task=task)
    # Its start takes a core for a moment: the next sample shall not pay for it.
    rig.wait_for("it has enrolled", lambda: (now := centre.store.instance(instance.id)) and now.enrolled_at)
    assert instance.launched_at
    return instance.requested_at.timestamp() - sent_at, instance.launched_at.timestamp() - sent_at
