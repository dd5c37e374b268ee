"""A queue that no budget can ever pay for, or no machine hold the tasks of, is named before anybody waits in it."""

from pathlib import Path

import pytest

from fleet.assemble.affordable import unaffordable
from fleet.config import parse


@pytest.mark.parametrize(
    ("budget", "lifetime", "expected"),
    [
        ("{usd_per_day: 24}", "", 0),
        ("{usd_per_day: 10}", "", 1),
        ("{usd_per_day: 10}", ", max_lifetime: 8h", 0),
        ("{usd_per_day: 10, when_spent: stop}", "", 0),
        ("{usd_per_month: 700}", "", 1),
        ("{per_user: {usd_per_day: 3}}", "", 1),
        ("{}", "", 0),
    ],
)
def test_a_queue_that_no_budget_can_ever_pay_for_is_named(
    budget: str, lifetime: str, expected: int, tmp_path: Path
) -> None:
    text = f"""
        cluster: lab
        state_dir: {tmp_path}
        budget: {budget}
        resources: {{gpu: {{provider: local, gpus: 1, usd_per_hour: 1{lifetime}}}}}
        queues: {{train: {{resources: [gpu]}}}}
    """
    found = list(unaffordable(parse(text, "fleet.yaml", environment={})))
    assert len(found) == expected
    assert all("queue train will wait for ever" in line and "when_spent: stop" in line for line in found)


def test_a_queue_whose_tasks_no_machine_can_hold_is_named(tmp_path: Path) -> None:
    text = f"""
        cluster: lab
        state_dir: {tmp_path}
        resources: {{box: {{provider: local}}}}
        queues: {{train: {{resources: [box]}}, prep: {{resources: [box], gpus: 0}}}}
    """
    (found,) = unaffordable(parse(text, "fleet.yaml", environment={}))
    assert found == "queue train will wait for ever: needs 1 GPU; the largest of its resources (box) has 0"
