"""How the centre speaks: in TLS with a certificate of its own or a given one, or plainly."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Collection
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit

from fleet.assemble.certificate import Certificate, given, own
from fleet.assemble.state import StateDir, authority_file, write_private
from fleet.config import Config, Embedded

LOOK_EVERY = timedelta(days=1)


class Given:
    """The operator's certificate, as it was when the centre started."""

    def __init__(self, certificate: Certificate) -> None:
        self.certificate = certificate

    def context(self) -> ssl.SSLContext:
        return self.certificate.context()


class Renewing:
    """A certificate of ours, which is renewed while it is shown."""

    def __init__(self, state: StateDir, names: Collection[str]) -> None:
        self._state, self._names = state, names
        self._looked_at = datetime.now(UTC)
        self.certificate = own(state, names, self._looked_at)

    def context(self) -> ssl.SSLContext:
        """As `Certificate.context`. When somebody calls, it is looked whether a renewal is due: once a day."""
        context = self.certificate.context()
        context.sni_callback = self.look
        return context

    def look(self, _socket: object, _name: str | None, context: ssl.SSLContext) -> None:
        now = datetime.now(UTC)
        if now - self._looked_at < LOOK_EVERY:
            return
        self._looked_at = now
        renewed = own(self._state, self._names, now)
        context.load_cert_chain(renewed.chain, renewed.key)


def tls_of(config: Config, state: StateDir) -> Given | Renewing | None:
    """As the fleet file says it; None: plainly.

    Raises:
        ConfigError: a file cannot be read or written.
    """
    tls = config.tls
    if not tls.is_on:
        return None
    if tls.certificate and tls.key:
        found: Given | Renewing = Given(given(tls.certificate, tls.key, tls.authority))
        found.context()  # what is wrong with it is said before anything is launched
    else:
        found = Renewing(state, _names(config))
    if found.certificate.authority:
        write_private(authority_file(state), found.certificate.authority)
    return found


def said_of(tls: Given | Renewing | None, state: StateDir) -> dict[str, str]:
    """What the commands of the same user need to know the centre."""
    return {"authority": str(authority_file(state))} if tls and tls.certificate.authority else {}


def authority_of(config: Config) -> str | None:
    """What a centre of this fleet file showed last, for the commands of the same user; None: nothing of its own."""
    file = authority_file(StateDir(config.state_dir))
    if not (config.tls.is_on and file.exists()):
        return None
    return file.read_text(encoding="ascii")


def _names(config: Config) -> set[str]:
    """The hosts by which it is called, and how this machine calls itself."""
    urls = [config.advertise_url, config.listen.url]
    if isinstance(config.server, Embedded):
        urls.append(config.server.advertise_url)
    said = {urlsplit(url).hostname for url in urls}
    return {each for each in said if each} | {"localhost", "127.0.0.1", "::1", socket.gethostname()}
