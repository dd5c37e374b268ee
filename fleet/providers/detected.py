"""What the clouds' own tools have left on this machine: whose credentials would be found, which region and project are set.

For `fleet init` and `fleet doctor`. Only names and places are read and told, never a secret. Where each tool keeps what:
"Configuration and credential file settings in the AWS CLI"; "How Application Default Credentials works" and "Managing gcloud CLI
configurations" (Google Cloud); "Provider: Genesis Cloud" (its Terraform provider, for the variable).
"""

from __future__ import annotations

import configparser
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Detected:
    """Of one cloud. None: nothing was found."""

    credentials: str | None = None  # where they are, as `the environment` or `~/.aws/credentials, profile default`
    region: str | None = None
    project: str | None = None


def detect(kind: str, environment: Mapping[str, str], home: Path) -> Detected:
    """What there is for `aws`, `gcp` or `genesis`; nothing for any other kind. Files that cannot be read are not there."""
    looks = {"aws": _aws, "gcp": _gcp, "genesis": _genesis}
    return looks[kind](environment, home) if kind in looks else Detected()


def _aws(environment: Mapping[str, str], home: Path) -> Detected:
    profile = environment.get("AWS_PROFILE") or "default"
    keys = _ini(Path(environment.get("AWS_SHARED_CREDENTIALS_FILE") or home / ".aws/credentials"))
    settings = _ini(Path(environment.get("AWS_CONFIG_FILE") or home / ".aws/config"))
    section = profile if profile == "default" else f"profile {profile}"
    where = None
    if environment.get("AWS_ACCESS_KEY_ID") and environment.get("AWS_SECRET_ACCESS_KEY"):
        where = "the environment (AWS_ACCESS_KEY_ID)"
    elif environment.get("AWS_WEB_IDENTITY_TOKEN_FILE") or environment.get("AWS_CONTAINER_CREDENTIALS_FULL_URI"):
        where = "the role of this container"
    elif keys.has_section(profile):
        where = f"~/.aws/credentials, profile {profile}"
    elif any(
        settings.has_option(section, key) for key in ("sso_session", "sso_start_url", "role_arn", "credential_process")
    ):
        where = f"~/.aws/config, profile {profile}"
    region = environment.get("AWS_REGION") or environment.get("AWS_DEFAULT_REGION")
    return Detected(credentials=where, region=region or settings.get(section, "region", fallback=None))


def _gcp(environment: Mapping[str, str], home: Path) -> Detected:
    place = Path(environment.get("CLOUDSDK_CONFIG") or home / ".config/gcloud")
    named = environment.get("GOOGLE_APPLICATION_CREDENTIALS")
    adc = Path(named) if named else place / "application_default_credentials.json"
    key = _json(adc)
    where = None
    if key is not None:
        where = f"{adc} (GOOGLE_APPLICATION_CREDENTIALS)" if named else "gcloud auth application-default login"
    name = environment.get("CLOUDSDK_ACTIVE_CONFIG_NAME") or _text(place / "active_config") or "default"
    active = _ini(place / "configurations" / f"config_{name}")
    said = key.get("project_id") or key.get("quota_project_id") if key else None
    project = environment.get("GOOGLE_CLOUD_PROJECT") or environment.get("CLOUDSDK_CORE_PROJECT")
    region = environment.get("CLOUDSDK_COMPUTE_REGION") or active.get("compute", "region", fallback=None)
    return Detected(
        credentials=where,
        region=region,
        project=project or active.get("core", "project", fallback=None) or (str(said) if said else None),
    )


def _genesis(environment: Mapping[str, str], _home: Path) -> Detected:
    name = next((name for name in ("GENESIS_TOKEN", "GENESISCLOUD_TOKEN") if environment.get(name)), None)
    return Detected(credentials=f"the environment ({name})" if name else None)


def _ini(path: Path) -> configparser.ConfigParser:
    found = configparser.ConfigParser(interpolation=None, strict=False)
    try:
        found.read_string(_text(path))
    except configparser.Error:
        return configparser.ConfigParser()
    return found


def _json(path: Path) -> dict[str, object] | None:
    try:
        found = json.loads(_text(path))
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return ""
