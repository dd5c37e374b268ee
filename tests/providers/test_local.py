"""An instance of the local provider is a group of processes that starts once, is listed while it lives, and leaves nothing."""

from __future__ import annotations

import fcntl
import json
import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import psutil
import pytest

from fleet.errors import BadRequest
from fleet.providers.base import FirstBoot, Launched, LaunchOrder
from fleet.providers.local import LocalProvider, is_running
from tests.builders import a_resource
from tests.folders import holding
from tests.waiting import wait_for

pytestmark = pytest.mark.system
RESOURCE = a_resource(provider="local", settings={"gpus": 2, "usd_per_hour": 1.5})


@pytest.fixture
def provider(tmp_path: Path) -> Iterator[LocalProvider]:
    made = LocalProvider(tmp_path / "local")
    yield made
    made.terminate([m.cloud_id for m in made.list("test")])
    wait_for(lambda: not made.list("test"))


def an_order(provider: LocalProvider, instance: str = "i1") -> LaunchOrder:
    (offer,) = provider.offers(RESOURCE, datetime.now(UTC))
    # Nobody listens there: the supervisor goes on trying to enrol, which is all these tests need of it.
    boot = FirstBoot(centre_url="http://127.0.0.1:9", join_token="a-secret-token")
    return LaunchOrder(instance=instance, cluster="test", resource=RESOURCE, offer=offer, first_boot=boot)


def processes_of(provider: LocalProvider, instance: str = "i1") -> list[psutil.Process]:
    """Everything on this machine whose environment says that it works for this instance of this provider."""
    work = str(provider.directory / instance / "work")
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("FLEET_DIR") == work:
                found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
            continue
    return found


def machine_pid(provider: LocalProvider, instance: str = "i1") -> int:
    return int(json.loads((provider.directory / instance / "machine.json").read_text())["pid"])


def test_a_launched_machine_is_listed_until_it_is_ended(provider: LocalProvider) -> None:
    assert provider.launch([an_order(provider)]) == [Launched(instance="i1", cloud_id="local-i1")]
    (machine,) = provider.list("test")
    assert (machine.cloud_id, machine.instance, machine.resource) == ("local-i1", "i1", "gpu")
    wait_for(lambda: processes_of(provider))
    provider.terminate(["local-i1"])
    wait_for(lambda: not provider.list("test"))
    assert processes_of(provider) == []


def test_the_same_order_twice_is_one_machine(provider: LocalProvider) -> None:
    provider.launch([an_order(provider)])
    pid = machine_pid(provider)
    assert provider.launch([an_order(provider)]) == [Launched(instance="i1", cloud_id="local-i1")]
    assert machine_pid(provider) == pid


KILLED_AT_ONCE = """
import os, pickle, sys
from pathlib import Path
from fleet.providers import local
write = local._write
local._write = lambda path, *rest, **more: os._exit(9) if path.name == "machine.json" else write(path, *rest, **more)
local.LocalProvider(Path(sys.argv[1])).launch([pickle.load(sys.stdin.buffer)])
"""


def test_a_machine_whose_dispatcher_was_killed_as_it_started_it_is_found_again(provider: LocalProvider) -> None:
    command = [sys.executable, "-c", KILLED_AT_ONCE, str(provider.directory)]
    done = subprocess.run(command, input=pickle.dumps(an_order(provider)), check=False)
    assert done.returncode == 9
    assert provider.launch([an_order(provider)]) == [Launched(instance="i1", cloud_id="local-i1")]
    assert [m.instance for m in provider.list("test")] == ["i1"]
    wait_for(lambda: len(processes_of(provider)) == 1)
    provider.terminate(["local-i1"])
    wait_for(lambda: not provider.list("test"))


def test_an_order_that_is_repeated_after_the_end_starts_nothing(provider: LocalProvider) -> None:
    provider.launch([an_order(provider)])
    provider.terminate(["local-i1"])
    wait_for(lambda: not provider.list("test"))
    provider.launch([an_order(provider)])
    assert provider.list("test") == []


