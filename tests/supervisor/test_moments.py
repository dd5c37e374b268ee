"""Hooks that nobody waits for: one behind the other, and not without end."""

from pathlib import Path

import pytest

from agent_hooks.hooks import Hooks, Moment
from fleet.supervisor.moments import MOST_WAITING, Moments


@pytest.fixture
def gate(tmp_path: Path) -> Path:
    """Hooks wait until this file is there, then write down that they ran."""
    gate = tmp_path / "gate"
    for moment in (Moment.NOTICE, Moment.DRAIN):
        hook = tmp_path / "hooks" / moment / "wait"
        hook.parent.mkdir(parents=True)
        hook.write_text(f"#!/bin/sh\nwhile [ ! -e {gate} ]; do sleep 0.05; done\necho {moment} >>{tmp_path}/ran\n")
        hook.chmod(0o755)
    return gate


def test_notices_that_come_faster_than_their_hooks_run_do_not_pile_up_and_a_drain_is_told_all_the_same(
    tmp_path: Path, gate: Path, caplog: pytest.LogCaptureFixture
) -> None:
    moments = Moments(Hooks(tmp_path / "hooks", packaged=()), lambda event: None)
    for number in range(5 * MOST_WAITING):
        moments.tell(Moment.NOTICE, {"FLEET_REASON": f"notice {number}"})
    last = moments.tell(Moment.DRAIN, {"FLEET_REASON": "idle"})
    assert len(moments._threads) == MOST_WAITING + 1
    assert caplog.messages == ["hooks not run"] * 4 * MOST_WAITING
    gate.touch()
    last.join(30)
    assert (tmp_path / "ran").read_text().split() == ["notice"] * MOST_WAITING + ["drain"]


def test_threads_of_hooks_that_are_over_are_let_go_of(tmp_path: Path, gate: Path) -> None:
    gate.touch()
    moments = Moments(Hooks(tmp_path / "hooks", packaged=()), lambda event: None)
    for _ in range(5):
        moments.tell(Moment.NOTICE, {}).join(30)
    assert len(moments._threads) == 1
    assert not moments.is_busy
