"""What a cloud says of a machine's end, asked over real sockets of servers that follow the clouds' documents."""

import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from agent_hooks import notices_gce
from agent_hooks.notice import Notice, NoticeKind
from agent_hooks.notices import provider_of, utc_now, watches
from agent_hooks.notices_ec2 import ACTION, Ec2Watch
from agent_hooks.notices_gce import MAINTENANCE, PREEMPTED, GceWatch
from tests.agent_hooks.clouds import Ec2, Gce
from tests.waiting import wait_for

T0 = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)


@pytest.fixture
def ec2() -> Iterator[Ec2]:
    cloud = Ec2()
    yield cloud
    cloud.close()


@pytest.fixture
def gce() -> Iterator[Gce]:
    cloud = Gce()
    yield cloud
    cloud.close()


def watch(cloud: Ec2) -> Ec2Watch:
    return Ec2Watch(cloud.url, now=lambda: T0, every_s=0.01)


def kinds(notices: tuple[Notice, ...]) -> list[NoticeKind]:
    return [notice.kind for notice in notices]


def seconds(notice: Notice) -> float:
    assert notice.deadline
    return (notice.deadline - notice.at).total_seconds()


# --- EC2


def test_a_quiet_ec2_machine_has_no_notice_and_asks_with_one_token(ec2: Ec2) -> None:
    quiet = watch(ec2)
    assert [quiet.look() for _ in range(3)] == [(), (), ()]
    assert len(ec2.tokens) == 1
    assert [
        call for call in ec2.asked if not call.startswith(("PUT /latest/api/token", "GET /latest/meta-data/"))
    ] == []


def test_a_spot_interruption_has_its_deadline_by_the_clouds_clock_however_wrong_ours_is(ec2: Ec2) -> None:
    ec2.clock_ahead_s = 3600.0
    ec2.interrupt(120)
    (notice,) = watch(ec2).look()
    assert notice.kind is NoticeKind.PREEMPTION
    assert notice.at == T0
    assert 118 <= seconds(notice) <= 121
    assert "terminate" in notice.text


def test_hibernation_begins_at_once(ec2: Ec2) -> None:
    ec2.interrupt(120, "hibernate")
    (notice,) = watch(ec2).look()
    assert notice.deadline == T0


def test_a_notice_that_stands_is_the_same_each_time_it_is_looked_at(ec2: Ec2) -> None:
    ec2.interrupt(120)
    now = iter(T0 + timedelta(seconds=n) for n in range(100))
    looking = Ec2Watch(ec2.url, now=lambda: next(now), every_s=0.01)
    assert looking.look() == looking.look() == looking.look() != ()


def test_a_rebalance_recommendation_has_no_deadline(ec2: Ec2) -> None:
    ec2.recommend_rebalance()
    (notice,) = watch(ec2).look()
    assert (notice.kind, notice.deadline) == (NoticeKind.REBALANCE, None)


def test_scheduled_maintenance_says_when_and_what_is_over_or_cancelled_is_none(ec2: Ec2) -> None:
    ec2.schedule(in_s=7200)
    (notice,) = watch(ec2).look()
    assert notice.kind is NoticeKind.MAINTENANCE
    assert 7190 <= seconds(notice) <= 7201
    for state, description in (("completed", ""), ("canceled", ""), ("active", "[Canceled] scheduled reboot")):
        ec2.schedule(in_s=7200, state=state, description=description)
        assert watch(ec2).look() == ()
    ec2.items["events/maintenance/scheduled"] = "[]"
    assert watch(ec2).look() == ()


@pytest.mark.parametrize(
    "text",
    ["", "<html>", "[]", "{}", '{"action": "stop"}', '{"action": "stop", "time": 7}', '{"time": "soon"}', "x" * 70_000],
)
def test_an_answer_that_cannot_be_read_is_no_notice_and_is_complained_of_once(ec2: Ec2, text: str, caplog) -> None:
    caplog.set_level("INFO")
    ec2.items["spot/instance-action"] = text
    looking = watch(ec2)
    assert [looking.look() for _ in range(3)] == [(), (), ()]
    assert [r.what for r in caplog.records if r.message == "no notices can be had"] == [ACTION]
    ec2.interrupt(120)
    assert kinds(looking.look()) == [NoticeKind.PREEMPTION]
    assert [r.what for r in caplog.records if r.message == "notices can be had again"] == [ACTION]


def test_what_was_known_stays_known_while_the_metadata_server_is_broken(ec2: Ec2) -> None:
    ec2.interrupt(120)
    looking = watch(ec2)
    known = looking.look()
    ec2.is_broken = b"oops"
    assert looking.look() == known != ()


def test_a_metadata_server_that_hangs_is_not_waited_for(ec2: Ec2) -> None:
    ec2.is_broken = b""
    started = time.monotonic()
    assert watch(ec2).look() == ()
    assert time.monotonic() - started < 6.0  # of three questions the first, for two seconds


def test_without_a_token_nothing_is_asked_and_version_1_never(ec2: Ec2) -> None:
    ec2.is_broken = b"no token for you"
    ec2.interrupt(120)
    looking = watch(ec2)
    assert looking.look() == ()
    assert {call.split()[0] for call in ec2.asked} == {"PUT"}
    ec2.is_broken = None
    assert kinds(looking.look()) == [NoticeKind.PREEMPTION]


