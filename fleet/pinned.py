"""Trust by fingerprint: who knows the SHA-256 of the dispatcher's certificate authority can fetch the authority itself
from anybody, because nobody can make another one that has it.

Nothing is sent on that first connection but the question for the certificate. Standard library only, for the command line
and for machines that boot.
"""

from __future__ import annotations

import hashlib
import hmac
import http.client
import re
import ssl
from urllib.parse import urlsplit

from fleet.errors import CentreUnreachable, ConfigError

PATH = "/edge/v1/certificate"
TIMEOUT_S = 10.0
MOST_BYTES = 64 * 1024  # of a certificate; a stranger's answer could go on for ever


def fingerprint(pem: str) -> str:
    """SHA-256 (hex, small letters) of the first certificate in `pem`, as `openssl x509 -fingerprint -sha256` says it.

    Raises:
        ValueError: there is none.
    """
    found = re.search(f"{ssl.PEM_HEADER}.*?{ssl.PEM_FOOTER}", pem, re.DOTALL)
    if found is None:
        raise ValueError("no certificate")
    return hashlib.sha256(ssl.PEM_cert_to_DER_cert(found[0])).hexdigest()


def read_fingerprint(text: str, name: str) -> str:
    """A fingerprint as people write it, with or without colons. `name` is where it was said.

    Raises:
        ConfigError: it is none.
    """
    plain = text.replace(":", "").strip().lower()
    if not re.fullmatch(r"[0-9a-f]{64}", plain):
        raise ConfigError(
            f"{name} is not the SHA-256 of a certificate; give 64 hexadecimal digits, as `fleet dispatch` says them"
        )
    return plain


def authority(url: str, sha256: str) -> str:
    """The certificate (PEM) with this fingerprint, by which the dispatcher at `url` can be known.

    Raises:
        CentreUnreachable: nobody answers there, or somebody who has another certificate.
    """
    parts = urlsplit(url)
    unchecked = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # without the authorities of this machine: they take megabytes
    # What comes is checked by its fingerprint, and nothing secret goes.
    unchecked.check_hostname, unchecked.verify_mode = False, ssl.CERT_NONE
    connection = http.client.HTTPSConnection(parts.hostname or "", parts.port, timeout=TIMEOUT_S, context=unchecked)
    try:
        connection.request("GET", parts.path.rstrip("/") + PATH)
        answer = connection.getresponse()
        pem = answer.read(MOST_BYTES).decode("ascii")
        seen = fingerprint(pem)
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise CentreUnreachable(
            f"{url}: its certificate cannot be had ({error}); is it a fleet dispatcher with TLS?"
        ) from error
    finally:
        connection.close()
    if not hmac.compare_digest(seen, sha256):
        raise CentreUnreachable(
            f"{url}: it is not the dispatcher that was meant: its certificate has the fingerprint {seen[:16]}.., not "
            f"{sha256[:16]}..; nothing was sent to it"
        )
    return pem
