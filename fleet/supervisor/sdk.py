"""The Docker SDK, without what it would load for others and never use here: 3 MB of a supervisor that idles for months.

The SDK speaks by `requests`, which guesses the encoding of pages that do not name theirs. The engine's answers are JSON, so nobody
guesses, and `requests` does without the guessers since 2.32; an older one refuses, and gets them.
Source: https://requests.readthedocs.io/en/latest/community/updates/ (2.32.0, packaging)
"""

from __future__ import annotations

import contextlib
import sys
import warnings
from collections.abc import Iterator
from typing import Any

GUESSERS = ("charset_normalizer", "chardet")


def load() -> Any:
    """The package `docker`."""
    if "requests" not in sys.modules:
        with _without(GUESSERS), contextlib.suppress(ImportError):
            import requests  # noqa: F401
    import docker

    return docker


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
