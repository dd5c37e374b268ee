"""Who this machine is, as its cloud says it to others: a statement that it signs, from its metadata server.

EC2: the instance identity document with its RSA-2048 signature, by IMDSv2 alone. Google: an identity token for one audience.
Sources: Amazon EC2 User Guide, "Use the RSA-2048 signature to verify the instance identity document"; Compute Engine
documentation, "Verify the identity of a VM".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

from agent_hooks.metadata import Answer, MetadataServer, NoAnswer
from agent_hooks.notices import DMI, cloud_of

TOKEN, RSA_2048 = "/latest/api/token", "/latest/dynamic/instance-identity/rsa2048"
TOKEN_LIVES_S = 60
IDENTITY = "/computeMetadata/v1/instance/service-accounts/default/identity"


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    kind: str  # ec2 or gce
    text: str = field(repr=False)


def statement(environ: Mapping[str, str], audience: str, dmi: Path = DMI) -> Statement | None:
    """What the cloud says of this machine to `audience`; None: it is in no cloud that says so.

    Raises:
        NoAnswer: it cannot be had now, or (Google) this machine has no service account.
    """
    found = cloud_of(environ, dmi)
    if found is None:
        return None
    provider, url = found
    server = MetadataServer(url)
    if provider == "aws":
        seconds = {"X-aws-ec2-metadata-token-ttl-seconds": str(TOKEN_LIVES_S)}
        token = _text(server.ask(TOKEN, seconds, method="PUT"), TOKEN)
        return Statement(kind="ec2", text=_text(server.ask(RSA_2048, {"X-aws-ec2-metadata-token": token}), RSA_2048))
    path = f"{IDENTITY}?audience={quote(audience, safe='')}&format=full"
    return Statement(kind="gce", text=_text(server.ask(path, {"Metadata-Flavor": "Google"}), IDENTITY))


def _text(answer: Answer, path: str) -> str:
    if answer.status != 200 or not answer.text:
        raise NoAnswer(f"{path}: answered {answer.status}")
    return answer.text
