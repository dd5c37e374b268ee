"""The Compute API of Genesis Cloud: pages, single calls, and its refusals as our classes of error.

Documents: "Compute API v1" (OpenAPI of api.genesiscloud.com/compute/v1) and developers.genesiscloud.com. Errors are {"code", "message"}; the
codes of a sold-out type and of a used-up quota are not documented, so their words decide where the status alone does not.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from fleet.errors import (
    BadRequest,
    NoCapacity,
    NotAuthorised,
    ProviderError,
    QuotaExceeded,
    Throttled,
    UnknownProviderFault,
)
from fleet.providers.rest import Answer, Rest, Session

URL = "https://api.genesiscloud.com"
PAGE = 100  # the most that a page may hold
TRIES = 3
STATUSES: dict[int, type[ProviderError]] = {
    400: BadRequest,
    401: NotAuthorised,
    402: NotAuthorised,
    403: NotAuthorised,
    404: BadRequest,
    409: UnknownProviderFault,
    422: BadRequest,
    429: Throttled,
}
FIXES: dict[type[ProviderError], str] = {
    QuotaExceeded: "ask Genesis Cloud's support for more, or add a resource of another type or region",
    NotAuthorised: "mend the token (GENESIS_TOKEN) or the account's billing",
    BadRequest: "mend the resource in the fleet file",
}
_QUOTA = re.compile(r"quota|limit (?:reached|exceeded)|exceeds? (?:the|your) limit", re.I)
_SOLD_OUT = re.compile(
    r"capacity|sold.?out|out of stock|not (?:currently )?available|unavailable|no .{0,30}available", re.I
)


class Api:
    """One account."""

    def __init__(self, session: Session, endpoint: str | None = None, timeout_s: float = 10.0) -> None:
        self._rest = Rest("Genesis Cloud", (endpoint or URL).rstrip("/"), session, timeout_s)

    def call(
        self, verb: str, path: str, what: str, query: Mapping[str, Any] | None = None, body: object = None
    ) -> Mapping[str, Any]:
        """
        Raises:
            ProviderError: it is refused, or there is no answer.
        """
        answer = self.answer(verb, path, query, body)
        if not answer.is_fine:
            raise refusal(answer, what)
        return answer.body

    def answer(self, verb: str, path: str, query: Mapping[str, Any] | None = None, body: object = None) -> Answer:
        """
        Raises:
            ProviderError: there is none.
        """
        return self._rest.call(verb, f"/compute/v1/{path}", query, body)

    def everything(self, kind: str, query: Mapping[str, Any] | None = None) -> Sequence[Mapping[str, Any]]:
        """All of `kind` ("instances", "images"). Pages go by number, so what ends while we read moves the rest: the list counts only if
        it has as many as every page says there are.

        Raises:
            ProviderError: it could not be had whole.
        """
        for _ in range(TRIES):
            found, total = self._once(kind, query or {})
            if len(found) == total:
                return list(found.values())
        raise UnknownProviderFault(
            f"the list of {kind} changes faster than it can be read; asked again at the next pass"
        )

    def _once(self, kind: str, query: Mapping[str, Any]) -> tuple[dict[str, Mapping[str, Any]], int]:
        found: dict[str, Mapping[str, Any]] = {}
        total, number = 0, 1
        while True:
            asked = {**query, "per_page": PAGE, "page": number}
            page = self.call("GET", kind.replace("_", "-"), f"list of {kind.replace('_', ' ')}", asked)
            rows, count = page.get(kind), page.get("total_count")
            if not isinstance(rows, list) or not isinstance(count, int) or isinstance(count, bool):
                raise UnknownProviderFault(
                    f"Genesis Cloud's list of {kind} cannot be read: no {kind}, or no total_count"
                )
            if number > 1 and count != total:
                return found, -1  # it changed while we read
            total, before = count, len(found)
            for row in rows:
                if not isinstance(row, Mapping) or not isinstance(row.get("id"), str):
                    raise UnknownProviderFault(f"Genesis Cloud's list of {kind} cannot be read: an entry has no id")
                found[str(row["id"])] = row
            if len(found) == before or len(found) >= total:
                return (
                    found,
                    total,
                )  # a page of nothing new is the last one, also of a server that says the same for ever
            number += 1


def refusal(answer: Answer, what: str) -> ProviderError:
    said = answer.body.get("error") if isinstance(answer.body.get("error"), Mapping) else answer.body
    assert isinstance(said, Mapping)
    code, message = str(said.get("code") or ""), str(said.get("message") or f"status {answer.status}")
    kind = STATUSES.get(answer.status, UnknownProviderFault)
    if answer.status not in (401, 404, 429):
        words = f"{code.replace('_', ' ')} {message}"
        if _QUOTA.search(words):
            kind = QuotaExceeded
        elif _SOLD_OUT.search(words) and answer.status < 500:
            kind = NoCapacity
    shown = " ".join(message.split())[:300].rstrip(".")
    fix = FIXES.get(kind)
    return kind(
        f"Genesis Cloud refused the {what}: {shown}{f' ({code[:40]})' if code else ''}{f'; {fix}' if fix else ''}"
    )
