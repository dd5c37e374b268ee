"""Which machines have to prove who they are, and who checks it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from fleet.config import Config
from fleet.errors import IdentityError, IdentityUnknown
from fleet.identity.ec2 import Ec2, read_signers
from fleet.identity.gce import KEYS, Gce, Keys
from fleet.identity.proofs import Checker
from fleet.model import Instance
from fleet.wire import Proof


class Proofs:
    """Called at each enrolment, from many threads."""

    def __init__(self, by_resource: Mapping[str, Checker]) -> None:
        self._by_resource = by_resource

    @property
    def resources(self) -> frozenset[str]:
        """Whose machines have to prove who they are."""
        return frozenset(self._by_resource)

    def __call__(self, instance: Instance, proof: Proof | None, at: datetime) -> None:
        """Nothing, if this machine may be let in with its token.

        Raises:
            IdentityError: it is another machine. IdentityUnknown: it shall come again.
        """
        checker = self._by_resource.get(instance.resource)
        if checker is None:
            return
        if proof is None:
            raise IdentityError(
                "it brings no proof of its cloud; is its metadata server on, and its supervisor of this version?"
            )
        if instance.cloud_id is None:
            # A machine can be faster than the answer that says what it is called.
            raise IdentityUnknown("its cloud has not said yet what it is called; come again")
        checker.check(proof, instance, instance.cloud_id, at)


def proofs_of(config: Config) -> Proofs:
    """Where the fleet file, and what the cloud offers, make a proof possible.

    Raises:
        ConfigError: the file with certificates cannot be read.
    """
    identity = config.identity
    checkers: dict[str, Checker] = {}
    if identity.is_required and identity.aws_certificates:
        checkers["aws"] = Ec2(read_signers(identity.aws_certificates), identity.aws_account)
    if identity.is_required:
        checkers["gcp"] = Gce(config.advertise_url, Keys(identity.google_keys or KEYS))
    found = {}
    for resource in config.resources:
        # Google says nothing of a machine that has no service account.
        can = resource.provider == "aws" or bool(resource.settings.get("service_account"))
        if can and resource.provider in checkers:
            found[resource.name] = checkers[resource.provider]
    return Proofs(found)
