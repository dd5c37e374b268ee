"""The fleet file of `fleet init`: what can be seen here are the answers until the user gives others. No secret is read or written."""

from __future__ import annotations

import math
import os
import re
import socket
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fleet.assemble.prices import TELLING, refuse_unpriced
from fleet.config import parse, starter
from fleet.errors import ConfigError
from fleet.model import Market
from fleet.providers.detected import detect
from fleet.providers.prices import price_of

KINDS = ("local", "aws", "gcp", "genesis")
REGIONS = {"aws": "us-east-1", "gcp": "us-central1", "genesis": "NORD-NO-KRS-1"}
TYPES = {
    "aws": "g5.xlarge",
    "gcp": "g2-standard-4",
    "genesis": "vcpu-4_memory-12g_nvidia-rtx-3080-1",
}
KEYS = ("CLEARML_API_ACCESS_KEY", "CLEARML_API_SECRET_KEY")
LOGINS = {
    "aws": "give the dispatcher AWS credentials: `aws configure`, AWS_PROFILE, or a role of this machine",
    "gcp": "give the dispatcher Google credentials: `gcloud auth application-default login`, or a service account of this machine",
    "genesis": "set GENESIS_TOKEN to an API token of Genesis Cloud",
}
PORT = 8765
# Nothing is sent there: which of our addresses would be used is a question to the routing table ("TEST-NET-1", RFC 5737).
ELSEWHERE = ("192.0.2.1", 9)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """What the fleet file will say."""

    kind: str
    region: str = ""
    type: str = ""
    project: str = ""
    ssh_key: str = ""  # of Genesis Cloud, which launches no machine without one
    advertise_url: str = ""
    usd_per_hour: float = 0.0  # 0: four machines of this type
    server_url: str | None = None  # None: embedded


def seen(kind: str) -> tuple[Answers, str | None]:
    """The answers that this machine gives by itself, and where the cloud's credentials were found."""
    found = detect(kind, os.environ, Path.home())
    host = os.environ.get("CLEARML_API_HOST", "").rstrip("/")
    answers = Answers(
        kind=kind,
        region=found.region or REGIONS.get(kind, ""),
        type=TYPES.get(kind, ""),
        project=found.project or "",
        advertise_url=f"https://{_own_address()}:{PORT}" if kind != "local" else "",
        server_url=host if host and all(os.environ.get(key) for key in KEYS) else None,
    )
    return answers, found.credentials


def clearml_server() -> str | None:
    """The API server of this user's clearml.conf, if there is one."""
    path = Path(os.environ.get("CLEARML_CONFIG_FILE") or "~/clearml.conf").expanduser()
    try:
        found = re.search(r"""^\s*api_server\s*[:=]\s*["']?(https?://[^\s"'#,}]+)""", path.read_text(), re.MULTILINE)
    except (OSError, UnicodeDecodeError):
        return None
    return found[1].rstrip("/") if found else None


def written(answers: Answers) -> str:
    """The text of the fleet file.

    Raises:
        ConfigError: an answer cannot be meant; the text names it.
    """
    for name in ("region", "type", "project", "ssh_key", "advertise_url"):
        value = getattr(answers, name)
        if not re.fullmatch(r"[\w./:@\[\]-]*", value):
            raise ConfigError(f"{name.replace('_', '-')} {value!r}: expected a name without spaces or quotes")
    if answers.kind == "gcp" and not answers.project:
        raise ConfigError("no project of Google Cloud is set here; name it with --project")
    usd = f"{answers.usd_per_hour or usd_of_four(answers):g}"
    text = starter(answers.kind)
    values = {
        "region": answers.region,
        "type": answers.type,
        "project": answers.project,
        "ssh_keys": f"ssh_keys: [{answers.ssh_key}]" if answers.ssh_key else "# ssh_keys: [NAME]",
        "advertise_url": answers.advertise_url,
        "money": f"usd_per_hour: {usd}" + " " * max(1, 16 - len(usd)),
    }
    text = re.sub(r"@(\w+)@", lambda match: values[match[1]], text)
    if answers.server_url:
        text = re.sub(r"^server: .*$", _server(answers.server_url), text, count=1, flags=re.MULTILINE)
    if answers.kind != "local" and not _is_priced(answers):
        text = text.replace(f"  usd_per_hour: {usd}", f"  # usd_per_hour: {usd}", 1)
    return text


def to_do(text: str, path: Path, answers: Answers, credentials: str | None) -> Iterator[str]:
    """What is left before it can start, a line each."""
    if answers.kind in LOGINS and not credentials:
        yield LOGINS[answers.kind]
    if answers.kind == "genesis" and not answers.ssh_key:
        yield "name a key of your account under ssh_keys (or with --ssh-key): Genesis Cloud launches no machine without one"
    if answers.kind != "local" and not _is_priced(answers):
        fix = (
            "`fleet prices refresh` asks the cloud"
            if answers.kind in TELLING
            else f"write prices: {{{answers.type}: DOLLARS}} on the resource"
        )
        yield (
            f"the list that comes with fleet has no price of {answers.type} in {answers.region}: the limit in dollars is commented "
            f"out; {fix}, then take the # away"
        )
    try:
        refuse_unpriced(parse(text, str(path)))
    except ConfigError as error:
        yield from error.problems


def usd_of_four(answers: Answers) -> float:
    """Dollars an hour that let four machines of this type run, in whole ones; 5 where its price is not known."""
    usd = price_of(answers.kind, answers.type, answers.region, Market.ON_DEMAND)
    return float(math.ceil(4 * usd)) if usd else 5.0


def with_answers(answers: Answers, **given: Any) -> Answers:
    """`answers`, but what the user has said."""
    return replace(answers, **{name: value for name, value in given.items() if value is not None})


def _is_priced(answers: Answers) -> bool:
    return price_of(answers.kind, answers.type, answers.region, Market.ON_DEMAND) is not None


def _server(url: str) -> str:
    access, secret = KEYS
    return f"server:\n  url: {url}\n  access_key: ${{{access}}}        # from the environment of the dispatcher\n  secret_key: ${{{secret}}}"


def _own_address() -> str:
    """The address that other machines most likely reach this one at; its name where there is no network."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(ELSEWHERE)
            return str(probe.getsockname()[0])
        except OSError:
            return socket.getfqdn()
