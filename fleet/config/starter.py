"""The fleet files that `fleet init` writes. Each passes its own check; comments say what else there is."""

from __future__ import annotations

from pathlib import Path

from fleet.errors import ConfigError

KINDS = ("local", "aws", "gcp", "genesis")


def starter(kind: str = "local") -> str:
    """A commented fleet file to begin with; that of a cloud holds `@region@` and the like, which its user answers.

    Raises:
        ConfigError: there is no starter of this kind; the text lists those that exist.
    """
    if kind not in KINDS:
        raise ConfigError(f"no starter is called {kind!r}; there are: {', '.join(KINDS)}")
    return Path(__file__).with_name(f"starter_{kind}.yaml").read_text(encoding="utf-8")
