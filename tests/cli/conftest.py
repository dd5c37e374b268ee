"""A shell, and a dispatcher's web to ask."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.running import Shell
from tests.web.nouns import Web, serving


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return Shell(tmp_path)


@pytest.fixture
def web() -> Iterator[Web]:
    with serving(Web()) as running:
        yield running
