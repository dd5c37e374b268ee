"""Which worker runs which tests: docs/adr/0047-the-whole-run.md."""

from __future__ import annotations

from xdist.scheduler import LoadGroupScheduling
from xdist.workermanage import WorkerController


class FromBothEnds(LoadGroupScheduling):
    """The largest groups come first, which are system tests, and wait more than they compute. One worker begins at the other end, with
    single tests, which compute and do not wait: so neither the cores nor the clock stand still."""

    def _assign_work_unit(self, node: WorkerController) -> None:
        if node is self.nodes[-1] and len(self.nodes) > 1:
            self.workqueue.move_to_end(next(reversed(self.workqueue)), last=False)
        super()._assign_work_unit(node)
