"""`identity:` of the fleet file: whether machines must prove by their cloud's own word who they are."""

from __future__ import annotations

from pathlib import Path

from fleet.config.section import Section
from fleet.config.settings import Identity


def read_identity(part: Section) -> Identity:
    """What is wrong is noted in `part`."""
    certificates = part.text("aws_certificates", None)
    account = part.anything("aws_account")
    if account is not None and not (isinstance(account, str) and account.isdigit() and len(account) == 12):
        part.wrong("aws_account", 'expected twelve digits in quotes, as "123456789012"')
        account = None
    identity = Identity(
        is_required=part.flag("required", True),
        aws_certificates=Path(certificates).expanduser() if certificates else None,
        aws_account=account if isinstance(account, str) else None,
        google_keys=part.text("google_keys", None),
    )
    part.no_more()
    return identity
