"""`schedule`, `headroom` and a queue's GPUs in the fleet file: what is read, and what is refused with its path."""

from __future__ import annotations

from datetime import timedelta

import pytest

from fleet.config import Config, parse
from fleet.errors import ConfigError
from fleet.model import Window

FILE = """\
cluster: lab
budget: {max_instances: 4, schedule: [BUDGET]}
resources:
  gpu: {provider: local, gpus: 4, max_instances: 2, schedule: [WINDOW]}
queues:
  train: {resources: [gpu], QUEUE}
"""
WINDOW = "{cron: '0 8 * * 1-5', for: 10h, timezone: Europe/Berlin, min_instances: 1, max_instances: 8}"
BUDGET = "{cron: 0 8 * * *, for: 1h, max_instances: 9}"
QUEUE = "headroom: 2, gpu_type: [A100, h100], gpu_memory: 40, schedule: [{cron: 0 8 * * *, for: 30m, headroom: 5}]"


def read(window: str = WINDOW, budget: str = BUDGET, queue: str = QUEUE) -> Config:
    return parse(FILE.replace("WINDOW", window).replace("BUDGET", budget).replace("QUEUE", queue), "f", {})


def test_windows_are_read() -> None:
    config = read()
    assert config.resources[0].schedule == (
        Window(
            cron="0 8 * * 1-5",
            lasts=timedelta(hours=10),
            timezone="Europe/Berlin",
            min_instances=1,
            max_instances=8,
        ),
    )
    assert config.budget.schedule == (Window(cron="0 8 * * *", lasts=timedelta(hours=1), max_instances=9),)
    assert config.queues[0].schedule == (Window(cron="0 8 * * *", lasts=timedelta(minutes=30), headroom=5),)


def test_a_queue_says_its_headroom_and_its_gpus() -> None:
    (queue,) = read().queues
    assert (queue.headroom, queue.gpu_type, queue.gpu_memory_gib) == (2, "a100|h100", 40)


@pytest.mark.parametrize(
    ("window", "where", "why"),
    [
        ("{for: 1h, min_instances: 1}", ".cron", "is missing"),
        ("{cron: 0 8 * * *, min_instances: 1}", ".for", "is missing"),
        ("{cron: 0 8 * *, for: 1h, min_instances: 1}", ".cron", "a cron line has five fields"),
        ("{cron: 0 30 * * *, for: 1h, min_instances: 1}", ".cron", "its hour is wrong"),
        ("{cron: 0 8 * * *, for: 0s, min_instances: 1}", ".for", "must be more than 0s"),
        ("{cron: 0 8 * * *, for: 1h, timezone: Berlin, min_instances: 1}", ".timezone", "a time zone is an IANA name"),
        ("{cron: 0 8 * * *, for: 1h}", "", "changes nothing; give it min_instances or max_instances"),
        ("{cron: 0 8 * * *, for: 1h, headroom: 1, min_instances: 1}", ".headroom", "unknown key"),
        ("{cron: 0 8 * * *, for: 1h, min_instances: 3}", "", "min_instances, 3, is more than max_instances, 2"),
        ("{cron: 0 8 * * *, for: 1h, max_instances: -1}", ".max_instances", "expected a whole number, 0 or more"),
        ("5", "", "expected keys"),
    ],
)
def test_a_wrong_window_is_refused_with_its_path(window: str, where: str, why: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read(window)
    assert caught.value.problems[0].startswith(f"f: resources.gpu.schedule[0]{where}: {why}")


@pytest.mark.parametrize(
    ("queue", "why"),
    [
        ("gpu_type: '$(rm)'", "gpu_type: a GPU type is a word of its model"),
        ("headroom: -1", "headroom: expected a whole number, 0 or more, got -1"),
        ("gpu_memory: 0", "gpu_memory: must be more than 0, got 0"),
    ],
)
def test_a_queues_wrong_wishes_are_refused(queue: str, why: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read(queue=queue)
    assert caught.value.problems[0].startswith(f"f: queues.train.{why}")
