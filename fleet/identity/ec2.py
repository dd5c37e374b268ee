"""Amazon EC2: the instance identity document, in its RSA-2048 signature.

Source: Amazon EC2 User Guide, "Instance identity documents", "Use the RSA-2048 signature to verify the instance identity
document", "AWS public certificates for instance identity document signatures".
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import rsa

from fleet.errors import ConfigError, IdentityError
from fleet.identity.cms import SMALLEST_KEY_BITS, signed_content
from fleet.identity.proofs import is_fresh
from fleet.model import Instance
from fleet.wire import Proof

PAGE = 'the page "AWS public certificates for instance identity document signatures" of the Amazon EC2 User Guide'
HOW_TO = f"take those under RSA-2048 from {PAGE}"


class Ec2:
    """Checks documents by the certificates that Amazon publishes, one or more for each region."""

    def __init__(self, signers: Sequence[x509.Certificate], account: str | None) -> None:
        """`account`: the only one whose machines are ours; None: any, as the id of an instance is unlike all others."""
        self._signers, self._account = signers, account

    def check(self, proof: Proof, instance: Instance, cloud_id: str, at: datetime) -> None:
        if proof.kind != "ec2":
            raise IdentityError(f"it brings a proof of kind {proof.kind[:20]!r}, not of Amazon EC2")
        said = _read(signed_content(_decoded(proof.text), self._signers))
        wanted = {"instanceId": cloud_id}
        if self._account:
            wanted["accountId"] = self._account
        for name, value in wanted.items():
            if said.get(name) != value:
                raise IdentityError(f"Amazon EC2 says that its {name} is {str(said.get(name))[:40]!r}, not {value!r}")
        # Not the zone itself: a launch in several zones may end in another than was thought.
        zone, region = instance.offer.zone, str(said.get("region"))
        if zone and not zone.startswith(region):
            raise IdentityError(f"Amazon EC2 says that it is in {region[:40]!r}, not where {zone} is")
        if not is_fresh(_time(said.get("pendingTime")), instance, at):
            raise IdentityError(
                f"Amazon EC2 says that it began at {said.get('pendingTime')}, long before it was asked for"
            )


def read_signers(path: Path) -> tuple[x509.Certificate, ...]:
    """The certificates in a PEM file.

    Raises:
        ConfigError: it cannot be read, holds none, or one that can check nothing.
    """
    try:
        found = tuple(x509.load_pem_x509_certificates(path.read_bytes()))
    except OSError as error:
        raise ConfigError(f"identity.aws_certificates: {path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise ConfigError(f"identity.aws_certificates: {path} holds no certificates in PEM ({error})") from error
    for number, each in enumerate(found, 1):
        if why := _why_useless(each):
            raise ConfigError(f"identity.aws_certificates: certificate {number} in {path} {why}; {HOW_TO}")
    return found


def _why_useless(certificate: x509.Certificate) -> str | None:
    """The page has three kinds for each region, and only one of them can check what a supervisor sends."""
    try:
        key = certificate.public_key()
    except (ValueError, UnsupportedAlgorithm) as error:
        return f"has a key that cannot be read ({error})"
    if not isinstance(key, rsa.RSAPublicKey):
        return f"is not of RSA ({type(key).__name__.strip('_').removesuffix('PublicKey')})"
    if key.key_size < SMALLEST_KEY_BITS:
        return f"is of RSA with {key.key_size} bits"
    if certificate.not_valid_after_utc < datetime.now(UTC):
        return f"ended on {certificate.not_valid_after_utc:%Y-%m-%d}"
    return None


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise IdentityError(f"a proof that is not base64 ({error})") from error


def _read(document: bytes) -> dict[str, object]:
    try:
        said = json.loads(document)
    except ValueError as error:
        raise IdentityError(f"a document that is not JSON ({error})") from error
    if not isinstance(said, dict):
        raise IdentityError("a document that is no JSON object")
    return said


def _time(text: object) -> datetime:
    try:
        at = datetime.fromisoformat(str(text))
    except ValueError as error:
        raise IdentityError(f"a document whose pendingTime is {str(text)[:40]!r}") from error
    if at.tzinfo is None:
        raise IdentityError("a document whose pendingTime has no offset")
    return at
