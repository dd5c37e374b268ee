#!/usr/bin/env python3
"""The first boot of a machine of fleet, with what any Debian or Ubuntu has: Python's own library (3.9 or newer).

A baked image has everything and is only started. A stock image fetches our package from the dispatcher, whose certificate
is pinned by its fingerprint, and is provisioned by it. It goes on trying until its unit's deadline, which ends the machine.
"""

from __future__ import annotations

import hashlib
import hmac
import http.client
import os
import pathlib
import shutil
import socket
import ssl
import subprocess
import sys
import tarfile
import time
import urllib.parse

PROVISIONED = pathlib.Path("/opt/fleet/.provisioned")
PACKAGE = pathlib.Path("/opt/fleet-package")
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
    subprocess.run(["systemctl", "daemon-reload"], check=True)
    subprocess.run(["systemctl", "restart", "fleet-lifetime.timer", "fleet-watch.timer"], check=True)
    subprocess.run(["systemctl", "enable", "--now", "--no-block", "fleet-supervise.service"], check=True)
    DONE.touch()


def fetched() -> bool:
    """Whether our package is there, whole; else it is said why not."""
    url = os.environ["FLEET_CENTRE_URL"].rstrip("/") + "/edge/v1/package"
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
    except (OSError, http.client.HTTPException, tarfile.TarError, EOFError, Refused) as error:
        say(f"no package from {url}: {error}; is the dispatcher running, and reachable from here? trying again")
        return False
    shutil.rmtree(PACKAGE, ignore_errors=True)
    part.rename(PACKAGE)
    return True


def fetch(url: str, fingerprint: str, target: pathlib.Path) -> None:
    """Nothing is sent before the certificate is known to be the pinned one. Without a pin the machine's own CAs must trust it."""
    where = urllib.parse.urlsplit(url)
    host = where.hostname or ""
    link: http.client.HTTPConnection
    if where.scheme == "https":
        context = ssl.create_default_context()
        if fingerprint:
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        link = http.client.HTTPSConnection(host, where.port, timeout=30, context=context)
    else:
        link = http.client.HTTPConnection(host, where.port, timeout=30)
    try:
        link.connect()
        if fingerprint:
            if not isinstance(link.sock, ssl.SSLSocket):
                raise Refused("a certificate is pinned, but the address is not https")
            shown = hashlib.sha256(link.sock.getpeercert(True) or b"").hexdigest()
            if not hmac.compare_digest(shown, fingerprint.replace(":", "").lower()):
                raise Refused(f"its certificate has the fingerprint {shown}, and {fingerprint} is pinned")
        link.request("GET", where.path, headers={"Host": where.netloc, "User-Agent": "fleet-first-boot"})
        answer = link.getresponse()
        if answer.status != 200:
            raise Refused(f"it answered {answer.status} {answer.reason}")
        with open(target, "wb") as file:
            shutil.copyfileobj(answer, file)
        if target.stat().st_size > LARGEST or int(answer.headers.get("Content-Length", 0)) != target.stat().st_size:
            raise Refused("the answer broke off")
    finally:
        link.close()


def say(text: str) -> None:
    print("fleet first boot: " + text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    socket.setdefaulttimeout(60)
    main()
