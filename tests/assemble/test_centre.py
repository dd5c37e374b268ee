"""A centre's start on what an earlier one left."""

import threading
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest

from fleet.assemble import closing
from fleet.assemble.centre import Centre
from fleet.assemble.state import access_from
from fleet.config import Config, OnShutdown, parse
from fleet.model import Standing
from fleet.queues.client import ClearMLServer
from tests.builders import an_instance

FLEET_FILE = """\
cluster: c
listen: 127.0.0.1:0
resources:
  gpu: {provider: local, gpus: 1}
queues:
  train: {resources: [gpu]}
"""


def a_config(tmp_path: Path) -> Config:
    return replace(parse(FLEET_FILE, "fleet.yaml"), state_dir=tmp_path / "state")


def test_users_keys_go_on_working_when_the_database_was_lost(tmp_path: Path) -> None:
    first = Centre(a_config(tmp_path), with_dispatcher=False)
    first.start()
    keys = first.state.credentials()
    first.stop()
    for file in (tmp_path / "state").glob("server.db*"):
        file.unlink()
    second = Centre(a_config(tmp_path), with_dispatcher=False)
    second.start()
    try:
        assert keys
        assert second.state.credentials() == keys
        for who in ("fleet", "user"):
            server = ClearMLServer(access_from(keys, second.access.api_url, who))
            assert set(server.ensure_queues(["train"])) == {"train"}
    finally:
        second.stop()


def test_who_is_kept_does_not_end_for_idleness_and_the_others_do(tmp_path: Path) -> None:
    centre = Centre(a_config(tmp_path))
    try:
        assert centre.loop
        resource = centre.config.resources[0]
        times = {}
        for kept in (None, frozenset({"i1"}), frozenset({"i2"})):
            centre.loop.dispatcher.kept = kept
            times[kept] = centre._idle_timeout(an_instance("i1"), resource)
        # Before the first plan nobody knows who is needed.
        assert list(times.values()) == [None, None, resource.idle_timeout]
        assert centre._idle_timeout(an_instance("i1"), None) == timedelta(0)
    finally:
        centre.stop()


def test_the_idle_time_that_the_planner_chose_holds_where_the_fleet_file_says_auto_but_not_for_who_is_kept(
    tmp_path: Path,
) -> None:
    centre = Centre(a_config(tmp_path))
    try:
        assert centre.loop
        auto = replace(centre.config.resources[0], is_idle_auto=True)
        fixed = replace(auto, is_idle_auto=False)
        chosen = an_instance("i1", standing=Standing(idle_timeout=timedelta(seconds=210)))
        centre.loop.dispatcher.kept = frozenset()
        assert centre._idle_timeout(chosen, auto) == timedelta(seconds=210)
        assert centre._idle_timeout(an_instance("i2"), auto) == auto.idle_timeout, "nothing was chosen yet"
        assert centre._idle_timeout(chosen, fixed) == fixed.idle_timeout
        centre.loop.dispatcher.kept = frozenset({"i1"})
        assert centre._idle_timeout(chosen, auto) is None
        assert centre._edge_policy(replace(chosen, offer=replace(chosen.offer, resource="gpu"))).idle_timeout is None
    finally:
        centre.stop()


class LastPass:
    """A loop in the middle of a pass that began before everything was to end, and that launches one machine more."""

    def __init__(self, centre: Centre) -> None:
        self.dispatcher = SimpleNamespace(is_closing=False)
        self._centre = centre
        self._has_launched = False

    def wake(self) -> None:
        """It goes on anyway."""

    @property
    def may_launch(self) -> bool:
        if not self._has_launched:
            self._has_launched = True
            assert self.dispatcher.is_closing
            return True
        if self._centre.store.instance("last") is None:
            last = an_instance("last", ready=False)
            self._centre.store.record_intents([replace(last, cluster="c")])
        return False


@pytest.mark.parametrize("on_shutdown", ["all", "idle"])
def test_what_the_last_pass_has_launched_is_ended_too(tmp_path: Path, on_shutdown: str, monkeypatch) -> None:
    """It was launched a moment after everything had been told to end, and nobody told it."""
    monkeypatch.setattr(closing, "PATIENCE", timedelta(seconds=0.5))
    centre = Centre(replace(a_config(tmp_path), on_shutdown=OnShutdown(on_shutdown)))
    loop, centre.loop = centre.loop, LastPass(centre)  # type: ignore[assignment]
    try:
        closing.close(centre, threading.Event())
        (last,) = centre.store.instances("c")
        assert last.terminate_requested_at is not None
    finally:
        centre.loop = loop
        centre.stop()
