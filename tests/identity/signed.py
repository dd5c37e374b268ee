"""Clouds that sign: Amazon's and Google's keys, as a test has them."""

from __future__ import annotations

import base64
import functools
import json
import subprocess
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import jwt
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

PEM = serialization.Encoding.PEM


@functools.cache
def a_key(number: int, bits: int = 2048) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=bits)


@functools.cache
def a_certificate(number: int, bits: int = 2048) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Amazon Web Services LLC")])
    now = datetime.now(UTC)
    key = a_key(number, bits)
    made = x509.CertificateBuilder(name, name, key.public_key(), number + 1)
    made = made.not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=99))
    return made.sign(key, hashes.SHA256())


def a_document(**changes: Any) -> bytes:
    """As in the Amazon EC2 User Guide, "Instance identity documents"."""
    whole = {
        "devpayProductCodes": None,
        "availabilityZone": "us-east-1a",
        "instanceId": "i-1234567890abcdef0",
        "accountId": "123456789012",
        "imageId": "ami-5fb8c835",
        "pendingTime": "2026-03-01T12:00:30Z",
        "region": "us-east-1",
        "version": "2017-09-30",
    }
    return json.dumps(whole | changes, indent=2).encode()


def signed(document: bytes, place: Path, number: int = 0, *options: str, bits: int = 2048) -> bytes:
    """By openssl, as the metadata server gives it (without the lines of PEM). `-stream` makes BER of it, not DER."""
    key, certificate = place / f"{number}.key", place / f"{number}.pem"
    no_password = serialization.NoEncryption()
    key.write_bytes(a_key(number, bits).private_bytes(PEM, serialization.PrivateFormat.PKCS8, no_password))
    certificate.write_bytes(a_certificate(number, bits).public_bytes(PEM))
    command = ["openssl", "cms", "-sign", "-binary", "-nodetach", "-nocerts", "-md", "sha256", "-outform", "DER"]
    whole = [*command, "-signer", str(certificate), "-inkey", str(key), *options]
    return base64.encodebytes(subprocess.run(whole, input=document, capture_output=True, check=True).stdout)


@dataclass(frozen=True, kw_only=True)
class Google:
    """Its tokens and its keys."""

    kid: str = "k1"
    number: int = 0

    def keys(self) -> dict[str, Any]:
        public = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(a_key(self.number).public_key()))
        return {"keys": [public | {"kid": self.kid, "use": "sig", "alg": "RS256"}]}

    def token(self, audience: str = "https://fleet", machine: dict[str, Any] | None = None, **changes: Any) -> str:
        """As in the Compute Engine documentation, "Verify the identity of a VM"."""
        now = int(datetime.now(UTC).timestamp())
        engine = {
            "project_id": "lab",
            "project_number": 739419398126,
            "zone": "us-west1-b",
            "instance_id": "152986662232938449",
            "instance_name": "fleet-i1",
            "instance_creation_timestamp": int(datetime(2026, 3, 1, 12, 0, 20, tzinfo=UTC).timestamp()),
        }
        claims = {
            "iss": "https://accounts.google.com",
            "aud": audience,
            "iat": now,
            "exp": now + 3600,
            "sub": "104517107577389103000",
            "google": {"compute_engine": engine | (machine or {})},
        }
        return jwt.encode(claims | changes, a_key(self.number), algorithm="RS256", headers={"kid": self.kid})