def test_a_machine_whose_first_process_is_killed_takes_its_supervisor_with_it(provider: LocalProvider) -> None:
    provider.launch([an_order(provider)])
    wait_for(lambda: processes_of(provider))
    os.kill(machine_pid(provider), signal.SIGKILL)
    assert wait_for(lambda: not is_running(provider.directory / "i1"))
    assert wait_for(lambda: not processes_of(provider))


def test_a_machine_whose_supervisor_is_killed_ends(provider: LocalProvider) -> None:
    provider.launch([an_order(provider)])
    (supervisor,) = wait_for(lambda: processes_of(provider))
    supervisor.kill()
    wait_for(lambda: not provider.list("test"))
    ended = json.loads((provider.directory / "i1" / "ended.json").read_text())
    assert ended["exit_code"] == -signal.SIGKILL


def test_what_a_machine_wrote_goes_with_it(provider: LocalProvider) -> None:
    provider.launch([an_order(provider)])
    wait_for(lambda: (provider.directory / "i1" / "work").is_dir())
    provider.terminate(["local-i1"])
    wait_for(lambda: not provider.list("test"))
    assert sorted(p.name for p in (provider.directory / "i1").iterdir()) == [
        "console.log",
        "ended.json",
        "lock",
        "machine.json",
    ]


def test_a_machine_that_ended_long_ago_is_forgotten(provider: LocalProvider) -> None:
    provider.launch([an_order(provider)])
    provider.terminate(["local-i1"])
    wait_for(lambda: not provider.list("test"))
    os.utime(provider.directory / "i1" / "machine.json", (0, 0))
    provider.launch([an_order(provider, "i2")])
    assert [p.name for p in provider.directory.iterdir()] == ["i2"]


def test_another_clusters_machines_are_not_listed(provider: LocalProvider) -> None:
    provider.launch([an_order(provider)])
    assert provider.list("other") == []


def test_ending_a_machine_that_is_not_there_is_no_error(provider: LocalProvider) -> None:
    provider.terminate(["local-never"])
    assert provider.list("test") == []


def test_a_machine_that_ends_in_the_moment_in_which_it_is_ended_is_no_error(provider: LocalProvider) -> None:
    ended = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True)
    place = provider.directory / "i1"
    place.mkdir(parents=True)
    (place / "machine.json").write_text(json.dumps({"pid": int(ended.stdout)}))
    with open(place / "lock", "ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # as when it was looked at
        provider.terminate(["local-i1"])
        assert (place / "machine.json").exists()  # it is left to whoever ended it to clear up
    (place / "machine.json").unlink()


def test_the_join_token_is_not_left_on_disk_nor_in_an_argument_list(provider: LocalProvider) -> None:
    provider.launch([an_order(provider)])
    wait_for(lambda: processes_of(provider))
    assert holding(provider.directory / "i1", "a-secret-token") == []
    every = [psutil.Process(machine_pid(provider)), *processes_of(provider)]
    assert not any("a-secret-token" in argument for p in every for argument in p.cmdline())


def test_the_dispatchers_secrets_do_not_reach_the_machine(
    provider: LocalProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "the-dispatchers-own")
    provider.launch([an_order(provider)])
    (supervisor,) = wait_for(lambda: processes_of(provider))
    for process in (supervisor, psutil.Process(machine_pid(provider))):
        assert "AWS_SECRET_ACCESS_KEY" not in process.environ(), "any process of this user can read both"


def test_an_offer_says_shape_and_price(provider: LocalProvider) -> None:
    (offer,) = provider.offers(RESOURCE, datetime.now(UTC))
    assert (offer.type, offer.gpus, offer.price_usd_per_hour) == ("local-2gpu", 2, 1.5)


@pytest.mark.parametrize("gpus", ["many", -1, True, 1.5])
def test_a_wrong_number_of_gpus_is_one_clear_line(provider: LocalProvider, gpus: object) -> None:
    with pytest.raises(BadRequest, match=r"resources\.gpu\.gpus"):
        provider.offers(a_resource(provider="local", settings={"gpus": gpus}), datetime.now(UTC))
