"""What a machine without a dispatcher says of work that it cannot do."""

import logging
from dataclasses import replace

import pytest

from fleet.model import GpuNeed
from fleet.supervisor.unserved import Unserved, beyond
from tests.supervisor.situations import GPUS, a_queue, a_task


def test_queues_whose_usual_task_can_never_run_on_this_machine_are_named_with_the_reason() -> None:
    large = replace(a_queue("large"), need=GpuNeed(at_least=8, at_most=8))
    typed = replace(a_queue("typed"), gpu_type="h100")
    cpu = replace(a_queue("prep"), need=GpuNeed(at_least=0, at_most=0))
    assert list(beyond([a_queue("train"), large, typed, cpu], GPUS)) == [
        ("large", "needs 8 GPUs; this machine has 4"),
        ("typed", "needs 1 GPUs of type h100; this machine has 0"),
    ]
    assert list(beyond([a_queue("train"), cpu], ())) == [("train", "needs 1 GPUs; this machine has 0")]


def test_a_task_that_can_never_run_here_is_said_once_and_again_only_when_it_comes_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.WARNING)
    unserved, queues = Unserved(), [a_queue("train")]
    for waiting in ([a_task("t1"), a_task("t8", gpus=8)], [a_task("t8", gpus=8)]):
        unserved.look(waiting, GPUS, queues)
    said = [(record.message, record.task, record.why) for record in caplog.records]  # type: ignore[attr-defined]
    assert said == [("task cannot run here", "t8", "needs 8 GPUs; this machine has 4")]
    unserved.look([], GPUS, queues)
    unserved.look([a_task("t8", gpus=8)], GPUS, queues)
    assert len(caplog.records) == 2
