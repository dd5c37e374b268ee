"""Our tags as labels of Google Cloud: values have small letters, digits, `-` and `_`, and 63 characters at most.

Names of resources may have more, so they are written with `_` as an escape: `_` `__`, a capital letter `_` and its small one, a dot `_0`.
Document: "Organize resources using labels", requirements for labels.
"""

from __future__ import annotations

import re

from fleet.errors import BadRequest

CLUSTER, INSTANCE, RESOURCE = "fleet-cluster", "fleet-instance", "fleet-resource"
LONGEST = 63
_PLAIN = re.compile(r"[a-z0-9-]")


def written(name: str) -> str:
    """A name as a label's value.

    Raises:
        BadRequest: it is too long, or has characters that names of resources do not have.
    """
    value = "".join(_escaped(c) for c in name)
    if len(value) > LONGEST:
        raise BadRequest(
            f"resources.{name}: as a label of Google Cloud it has {len(value)} characters; give it a shorter name"
        )
    return value


def read(value: str) -> str:
    """The name that was written so."""
    return re.sub(r"_(.)", lambda m: {"_": "_", "0": "."}.get(m[1], m[1].upper()), value)


def _escaped(c: str) -> str:
    if _PLAIN.match(c):
        return c
    if c == "_":
        return "__"
    if c == ".":
        return "_0"
    if "A" <= c <= "Z":
        return f"_{c.lower()}"
    raise BadRequest(f"a label of Google Cloud cannot hold {c!r}; use letters, digits, `-`, `_` and `.`")