def test_a_token_that_died_before_its_time_is_renewed(ec2: Ec2) -> None:
    looking = watch(ec2)
    assert looking.look() == ()
    ec2.tokens[:] = ["of another boot"]
    ec2.interrupt(120)
    assert kinds(looking.look()) == [NoticeKind.PREEMPTION]


# --- GCE


def test_a_preemption_is_here_as_soon_as_google_says_it(gce: Gce) -> None:
    preempted, _ = notices_gce.watches(gce.url, has_gpus=True, now=lambda: T0)
    assert preempted.look() == ()
    heard: list[tuple[float, tuple[Notice, ...]]] = []

    def listen() -> None:
        notices = preempted.look()
        heard.append((time.monotonic(), notices))

    threading.Thread(target=listen, daemon=True).start()
    wait_for(lambda: any("wait_for_change=true&last_etag=" in call for call in gce.asked), 5)
    assert heard == []
    said_at = time.monotonic()
    gce.say(PREEMPTED, "TRUE")
    wait_for(lambda: heard, 5)
    ((at, (notice,)),) = heard
    assert (notice.kind, seconds(notice)) == (NoticeKind.PREEMPTION, 30)
    assert at - said_at < 0.5


@pytest.mark.parametrize(("has_gpus", "left_s"), [(True, 3600), (False, 60)])
def test_maintenance_that_ends_the_machine_is_a_notice_and_a_migration_is_none(gce: Gce, has_gpus, left_s) -> None:
    gce.say(MAINTENANCE, "MIGRATE_ON_HOST_MAINTENANCE")
    _, maintenance = notices_gce.watches(gce.url, has_gpus=has_gpus, now=lambda: T0)
    assert maintenance.look() == ()
    gce.say(MAINTENANCE, "TERMINATE_ON_HOST_MAINTENANCE")
    (notice,) = maintenance.look()
    assert (notice.kind, seconds(notice)) == (NoticeKind.MAINTENANCE, left_s)
    gce.say(MAINTENANCE, "NONE")
    assert maintenance.look() == ()


def test_a_server_that_is_not_googles_is_not_believed(ec2: Ec2, gce: Gce) -> None:
    gce.say(PREEMPTED, "TRUE")
    ours = GceWatch(ec2.url, PREEMPTED, notices_gce.preempted, now=lambda: T0, pause_s=0.01)
    assert ours.look() == ()


def test_a_server_that_breaks_while_it_is_asked_is_asked_again(gce: Gce) -> None:
    ours = GceWatch(gce.url, PREEMPTED, notices_gce.preempted, now=lambda: T0, held_s=1, pause_s=0.01)
    gce.is_broken = b"oops"
    assert ours.look() == ()
    gce.is_broken = None
    gce.say(PREEMPTED, "TRUE")
    known = ours.look()
    assert kinds(known) == [NoticeKind.PREEMPTION]
    gce.is_broken = b"oops"
    assert ours.look() == known


# --- whom to ask


def test_a_machine_in_no_cloud_asks_nobody(tmp_path: Path) -> None:
    assert watches({}, dmi=tmp_path) == ()
    assert watches({"FLEET_PROVIDER": "local"}) == ()


def test_the_firmware_says_which_cloud_it_is_if_nobody_else_does(tmp_path: Path) -> None:
    nothing = tmp_path / "nothing"
    assert provider_of(tmp_path, nothing) is None
    (tmp_path / "sys_vendor").write_text("Amazon EC2\n")
    assert provider_of(tmp_path, nothing) == "aws"
    (tmp_path / "sys_vendor").write_text("Google\n")
    (tmp_path / "product_name").write_text("Google Compute Engine\n")
    assert provider_of(tmp_path, nothing) == "gcp"
    (tmp_path / "uuid").write_text("ec2e1916-9099-7caf-fd21-012345abcdef\n")
    assert provider_of(nothing, tmp_path / "uuid") == "aws"


@pytest.mark.parametrize(
    "environ",
    [
        {"FLEET_PROVIDER": "aws", "FLEET_METADATA_URL": "URL"},
        {"FLEET_PROVIDER": "aws", "AWS_EC2_METADATA_SERVICE_ENDPOINT": "URL/"},
    ],
)
def test_the_address_of_the_metadata_server_may_be_another(ec2: Ec2, environ: dict[str, str]) -> None:
    (ours,) = watches({name: value.replace("URL", ec2.url) for name, value in environ.items()}, now=utc_now)
    ec2.interrupt(60)
    assert kinds(ours.look()) == [NoticeKind.PREEMPTION]


def test_googles_tools_name_the_metadata_server_by_host_and_port(gce: Gce) -> None:
    gce.say(PREEMPTED, "TRUE")
    environ = {"FLEET_PROVIDER": "gcp", "GCE_METADATA_HOST": gce.url.removeprefix("http://")}
    assert [kinds(each.look()) for each in watches(environ)] == [[NoticeKind.PREEMPTION], []]
