"""A notice stands in every heartbeat of its machine; people are told of it once."""

from __future__ import annotations

from datetime import datetime

from fleet.model import Event
from fleet.store.base import Store
from fleet.wire import Heartbeat

# Machines whose notice is remembered, the newest: one that was cut off never says that it ends.
MOST = 10_000


class Noticed:
    """Remembers what was told. After a restart of the dispatcher a notice that still stands is told again."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._told: dict[str, str] = {}  # by instance: the text

    def take(self, facts: Heartbeat, at: datetime) -> None:
        """A heartbeat came in."""
        notice = facts.notice
        if notice is None:
            self._told.pop(facts.instance, None)
        elif self._told.get(facts.instance) != notice.text:
            self._told[facts.instance] = notice.text
            if len(self._told) > MOST:
                del self._told[next(iter(self._told))]
            text = f"{notice.kind}: {notice.text}"
            event = Event(at=at, kind="instance.notice", text=text, instance=facts.instance, reason=facts.reason)
            self._store.append_events([event])
        if facts.is_ending:
            self._told.pop(facts.instance, None)
