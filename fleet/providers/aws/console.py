"""What a machine printed while it booted, for the event log. Source: GetConsoleOutput (EC2 API Reference)."""

from __future__ import annotations

from typing import Any

from fleet.errors import BadRequest
from fleet.providers.aws.access import Access
from fleet.providers.aws.errors import asking
from fleet.providers.redact import redacted

LAST_CHARS = 8_000  # EC2 keeps 64 KB; the end says why a boot failed


def read_console(access: Access, cloud_id: str) -> str | None:
    """The end of it, without secrets.

    Raises:
        ProviderError: it could not be read.
    """
    ec2 = access.client("ec2")
    with asking(f"read the console of {cloud_id}"):
        text = _output(ec2, cloud_id)
    # Cut after the secrets are out: half a key would not be known as one.
    return redacted(text)[-LAST_CHARS:].strip() or None if text else None


def _output(ec2: Any, cloud_id: str) -> str | None:
    try:
        with asking(f"read the newest console of {cloud_id}"):
            answer = ec2.get_console_output(InstanceId=cloud_id, Latest=True)
    except BadRequest:
        answer = ec2.get_console_output(InstanceId=cloud_id)  # types before Nitro know only the one after boot
    output = answer.get("Output")
    return str(output) if output else None
