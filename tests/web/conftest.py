"""A web server for each test."""

from collections.abc import Iterator

import pytest

from tests.web.nouns import Web, serving


@pytest.fixture
def web() -> Iterator[Web]:
    with serving(Web()) as running:
        yield running
