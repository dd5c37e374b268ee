"""What a stock machine needs to become one of fleet: provision scripts, units, pinned lists of packages, and fleet itself as a
wheel. It is made from the running installation, so that no package index has to know fleet, and machines get the version of
their dispatcher. The dispatcher hands it out (`GET /edge/v1/package`), and `fleet bake` gives it to Packer.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import io
import os
import re
import secrets
import tarfile
import zipfile
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from fleet import __version__
from fleet.errors import ConfigError

HOUSE = Path(__file__).parents[2]
IMAGES = HOUSE / "fleet" / "images"
PACKAGES = ("fleet", "agent_hooks")
SCRIPTS = ("provision", "systemd")
SINGLE = ("versions.toml", "requirements-edge.lock", "requirements-agent.lock")
# In the environment of whoever makes the package: an address from which machines take NVIDIA's container toolkit instead.
MIRROR = "FLEET_NVIDIA_REPOSITORY"
ADDRESS = re.compile(r"https?://[\w.:-]+(/[\w./~-]*)?")
# The same installation gives the same bytes: nothing is provisioned anew for a new date.
NO_DATE = (1980, 1, 1, 0, 0, 0)


def package_file(directory: Path) -> Path:
    """The package as a tar.gz in `directory`, made where it is not there yet.

    Raises:
        ConfigError: fleet was not installed by pip, or the directory cannot be written.
    """
    files = contents()
    found = hashlib.sha256()
    for name, data in files.items():
        found.update(name.encode() + b"\0" + hashlib.sha256(data).digest())
    target = directory / f"package-{found.hexdigest()[:16]}.tar.gz"
    if not target.exists():
        part = target.with_suffix(
            f".{secrets.token_hex(4)}.part"
        )  # two machines may ask at once, each in a thread of its own
        try:
            directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            with tarfile.open(part, "w:gz") as archive:
                for name, data in files.items():
                    member = tarfile.TarInfo(name)
                    member.size, member.mode = len(data), _mode(name)
                    archive.addfile(member, io.BytesIO(data))
            part.rename(target)
        except OSError as error:
            raise ConfigError(
                f"{directory} cannot be written: {error.strerror}; it is for the package of machines"
            ) from error
        for old in directory.glob("package-*.tar.gz"):
            if old != target:
                with contextlib.suppress(OSError):
                    old.unlink()
    return target


def write_package(directory: Path) -> None:
    """The same as files, for Packer."""
    for name, data in contents().items():
        file = directory / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
        file.chmod(_mode(name))


def contents() -> dict[str, bytes]:
    """Names and bytes of all files."""
    files = {name: (IMAGES / name).read_bytes() for name in SINGLE}
    files["versions.toml"] = _mirrored(files["versions.toml"], os.environ.get(MIRROR, ""))
    for folder in SCRIPTS:
        files |= {str(path.relative_to(IMAGES)): path.read_bytes() for path in _files(IMAGES / folder)}
    return dict(sorted(files.items())) | {f"fleet-{__version__}-py3-none-any.whl": wheel()}


def _mirrored(versions: bytes, mirror: str) -> bytes:
    """`versions.toml` with another address of NVIDIA's archive.

    Raises:
        ConfigError: this is no address.
    """
    if not mirror:
        return versions
    if not ADDRESS.fullmatch(mirror):
        raise ConfigError(f"{MIRROR} is {mirror!r}, and must be an address as https://mirror.lab/libnvidia-container")
    line = f'toolkit_repository = "{mirror.rstrip("/")}"'
    return re.sub(rb'(?m)^toolkit_repository = ".*"', line.encode(), versions)


def wheel() -> bytes:
    """fleet as a wheel (PEP 427): what is installed here, without what only the centre's own images need.

    Raises:
        ConfigError: fleet was not installed by pip.
    """
    try:
        facts = distribution("fleet")
    except PackageNotFoundError as error:
        raise ConfigError("fleet runs from files that pip did not install; install it: pip install .") from error
    info = f"fleet-{__version__}.dist-info"
    files = {str(path.relative_to(HOUSE)): path.read_bytes() for name in PACKAGES for path in _files(HOUSE / name)}
    files = {name: data for name, data in files.items() if not name.startswith("fleet/images/")}
    files[f"{info}/METADATA"] = (facts.read_text("METADATA") or facts.read_text("PKG-INFO") or "").encode()
    files[f"{info}/WHEEL"] = b"Wheel-Version: 1.0\nGenerator: fleet\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    files[f"{info}/entry_points.txt"] = (facts.read_text("entry_points.txt") or "").encode()
    record = "".join(f"{name},sha256={_digest(data)},{len(data)}\n" for name, data in files.items())
    files[f"{info}/RECORD"] = f"{record}{info}/RECORD,,\n".encode()
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            entry = zipfile.ZipInfo(name, NO_DATE)
            entry.compress_type, entry.external_attr = zipfile.ZIP_DEFLATED, _mode(name) << 16
            archive.writestr(entry, data)
    return held.getvalue()


def _files(folder: Path) -> Iterator[Path]:
    for place, below, names in os.walk(folder, followlinks=True):
        below[:] = sorted(name for name in below if name != "__pycache__")
        yield from (Path(place) / name for name in sorted(names) if not name.endswith((".pyc", ".part")))


def _mode(name: str) -> int:
    return 0o755 if name.endswith(".sh") or "." not in Path(name).name else 0o644


def _digest(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
