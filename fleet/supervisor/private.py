"""Where files with credentials lie: in memory, where this machine has a place for that, and for our user alone.

The agents' clearml.conf holds what the fleet file says of git and object storage. On a disk it would outlive the machine in
snapshots and images; in a tmpfs it is gone with the power.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import shutil
import stat
import time
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path

from fleet.errors import ConfigError

log = logging.getLogger(__name__)

IN_MEMORY = ("tmpfs", "ramfs")
MOUNTS = Path("/proc/self/mounts")
LOCK = "lock"  # held by the supervisor whose directory it is
FORGOTTEN_AFTER_S = 24 * 3600.0


def private_directory(instance: str, environ: Mapping[str, str], work: Path) -> Path:
    """Make this instance's directory (mode 0700, ours) in memory, or in `work`, the directory that it works in.

    Of a supervisor before us that worked there it is kept.

    Those of other instances that nobody has used for a day are deleted: a supervisor that is killed leaves its own behind.

    Raises:
        ConfigError: FLEET_RUN_DIR cannot be used, or another supervisor of this instance runs here.
        OSError: nor can `work`.
    """
    # Two fleets on one machine may call an instance the same; the directory that they work in differs.
    name = f"{instance}-{zlib.crc32(os.fsencode(work)):08x}"
    if named := environ.get("FLEET_RUN_DIR"):
        return _named(Path(named), name)
    for parent in _candidates(environ):
        try:
            found = _ours(parent, name)
        except OSError:
            continue
        if found:
            _forget_others(parent, name)
            return found
    log.warning("no place in memory for credentials", extra={"on_disk": work, "to_choose_one": "FLEET_RUN_DIR"})
    (work / "private").mkdir(parents=True, exist_ok=True, mode=0o700)
    return work / "private"


def hold(directory: Path) -> int:
    """Mark it as in use for as long as we live; the descriptor that does it.

    Raises:
        ConfigError: another supervisor of this instance holds it.
    """
    lock = os.open(directory / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(lock)
        raise ConfigError(f"another supervisor runs here already ({directory} is in use); end it first") from error
    return lock


def is_ours_alone(path: Path) -> bool:
    """Whether nobody else can have written this file, or can read it.

    Raises:
        OSError: there is none, or it cannot be looked at.
    """
    found = path.lstat()
    return stat.S_ISREG(found.st_mode) and found.st_uid == os.geteuid() and not found.st_mode & 0o077


def write_private(path: Path, text: str) -> None:
    """Write a file that only our user can read, whole or not at all.

    Raises:
        OSError: it cannot be written; what was there is still there.
    """
    new = path.with_name(f"{path.name}.{os.getpid()}.new")  # two processes may write at once
    new.unlink(missing_ok=True)
    try:
        with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())  # else a power loss can leave the new name with nothing in it
        new.rename(path)
    except OSError:
        with contextlib.suppress(OSError):
            new.unlink()
        raise


def _named(parent: Path, name: str) -> Path:
    """As the operator says, whether in memory or not."""
    try:
        found = _ours(parent.absolute(), name)
    except OSError as error:
        raise ConfigError(f"FLEET_RUN_DIR {parent}: {error.strerror}; name a directory that we may write to") from error
    if found is None:
        raise ConfigError(f"FLEET_RUN_DIR {parent}: others may write to it; name a directory of ours or of root alone")
    _forget_others(parent, name)
    return found


def _candidates(environ: Mapping[str, str]) -> Iterator[Path]:
    """Usual places, of which those in memory."""
    usual = [environ.get("RUNTIME_DIRECTORY", "").partition(":")[0]]  # systemd: RuntimeDirectory= of the unit
    usual += [f"{environ['XDG_RUNTIME_DIR']}/fleet"] if environ.get("XDG_RUNTIME_DIR") else []
    usual += ["/run/fleet", f"/dev/shm/fleet-{os.geteuid()}"]
    yield from (Path(each) for each in usual if each.startswith("/") and is_in_memory(Path(each)))


def is_in_memory(path: Path) -> bool:
    """Whether what is written there is gone with the power."""
    mounts = [line.split() for line in MOUNTS.read_text().splitlines()]
    over = [(where, kind) for _, where, kind, *_ in mounts if path.is_relative_to(where)]
    # Of two mounts on the same place the later one is seen.
    return max(enumerate(over), key=lambda each: (len(each[1][0]), each[0]))[1][1] in IN_MEMORY if over else False


def _ours(parent: Path, name: str) -> Path | None:
    """The directory of this instance. None: in /dev/shm anybody may have made one of this name before us."""
    parent.mkdir(exist_ok=True, mode=0o700, parents=True)
    above = parent.lstat()
    if not stat.S_ISDIR(above.st_mode) or above.st_uid not in (0, os.geteuid()) or above.st_mode & 0o022:
        return None
    directory = parent / name
    directory.mkdir(exist_ok=True, mode=0o700)
    found = directory.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
        return None
    directory.chmod(0o700)
    return directory


def _forget_others(parent: Path, ours: str) -> None:
    for other in parent.iterdir():
        if other.name == ours or not (other / LOCK).exists():
            continue
        with contextlib.suppress(OSError):  # another supervisor that starts now may have deleted it
            if time.time() - other.stat().st_mtime > FORGOTTEN_AFTER_S and not _is_held(other):
                shutil.rmtree(other, ignore_errors=True)
                log.info("directory of a supervisor that was killed deleted", extra={"directory": other})


def _is_held(directory: Path) -> bool:
    lock = os.open(directory / LOCK, os.O_RDWR | os.O_CLOEXEC)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(lock)
    return False
