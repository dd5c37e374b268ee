"""What both stores forget of the ledger of runs, each in its own way. Why so late: docs/adr/0049-nothing-grows.md."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import MutableMapping
from datetime import datetime

from fleet.model import Run

RunKey = tuple[str, str, datetime]
Index = MutableMapping[str, dict[RunKey, None]]


def forget_runs(
    runs: MutableMapping[RunKey, Run],
    ended: list[tuple[datetime, RunKey]],
    by_task: Index,
    by_instance: Index,
    before: datetime,
) -> int:
    """Of the memory in memory: take out those that ended before then; how many there were. `ended`: in that order."""
    count = bisect_left(ended, before, key=lambda each: each[0])
    for _, key in ended[:count]:
        del runs[key]
        for index, name in ((by_task, key[0]), (by_instance, key[1])):
            del index[name][key]
            if not index[name]:
                del index[name]
    del ended[:count]
    return count
