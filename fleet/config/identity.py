"""`identity:` of the fleet file: whether machines must prove by their cloud's own word who they are."""

from __future__ import annotations

from datetime import timedelta

from fleet.config.quantities import duration, url
from fleet.config.section import Section
from fleet.config.settings import Identity

# Machines renew after a twelfth of it, and have to find the dispatcher in the rest.
SHORTEST_TOKEN_LIFE = timedelta(minutes=1)


def read_identity(part: Section) -> Identity:
    """What is wrong is noted in `part`."""
    account = part.anything("aws_account")
    if account is not None and not (isinstance(account, str) and account.isdigit() and len(account) == 12):
        part.wrong("aws_account", 'expected twelve digits in quotes, as "123456789012"')
        account = None
    identity = Identity(
        is_required=part.flag("required", True),
        aws_certificates=part.place("aws_certificates", None),
        aws_account=account if isinstance(account, str) else None,
        google_keys=part.read("google_keys", url, None),
        token_life=part.read("token_life", _token_life, timedelta(hours=24)),
    )
    part.no_more()
    return identity


def _token_life(value: object) -> timedelta:
    life = duration(value)
    if life < SHORTEST_TOKEN_LIFE:
        raise ValueError("must be 1m or more: a machine must find the time to renew its token")
    return life
