"""One plan beside Ray's two schedulers, on the same types and demands, nothing running: milliseconds of CPU, and what the
machines that each would launch cost an hour. Ray is handed plain dictionaries; what it needs to import does not count.
"""

from __future__ import annotations

import json
import resource
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.figures import line, spread
from benchmarks.fleets import a_fleet
from benchmarks.peers import HERE, HOW, python
from fleet.model import GpuNeed, Launch, Offer, Plan, Queue, Resource, Snapshot, Task
from fleet.planner.plan import plan

SIZES = ((10, 100), (50, 300), (50, 1_000))  # types, tasks
QUICK_SIZES = ((5, 20),)
RUNS = 7
GOAL_RATIO = 100.0
PEER_LIMIT_S, PEER_MEMORY = 240.0, 8 * 1024**3
WISHED = 0.001  # of a resource that every machine has once: "on such a machine", in Ray's way


def measure(is_quick: bool) -> Iterator[str]:
    interpreter = python()
    if interpreter is None:
        yield line("schedulers.ray", 0.0, "runs", missing="Ray is not installed beside fleet", how=HOW)
    for types, tasks in QUICK_SIZES if is_quick else SIZES:
        world = a_world(types, tasks)
        samples = []
        for _ in range(2 if is_quick else RUNS):
            used = time.process_time()
            made = plan(world)
            samples.append(1000 * (time.process_time() - used))
        ours = spread(samples)
        cost = usd_per_hour(launched(made), world.offers)
        unmet = sum(1 for each in made.waiting if not each.instance)
        name = f"schedulers.{types}_types_{tasks}_demands"
        yield line(f"{name}.fleet", ours["p50"], "ms of CPU", usd_per_hour=cost, unmet=unmet, **ours)
        if interpreter is not None:
            yield from _beside(name, world, ours["p50"], cost, interpreter)


def _beside(name: str, world: Snapshot, ours_ms: float, cost: float, interpreter: Path) -> Iterator[str]:
    answer = _ask_ray(world, interpreter)
    for version, function in (("v1", "get_nodes_for"), ("v2", "ResourceDemandScheduler.schedule")):
        found = answer[version]
        theirs = usd_per_hour(found["launched"], world.offers)
        ratio = found["cpu_ms"] / ours_ms
        yield line(
            f"{name}.ray_{version}",
            found["cpu_ms"],
            "ms of CPU",
            times_ours=ratio,
            goal_times_ours=GOAL_RATIO,
            is_met=ratio >= GOAL_RATIO and cost < theirs,
            usd_per_hour=theirs,
            times_our_usd=theirs / cost if cost else None,
            unmet=found["unmet"],
            wall_ms=found["wall_ms"],
            own_code=True,
            release=f"ray {answer['release']}, {function}",
        )


def a_world(types: int, tasks: int) -> Snapshot:
    """As `a_fleet` makes it, all in one queue that may use every type, with no machine yet: what Ray's schedulers can be asked."""
    world = a_fleet(types, tasks, 0)
    return replace(
        world,
        resources=(Resource(name="gpu", provider="fake"),),
        queues=(Queue(name="train", resources=("gpu",), need=GpuNeed(at_least=1, at_most=1)),),
        offers=tuple(replace(offer, resource="gpu") for offer in world.offers),
        tasks=tuple(replace(task, queue="train") for task in world.tasks),
    )


def launched(made: Plan) -> dict[str, int]:
    """How many of each type."""
    found: dict[str, int] = {}
    for action in made.actions:
        if isinstance(action, Launch):
            found[action.offer.type] = found.get(action.offer.type, 0) + 1
    return found


def usd_per_hour(counts: Mapping[str, int], offers: Sequence[Offer]) -> float:
    """What so many of each type cost."""
    prices = {offer.type: offer.price_usd_per_hour or 0.0 for offer in offers}
    return sum(prices[name] * count for name, count in counts.items())


def _ask_ray(world: Snapshot, interpreter: Path) -> dict[str, Any]:
    """Raises:
    RuntimeError: it failed; the text is its last line.
    """
    problem = {
        "types": [{"name": offer.type, "resources": _resources(offer)} for offer in world.offers],
        "demands": [_demand(task) for task in world.tasks],
    }
    done = subprocess.run(
        [str(interpreter), str(HERE / "ray_schedulers.py")],
        input=json.dumps(problem),
        capture_output=True,
        text=True,
        check=False,
        timeout=PEER_LIMIT_S,
        preexec_fn=partial(resource.setrlimit, resource.RLIMIT_AS, (PEER_MEMORY, PEER_MEMORY)),
    )
    if done.returncode:
        raise RuntimeError(f"Ray's schedulers: {(done.stderr.strip().splitlines() or ['it said nothing'])[-1]}")
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def _resources(offer: Offer) -> dict[str, float]:
    return {"GPU": offer.gpus, "CPU": offer.cpus, _kind((offer.gpu_model or "").split()[-1]): 1}


def _demand(task: Task) -> dict[str, float]:
    return {"GPU": task.need.at_least, **({_kind(task.gpu_type): WISHED} if task.gpu_type else {})}


def _kind(model: str) -> str:
    return f"accelerator_type:{model.lower()}"
