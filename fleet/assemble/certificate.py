"""The centre's own certificate: an authority that lives as long as the cluster and that machines know by its fingerprint,
and a short-lived certificate that it signs anew whenever that is due. So a renewal changes nothing for anybody.
"""

from __future__ import annotations

import ipaddress
import ssl
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from fleet.assemble.state import StateDir, write_private
from fleet.errors import ConfigError
from fleet.pinned import fingerprint

AUTHORITY_LIFE = timedelta(days=20 * 365)  # machines are launched with its fingerprint; it is not replaced by itself
LIFE = timedelta(days=397)
RENEW_BEFORE = timedelta(days=60)
# The clock of a machine that boots may be behind until it has asked for the time.
BACKDATED = timedelta(days=2)


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """What a listener shows, and by what it is known. Files in PEM."""

    chain: Path
    key: Path
    authority: str | None  # PEM, for those who do not trust it already; None: public authorities vouch for it

    @property
    def sha256(self) -> str | None:
        """What machines are told: the fingerprint of the authority."""
        return fingerprint(self.authority) if self.authority else None

    def context(self) -> ssl.SSLContext:
        """For a server. TLS 1.2 and newer: the stock agent speaks 1.2.

        Raises:
            ConfigError: the files cannot be read, or do not belong together.
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        try:
            context.load_cert_chain(self.chain, self.key)
        except (OSError, ssl.SSLError) as error:
            why = getattr(error, "strerror", None) or str(error)
            raise ConfigError(f"tls: {self.chain} and {self.key} cannot be used together: {why}") from error
        return context


def given(chain: Path, key: Path, authority: Path | None) -> Certificate:
    """The operator's own. One that signed itself is its own authority.

    Raises:
        ConfigError: a file cannot be read.
    """
    pem = _text(authority) if authority else None
    if pem is None:
        first = _parse(_text(chain), chain)
        pem = first.public_bytes(serialization.Encoding.PEM).decode() if first.issuer == first.subject else None
    else:
        _parse(pem, authority or chain)
    return Certificate(chain=chain, key=key, authority=pem)


def own(state: StateDir, names: Collection[str], at: datetime) -> Certificate:
    """Ours, made or renewed if need be, for all these host names and addresses.

    Raises:
        ConfigError: the state directory cannot be read or written.
    """
    authority, authority_key = _authority(state, at)
    chain, key = state.directory / "certificate.pem", state.directory / "certificate.key"
    if not _is_good(chain, key, authority, names, at):
        _issue(chain, key, authority, authority_key, names, at)
    pem = authority.public_bytes(serialization.Encoding.PEM).decode()
    return Certificate(chain=chain, key=key, authority=pem)


def _authority(state: StateDir, at: datetime) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    file, key_file = state.directory / "own_authority.pem", state.directory / "own_authority.key"
    if file.exists() and key_file.exists():
        return _parse(_text(file), file), _key(key_file)
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"fleet {state.directory.name}"[:64])])
    usage = x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=True,
        crl_sign=True,
        encipher_only=False,
        decipher_only=False,
    )
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(at - BACKDATED)
        .not_valid_after(at + AUTHORITY_LIFE)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    write_private(key_file, _pem_of(key))
    write_private(file, made.public_bytes(serialization.Encoding.PEM).decode())
    return made, key


def _issue(
    chain: Path,
    key_file: Path,
    authority: x509.Certificate,
    authority_key: ec.EllipticCurvePrivateKey,
    names: Collection[str],
    at: datetime,
) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "fleet dispatcher")])
    made = (
        x509.CertificateBuilder(authority.subject, subject, key.public_key(), x509.random_serial_number())
        .not_valid_before(at - BACKDATED)
        .not_valid_after(min(at + LIFE, authority.not_valid_after_utc))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([_name(each) for each in sorted(set(names))]), critical=False)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()), critical=False)
        .sign(authority_key, hashes.SHA256())
    )
    # The key first: a kill between the two leaves a pair that does not fit, which `_is_good` finds.
    write_private(key_file, _pem_of(key))
    both = (made, authority)
    write_private(chain, "".join(each.public_bytes(serialization.Encoding.PEM).decode() for each in both))


def _is_good(chain: Path, key: Path, authority: x509.Certificate, names: Collection[str], at: datetime) -> bool:
    if not (chain.exists() and key.exists()):
        return False
    made = _parse(_text(chain), chain)
    try:
        made.verify_directly_issued_by(authority)
        said = set(made.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
    except (ValueError, TypeError, InvalidSignature, x509.ExtensionNotFound):
        return False
    is_pair = made.public_key() == _key(key).public_key()
    is_fresh = made.not_valid_before_utc <= at < made.not_valid_after_utc - RENEW_BEFORE
    return is_pair and is_fresh and {_name(each) for each in names} <= said


def _name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host.encode("idna").decode())


def _pem_of(key: ec.EllipticCurvePrivateKey) -> str:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()


def _key(path: Path) -> ec.EllipticCurvePrivateKey:
    try:
        key = serialization.load_pem_private_key(_text(path).encode(), password=None)
    except (ValueError, TypeError) as error:
        raise ConfigError(f"{path} holds no key ({error}); remove it and start again") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ConfigError(f"{path} holds no key of fleet's; remove it and start again")
    return key


def _parse(pem: str, path: Path) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(pem.encode())
    except ValueError as error:
        raise ConfigError(f"{path} holds no certificate in PEM ({error})") from error


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read: {getattr(error, 'strerror', None) or 'it is not PEM'}") from error
