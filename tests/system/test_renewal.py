"""A whole fleet whose tokens live a minute: its machine renews, also across a restart of the dispatcher, and works on."""

import importlib.util

import pytest
import sqlalchemy as sa

from fleet.assemble.memory import open_database
from fleet.config import load
from fleet.queues.base import TaskStatus
from tests.system.ring import FLEET_FILE, MakeRing, Ring
from tests.waiting import wait_for

pytestmark = [
    pytest.mark.system,
    pytest.mark.xdist_group("ring"),
    pytest.mark.skipif(importlib.util.find_spec("clearml_agent") is None, reason="clearml-agent is not installed"),
]


def token_of_the_machine(ring: Ring) -> tuple[str, float]:
    """As the store keeps it: its hash, and when it was given."""
    database = open_database(load(ring.place / "fleet.yaml"), "fleet")
    with database.read() as connection:
        rows = connection.execute(sa.text("SELECT token_hash, token_issued_at FROM fleet_instance")).all()
    database.close()
    ((token, issued_at),) = rows
    return token, issued_at


def test_a_machine_renews_its_token_while_it_works_and_after_a_restart_of_the_dispatcher(make_ring: MakeRing) -> None:
    ring = make_ring(gpus=1, idle="5m", file=FLEET_FILE + "identity: {{token_life: 1m}}\n").start()
    first = ring.bash("echo one")
    assert ring.ends(first) == [TaskStatus.COMPLETED]
    (machine,) = ring.instances()
    before, given_at = token_of_the_machine(ring)
    ring.kill()
    ring.start()
    wait_for(lambda: token_of_the_machine(ring)[0] != before, 60, "the new token is used", every_s=0.5)
    assert token_of_the_machine(ring)[1] > given_at + 5, "not before a twelfth of its life"
    assert ring.ends(ring.bash("echo two")) == [TaskStatus.COMPLETED]
    assert [(each.id, each.gone_at) for each in ring.instances()] == [(machine.id, None)]
    said = (ring.state / "local" / machine.id / "console.log").read_text()
    assert "token renewed" in said
