"""Many tasks one after the other: nothing of them is left. Their agent is a real process, but a small one."""

import os
from datetime import timedelta
from pathlib import Path

import psutil
import pytest

from benchmarks.processes import descendants
from fleet.queues.base import TaskStatus
from tests.folders import files_below
from tests.waiting import wait_for

pytestmark = [pytest.mark.system, pytest.mark.xdist_group("edge")]

WARM, MANY = 60, 120
MAY_GROW_KIB = 2048  # 1,000 tasks were seen to cost 3 MiB, nearly all of it in the first hundreds


@pytest.fixture
def small_agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "beside" / "clearml_agent"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "version.py").write_text("__version__ = '3.0.3'\n")
    (package / "__main__.py").write_text("print('hello', flush=True)\n")
    monkeypatch.setenv("PYTHONPATH", f"{package.parent}:{os.environ.get('PYTHONPATH', '')}")


@pytest.mark.usefixtures("small_agent")
def test_a_hundred_tasks_leave_no_process_no_thread_no_descriptor_no_file_and_no_memory(machine, clearml):
    here = machine(sim_gpus='{"count": 8}', heartbeat_interval=timedelta(seconds=1))
    process = psutil.Process(here.process.pid)

    def run(count: int) -> None:
        tasks = [clearml.submit("train", "true\n") for _ in range(count)]
        wait_for(
            lambda: {s.status for s in clearml.client.states(tasks).values()} == {TaskStatus.COMPLETED},
            60,
            every_s=0.5,
            what=f"{count} tasks complete",
        )

    def held() -> tuple[int, int, int, list[str]]:
        files = sorted(map(str, files_below(here.directory)))
        return len(list(descendants(process.pid))), process.num_threads(), process.num_fds(), files

    def rested() -> tuple[int, int, int, list[str]]:
        """What it holds once all is told, and the ledger has it."""
        beats = len(here.centre.heartbeats) + 2
        wait_for(lambda: len(here.centre.heartbeats) > beats and not here.centre.heartbeats[-1].runs, 20, "it rests")
        return held()

    run(WARM)
    before, memory_kib = rested(), process.memory_info().rss / 1024
    run(MANY)
    rested()
    wait_for(lambda: held() == before, 10, f"it holds no more than {before}")
    assert process.memory_info().rss / 1024 - memory_kib < MAY_GROW_KIB
