"""Whom agents and tasks trust: everybody that this machine trusts, and whoever vouches for our own server.

The SDK, the agent, pip and all others that use requests read one file of authorities, named by REQUESTS_CA_BUNDLE. It
replaces what they trust otherwise, so it must hold both.
"""

from __future__ import annotations

import logging
import os
import ssl
from collections.abc import Mapping
from pathlib import Path

from fleet.model import ServerAccess

log = logging.getLogger(__name__)

NAME = "ca.pem"
VARIABLE = "REQUESTS_CA_BUNDLE"


def bundle(access: ServerAccess, environ: Mapping[str, str] = os.environ) -> str | None:
    """The text of that file; None: the server needs none. `environ` may name the machine's own bundle."""
    if access.authority is None:
        return None
    for path in (environ.get(VARIABLE), environ.get("CURL_CA_BUNDLE"), environ.get("SSL_CERT_FILE"), _usual()):
        if path:
            try:
                return f"{Path(path).read_text(encoding='utf-8', errors='replace').rstrip()}\n{access.authority}"
            except OSError as error:
                log.warning("authorities not read", extra={"why": f"{path}: {error.strerror}"})
    return access.authority


def _usual() -> str:
    """The machine's own, else the ones that come with requests."""
    if found := ssl.get_default_verify_paths().cafile:
        return found
    from certifi import where

    return where()
