#!/usr/bin/env python3
"""The first boot of a machine of fleet, with what any Debian or Ubuntu has: Python's own library (3.9 or newer).

A baked image has everything and is only started. A stock image fetches our package from the dispatcher, whose certificate authority
is pinned by its fingerprint, and is provisioned by it. It goes on trying until its unit's deadline, which ends the machine.
"""

from __future__ import annotations

import hashlib
import hmac
import http.client
import io
import os
import pathlib
import shutil
import ssl
import subprocess
import sys
import tarfile
import time
import urllib.parse
import zlib
from typing import IO

PROVISIONED = pathlib.Path("/opt/fleet/.provisioned")
PACKAGE = pathlib.Path("/opt/fleet-package")
INIT = pathlib.Path("/etc/fleet/init.sh")  # the resource's own
DONE = pathlib.Path("/etc/fleet/first-boot-done")
PAUSE_S = 5
LARGEST = 256 * 1024 * 1024


class Refused(Exception):
    """Not now, or not by this dispatcher."""


def main() -> None:
    os.environ.pop("FLEET_JOIN_TOKEN", None)  # for the supervisor alone
    if not PROVISIONED.exists():
        while not fetched():
            time.sleep(PAUSE_S)
        subprocess.run(["bash", str(PACKAGE / "provision" / "run.sh"), "boot"], check=True)
    if INIT.exists():
        subprocess.run([str(INIT)], check=True)
    subprocess.run(["systemctl", "daemon-reload"], check=True)
    subprocess.run(["systemctl", "restart", "fleet-lifetime.timer", "fleet-watch.timer"], check=True)
    subprocess.run(["systemctl", "enable", "--now", "--no-block", "fleet-supervise.service"], check=True)
    DONE.touch()


def fetched() -> bool:
    """Whether our package is there, whole; else it is said why not."""
    url = os.environ["FLEET_CENTRE_URL"]
    part = PACKAGE.with_name("fleet-package.part")
    try:
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        fetch(url, os.environ.get("FLEET_CENTRE_CERT_SHA256", ""), part / "package.tar.gz")
        with tarfile.open(part / "package.tar.gz") as archive:
            for member in archive:
                if not member.isfile() or member.name.startswith("/") or ".." in member.name.split("/"):
                    raise Refused(member.name + " is no plain file of a package")
                archive.extract(member, part)
    except (OSError, http.client.HTTPException, tarfile.TarError, zlib.error, EOFError, ValueError, Refused) as error:
        say(f"no package from {url}: {error}; is the dispatcher running, and reachable from here? trying again")
        return False
    shutil.rmtree(PACKAGE, ignore_errors=True)
    part.rename(PACKAGE)
    return True


def fetch(url: str, fingerprint: str, target: pathlib.Path) -> None:
    """Nothing is asked for before the dispatcher is known: by the authority whose fingerprint is pinned, or by the machine's own."""
    where = urllib.parse.urlsplit(url)
    if fingerprint and where.scheme != "https":
        raise Refused("a certificate is pinned, but the address is not https")
    context = ssl.create_default_context()
    if fingerprint:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(cadata=authority(where, fingerprint))
    with open(target, "wb") as file:
        ask(where, context, "/edge/v1/package", file, LARGEST)


def authority(where: urllib.parse.SplitResult, fingerprint: str) -> str:
    """Anybody may give the certificate, because nobody can make another one with this fingerprint."""
    unchecked = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    unchecked.check_hostname, unchecked.verify_mode = False, ssl.CERT_NONE
    held = io.BytesIO()
    ask(where, unchecked, "/edge/v1/certificate", held, 64 * 1024)
    pem = held.getvalue().decode("ascii", "replace")
    try:
        seen = hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem.strip())).hexdigest()
    except ValueError as error:
        raise Refused("it has no certificate to show") from error
    if not hmac.compare_digest(seen, fingerprint.replace(":", "").lower()):
        raise Refused(f"its certificate has the fingerprint {seen}, and {fingerprint} is pinned")
    return pem


def ask(where: urllib.parse.SplitResult, context: ssl.SSLContext, path: str, into: IO[bytes], most: int) -> None:
    host = where.hostname or ""
    link: http.client.HTTPConnection
    if where.scheme == "https":
        link = http.client.HTTPSConnection(host, where.port, timeout=30, context=context)
    else:
        link = http.client.HTTPConnection(host, where.port, timeout=30)
    try:
        link.request("GET", where.path.rstrip("/") + path, headers={"User-Agent": "fleet-first-boot"})
        answer = link.getresponse()
        if answer.status != 200:
            raise Refused(f"it answered {answer.status} {answer.reason}")
        length = int(answer.headers.get("Content-Length", -1))
        if not 0 <= length <= most:
            raise Refused("its answer is too long")
        shutil.copyfileobj(answer, into)
        if into.tell() != length:
            raise Refused("its answer broke off")
    finally:
        link.close()


def say(text: str) -> None:
    print("fleet first boot: " + text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
