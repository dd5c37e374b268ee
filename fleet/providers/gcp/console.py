"""What a machine printed while it booted, for the event log. Document: "Compute Engine API v1", instances.getSerialPortOutput."""

from __future__ import annotations

from fleet.providers.gcp.account import Account
from fleet.providers.gcp.errors import refusal
from fleet.providers.gcp.machines import Place
from fleet.providers.redact import redacted

LAST_BYTES = 64 * 1024  # of the megabyte that Google keeps
LAST_CHARS = 8_000  # the end says why a boot failed


def read_console(account: Account, place: Place) -> str | None:
    """The end of its first serial port, without secrets; None: there is nothing, or no such machine any more.

    Raises:
        ProviderError: it could not be read.
    """
    # A negative start counts from the end.
    answer = account.answer(
        "instances.getSerialPortOutput", {"port": 1, "start": -LAST_BYTES}, zone=place.zone, name=place.name
    )
    if answer.status == 404:
        return None
    if not answer.is_fine:
        raise refusal(answer, f"console of {place.name}")
    text = answer.body.get("contents")
    # Cut after the secrets are out: half a key would not be known as one.
    return redacted(text)[-LAST_CHARS:].strip() or None if isinstance(text, str) else None
