"""What people submit, when, and the nodes that the first task of a gang submits itself."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from functools import partial

from fleet.model import Task
from fleet.simulate.agenda import Agenda, after
from fleet.simulate.ending import Ending
from fleet.simulate.server import SimulatedServer
from fleet.simulate.trace import Submission, task_id
from fleet.simulate.truth import Truth


class Submissions:
    """The workload of one simulation."""

    def __init__(self, workload: Sequence[Submission], agenda: Agenda, server: SimulatedServer, truth: Truth) -> None:
        self.jobs = {task_id(n): job for n, job in enumerate(workload)}
        self.left = len(self.jobs)  # so many will still come
        self._durations = {task: timedelta(seconds=job.duration_s) for task, job in self.jobs.items()}
        self._agenda, self._server, self._truth = agenda, server, truth
        self._nodes = 0  # launches of nodes so far

    def plan(self, ending: Ending) -> None:
        """Each comes at its time."""
        for task, job in self.jobs.items():
            self._agenda.add(after(job.submit_s), partial(self._submit, task, job, ending))

    def lasts(self, task: str) -> timedelta:
        """How long an undisturbed run takes from where it is."""
        return self._durations[task] - self._truth.kept.get(task, timedelta(0))

    def launch_nodes(self, task: Task) -> None:
        """As `Task.launch_multi_node` of the SDK does: the first task puts clones of itself into its own queue."""
        job = self.jobs.get(task.id)
        if job is None or job.instances <= 1:
            return
        self._nodes += 1
        for rank in range(1, job.instances):
            node = f"{task.id}.{self._nodes}.{rank}"
            self._durations[node] = timedelta(seconds=job.duration_s)
            self._server.add(node, id=node, tags=job.tags, user=job.user, gang=task.id)
            self._server.enqueue(node, job.queue)

    def _submit(self, task: str, job: Submission, ending: Ending) -> None:
        self.left -= 1
        ending.put_off()
        self._server.add(task, id=task, tags=job.tags, user=job.user)
        self._server.enqueue(task, job.queue)
