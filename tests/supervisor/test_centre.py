"""The edge side of the wire over real HTTP, and the settings that a machine starts with."""

import socket
from datetime import UTC, datetime, timedelta

import pytest

from fleet.errors import CentreRefused, CentreUnreachable, ConfigError
from fleet.model import AgentSettings, Gpu, GpuNeed, Queue, Reason, ServerAccess
from fleet.supervisor.centre import Centre
from fleet.supervisor.start import settings
from fleet.wire import Enroll, Enrolled, Heartbeat
from tests.fake_centre import FakeCentre

ENROLLED = Enrolled(
    instance="i1",
    token="secret",
    cluster="lab",
    resource="a10",
    server=ServerAccess(api_url="http://api", files_url="http://f", web_url="http://w", access_key="A", secret_key="S"),
    queues=(Queue(name="train", resources=("a10",), need=GpuNeed(at_least=1, at_most=1)),),
    agent=AgentSettings(environment={"HF_HOME": "/cache"}),
    idle_timeout=None,
    poll_interval=timedelta(seconds=2),
    heartbeat_interval=timedelta(seconds=10),
    contact_timeout=timedelta(seconds=300),
    max_lifetime=timedelta(hours=24),
)
GPU = Gpu(index=0, uuid="GPU-0", model="A10", memory_gib=22.5)


def an_enroll(token: str = "join") -> Enroll:
    return Enroll(
        instance="i1", join_token=token, hostname="h", cpus=2, memory_gib=4.0, gpus=(GPU,), fleet_version="0.1.0"
    )


def a_heartbeat() -> Heartbeat:
    return Heartbeat(
        instance="i1",
        at=datetime(2026, 1, 1, tzinfo=UTC),
        is_pulling=True,
        is_ending=False,
        reason=None,
        idle_since=None,
        allocations=(),
        runs=(),
        gpus=(GPU,),
    )


@pytest.fixture
def fake():
    fake = FakeCentre(ENROLLED)
    yield fake
    fake.close()


def test_a_machine_that_enrols_is_told_all_that_it_needs(fake):
    centre = Centre(fake.url)
    assert centre.enroll(an_enroll()) == ENROLLED
    assert fake.enrolls == [an_enroll()]


def test_heartbeats_carry_facts_up_and_orders_down(fake):
    centre = Centre(fake.url + "/")
    centre.enroll(an_enroll())
    fake.drain = Reason(code="operator", text="maintenance")
    orders = centre.heartbeat(a_heartbeat())
    assert fake.heartbeats == [a_heartbeat()]
    assert (orders.drain, orders.end, orders.queues) == (fake.drain, None, ENROLLED.queues)


def test_a_hint_comes_at_once_when_there_is_a_newer_one(fake):
    fake.give_hint()
    assert Centre(fake.url).hint(after=0) == 1


def test_a_wrong_token_is_a_refusal(fake):
    with pytest.raises(CentreRefused, match="answered 403"):
        Centre(fake.url).enroll(an_enroll("wrong"))
    with pytest.raises(CentreRefused, match="answered 401"):
        Centre(fake.url).heartbeat(a_heartbeat())


def test_a_centre_that_is_starting_or_not_there_may_come_back(fake):
    fake.is_down = True
    with pytest.raises(CentreUnreachable, match="answered 503"):
        Centre(fake.url).enroll(an_enroll())
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        with pytest.raises(CentreUnreachable, match="no answer "):
            Centre(f"http://127.0.0.1:{probe.getsockname()[1]}").enroll(an_enroll())


@pytest.mark.parametrize("url", ["", "fleet.lab:8765", "ftp://fleet.lab", "http://", "http://[::1"])
def test_an_address_that_is_none_is_refused_in_one_line(url: str):
    with pytest.raises(CentreRefused, match="not an address; FLEET_CENTRE_URL must be"):
        Centre(url)


def test_the_join_token_is_taken_out_of_the_environment():
    environ = {"FLEET_CENTRE_URL": "http://c", "FLEET_INSTANCE": "i1", "FLEET_JOIN_TOKEN": "once", "FLEET_DIR": "/w"}
    read = settings(environ)
    assert (read.join_token, str(read.directory), read.simulated_gpus) == ("once", "/w", None)
    assert "FLEET_JOIN_TOKEN" not in environ
    assert "once" not in repr(read)


def test_everything_that_is_missing_is_named():
    with pytest.raises(ConfigError, match=r"^FLEET_CENTRE_URL, FLEET_JOIN_TOKEN not set"):
        settings({"FLEET_INSTANCE": "i1"})
