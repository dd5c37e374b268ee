"""What a cloud says of a machine, against what was launched. Who can check it for one cloud keeps `Checker`.

A join token shows that a machine has read its user-data; so may others have, who can read that of another machine. The
cloud's own statement, signed by it, says which machine it is.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Protocol

from fleet.model import Instance
from fleet.wire import Proof

# Of the clocks of clouds, and of the order in which a launch is written and done.
SKEW = timedelta(minutes=10)


class Checker(Protocol):
    """One cloud's way to say who a machine is."""

    def check(self, proof: Proof, instance: Instance, cloud_id: str, at: datetime) -> None:
        """Nothing, if it is the machine that was launched as `instance`, which the cloud calls `cloud_id`.

        Raises:
            IdentityError: it is not, or the proof is none.
            IdentityUnknown: this cannot be told now.
        """
        ...


def is_fresh(began_at: datetime, instance: Instance, at: datetime) -> bool:
    """Whether a machine that began to be then can be the one that we asked for."""
    return instance.requested_at - SKEW <= began_at <= at + SKEW
