"""The Docker SDK, without what it would load for others and never use here: 3 MB of a supervisor that idles for months.

The SDK speaks by `requests`, which guesses the encoding of pages that do not name theirs. The engine's answers are JSON, so nobody
guesses, and `requests` does without the guessers since 2.32; an older one refuses, and gets them. Of the SDK itself the API is enough;
its front door loads models, contexts and a client on top of it.
Source: https://requests.readthedocs.io/en/latest/community/updates/ (2.32.0, packaging)
"""

from __future__ import annotations

import contextlib
import functools
import sys
import warnings
from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec, module_from_spec
from typing import Any

GUESSERS = ("charset_normalizer", "chardet")


@functools.cache
def load() -> Any:
    """The package `docker`: `api`, `errors`, `types` and `utils` of it, at least."""
    if "requests" not in sys.modules:
        with _without(GUESSERS), contextlib.suppress(ImportError):
            import requests  # noqa: F401
    return sys.modules.get("docker") or _parts("docker", ("api", "errors", "types", "utils"))


def _parts(name: str, parts: tuple[str, ...]) -> Any:
    """These modules of a package, whose own code does not run. Who imports the package later gets it whole, and anew."""
    spec = find_spec(name)
    if spec is None:
        raise ModuleNotFoundError(f"{name} is not installed", name=name)
    package = sys.modules[name] = module_from_spec(spec)
    try:
        for part in parts:
            import_module(f"{name}.{part}")
    finally:
        for loaded in [each for each in sys.modules if each.split(".")[0] == name]:
            del sys.modules[loaded]
    return package


@contextlib.contextmanager
def _without(names: tuple[str, ...]) -> Iterator[None]:
    """As if they were not installed; who asks for them later gets them."""
    absent = [name for name in names if name not in sys.modules]
    # None in this table is Python's own word for "not there".
    sys.modules.update(dict.fromkeys(absent))  # type: ignore[arg-type]
    try:
        with warnings.catch_warnings():  # `requests` says that it has no guesser
            warnings.simplefilter("ignore")
            yield
    finally:
        for name in absent:
            del sys.modules[name]
