"""YAML text to plain values, with every key that is given twice found at once."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import yaml

from fleet.errors import ConfigError

MAX_DEPTH = 50


def read_yaml(text: str, origin: str) -> tuple[Any, list[str]]:
    """What it holds, and a problem for each key that is given twice.

    Raises:
        ConfigError: this is not YAML; nothing more can be said about it.
    """
    try:
        loader = yaml.SafeLoader(text)
        node = loader.get_single_node()
        problems = list(_twice(node, ""))
        data = loader.construct_document(node) if node is not None else None
    except RecursionError:
        raise ConfigError(f"{origin}: nested too deeply") from None
    except yaml.MarkedYAMLError as error:
        raise ConfigError(f"{origin}: {_where(error)}not YAML: {error.problem or error.context}") from error
    except (yaml.YAMLError, ValueError, TypeError, OverflowError, AttributeError) as error:
        raise ConfigError(f"{origin}: not YAML: {' '.join(str(error).split())[:200]}") from error
    return data, problems


def _where(error: yaml.MarkedYAMLError) -> str:
    mark = error.problem_mark or error.context_mark
    return f"line {mark.line + 1}: " if mark else ""


def _twice(root: yaml.Node | None, path: str) -> Iterator[str]:
    """Keys that a mapping gives twice: YAML would keep the last without a word."""
    todo, seen = [(root, path, 0)], set[int]()
    while todo:
        node, path, depth = todo.pop()
        if node is None or id(node) in seen:  # an alias: shared, perhaps a circle
            continue
        seen.add(id(node))
        if depth > MAX_DEPTH:
            raise RecursionError
        if isinstance(node, yaml.SequenceNode):
            todo += [(item, f"{path}[{i}]", depth + 1) for i, item in enumerate(node.value)]
        elif isinstance(node, yaml.MappingNode):
            first: dict[str, int] = {}
            for key, value in node.value:
                name = f"{path}.{key.value}" if path else str(key.value)
                if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
                    line = key.start_mark.line + 1
                    if key.value in first:
                        yield f"{name}: given twice, in lines {first[key.value]} and {line}; keep one"
                    first.setdefault(key.value, line)
                todo.append((value, name, depth + 1))
