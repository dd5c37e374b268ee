"""What a supervisor says of an environment that is wrong: one line, before anything is made or asked."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.waiting import PATIENCE

RIGHT = {
    "FLEET_CENTRE_URL": "http://127.0.0.1:1",
    "FLEET_INSTANCE": "i1",
    "FLEET_JOIN_TOKEN": "SECRET",
    "FLEET_SIM_GPUS": '{"count": 1}',
}


def said(place: Path, **wrong: str) -> list[str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith("FLEET_")}
    environment = {**kept, **RIGHT, "FLEET_DIR": str(place / "work"), **wrong}
    command = [sys.executable, "-m", "fleet.supervisor"]
    done = subprocess.run(
        command,
        env=environment,
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=60 * PATIENCE,
        check=False,
    )
    assert (done.returncode, done.stdout, list(place.iterdir())) == (1, "", [])
    assert "SECRET" not in done.stderr
    return done.stderr.splitlines()


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (
            {"FLEET_INSTANCE": "../elsewhere"},
            "FLEET_INSTANCE '../elsewhere' is no name of an instance; letters, digits",
        ),
        (
            {"FLEET_POWER": "off"},
            "FLEET_POWER: 'off' is no way to end a machine; there are poweroff, delete-self and exit",
        ),
        ({"FLEET_SIM_GPUS": "two"}, "FLEET_SIM_GPUS: simulated GPUs: cannot read 'two'; write "),
        ({"FLEET_CENTRE_CERT_SHA256": "zz"}, "FLEET_CENTRE_CERT_SHA256 is not the SHA-256 of a certificate; give 64"),
        ({"FLEET_CENTRE_URL": ""}, "FLEET_CENTRE_URL not set in the environment"),
    ],
)
def test_a_wrong_environment_is_refused_in_one_line(tmp_path: Path, wrong: dict[str, str], words: str) -> None:
    (line,) = said(tmp_path, **wrong)
    assert line.startswith(f"fleet supervise: {words}")


def test_a_log_level_that_there_is_not_is_said_and_hinders_nothing(tmp_path: Path) -> None:
    warned, refused = said(tmp_path, FLEET_LOG_LEVEL="loud", FLEET_POWER="off")
    assert "warning FLEET_LOG_LEVEL is none of the levels: it_is=LOUD levels='DEBUG, INFO, WARNING, ERROR'" in warned
    assert "FLEET_POWER" in refused, "the start goes on"
