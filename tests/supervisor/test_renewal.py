"""A machine's own token over both sides: handed out by a real edge API with its memory on disk, kept by a real supervisor's files."""

import json
import shutil
import stat
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

import pytest

from fleet.database import Database
from fleet.errors import CentreRefused
from fleet.store.sql import SqlStore
from fleet.supervisor.centre import Centre
from fleet.supervisor.comeback import Comeback
from fleet.supervisor.identity import IDENTITY, Identity
from fleet.supervisor.renewal import Renewing
from fleet.wire import Enroll, Heartbeat
from tests.web.nouns import GPUS, Web, an_instance, at, serving

DUE_S = 2 * 3600.0


@pytest.fixture
def private() -> Iterator[Path]:
    place = Path(tempfile.mkdtemp(dir="/dev/shm", prefix="fleet-test-"))
    yield place
    shutil.rmtree(place)


@pytest.fixture
def web(tmp_path: Path) -> Iterator[Web]:
    """A dispatcher that expects one machine."""
    store = SqlStore(Database(f"sqlite:///{tmp_path}/fleet.db"))
    store.record_intents([an_instance("i1")])
    store.expect("i1", sha256(b"join").hexdigest(), at(900))
    with serving(Web(store=store)) as web:
        yield web


def a_heartbeat() -> Heartbeat:
    quiet = {"is_pulling": True, "is_ending": False, "reason": None, "idle_since": None, "allocations": (), "runs": ()}
    return Heartbeat(instance="i1", at=datetime(2026, 3, 1, tzinfo=UTC), gpus=GPUS, **quiet)  # type: ignore[arg-type]


def let_in(web: Web, private: Path) -> Renewing:
    """As a supervisor does that starts: by what one before it kept, or by its join token."""
    centre, identity = Centre(web.url), Identity(private)
    enroll = Enroll(
        instance="i1", join_token="join", hostname="h", cpus=1, memory_gib=1, gpus=GPUS, fleet_version="1", renews=True
    )
    enrolled = identity.enrolled() or centre.enroll(enroll)
    identity.keep_enrolled(enrolled)
    return Renewing(centre, identity, enrolled, Comeback(private, "i1"))


def kept(private: Path) -> str:
    token: str = json.loads((private / IDENTITY).read_text())["enrolled"]["token"]
    return token


def test_a_renewed_token_survives_restarts_of_the_supervisor_and_of_the_dispatcher(web: Web, private: Path) -> None:
    machine = let_in(web, private)
    first = kept(private)
    web.now = at(DUE_S)
    machine.heartbeat(a_heartbeat())
    second = kept(private)
    assert second != first, "kept before it is used"
    assert Comeback(private, "i1").token == second, "also for the next boot"
    assert stat.S_IMODE((private / IDENTITY).stat().st_mode) == 0o600
    let_in(web, private).heartbeat(a_heartbeat())  # the supervisor was killed before it could use the new one
    with pytest.raises(CentreRefused, match="answered 401"):
        old = Centre(web.url)
        old.speak_as(first)
        old.heartbeat(a_heartbeat())
    with serving(Web(store=web.store, now=at(2 * DUE_S + 1))) as restarted:
        again = let_in(restarted, private)
        again.heartbeat(a_heartbeat())
        assert kept(private) not in (first, second)
        again.heartbeat(a_heartbeat())
        restarted.hints.bump()
        assert again.hint(after=0) == 1


def test_a_supervisor_that_is_killed_before_it_kept_the_new_token_goes_on_with_the_old_one(
    web: Web, private: Path
) -> None:
    machine = let_in(web, private)
    before = (private / IDENTITY).read_bytes()
    web.now = at(DUE_S)
    machine.heartbeat(a_heartbeat())
    (private / IDENTITY).write_bytes(before)
    let_in(web, private).heartbeat(a_heartbeat())


def test_a_token_that_cannot_be_kept_is_not_used(
    web: Web, private: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    machine = let_in(web, private)
    first = kept(private)

    def full(_path: Path, _text: str) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as disk:
        disk.setattr("fleet.supervisor.identity.write_private", full)
        for turn in range(3):
            web.now = at(DUE_S + 100 * turn)
            machine.heartbeat(a_heartbeat())
    assert kept(private) == first
    assert caplog.text.count("identity not kept") == 3
    web.now = at(DUE_S + 400)
    machine.heartbeat(a_heartbeat())
    assert kept(private) != first
    machine.heartbeat(a_heartbeat())


def test_no_token_is_written_to_a_log(web: Web, private: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    machine = let_in(web, private)
    tokens = {kept(private)}
    for turn in range(1, 4):
        web.now = at(turn * (DUE_S + 1))
        machine.heartbeat(a_heartbeat())
        tokens.add(kept(private))
    assert len(tokens) == 3
    assert [token for token in tokens if token in caplog.text] == []
