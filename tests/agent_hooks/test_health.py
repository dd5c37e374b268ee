"""What is wrong with GPUs, as the real pynvml tells it, on the driver for tests. What each number means is in NVIDIA's
"XID Errors" and "NVML API Reference Guide"."""

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from agent_hooks import xids
from agent_hooks.gpus import NvmlGpus
from agent_hooks.health import Finding, NvmlHealth, Severity, of_xid
from tests.nvml import build

ROOT = Path(__file__).parents[2]
A, B = "GPU-aaaa", "GPU-bbbb"
TWO = f"{A}|NVIDIA A100|40960|0|0|40|0\n{B}|NVIDIA A100|40960|0|0|40|0\n"
# One look for each line of its input; what events tell is printed by a thread of its own.
READER = """
import dataclasses, json, sys, threading
from agent_hooks.gpus import NvmlGpus
from agent_hooks.health import NvmlHealth
health = NvmlHealth(NvmlGpus(), sys.argv[1] or None)
def say(kind, found):
    print(json.dumps([kind, [dataclasses.asdict(f) for f in found]]), flush=True)
def listen():
    while True:
        health.wait(0.001)  # the first call listens
        print(json.dumps(["listens", []]), flush=True)
        while True:
            if found := health.wait(30):
                say("event", [found])
threading.Thread(target=listen, daemon=True).start()
for line in sys.stdin:
    say("look", health.look())
"""


class Machine:
    """A process that knows how its GPUs are, and the file that says it."""

    def __init__(self, library: Path, state: Path, least_driver: str = "") -> None:
        self.state = state
        state.write_text(TWO)
        environment = {**os.environ, "LD_LIBRARY_PATH": str(library), "FAKE_NVML_STATE": str(state)}
        command = [sys.executable, "-c", READER, least_driver]
        self.process = subprocess.Popen(
            command, env=environment, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self.next("listens") == []

    def next(self, kind: str) -> list[Finding]:
        while True:
            told, found = json.loads(self.process.stdout.readline())
            if told == kind:
                return [Finding(**{**f, "severity": Severity(f["severity"])}) for f in found]

    def look(self, text: str) -> list[Finding]:
        self.state.write_text(text)
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return self.next("look")


@pytest.fixture(scope="session")
def library(tmp_path_factory) -> Path:
    return build(tmp_path_factory.mktemp("nvml"))


@pytest.fixture
def machine(library, tmp_path):
    machines = []

    def make(least_driver: str = "") -> Machine:
        machines.append(Machine(library, tmp_path / "state", least_driver))
        return machines[-1]

    yield make
    for each in machines:
        each.process.stdin.close()
        each.process.kill()
        each.process.wait()


def codes(found: list[Finding]) -> list[tuple[str, str, Severity]]:
    return sorted((f.gpu, f.code, f.severity) for f in found)


def test_healthy_gpus_have_no_findings(machine):
    assert machine().look(TWO) == []


@pytest.mark.parametrize(
    ("line", "code", "severity"),
    [
        (f"ecc|{B}|3|7", "ecc", Severity.SICK),
        (f"ecc|{B}|0|7", "ecc_ever", Severity.WARN),
        (f"retired|{B}|2|1", "pages_pending", Severity.SICK),
        (f"retired|{B}|0|1", "pages_pending", Severity.WARN),
        (f"remapped|{B}|0|2|1|0", "rows_pending", Severity.SICK),
        (f"remapped|{B}|2|0|1|0", "rows_pending", Severity.WARN),
        (f"remapped|{B}|2|1|1|1", "remap_failed", Severity.SICK),
        (f"throttle|{B}|8", "hw_slowdown", Severity.WARN),
        (f"throttle|{B}|40", "hw_thermal", Severity.WARN),
        (f"throttle|{B}|80", "hw_power_brake", Severity.WARN),
    ],
)
def test_what_a_gpu_tells_of_itself_is_one_finding(machine, line: str, code: str, severity: Severity):
    assert codes(machine().look(f"{TWO}{line}\n")) == [(B, code, severity)]


def test_a_text_has_its_number_and_says_what_to_do(machine):
    (found,) = machine().look(f"{TWO}ecc|{A}|3|7\n")
    text = "3 uncorrected memory errors (ECC) since its driver was loaded; reset it or replace its machine"
    assert found.text == text


@pytest.mark.parametrize("line", [f"retired|{B}|4|0", f"remapped|{B}|2|1|0|0", f"throttle|{B}|27"])
def test_what_was_mended_and_ordinary_clock_management_are_no_findings(machine, line: str):
    """0x27: idle, the user's own clocks, the power cap and the thermal limit that software keeps."""
    assert machine().look(f"{TWO}{line}\n") == []


def test_an_xid_event_is_told_at_once_and_remembered(machine):
    here = machine()
    assert here.look(TWO) == []
    with here.state.open("a") as file:
        file.write(f"xid|{B}|79\n")
    (told,) = here.next("event")
    assert told == of_xid(B, 79)
    assert told.text == "Xid 79: it has fallen off the bus; reset it or replace its machine"
    assert codes(here.look(TWO)) == [(B, "xid_79", Severity.SICK)]


def test_the_fault_of_a_program_leaves_its_gpu_in_service(machine):
    here = machine()
    with here.state.open("a") as file:
        file.write(f"xid|{A}|31\n")
    (told,) = here.next("event")
    assert (told.gpu, told.code, told.severity) == (A, "xid_31", Severity.WARN)


def test_a_gpu_that_no_longer_answers_is_lost_for_good_and_the_others_are_not(machine):
    here = machine()
    here.look(TWO)
    lost = TWO.replace(f"{A}|NVIDIA A100|40960|0|0|40|0", f"{A}|NVIDIA A100|40960|0|0|40|1")
    assert codes(here.look(lost)) == [(A, "lost", Severity.SICK)]
    assert codes(here.look(TWO)) == [(A, "lost", Severity.SICK)]  # one that comes back is not trusted


def test_a_driver_that_is_away_as_a_whole_says_nothing_of_its_gpus(machine):
    here = machine()
    here.look(TWO)
    assert here.look("broken") == []
    assert here.look(TWO) == []


def test_gpus_under_a_driver_that_is_too_old_are_out_of_service(machine):
    here = machine("550.54")
    assert here.look(f"{TWO}driver|-|550.54.15\n") == []
    found = here.look(f"{TWO}driver|-|535.183.01\n")
    assert codes(found) == [(A, "driver", Severity.SICK), (B, "driver", Severity.SICK)]
    assert found[0].text == "the driver is 535.183.01, and at least 550.54 is wanted; bake the image anew"


def test_no_xid_is_both_of_a_program_and_of_the_gpu():
    assert xids.OF_PROGRAMS.keys() & (xids.OF_THE_GPU.keys() | xids.RECORDED.keys()) == set()
    # What NVIDIA's device plugin for Kubernetes calls application errors.
    assert {13, 31, 43, 45, 68, 109} <= xids.OF_PROGRAMS.keys()
    assert {48, 64, 74, 79, 94, 95, 119, 120} <= xids.OF_THE_GPU.keys()
    assert of_xid(A, 9999).severity is Severity.WARN


def test_a_real_gpu_is_healthy_where_there_is_one():
    gpus = NvmlGpus()
    if not gpus.read():
        pytest.skip("no NVIDIA GPU here")
    sick = [dataclasses.asdict(f) for f in NvmlHealth(gpus).look() if f.severity is Severity.SICK]
    assert sick == []
