"""What Compute Engine refuses, as our classes of error.

Reasons come as `error.errors[].reason` of a refused call ("quotaExceeded") or as `error.errors[].code` of an operation that failed
later ("QUOTA_EXCEEDED"). Documents: "Troubleshooting VM creation", "Troubleshooting bulk VM creation", "Resource availability
errors", "API rate quotas" of Compute Engine; the status alone decides where the reason is not in the table.
"""

from __future__ import annotations

from collections.abc import Mapping
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
from fleet.providers.rest import Answer

CLOCK_IS_OFF_S = 60.0

REASONS: dict[str, type[ProviderError]] = {
    "ZONE_RESOURCE_POOL_EXHAUSTED": NoCapacity,
    "ZONE_RESOURCE_POOL_EXHAUSTED_WITH_DETAILS": NoCapacity,
    "RESOURCE_POOL_EXHAUSTED": NoCapacity,
    "STOCKOUT": NoCapacity,
    "VM_MIN_COUNT_NOT_REACHED": NoCapacity,
    "insufficientCapacity": NoCapacity,
    "QUOTA_EXCEEDED": QuotaExceeded,
    "quotaExceeded": QuotaExceeded,
    "limitExceeded": QuotaExceeded,
    "rateLimitExceeded": Throttled,
    "userRateLimitExceeded": Throttled,
    "concurrentLimitExceeded": Throttled,
    "RATE_LIMIT_EXCEEDED": Throttled,
    "RESOURCE_OPERATION_RATE_EXCEEDED": Throttled,
    "authError": NotAuthorised,
    "required": NotAuthorised,
    "forbidden": NotAuthorised,
    "insufficientPermissions": NotAuthorised,
    "accessNotConfigured": NotAuthorised,
    "SERVICE_DISABLED": NotAuthorised,
    "PERMISSIONS_ERROR": NotAuthorised,
    "invalid": BadRequest,
    "badRequest": BadRequest,
    "notFound": BadRequest,
    "INVALID_FIELD_VALUE": BadRequest,
    "INVALID_USAGE": BadRequest,
    "RESOURCE_NOT_FOUND": BadRequest,
    "UNSUPPORTED_OPERATION": BadRequest,
    "backendError": UnknownProviderFault,
    "internalError": UnknownProviderFault,
    "INTERNAL_ERROR": UnknownProviderFault,
}
STATUSES: dict[int, type[ProviderError]] = {
    400: BadRequest,
    401: NotAuthorised,
    403: NotAuthorised,
    404: BadRequest,
    409: UnknownProviderFault,
    412: BadRequest,
    413: BadRequest,
    429: Throttled,
}
FIXES: dict[type[ProviderError], str] = {
    QuotaExceeded: "ask for more under IAM & Admin > Quotas, or add a resource of another family or region",
    NotAuthorised: "grant the role of images/iam/gcp-role.yaml to whom the dispatcher runs as, or mend its credentials",
    BadRequest: "mend the resource in the fleet file",
}


def refusal(answer: Answer, what: str) -> ProviderError:
    """Of a call that was answered with an error. `what`: what was asked for, as "launch of fleet-lab-1a2b"."""
    said = _mapping(answer.body.get("error"))
    error = _error(
        _causes(said.get("errors")), str(said.get("message") or f"status {answer.status}"), answer.status, what
    )
    if isinstance(error, NotAuthorised) and abs(answer.clock_is_off_by_s) > CLOCK_IS_OFF_S:
        return NotAuthorised(f"{error}; this machine's clock is off by {answer.clock_is_off_by_s:+.0f} s: set it")
    return error


def failure(operation: Mapping[str, Any], what: str) -> ProviderError | None:
    """Of an operation that is DONE: what it failed with; None if it did what it should."""
    said = _mapping(operation.get("error"))
    if not said:
        return None
    message = str(operation.get("httpErrorMessage") or "it failed without a reason")
    status = operation.get("httpErrorStatusCode")
    return _error(_causes(said.get("errors")), message, status if isinstance(status, int) else 500, what)


def reasons(answer: Answer) -> set[str]:
    """The reasons of a refused call, for whoever does something about one of them."""
    said = _mapping(answer.body.get("error")).get("errors")
    return {reason for reason, _ in _causes(said)}


def _error(causes: list[tuple[str, str]], message: str, status: int, what: str) -> ProviderError:
    known = [(REASONS[reason], text) for reason, text in causes if reason in REASONS]
    kind, text = known[0] if known else (STATUSES.get(status, UnknownProviderFault), causes[0][1] if causes else "")
    if kind is NotAuthorised and any(reason in REASONS and REASONS[reason] is Throttled for reason, _ in causes):
        kind = Throttled
    shown = " ".join((text or message).split())[:300].rstrip(".")
    fix = FIXES.get(kind)
    return kind(f"Google Cloud refused the {what}: {shown}{f'; {fix}' if fix else ''}")


def _causes(errors: object) -> list[tuple[str, str]]:
    """(reason, message) of each."""
    found = [_mapping(each) for each in (errors if isinstance(errors, list) else [])]
    return [(str(each.get("reason") or each.get("code") or ""), str(each.get("message") or "")) for each in found]


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
