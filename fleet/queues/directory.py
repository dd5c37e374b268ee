"""Which id a queue's name has on the server: asked once, remembered, asked again when the server no longer knows the id."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import TypeVar

from fleet.errors import ServerRefused
from fleet.nearest import which
from fleet.queues.transport import Transport

NO_SUCH_QUEUE = 701
NAME_TAKEN = 801

T = TypeVar("T")


class Directory:
    """Ids of queues by name. Names are compared whole: the server takes them for regular expressions."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._ids: dict[str, str] = {}

    def ids(self, names: Iterable[str]) -> Mapping[str, str]:
        """Ids of those that exist, in the order asked; one call if any is not known yet."""
        wanted = list(dict.fromkeys(names))
        unknown = [name for name in wanted if name not in self._ids]
        if unknown:
            pattern = f"^({'|'.join(re.escape(name) for name in unknown)})$"
            self._ids |= {name: id_ for name, id_ in self._ask({"name": pattern}) if name in unknown}
        return {name: self._ids[name] for name in wanted if name in self._ids}

    def ensure(self, names: Iterable[str]) -> Mapping[str, str]:
        """Ids of all of them; those that are missing are created. Two who create at once get the same queue."""
        wanted = list(dict.fromkeys(names))
        # Asked anew: this is called when something may have changed, such as a queue that was deleted and made again.
        self.forget(*wanted)
        for name in wanted:
            if name not in self.ids(wanted):
                self._create(name)
        return self.ids(wanted)

    def names(self) -> tuple[str, ...]:
        """All that exist."""
        return tuple(sorted(name for name, _ in self._ask({})))

    def id(self, name: str) -> str:
        """The id of this queue.

        Raises:
            ServerRefused: there is none; the text names the one that may be meant, or those that exist.
        """
        known = self.ids([name])
        if name not in known:
            meant = which(name, self.names())
            raise ServerRefused(f"no queue is called {name!r}; {meant}", 400, NO_SUCH_QUEUE)
        return known[name]

    def with_id(self, name: str, call: Callable[[str], T]) -> T:
        """`call` with the queue's id; once more if the id has gone stale."""
        try:
            return call(self.id(name))
        except ServerRefused as error:
            if error.subcode != NO_SUCH_QUEUE or name not in self._ids:
                raise
            self.forget(name)
            return call(self.id(name))

    def forget(self, *names: str) -> None:
        for name in names:
            self._ids.pop(name, None)

    def _create(self, name: str) -> None:
        try:
            self._ids[name] = self._transport.call("queues.create", {"name": name}).text("id")
        except ServerRefused as error:
            # Another fleet, or our own call whose answer was lost, was first.
            if error.subcode != NAME_TAKEN or name not in self.ids([name]):
                raise

    def _ask(self, filters: Mapping[str, object]) -> list[tuple[str, str]]:
        body = {**filters, "only_fields": ["id", "name"], "search_hidden": True}
        queues = self._transport.call("queues.get_all", body).objects("queues")
        return [(queue.text("name"), queue.text("id")) for queue in queues]
