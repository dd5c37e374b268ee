"""One resource's `image` in the text of a fleet file: its comments and its shape stay as they are."""

from __future__ import annotations

import json
import os
import re
import tempfile
from pathlib import Path
from typing import Any

import yaml

from fleet.errors import ConfigError


def write_image(path: Path, resource: str, image: str) -> None:
    """The file is replaced whole, or left as it is.

    Raises:
        ConfigError: the place cannot be found in the file, or the file cannot be written.
    """
    try:
        new = with_image(path.read_text(encoding="utf-8"), resource, image)
        part = tempfile.NamedTemporaryFile("w", dir=path.resolve().parent, delete=False, encoding="utf-8")  # noqa: SIM115
        with part:
            part.write(new)
            os.fchmod(part.fileno(), path.stat().st_mode & 0o7777)
            os.fsync(part.fileno())
        os.replace(part.name, path.resolve())
    except OSError as error:
        raise ConfigError(
            f"{path} cannot be written: {error.strerror}; put `image: {image}` into it yourself"
        ) from error


def with_image(text: str, resource: str, image: str) -> str:
    """The same text with this image.

    Raises:
        ConfigError: it is written in a way that is not understood here; the line to write is named.
    """
    by_hand = ConfigError(f"resources.{resource} has no plain place for it; put `image: {image}` into it yourself")
    try:
        before: Any = yaml.safe_load(text)
        settings = _child(_child(yaml.compose(text, yaml.SafeLoader), "resources"), resource)
        if not isinstance(settings, yaml.MappingNode) or not settings.value:
            raise by_hand
        written = image if re.fullmatch(r"[A-Za-z][\w./-]*", image) else json.dumps(image)
        old = _child(settings, "image")
        if isinstance(old, yaml.ScalarNode):
            new = text[: old.start_mark.index] + written + text[old.end_mark.index :]
        else:
            # Before its first key, in its own column, or its own braces.
            first = settings.value[0][0].start_mark
            beside = ", " if settings.flow_style else "\n" + " " * first.column
            new = f"{text[: first.index]}image: {written}{beside}{text[first.index :]}"
        wanted = {
            **before,
            "resources": {**before["resources"], resource: {**before["resources"][resource], "image": image}},
        }
        if yaml.safe_load(new) != wanted:
            raise by_hand
    except (yaml.YAMLError, TypeError, KeyError) as error:
        raise by_hand from error
    return new


def _child(node: Any, key: str) -> Any:
    """The value of this key; None without one."""
    if not isinstance(node, yaml.MappingNode):
        return None
    return next((value for name, value in node.value if name.value == key), None)
