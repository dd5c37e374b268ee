"""Signed messages (RFC 5652, once PKCS #7) with their content inside, as far as an EC2 instance identity document needs it:
one signer, RSA with SHA-256, signed attributes. All else is refused. Reads BER too, which the cloud may send.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256

from fleet.errors import IdentityError

MOST_BYTES = 64 * 1024
DEEPEST = 16
SMALLEST_KEY_BITS = 2048
SEQUENCE, SET, OCTETS, OID, FIRST = 0x30, 0x31, 0x04, 0x06, 0xA0
CONSTRUCTED, INDEFINITE = 0x20, 0x80
SIGNED_DATA = bytes.fromhex("2a864886f70d010702")
DATA = bytes.fromhex("2a864886f70d010701")
CONTENT_TYPE, MESSAGE_DIGEST = bytes.fromhex("2a864886f70d010903"), bytes.fromhex("2a864886f70d010904")
SHA_256 = bytes.fromhex("608648016503040201")


def signed_content(message: bytes, signers: Sequence[x509.Certificate]) -> bytes:
    """What the message says, if one of these signed it.

    Raises:
        IdentityError: it cannot be read, or none of them did.
    """
    if len(message) > MOST_BYTES:
        raise IdentityError(f"a signed message of more than {MOST_BYTES} bytes")
    try:
        content, info = _parts(message)
        digest_algorithm, attributes, signature = _signer(info)
        said = dict(_attributes(attributes))
        is_whole = (
            digest_algorithm == SHA_256
            and said[CONTENT_TYPE] == DATA
            and hmac.compare_digest(said[MESSAGE_DIGEST], hashlib.sha256(content).digest())
        )
    except (IndexError, KeyError, ValueError) as error:
        raise IdentityError(f"a signed message that cannot be read ({error or type(error).__name__})") from error
    # As RFC 5652 5.4 wants it: what is signed is a SET, though it stands there under a tag of its own.
    signed = bytes([SET]) + attributes.raw[1:]
    if not is_whole or not any(_has_signed(each, signature, signed) for each in signers):
        raise IdentityError("a signature that is not of any of the certificates that are trusted")
    return content


@dataclass(frozen=True, slots=True)
class _Node:
    """One value: its tag, its bytes as they came, what is in it."""

    tag: int
    raw: bytes
    value: bytes
    below: tuple[_Node, ...]

    def octets(self) -> bytes:
        """The bytes of an OCTET STRING, which BER may give in pieces."""
        return b"".join(each.octets() for each in self.below) if self.tag & CONSTRUCTED else self.value


def _parts(message: bytes) -> tuple[bytes, _Node]:
    """The content, and what its only signer says."""
    whole, end = _read(message, 0, 0)
    if whole.tag != SEQUENCE or message[end:].strip(b"\0"):
        raise ValueError("no message, or more than one")
    _expect(whole.below[0], OID, SIGNED_DATA)
    data = whole.below[1].below[0]
    kind, inside = data.below[2].below
    _expect(kind, OID, DATA)
    (signer,) = data.below[-1].below
    return inside.below[0].octets(), signer


def _signer(info: _Node) -> tuple[bytes, _Node, bytes]:
    """How it digests, what it signs beside the content, its signature."""
    _, _, digest, attributes, _, signature, *_ = info.below
    if attributes.tag != FIRST or signature.tag != OCTETS:
        raise ValueError("no signed attributes")
    return digest.below[0].value, attributes, signature.value


def _attributes(node: _Node) -> Iterator[tuple[bytes, bytes]]:
    """Names and values; each once."""
    seen = set()
    for attribute in node.below:
        name, values = attribute.below
        if name.value in seen:
            raise ValueError("an attribute twice")
        seen.add(name.value)
        if name.value in (CONTENT_TYPE, MESSAGE_DIGEST):
            (value,) = values.below
            yield name.value, value.value


def _expect(node: _Node, tag: int, value: bytes) -> None:
    if (node.tag, node.value) != (tag, value):
        raise ValueError("another kind of message")


def _has_signed(certificate: x509.Certificate, signature: bytes, signed: bytes) -> bool:
    key = certificate.public_key()
    if not isinstance(key, rsa.RSAPublicKey) or key.key_size < SMALLEST_KEY_BITS:
        return False
    try:
        key.verify(signature, signed, padding.PKCS1v15(), SHA256())
    except InvalidSignature:
        return False
    return True


def _read(data: bytes, start: int, depth: int) -> tuple[_Node, int]:
    """The value that begins at `start`, and where it ends.

    Raises:
        IndexError, ValueError: it is cut off, or not BER.
    """
    if depth > DEEPEST:
        raise ValueError("nested too deep")
    tag, length, at = data[start], data[start + 1], start + 2
    if tag & 0x1F == 0x1F:
        raise ValueError("a long tag")
    if length == INDEFINITE:
        if not tag & CONSTRUCTED:
            raise ValueError("no length")
        below: list[_Node] = []
        inside = at
        while data[at : at + 2] != b"\0\0":
            node, at = _read(data, at, depth + 1)
            below.append(node)
        return _Node(tag, data[start : at + 2], data[inside:at], tuple(below)), at + 2
    if length > INDEFINITE:
        count = length - INDEFINITE
        length, at = int.from_bytes(data[at : at + count], "big"), at + count
    end = at + length
    if end > len(data):
        raise ValueError("cut off")
    value, below = data[at:end], []
    while tag & CONSTRUCTED and at < end:
        node, at = _read(data, at, depth + 1)
        below.append(node)
    if tag & CONSTRUCTED and at != end:
        raise ValueError("a value that is longer than what it is in")
    return _Node(tag, data[start:end], value, tuple(below)), end
