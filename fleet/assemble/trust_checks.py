"""What `fleet doctor` looks at of trust: the port's certificate, who proves who he is, and what tasks can have of their machine's cloud."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from fleet.assemble.check import Check
from fleet.assemble.encrypted import tls_of
from fleet.assemble.proofs import proofs_of
from fleet.assemble.state import state_of
from fleet.config import Config
from fleet.errors import ConfigError
from fleet.identity.ec2 import HOW_TO
from fleet.model import Resource


def trust(config: Config) -> Iterator[Check]:
    """The certificate is made, if it is ours and is missing: the first start would do the same."""
    yield _certificate(config)
    yield _identity(config)
    yield _metadata(config)


def _certificate(config: Config) -> Check:
    try:
        tls = tls_of(config, state_of(config))
    except ConfigError as error:
        return Check(name="certificate", found="not usable", fix=str(error))
    if tls is None:
        why = "loopback" if config.listen.is_loopback else "tls: none, so a proxy must speak it"
        return Check(name="certificate", found=f"none ({why})")
    sha256 = tls.certificate.sha256
    said = f"fleet's own, authority {sha256}" if config.tls.is_own else f"{tls.certificate.chain}"
    return Check(name="certificate", found=said)


def _hints(config: Config, alone: Collection[str]) -> Iterator[str]:
    """What would make them prove who they are."""
    if not config.identity.is_required:
        yield "because identity.required is false"
        return
    of = [r for r in config.resources if r.name in alone]
    if any(r.provider == "aws" for r in of):
        regions = sorted({region for r in of if r.provider == "aws" for region in _regions(r)})
        where = f" for {', '.join(regions)}" if regions else " for your regions"
        yield f"aws: {HOW_TO}{where} into one PEM file, and name it as identity.aws_certificates"
    if any(r.provider == "gcp" for r in of):
        yield "gcp: give them a service_account, which may be one without rights"


def _regions(resource: Resource) -> Iterator[str]:
    if resource.region:
        yield resource.region
    more = resource.settings.get("regions")
    if isinstance(more, list | tuple):
        yield from map(str, more)


def _identity(config: Config) -> Check:
    try:
        proven = proofs_of(config).resources
    except ConfigError as error:
        return Check(name="identity", found="certificates not usable", fix=str(error))
    alone = [r.name for r in config.resources if r.provider in ("aws", "gcp") and r.name not in proven]
    if alone:
        found = f"machines of {', '.join(alone)} enrol by their token alone"
        return Check(name="identity", found="; ".join([found, *_hints(config, alone)]))
    return Check(name="identity", found=f"proven: {', '.join(sorted(proven))}" if proven else "no cloud that signs it")


# Who gives a machine rights in its cloud, by provider: tasks that reach the metadata server have them too.
RIGHTS = {"aws": "iam_instance_profile", "gcp": "service_account"}


def _metadata(config: Config) -> Check:
    """The packet filter of an image lets the supervisor's user through, and no container: docs/security.md, "What a task can reach"."""
    open_ = [r.name for r in config.resources if _has_rights(r) and config.agent_of(r.name).mode != "docker"]
    if not open_:
        return Check(name="metadata", found="no task can have rights in a cloud from its machine")
    rest = "closed by agent: {mode: docker}"
    found = f"tasks of {', '.join(open_)} can have the rights that the cloud gives their machine; {rest}"
    return Check(name="metadata", found=found)


def _has_rights(resource: Resource) -> bool:
    return bool(resource.settings.get(RIGHTS.get(resource.provider, "")))
