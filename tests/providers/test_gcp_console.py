"""Of a machine that never came up in Google Cloud, the end of its serial port is kept, without secrets."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from fleet.errors import NotAuthorised
from fleet.providers.base import ConsoleSource, Launched
from fleet.providers.gcp.console import LAST_CHARS
from fleet.providers.gcp.provider import GcpProvider
from tests.providers.compute_engine import ComputeEngine, served
from tests.providers.test_gcp import a_gcp_resource, a_provider, an_order


@pytest.fixture
def cloud() -> ComputeEngine:
    return ComputeEngine()


@pytest.fixture
def provider(cloud: ComputeEngine, tmp_path: Path) -> Iterator[GcpProvider]:
    with served(cloud) as url:
        yield a_provider(tmp_path, a_gcp_resource(url))


def a_machine(provider: GcpProvider) -> str:
    (resource,) = provider._resources.values()
    (launched,) = provider.launch([an_order(provider, resource)])
    assert isinstance(launched, Launched)
    assert launched.cloud_id is not None
    return launched.cloud_id


def test_a_serial_port_is_read_without_what_looks_like_a_secret(cloud: ComputeEngine, provider: GcpProvider) -> None:
    machine = a_machine(provider)
    cloud.consoles[machine.rpartition("/")[2]] = (
        "boot\nFLEET_JOIN_TOKEN=abc123\npassword: hunter2\nclone https://me:pat@git.lab/x\nfleet provision: 10-base failed\n"
    )
    assert isinstance(provider, ConsoleSource)
    said = provider.console(machine)
    assert said is not None
    assert said.endswith("fleet provision: 10-base failed")
    assert [secret for secret in ("abc123", "hunter2", "me:pat") if secret in said] == []


def test_of_a_long_one_the_end_is_asked_for(cloud: ComputeEngine, provider: GcpProvider) -> None:
    machine = a_machine(provider)
    cloud.consoles[machine.rpartition("/")[2]] = "early\n" * 100_000 + "ünfinished\n" * 10 + "the reason"
    said = provider.console(machine)
    assert said is not None
    assert said.endswith("the reason")
    assert len(said) <= LAST_CHARS


def test_a_machine_that_printed_nothing_or_is_gone_has_none(cloud: ComputeEngine, provider: GcpProvider) -> None:
    machine = a_machine(provider)
    assert provider.console(machine) is None
    provider.terminate([machine])
    assert provider.console(machine) is None
    assert provider.console("no id of Google") is None


def test_where_it_may_not_be_read_that_is_an_error_of_one_line(cloud: ComputeEngine, provider: GcpProvider) -> None:
    machine = a_machine(provider)
    cloud.refuse_credentials()
    with pytest.raises(NotAuthorised, match=r"^Google Cloud refused the console of [^\n]+$"):
        provider.console(machine)
