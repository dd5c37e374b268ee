"""Two fleets in one PostgreSQL database share nothing."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sa

from fleet.assemble.centre import Centre
from fleet.assemble.memory import open_database
from fleet.assemble.state import access_from
from fleet.config import parse
from fleet.errors import ServerUnauthorised
from fleet.model import Event
from fleet.queues.client import ClearMLServer
from tests.builders import T0

FLEET_FILE = """\
cluster: {cluster}
listen: 127.0.0.1:0
store: {url}
resources:
  gpu: {{provider: local, gpus: 1}}
queues:
  {queue}: {{resources: [gpu]}}
"""


@pytest.fixture
def centres(postgres_url: str, tmp_path: Path) -> Iterator[tuple[Centre, Centre]]:
    """Of clusters `one` and `one-more`; their dispatchers do not run."""
    url = postgres_url.replace("+psycopg", "")  # as people write it
    made = []
    for cluster, queue in (("one", "train"), ("one-more", "sweep")):
        config = parse(FLEET_FILE.format(cluster=cluster, url=url, queue=queue), "fleet.yaml")
        made.append(Centre(replace(config, state_dir=tmp_path / cluster), with_dispatcher=False))
        made[-1].start()
    yield made[0], made[1]
    for centre in made:
        centre.stop()


def server_of(centre: Centre) -> ClearMLServer:
    pairs = centre.state.credentials()
    assert pairs
    return ClearMLServer(access_from(pairs, centre.access.api_url, "user"))


def test_two_clusters_in_one_database_share_nothing(centres: tuple[Centre, Centre]) -> None:
    one, other = centres
    server_of(one).ensure_queues(["train"])
    one.store.append_events([Event(at=T0, kind="k", text="of one alone")])
    assert "of one alone" in [e.text for e in one.store.events()]  # and what other tests of this file said
    assert other.store.events() == ()
    queues = sa.text("SELECT count(*) FROM server_queue")
    for centre, count in ((one, 1), (other, 0)):
        with open_database(centre.config, "server").read() as connection:
            assert connection.execute(queues).scalar() == count
    strange = one.state.credentials()
    assert strange
    with pytest.raises(ServerUnauthorised):
        ClearMLServer(access_from(strange, other.access.api_url, "user")).ensure_queues(["train"])


def test_every_table_and_version_is_in_the_schema_of_its_cluster(centres: tuple[Centre, Centre]) -> None:
    versions = sa.text(
        "SELECT table_schema FROM information_schema.tables WHERE table_name = 'fleet_version' ORDER BY 1"
    )
    with open_database(centres[0].config, "fleet").read() as connection:
        schemas = connection.execute(versions).scalars().all()
    assert {"fleet_one", "fleet_one_more"} <= set(schemas)


def test_a_second_start_finds_its_own_tables_again(centres: tuple[Centre, Centre]) -> None:
    one, _ = centres
    one.store.append_events([Event(at=T0, kind="k", text="before")])
    one.stop()
    again = Centre(one.config, with_dispatcher=False)
    try:
        assert "before" in [e.text for e in again.store.events()]
    finally:
        again.listener.stop()
