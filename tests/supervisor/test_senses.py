"""What a machine is and does, put together from its GPUs, what is wrong with them, and itself."""

from pathlib import Path

from agent_hooks.gpus import GpuReading, SimulatedGpus
from agent_hooks.health import Finding, NoHealth, Severity, of_xid
from fleet.supervisor.senses import Senses

A, B = (GpuReading(index=n, uuid=f"GPU-{name}", model="A100", memory_gib=40, util=5) for n, name in enumerate("ab"))


class Ill(NoHealth):
    """GPUs with these findings."""

    def __init__(self, *findings: Finding) -> None:
        self.findings = findings

    def look(self) -> tuple[Finding, ...]:
        return self.findings


class Some(SimulatedGpus):
    """GPUs that may go away."""

    def __init__(self, *readings: GpuReading) -> None:
        self.readings = readings

    def read(self) -> tuple[GpuReading, ...]:
        return self.readings


def test_each_gpu_says_what_is_wrong_with_it():
    hot = Finding(gpu="GPU-b", code="hw_thermal", severity=Severity.WARN, text="too hot")
    senses = Senses(Some(A, B), Ill(of_xid("GPU-b", 79), hot, of_xid("GPU-b", 48)))
    a, b = senses.look().gpus
    assert (a.sick, a.warning) == (None, None)
    fallen = "Xid 79: it has fallen off the bus; reset it or replace its machine"
    assert b.sick == f"{fallen}; Xid 48: a double-bit memory error; reset it or replace its machine"
    assert b.warning == "too hot"
    assert senses.why_sick([a]) is None
    assert senses.why_sick([a, b]) == b.sick


def test_a_gpu_that_was_lost_is_still_told_of_but_not_what_it_last_did():
    gpus, health = Some(A, B), Ill()
    senses = Senses(gpus, health)
    assert [gpu.util for gpu in senses.look().gpus] == [5, 5]
    gpus.readings, health.findings = (A,), (of_xid("GPU-b", 79),)
    a, b = senses.look().gpus
    assert (a.util, b.util, b.uuid, b.index) == (5, None, "GPU-b", 1)
    assert b.sick


def test_what_was_seen_later_stands_whatever_is_told_first():
    """A report reads the GPUs, talks to the server for a while, and then tells of them; the driver may warn in between."""
    gpus, health = Some(A, B), Ill()
    senses = Senses(gpus, health)
    before = senses.look()
    health.findings = (of_xid("GPU-b", 79),)
    after = senses.look()
    for first, second in ((before, after), (after, before)):
        assert first.or_later(second) is after
    assert (before.gpus[1].sick, after.gpus[1].sick is None) == (None, False)


def test_gpus_of_a_driver_that_is_away_as_a_whole_are_gone_and_not_sick():
    gpus = Some(A, B)
    senses = Senses(gpus, Ill())
    senses.look()
    gpus.readings = ()
    assert senses.look().gpus == ()
    assert senses.why_sick([]) is None


def test_a_textfile_that_cannot_be_written_does_not_disturb(tmp_path: Path):
    senses = Senses(Some(A), Ill(), tmp_path / "none" / "fleet.prom")
    sight, host = senses.read(tasks=1)
    assert (len(sight.gpus), host.memory_used_mib > 0) == (1, True)


def test_the_textfile_has_what_was_read(tmp_path: Path):
    senses = Senses(Some(A), Ill(), tmp_path / "fleet.prom")
    senses.read(tasks=2)
    lines = (tmp_path / "fleet.prom").read_text().splitlines()
    assert "fleet_node_tasks 2" in lines
    assert 'fleet_gpu_utilization_ratio{gpu="0",uuid="GPU-a",model="A100"} 0.05' in lines


def test_where_there_are_no_real_gpus_nobody_listens():
    senses = Senses(Some(A), NoHealth())
    senses.look()
    senses.listen(lambda sight: None)
    assert senses._listener is None
