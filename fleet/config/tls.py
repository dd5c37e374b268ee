"""`tls:` of the fleet file: whose certificate the centre shows, or none."""

from __future__ import annotations

from pathlib import Path

from fleet.config.section import Section
from fleet.config.settings import Address, Tls

PLAIN, OWN = Tls(), Tls(is_own=True)


def read_tls(top: Section, listen: Address) -> Tls:
    """`own`, `none`, or the files of a certificate. Not said: our own, but none on a loopback address."""
    said = top.anything("tls")
    if said is None:
        return PLAIN if listen.is_loopback else OWN
    if isinstance(said, str) and said in ("own", "none"):
        return OWN if said == "own" else PLAIN
    if not isinstance(said, dict):
        top.wrong("tls", f"expected own, none, or keys: {{certificate: FILE, key: FILE}}, got {said!r}")
        return OWN
    part = top.section("tls")
    part.require("certificate", "key")
    tls = Tls(
        certificate=_file(part, "certificate"),
        key=_file(part, "key"),
        authority=_file(part, "authority"),
    )
    part.no_more()
    return tls


def check_tls(top: Section, tls: Tls, listen: Address, advertise_url: str) -> None:
    """Machines are not told to speak plainly to a port that answers in TLS alone."""
    if tls.is_on and advertise_url.startswith("http://"):
        top.wrong(
            "advertise_url",
            f"is {advertise_url}, but fleet speaks TLS on {listen}; write https://, or, behind a proxy, tls: none",
        )


def _file(part: Section, key: str) -> Path | None:
    path = part.place(key, None)
    if path and not path.is_absolute():
        part.wrong(key, "is not a whole path, as /etc/fleet/tls.pem")
    return path
