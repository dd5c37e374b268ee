"""Notices of Google Compute Engine: preemption and host maintenance.

The metadata server holds each question until its answer changes, so a notice is here within milliseconds and nothing is polled.
Source: Compute Engine documentation, "Query VM metadata" (wait_for_change, last_etag, timeout_sec, Metadata-Flavor),
"Preemptible VM instances" (30 seconds), "Query metadata server for maintenance event notices" (60 seconds, or an hour with GPUs).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime, timedelta

from agent_hooks.metadata import Answer, Complaints, MetadataServer, NoAnswer
from agent_hooks.notice import Notice, NoticeKind, Now

HELD_S = 60  # the server answers then, changed or not: a connection that died unseen is found out
PAUSE_S = 5.0  # after a failure
SHORTEST_S = 1.0  # between two questions, if the server does not hold them
PREEMPTED_WITHIN = timedelta(seconds=30)
MAINTENANCE_WITHIN = timedelta(seconds=60)
MAINTENANCE_WITHIN_WITH_GPUS = timedelta(hours=1)
PREEMPTED, MAINTENANCE = "instance/preempted", "instance/maintenance-event"
FLAVOR = "Metadata-Flavor"

Read = Callable[[str, datetime], Notice | None]


class GceWatch:
    """Waits for the change of one key."""

    def __init__(
        self, url: str, key: str, read: Read, *, now: Now, held_s: int = HELD_S, pause_s: float = PAUSE_S
    ) -> None:
        self._server, self._key, self._read, self._now = MetadataServer(url), key, read, now
        self._held_s, self._pause_s = held_s, pause_s
        self._complaints = Complaints()
        self._etag = ""
        self._said = ""
        self._known: tuple[Notice, ...] = ()

    def look(self) -> tuple[Notice, ...]:
        asked_at = time.monotonic()
        try:
            answer = self._ask()
        except NoAnswer as error:
            self._complaints.about(self._key, error)
            self._etag = ""
            time.sleep(self._pause_s)
            return self._known
        self._complaints.none_about(self._key)
        if answer.text != self._said:
            self._said = answer.text
            notice = self._read(answer.text, self._now())
            self._known = (notice,) if notice else ()
        elif time.monotonic() - asked_at < SHORTEST_S:
            time.sleep(SHORTEST_S)
        return self._known

    def _ask(self) -> Answer:
        query = f"?wait_for_change=true&last_etag={self._etag}&timeout_sec={self._held_s}" if self._etag else ""
        path = f"/computeMetadata/v1/{self._key}{query}"
        answer = self._server.ask(path, {FLAVOR: "Google"}, read_timeout_s=self._held_s + 10.0)
        if answer.headers.get(FLAVOR) != "Google":
            raise NoAnswer(f"{self._key}: an answer that is not the metadata server's")
        if answer.status != 200:
            raise NoAnswer(f"{self._key}: answered {answer.status}")
        self._etag = "".join(c for c in answer.headers.get("ETag", "") if c.isalnum() or c in "-_.")
        return answer


def watches(url: str, *, has_gpus: bool, now: Now) -> tuple[GceWatch, ...]:
    """One for each key: both hold their question."""

    def maintenance(said: str, at: datetime) -> Notice | None:
        """`TERMINATE_ON_HOST_MAINTENANCE` ends the machine; a migration is not felt, and `NONE` is none."""
        if said != "TERMINATE_ON_HOST_MAINTENANCE":
            return None
        deadline = at + (MAINTENANCE_WITHIN_WITH_GPUS if has_gpus else MAINTENANCE_WITHIN)
        text = f"Google Compute Engine stops this instance for maintenance at {deadline:%H:%M:%S} UTC"
        return Notice(kind=NoticeKind.MAINTENANCE, at=at, deadline=deadline, text=text)

    return (GceWatch(url, PREEMPTED, preempted, now=now), GceWatch(url, MAINTENANCE, maintenance, now=now))


def preempted(said: str, at: datetime) -> Notice | None:
    """`TRUE` from the notice on."""
    if said != "TRUE":
        return None
    deadline = at + PREEMPTED_WITHIN
    text = f"Google Compute Engine takes this instance back at {deadline:%H:%M:%S} UTC"
    return Notice(kind=NoticeKind.PREEMPTION, at=at, deadline=deadline, text=text)
