"""Text to plain values, by the name of its file: TOML and JSON, which Python itself reads, and YAML for every other."""

from __future__ import annotations

import json
import tomllib
from typing import Any

from fleet.config.section import kind
from fleet.errors import ConfigError

MAX_CHARS = 1_000_000
OF_A_FLEET = "cluster, resources and queues (see fleet init)"


def plain(text: str, origin: str, example: str = OF_A_FLEET) -> tuple[dict[str, Any], list[str]]:
    """The top mapping, and a problem for each key that is given twice. `example`: what it should hold, for whoever wrote it.

    Raises:
        ConfigError: it cannot be read, or is not a mapping; nothing more can be said about it.
    """
    if len(text) > MAX_CHARS:
        raise ConfigError(f"{origin}: more than {MAX_CHARS} characters are no fleet file")
    if origin.endswith(".toml"):
        data, problems = _toml(text, origin)
    elif origin.endswith(".json"):
        data, problems = _json(text, origin)
    else:
        data, problems = _yaml(text, origin)
    if not isinstance(data, dict):
        what = "is empty" if data is None else f"holds a {kind(data)}"
        raise ConfigError(f"{origin}: {what}; it should hold keys such as {example}")
    return data, problems


def _toml(text: str, origin: str) -> tuple[Any, list[str]]:
    try:
        return tomllib.loads(text), []
    except (ValueError, RecursionError) as error:  # a key that is given twice too
        raise ConfigError(f"{origin}: not TOML: {' '.join(str(error).split())[:200]}") from error


def _json(text: str, origin: str) -> tuple[Any, list[str]]:
    problems: list[str] = []

    def mapping(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        names = [name for name, _ in pairs]
        problems.extend(f"{name}: given twice; keep one" for name in sorted({n for n in names if names.count(n) > 1}))
        return dict(pairs)

    try:
        return json.loads(text, object_pairs_hook=mapping), problems
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{origin}: not JSON: {' '.join(str(error).split())[:200]}") from error


def _yaml(text: str, origin: str) -> tuple[Any, list[str]]:
    """Its reader is not part of the base install, with which a machine without a dispatcher may have to do."""
    try:
        from fleet.config.text import read_yaml
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"{origin}: PyYAML, which reads YAML, is not installed here; write the file as TOML or JSON (named *.toml or "
            "*.json), or install pyyaml"
        ) from error
    return read_yaml(text, origin)
