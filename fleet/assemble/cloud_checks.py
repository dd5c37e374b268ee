"""What `fleet doctor` looks at for resources in clouds, beside what each provider says of its account."""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from fleet.assemble.check import Check
from fleet.assemble.prices import CLOUDS, known_prices, unpriced
from fleet.assemble.state import state_of
from fleet.config import Config
from fleet.errors import ProviderError
from fleet.providers.detected import detect

PATIENCE_S = 3.0


def clouds(config: Config) -> Iterator[Check]:
    """How machines elsewhere will reach this host, whose credentials will be used, what is known of prices."""
    used = sorted({r.provider for r in config.resources} & set(CLOUDS))
    if not used:
        return
    yield _address(config)
    for kind in used:
        yield _credentials(config, kind)
    yield _prices(config)


def _address(config: Config) -> Check:
    """`advertise_url` as the machines will use it: its name is known, nothing loops back, it is TLS, somebody listens."""
    name, url = "advertise_url", urlsplit(config.advertise_url)
    host, port = url.hostname or "", url.port or (443 if url.scheme == "https" else 80)
    if url.scheme != "https":
        return Check(
            name=name,
            found=f"{config.advertise_url} is not https",
            fix="tokens would travel in the clear: use https://",
        )
    try:
        addresses = {str(found[4][0]) for found in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)}
    except OSError:
        return Check(
            name=name,
            found=f"{host} is no name that can be looked up here",
            fix="give it a DNS name or an address in advertise_url",
        )
    if all(a.startswith("127.") or a == "::1" for a in addresses):
        fix = f"{host} means every machine itself; give the address of this host that they reach"
        return Check(name=name, found=f"{host} is {', '.join(sorted(addresses))}", fix=fix)
    if config.listen.is_loopback:
        said = f"{config.advertise_url}, but it listens on {config.listen} alone"
        return Check(name=name, found=f"{said}: fine behind a proxy on this host")
    if not state_of(config).running():
        return Check(name=name, found=f"{config.advertise_url} ({', '.join(sorted(addresses))}); nobody listens yet")
    return _answer(config.advertise_url, host, port)


def _answer(url: str, host: str, port: int) -> Check:
    """Whether somebody speaks TLS there. Whose certificate it is, machines know by its fingerprint, or by their own authorities."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # asked for is an answer; nothing is sent
    try:
        with (
            socket.create_connection((host, port), PATIENCE_S) as plain,
            context.wrap_socket(plain, server_hostname=host),
        ):
            return Check(name="advertise_url", found=f"{url} answers with TLS")
    except OSError as error:
        fix = "open the port in the firewall, or put the proxy up that stands before it"
        return Check(name="advertise_url", found=f"{url} does not answer: {error.strerror or error}", fix=fix)


def _credentials(config: Config, kind: str) -> Check:
    """Where they will be taken from. Whether they are right is the provider's to say: it asks the cloud."""
    mine = [r for r in config.resources if r.provider == kind]
    said = [r.name for r in mine if {"profile", "role_arn", "access_key", "token", "credentials"} & set(r.settings)]
    if len(said) == len(mine):
        return Check(name=f"{kind} credentials", found="as the fleet file says")
    found = detect(kind, os.environ, Path.home()).credentials
    return Check(
        name=f"{kind} credentials", found=found or "no file and no variable; the role of this machine, if it has one"
    )


def _prices(config: Config) -> Check:
    try:
        if problems := list(unpriced(config)):
            return Check(name="prices", found=f"{len(problems)} unknown", fix="; ".join(problems))
        known = list(known_prices(config))
    except ProviderError as error:
        return Check(name="prices", found="damaged", fix=str(error))
    unknown = sorted({f"{p.type} ({p.market})" for p in known if p.usd_per_hour is None})
    if unknown:
        return Check(name="prices", found=f"not listed: {', '.join(unknown)}; {_who_knows(config)}")
    return Check(name="prices", found=f"known for {len(known)} types, regions and markets")


def _who_knows(config: Config) -> str:
    """AWS is asked by its provider when a price is needed; Google by a refresh, Genesis Cloud by nobody."""
    used = {r.provider for r in config.resources}
    hints = [
        ("aws", "AWS is asked when they are needed"),
        ("gcp", "ask Google with: fleet prices refresh"),
        ("genesis", "say those of Genesis Cloud under prices"),
    ]
    return ", ".join(hint for kind, hint in hints if kind in used)
