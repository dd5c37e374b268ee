"""An apt archive over HTTP on loopback, signed with a key of its own, with packages that hold what a test gives them.

After "Debian Policy" (control files), "DebianRepository/Format" (Packages, Release, InRelease) and apt-secure(8). A faithful fake of
Debian's, Ubuntu's and NVIDIA's archives: their layout, names and versions, without their contents.
"""

from __future__ import annotations

import gzip
import hashlib
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

ARCHITECTURE = subprocess.run(
    ["dpkg", "--print-architecture"], capture_output=True, text=True, check=False
).stdout.strip()


@dataclass(frozen=True, slots=True, kw_only=True)
class Package:
    """One package; `files`: programs by their path, as shell scripts."""

    name: str
    version: str = "1"
    depends: Sequence[str] = ()
    files: Mapping[str, str] = field(default_factory=dict)
    part: str = "main"


class Archive:
    """Files below one directory, which a server hands out."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self._home = place / "gnupg"
        self._home.mkdir(mode=0o700, parents=True)
        self._gpg("--quick-gen-key", "an archive of a test", "ed25519", "sign", "never")
        self.www = place / "www"
        self.www.mkdir()
        self.key = self._gpg("--armor", "--export")

    def suite(self, name: str, packages: Sequence[Package]) -> None:
        """As Debian and Ubuntu have it: `deb URL NAME main ...`."""
        folder = self.www / "dists" / name
        parts = sorted({"main", *(each.part for each in packages)})
        for part in parts:
            index = folder / part / f"binary-{ARCHITECTURE}" / "Packages.gz"
            index.parent.mkdir(parents=True)
            here = [self._built(each, f"pool/{part}") for each in packages if each.part == part]
            index.write_bytes(gzip.compress("".join(here).encode(), mtime=0))
        self._sign(folder, {"Suite": name, "Codename": name, "Components": " ".join(parts)})

    def flat(self, where: str, packages: Sequence[Package]) -> None:
        """As NVIDIA has its toolkit: `deb URL/WHERE /`."""
        folder = self.www / where
        folder.mkdir(parents=True)
        stanzas = [self._built(each, where).replace(f"Filename: {where}/", "Filename: ./") for each in packages]
        (folder / "Packages.gz").write_bytes(gzip.compress("".join(stanzas).encode(), mtime=0))
        self._sign(folder, {})

    def _built(self, package: Package, where: str) -> str:
        """The package in `where`, and its stanza of the index."""
        tree = self.place / "build" / f"{package.name}_{package.version}"
        control = {"Package": package.name, "Version": package.version, "Architecture": "all", "Maintainer": "a test"}
        if package.depends:
            control["Depends"] = ", ".join(package.depends)
        control["Description"] = "stands for the real one"
        text = "".join(f"{name}: {value}\n" for name, value in control.items())
        (tree / "DEBIAN").mkdir(parents=True)
        (tree / "DEBIAN" / "control").write_text(text)
        for path, script in package.files.items():
            file = tree / path.lstrip("/")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(script)
            file.chmod(0o755 if script.startswith("#!") else 0o644)
        made = self.www / where / f"{package.name}_{package.version}_all.deb"
        made.parent.mkdir(parents=True, exist_ok=True)
        subprocess.run(
            ["dpkg-deb", "-Znone", "--root-owner-group", "--build", tree, made], check=True, capture_output=True
        )
        data = made.read_bytes()
        found = f"Filename: {where}/{made.name}\nSize: {len(data)}\nSHA256: {hashlib.sha256(data).hexdigest()}\n"
        return f"{text}{found}\n"

    def _sign(self, folder: Path, head: Mapping[str, str]) -> None:
        lines = [f"{name}: {value}" for name, value in {**head, "Architectures": f"{ARCHITECTURE} all"}.items()]
        lines += ["Date: Thu, 01 Jan 2026 00:00:00 UTC", "SHA256:"]
        for index in sorted(folder.rglob("Packages.gz")):
            for data, name in (
                (index.read_bytes(), index),
                (gzip.decompress(index.read_bytes()), index.with_suffix("")),
            ):
                name.write_bytes(data)
                lines.append(f" {hashlib.sha256(data).hexdigest()} {len(data)} {name.relative_to(folder)}")
        (folder / "Release").write_text("\n".join(lines) + "\n")
        self._gpg("--clearsign", "--output", str(folder / "InRelease"), str(folder / "Release"))

    def _gpg(self, *words: str) -> str:
        command = [
            "gpg",
            "--homedir",
            str(self._home),
            "--batch",
            "--yes",
            "--pinentry-mode",
            "loopback",
            "--passphrase",
            "",
        ]
        return subprocess.run([*command, *words], check=True, capture_output=True, text=True).stdout

    def close(self) -> None:
        """The agent that gpg started ends."""
        subprocess.run(["gpgconf", "--homedir", str(self._home), "--kill", "all"], check=False, capture_output=True)


@contextmanager
def served(place: Path) -> Iterator[str]:
    """The URL at which the files of a directory are had."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(place)))
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
