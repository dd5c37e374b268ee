"""Runs in the peers' own environment: Ray's two schedulers on a problem read from stdin, as JSON; no cluster is started.

In: {"types": [{"name", "resources"}], "demands": [{resource: amount}], "limit_s"}. Out: {"release", "v1", "v2"}, the last two
{"wall_ms", "cpu_ms", "launched": {type: count}, "unmet"}.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

MOST_NODES = 1_000_000
MIB = 1024 * 1024


def main() -> None:
    problem = json.load(sys.stdin)
    types = {each["name"]: each["resources"] for each in problem["types"]}
    import ray

    answer = {"release": ray.__version__}
    for name, schedule in (("v1", _v1), ("v2", _v2)):
        answer[name] = _timed(schedule(types, problem["demands"]))
    json.dump(answer, sys.stdout)


def _timed(run: Callable[[], tuple[dict[str, int], int]]) -> dict[str, object]:
    started, used = time.perf_counter(), time.process_time()
    launched, unmet = run()
    return {
        "wall_ms": 1000 * (time.perf_counter() - started),
        "cpu_ms": 1000 * (time.process_time() - used),
        "launched": launched,
        "unmet": unmet,
    }


def _v1(
    types: Mapping[str, dict[str, float]], demands: Sequence[dict[str, float]]
) -> Callable[[], tuple[dict[str, int], int]]:
    """`get_nodes_for`, as its `ResourceDemandScheduler` calls it."""
    from ray.autoscaler._private import resource_demand_scheduler as v1
    from ray.autoscaler._private.node_provider_availability_tracker import NodeAvailabilitySummary

    nodes = {name: {"resources": dict(each), "max_workers": MOST_NODES} for name, each in types.items()}
    scorer = partial(v1._default_utilization_scorer, node_availability_summary=NodeAvailabilitySummary({}))

    def run() -> tuple[dict[str, int], int]:
        added, left = v1.get_nodes_for(nodes, {}, "", MOST_NODES, [dict(d) for d in demands], scorer)
        return dict(added), len(left)

    return run


def _v2(
    types: Mapping[str, dict[str, float]], demands: Sequence[dict[str, float]]
) -> Callable[[], tuple[dict[str, int], int]]:
    """`ResourceDemandScheduler.schedule` of an empty cluster."""
    from ray.autoscaler.v2 import scheduler as v2
    from ray.autoscaler.v2.instance_manager.config import NodeTypeConfig
    from ray.autoscaler.v2.utils import ResourceRequestUtil

    configs = {
        name: NodeTypeConfig(name=name, min_worker_nodes=0, max_worker_nodes=MOST_NODES, resources=dict(each))
        for name, each in types.items()
    }
    requests = ResourceRequestUtil.group_by_count([ResourceRequestUtil.make(dict(d)) for d in demands])
    request = v2.SchedulingRequest(
        disable_launch_config_check=True,
        node_type_configs=configs,
        max_num_nodes=MOST_NODES,
        resource_requests=requests,
    )
    scheduler = v2.ResourceDemandScheduler()

    def run() -> tuple[dict[str, int], int]:
        reply: Any = scheduler.schedule(request)
        return {each.instance_type: each.count for each in reply.to_launch}, len(reply.infeasible_resource_requests)

    return run


if __name__ == "__main__":
    main()
