"""Whom our connections trust: one TLS context for all that trust the same.

urllib3 would make one for each connection, and read the authorities for each: with those that a machine usually trusts that is a
megabyte every time, in a supervisor that keeps half a dozen connections for months.
"""

from __future__ import annotations

import functools
import ssl

from urllib3.util.ssl_ import create_urllib3_context


@functools.lru_cache(maxsize=4)
def context(authority: str | None, bundle: str | None = None) -> ssl.SSLContext:
    """Trusts `authority` (PEM) alone; without one the authorities in the file `bundle`; without both those of this machine.

    They are read once: who replaces the file restarts the process.

    Raises:
        OSError: `bundle` cannot be read, or holds no certificate; also as ssl.SSLError, for `authority`.
    """
    made = create_urllib3_context()  # its choice of protocols; checks names and certificates
    made.verify_mode = ssl.CERT_REQUIRED
    if authority:
        made.load_verify_locations(cadata=authority)
    elif bundle:
        made.load_verify_locations(cafile=bundle)
    else:
        made.load_default_certs()
    return made
