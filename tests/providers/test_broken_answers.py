"""Broken answers of Google Cloud, after the call took effect: each ends in an answer or in one of our errors, on one line; when
the line is whole again the same orders give one machine each, all of them are listed, and all can be ended (tests.providers.held).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from fleet.errors import UnknownProviderFault
from tests.providers.breaking import BREAKS, Broken, breaking
from tests.providers.compute_engine import ComputeEngine
from tests.providers.compute_engine import served as served_gce
from tests.providers.held import Cloud, held_to_the_promises
from tests.providers.test_gcp import a_gcp_resource, a_provider

pytestmark = pytest.mark.xdist_group("broken answers")

VERBS = ("offers", "launch", "list", "check", "terminate")
CASES = [(verb, name) for verb in VERBS for name in BREAKS if not (name == "hangs" and verb == "check")]
PATIENCE_S = 1.5


@pytest.fixture
def gcp() -> Iterator[Cloud]:
    cloud = ComputeEngine()
    with served_gce(cloud) as url, breaking() as line:
        line.behind = url
        resource = a_gcp_resource(line.url)

        def running() -> list[str]:
            alive = [i for i in cloud.instances.values() if i.get("status") not in ("STOPPING", "TERMINATED")]
            return [i["labels"]["fleet-instance"] for i in alive]

        yield Cloud(
            line=line,
            resource=resource,
            make=lambda place: a_provider(place, resource, timeout_s=PATIENCE_S),
            alive=running,
        )


@pytest.mark.parametrize(("verb", "name"), CASES)
def test_gcp(gcp: Cloud, verb: str, name: str, tmp_path: Path) -> None:
    held_to_the_promises(gcp, verb, name, tmp_path / "gcp")


@pytest.mark.parametrize("token", [7, ["a"], "0"], ids=["a number", "a list", "the same for ever"])
def test_gcp_pages_that_lead_nowhere_are_no_list(gcp: Cloud, token: object, tmp_path: Path) -> None:
    """Taken for the last page, all machines of the pages to come would be gone."""

    def leading_nowhere(status: int, body: bytes, _: object) -> Broken:
        return Broken(status=status, body=json.dumps(json.loads(body) | {"nextPageToken": token}).encode())

    said = held_to_the_promises(gcp, "list", f"a token that is {token}", tmp_path / "gcp", leading_nowhere)
    assert isinstance(said, UnknownProviderFault)
