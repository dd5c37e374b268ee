"""Notices of Amazon EC2: spot interruption, rebalance recommendation, scheduled events.

By IMDSv2 alone: a token first, then every question with it. Where the token is refused nothing is asked without one.
The answer to the PUT of a token travels as few hops as the instance's hop limit says, 1 by default: that reaches the
machine itself, and no container with a network of its own.
Source: Amazon EC2 User Guide, "Use IMDSv2", "Spot Instance interruption notices", "EC2 instance rebalance
recommendations", "View scheduled events".
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

from agent_hooks.metadata import Answer, Complaints, MetadataServer, NoAnswer
from agent_hooks.notice import Notice, NoticeKind, Now

EVERY_S = 5.0  # as Amazon recommends
TOKEN_LIVES_S = 21_600  # the longest that there is
RENEW_TOKEN_S = TOKEN_LIVES_S / 2
MAINTENANCE_EVERY = 12  # looks: it is announced days before
TOKEN, META_DATA = "/latest/api/token", "/latest/meta-data"
ACTION, REBALANCE = f"{META_DATA}/spot/instance-action", f"{META_DATA}/events/recommendations/rebalance"
SCHEDULED = f"{META_DATA}/events/maintenance/scheduled"
UNAUTHORISED, NOT_FOUND = 401, 404
OVER = ("[completed]", "[canceled]", "[cancelled]")  # how the description of an event begins that will not come

Read = Callable[[Answer, datetime], Notice | None]


class Ec2Watch:
    """Asks every few seconds. One token for all questions."""

    def __init__(self, url: str, *, now: Now, every_s: float = EVERY_S) -> None:
        self._server, self._now, self._every_s = MetadataServer(url), now, every_s
        self._complaints = Complaints()
        self._token = ""
        self._token_until = 0.0  # monotonic
        self._looks = 0
        self._known: dict[str, tuple[str, Notice | None]] = {}  # by path: the answer as it came, and what it says

    def look(self) -> tuple[Notice, ...]:
        if self._looks:
            time.sleep(self._every_s)
        questions: list[tuple[str, Read]] = [(ACTION, interruption), (REBALANCE, rebalance)]
        if self._looks % MAINTENANCE_EVERY == 0:
            questions.append((SCHEDULED, maintenance))
        self._looks += 1
        for path, read in questions:
            try:
                if time.monotonic() >= self._token_until:
                    self._renew()
            except NoAnswer as error:
                self._complaints.about(TOKEN, error)
                break  # nothing is asked without one
            self._complaints.none_about(TOKEN)
            try:
                self._ask(path, read)
            except NoAnswer as error:
                self._complaints.about(path, error)
            else:
                self._complaints.none_about(path)
        return tuple(notice for _, notice in self._known.values() if notice)

    def _ask(self, path: str, read: Read) -> None:
        answer = self._with_token(path)
        if answer.status == NOT_FOUND:
            self._known.pop(path, None)
            return
        if answer.status != 200:
            raise NoAnswer(f"{path}: answered {answer.status}")
        said, _ = self._known.get(path, (None, None))
        if answer.text != said:  # else the time that is left would be read anew from a clock that shows seconds
            try:
                self._known[path] = (answer.text, read(answer, self._now()))
            except (AttributeError, KeyError, OverflowError, TypeError, ValueError) as error:
                raise NoAnswer(f"{path}: an answer that cannot be read ({answer.text[:80]!r})") from error

    def _with_token(self, path: str) -> Answer:
        answer = self._server.ask(path, {"X-aws-ec2-metadata-token": self._token})
        if answer.status == UNAUTHORISED:  # the machine was stopped and started: its token died before its time
            self._renew()
            answer = self._server.ask(path, {"X-aws-ec2-metadata-token": self._token})
        return answer

    def _renew(self) -> None:
        asked_at = time.monotonic()
        headers = {"X-aws-ec2-metadata-token-ttl-seconds": str(TOKEN_LIVES_S)}
        answer = self._server.ask(TOKEN, headers, method="PUT")
        if answer.status != 200 or not answer.text.isprintable() or not answer.text:
            self._token_until = 0.0
            raise NoAnswer(f"{TOKEN}: answered {answer.status}; is the metadata service enabled?")
        self._token, self._token_until = answer.text, asked_at + RENEW_TOKEN_S


def interruption(answer: Answer, now: datetime) -> Notice:
    """`{"action": "terminate", "time": "2017-09-18T08:22:00Z"}`; hibernation begins at once."""
    data = json.loads(answer.text)
    action = str(data["action"])
    deadline = now if action == "hibernate" else _here(datetime.fromisoformat(data["time"]), answer, now)
    text = f"Amazon EC2 takes this spot instance back ({action}) at {deadline:%H:%M:%S} UTC"
    return Notice(kind=NoticeKind.PREEMPTION, at=now, deadline=deadline, text=text)


def rebalance(answer: Answer, now: datetime) -> Notice:
    """`{"noticeTime": "2020-10-27T08:22:00Z"}`."""
    datetime.fromisoformat(json.loads(answer.text)["noticeTime"])
    text = "Amazon EC2 says that this spot instance is at an elevated risk of interruption"
    return Notice(kind=NoticeKind.REBALANCE, at=now, deadline=None, text=text)


def maintenance(answer: Answer, now: datetime) -> Notice | None:
    """A list of events; the first that is still to come counts. None: there is none."""
    coming = [
        (parsedate_to_datetime(event["NotBefore"]), str(event["Code"]))
        for event in json.loads(answer.text)
        if event.get("State") == "active" and not str(event.get("Description", "")).lower().startswith(OVER)
    ]
    if not coming:
        return None
    first, code = min(coming)
    deadline = _here(first, answer, now)
    text = f"Amazon EC2 has scheduled {code} for this instance at {deadline:%Y-%m-%d %H:%M} UTC"
    return Notice(kind=NoticeKind.MAINTENANCE, at=now, deadline=deadline, text=text)


def _here(at: datetime, answer: Answer, now: datetime) -> datetime:
    """A time of the cloud as this machine's clock will show it: that clock may be minutes off, and two are all there is."""
    at = at.astimezone(UTC) if at.tzinfo else at.replace(tzinfo=UTC)
    try:
        there = parsedate_to_datetime(answer.headers["Date"])
    except (KeyError, ValueError):
        return max(at, now)
    there = there if there.tzinfo else there.replace(tzinfo=UTC)
    return now + max(at - there, timedelta(0))
