"""Which cloud this machine is in, and so whom to ask for notices.

FLEET_PROVIDER                        aws or gcp, set by the first boot; else the firmware's tables (DMI) say it
FLEET_METADATA_URL                    the metadata server, where it is not at its usual address
AWS_EC2_METADATA_SERVICE_ENDPOINT, GCE_METADATA_HOST     the same, as the clouds' own tools know it
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from agent_hooks import notices_gce
from agent_hooks.notice import Now, Watch
from agent_hooks.notices_ec2 import Ec2Watch

EC2, GCE = "http://169.254.169.254", "http://metadata.google.internal"
DMI = Path("/sys/class/dmi/id")
HYPERVISOR = Path("/sys/hypervisor/uuid")


def utc_now() -> datetime:
    return datetime.now(UTC)


def watches(
    environ: Mapping[str, str], *, has_gpus: bool = False, now: Now = utc_now, dmi: Path = DMI
) -> tuple[Watch, ...]:
    """What to ask on this machine, each by a thread of its own; nothing where it is in no cloud that gives notices."""
    provider, url = cloud_of(environ, dmi) or ("", "")
    if provider == "aws":
        return (Ec2Watch(url, now=now),)
    if provider == "gcp":
        return notices_gce.watches(url, has_gpus=has_gpus, now=now)
    return ()


def cloud_of(environ: Mapping[str, str], dmi: Path = DMI) -> tuple[str, str] | None:
    """The cloud that this machine is in, `aws` or `gcp`, and the address of its metadata server; None: neither."""
    provider = environ.get("FLEET_PROVIDER") or provider_of(dmi)
    ours = environ.get("FLEET_METADATA_URL", "")
    if provider == "aws":
        return provider, ours or environ.get("AWS_EC2_METADATA_SERVICE_ENDPOINT", "") or EC2
    if provider == "gcp":
        host = environ.get("GCE_METADATA_HOST", "")
        return provider, ours or (f"http://{host}" if host else GCE)
    return None


def provider_of(dmi: Path = DMI, hypervisor: Path = HYPERVISOR) -> str | None:
    """As the machine's firmware tells; None: no cloud that is known here."""
    if _read(dmi / "sys_vendor") == "Amazon EC2" or _read(hypervisor).startswith("ec2"):
        return "aws"
    if _read(dmi / "product_name") == "Google Compute Engine":
        return "gcp"
    return None


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return ""
