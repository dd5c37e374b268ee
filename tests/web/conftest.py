"""A web server for each test."""

from collections.abc import Iterator

import pytest
from web_nouns import Web, serving


@pytest.fixture
def web() -> Iterator[Web]:
    with serving(Web()) as running:
        yield running
