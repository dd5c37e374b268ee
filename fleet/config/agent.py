"""`agent:` of the fleet file. Git and storage credentials become lines of the agents' clearml.conf (JSON is valid there)."""

from __future__ import annotations

import json
from datetime import timedelta
from enum import StrEnum

from fleet.config.quantities import duration
from fleet.config.section import Section
from fleet.model import AgentSettings


class Mode(StrEnum):
    """How an agent makes the environment of a task."""

    VENV = "venv"  # builds one for each
    INTERPRETER = "interpreter"  # uses one as it is
    DOCKER = "docker"


def read_agent(part: Section) -> AgentSettings:
    """Agent settings of the whole fleet. What is wrong is noted in `part`."""
    lines = [*_git(part.section("git")), *_storage(part.section("storage"))]
    conf = part.text("extra_conf", "")
    mode = part.choice("mode", Mode, Mode.VENV)
    agent = AgentSettings(
        mode=mode.value,
        image=part.text("image", None),
        python=part.text("python", None),
        version=part.text("version", None),
        extra_conf="\n".join([*lines, conf]) if lines else conf,
        environment=part.mapping("environment"),
        stop_grace=part.read("stop_grace", duration, timedelta(seconds=10)),
    )
    if agent.mode == Mode.DOCKER and not agent.image:
        part.wrong("image", "is missing: mode docker needs a default image")
    part.no_more()
    return agent


def _git(part: Section) -> list[str]:
    """`user` with `token` (or `password`), `host`; `ssh: true` to use the machine's keys instead."""
    user, token, password = part.value("user", None), part.value("token", None), part.value("password", None)
    host, ssh = part.value("host", None), part.flag("ssh", False)
    if token and password:
        part.wrong("token", "and password are both given; keep one")
    if (token or password) and not user:
        part.wrong("user", "is missing beside the token; for a token any name will do, as git")
    part.no_more()
    settings = {
        "git_user": user,
        "git_pass": token or password,
        "git_host": host,
        "force_git_ssh_protocol": ssh or None,
    }
    return [f"agent.{key}: {json.dumps(value)}" for key, value in settings.items() if value is not None]


def _storage(part: Section) -> list[str]:
    """`s3`, `google`, `azure` as the SDK knows them."""
    s3, google, azure = part.section("s3"), part.section("google"), part.section("azure")
    read: dict[str, dict[str, object]] = {
        "sdk.aws.s3": {
            **_values(s3, "key", "secret", "token", "region", "endpoint"),
            "use_credentials_chain": s3.flag("use_credentials_chain", False) or None,
            "credentials": _buckets(s3, ("bucket", "host", "key", "secret", "token", "region")),
        },
        "sdk.google.storage": {
            **_values(google, "project", "credentials_json"),
            "credentials": _buckets(google, ("bucket", "project", "credentials_json")),
        },
        "sdk.azure.storage": {"containers": _buckets(azure, ("account_name", "account_key", "container_name"))},
    }
    for each in (s3, google, azure, part):
        each.no_more()
    given = {name: {k: v for k, v in values.items() if v} for name, values in read.items()}
    return [f"{name}: {json.dumps(values)}" for name, values in given.items() if values]


def _values(part: Section, *keys: str) -> dict[str, object]:
    return {key: part.value(key, None) for key in keys}


def _buckets(part: Section, keys: tuple[str, ...]) -> list[dict[str, object]]:
    """A list of mappings, each for one bucket or container."""
    name = "containers" if "container_name" in keys else "buckets"
    found = []
    for each in part.list_of_sections(name):
        values = {key: value for key, value in _values(each, *keys).items() if value is not None}
        each.no_more()
        found.append(values)
    return found
