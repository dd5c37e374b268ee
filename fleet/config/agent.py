"""`agent:` of the fleet file. Git and storage credentials become lines of the agents' clearml.conf (JSON is valid there)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from enum import StrEnum

from fleet.config.containers import read_containers
from fleet.config.quantities import duration, memory_gib
from fleet.config.section import Section
from fleet.model import AgentSettings, OnRebalance


class Mode(StrEnum):
    """How an agent makes the environment of a task."""

    VENV = "venv"  # builds one for each
    INTERPRETER = "interpreter"  # uses one as it is
    DOCKER = "docker"


class PackageManager(StrEnum):
    """What installs the requirements of a task."""

    PIP = "pip"
    CONDA = "conda"
    POETRY = "poetry"
    UV = "uv"


def read_agent(part: Section, base: AgentSettings | None = None) -> AgentSettings:
    """Agent settings of the whole fleet, or of one resource, which say only what is other than in `base`.

    What is wrong is noted in `part`.
    """
    is_whole_fleet, base = base is None, base or AgentSettings()
    folder = _cache_dir(part)
    mode = part.choice("mode", Mode, Mode(base.mode))
    # In a container the agent's caches have places of their own, and `cache_dir` is what is mounted there.
    inside = None if mode is Mode.DOCKER else folder
    lines = [*_git(part.section("git")), *_storage(part.section("storage")), *_caches(part, inside)]
    # The last of two lines on the same key counts: a resource over the fleet, and what is written out over all.
    conf = "\n".join(filter(None, [base.extra_conf, *lines, part.text("extra_conf", "")]))
    agent = AgentSettings(
        mode=mode.value,
        image=part.text("image", base.image),
        docker=read_containers(part.section("docker"), base.docker, folder),
        python=part.text("python", base.python),
        version=part.text("version", base.version),
        package_manager=_package_manager(part, base),
        init_script=part.value("init_script", base.init_script),
        extra_conf=conf,
        environment={**base.environment, **_of_pip_and_uv(folder, mode), **_environment(part)},
        stop_grace=part.read("stop_grace", duration, base.stop_grace),
        gpu_free_below_gib=part.positive("gpu_free_below", memory_gib, base.gpu_free_below_gib),
        on_rebalance=part.choice("on_rebalance", OnRebalance, base.on_rebalance),
    )
    if mode is Mode.DOCKER and not agent.image and (is_whole_fleet or part.has("mode")):
        part.wrong("image", "is missing: mode docker needs a default image")
    part.no_more()
    return agent


def _package_manager(part: Section, base: AgentSettings) -> str | None:
    if not part.has("package_manager"):
        part.anything("package_manager")
        return base.package_manager
    return part.choice("package_manager", PackageManager, PackageManager.PIP).value


def _environment(part: Section) -> dict[str, str]:
    given = part.mapping("environment")
    for name, value in given.items():
        if not name or "=" in name or "\0" in name + value:
            part.wrong("environment", f"{name!r} with its value cannot be a variable; see to the name, and to nulls")
    return given


def _free_gib(value: object) -> float:
    gib = memory_gib(value)
    if gib < 0:
        raise ValueError("must be 0 or more")
    return gib


def _cache_dir(part: Section) -> str | None:
    folder = part.text("cache_dir", None)
    if folder and not folder.startswith("/"):
        part.wrong("cache_dir", "is not a whole path, as /scratch/clearml")
    return folder


def _of_pip_and_uv(folder: str | None, mode: Mode) -> dict[str, str]:
    """Their own downloads; a container has them in other places."""
    return (
        {"PIP_CACHE_DIR": f"{folder}/pip", "UV_CACHE_DIR": f"{folder}/uv"} if folder and mode is not Mode.DOCKER else {}
    )


def _caches(part: Section, folder: str | None) -> list[str]:
    """Where the tasks of a machine share what was downloaded and built, and how many environments are kept."""
    venvs = part.section("venvs_cache")
    entries = venvs.whole("max_entries", None)
    free_gib = venvs.read("free_space_threshold", _free_gib, None)
    path = venvs.text("path", f"{folder}/venvs-cache" if folder else None)
    venvs.no_more()
    settings: dict[str, object] = {
        "vcs_cache.path": folder and f"{folder}/vcs-cache",
        "pip_download_cache.path": folder and f"{folder}/pip-download-cache",
        "venvs_cache.path": "" if entries == 0 else path,  # without a path the agent keeps none
        "venvs_cache.max_entries": entries or None,
        "venvs_cache.free_space_threshold_gb": free_gib,
    }
    return [f"agent.{key}: {json.dumps(value)}" for key, value in settings.items() if value is not None]


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
    own = _values(s3, "key", "secret", "token", "region")
    read: dict[str, dict[str, object]] = {
        "sdk.aws.s3": {
            **own,
            "use_credentials_chain": s3.flag("use_credentials_chain", False) or None,
            "credentials": [*_buckets(s3, ("bucket", "host", "key", "secret", "token", "region")), *_service(s3, own)],
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


def _service(s3: Section, own: Mapping[str, object]) -> list[dict[str, object]]:
    """Another service than Amazon's: the SDK knows it by the host in its credentials, and by nothing else."""
    endpoint = s3.value("endpoint", None)
    if not endpoint:
        return []
    scheme, _, host = endpoint.rpartition("://")
    if scheme not in ("", "http", "https") or "/" in host.rstrip("/"):
        s3.wrong("endpoint", "is not a host and port, as minio.lab:9000 or http://minio.lab:9000")
    given = {key: value for key, value in own.items() if value}
    return [{"host": host.rstrip("/"), **given, **({"secure": False} if scheme == "http" else {})}]


def _buckets(part: Section, keys: tuple[str, ...]) -> list[dict[str, object]]:
    """A list of mappings, each for one bucket or container."""
    name = "containers" if "container_name" in keys else "buckets"
    found = []
    for each in part.list_of_sections(name):
        values = {key: value for key, value in _values(each, *keys).items() if value is not None}
        if "host" in keys:
            values |= {flag: False for flag in ("secure", "multipart") if not each.flag(flag, True)}
        each.no_more()
        found.append(values)
    return found
