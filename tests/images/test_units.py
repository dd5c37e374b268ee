"""The systemd units: systemd understands them, and they name what exists."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import time
from collections import defaultdict
from pathlib import Path

import pytest
import typer.main

from agent_hooks.signs import SIGN_EVERY_S, Signs
from fleet.cli.app import app
from fleet.cli.supervise import NEEDED
from fleet.supervisor.loop import BURY_EVERY
from fleet.supervisor.start import ENROLL_WITHIN_S
from tests.waiting import PATIENCE

ROOT = Path(__file__).parents[2]
UNITS = sorted((ROOT / "images" / "systemd").iterdir())
PROGRAM = "/opt/fleet/bin/fleet"
HARDENING = {
    *("UMask", "NoNewPrivileges", "CapabilityBoundingSet", "ProtectSystem", "ProtectKernelTunables", "LockPersonality"),
    *("ProtectKernelModules", "ProtectKernelLogs", "ProtectControlGroups", "RestrictSUIDSGID"),
    *("SystemCallArchitectures",),
}
KNOWN = {
    "Unit": {"Description", "Wants", "After", "SuccessAction"}
    | {"StartLimitIntervalSec", "StartLimitBurst", "StartLimitAction"},
    "Service": {"Type", "User", "Group", "WorkingDirectory", "Environment", "EnvironmentFile", "ExecStart"}
    | {"RuntimeDirectory", "RuntimeDirectoryMode", "RuntimeDirectoryPreserve"}
    | {"StateDirectory", "StateDirectoryMode", "Restart", "RestartSec", "RestartPreventExitStatus"}
    | {"TimeoutStopSec", "KillMode", "OOMPolicy", "ExecCondition"}
    | {"TimeoutStartSec", "WatchdogSec", "TimeoutAbortSec", "LimitCORE"}
    | {"RuntimeDirectory", "RuntimeDirectoryMode", "RuntimeDirectoryPreserve"}
    | HARDENING,
    "Timer": {"OnBootSec", "OnUnitInactiveSec", "AccuracySec", "Unit"},
    "Install": {"WantedBy"},
}

Parsed = dict[str, dict[str, list[str]]]


def parsed(unit: Path) -> Parsed:
    """Section -> key -> values, strictly: every line is a comment, a section or a key of one."""
    found: Parsed = defaultdict(lambda: defaultdict(list))
    section = None
    for line in unit.read_text().splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        if head := re.fullmatch(r"\[(\w+)\]", line):
            section = head[1]
            assert section in KNOWN, f"{unit.name}: {line}"
            continue
        key, equals, value = line.partition("=")
        assert section, f"{unit.name}: {line}: outside of a section"
        assert equals, f"{unit.name}: {line}: no key=value"
        assert key in KNOWN[section], f"{unit.name}: {key} in [{section}]"
        found[section][key].append(value)
    return found


def unit(name: str) -> Parsed:
    return parsed(ROOT / "images" / "systemd" / name)


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.name)
def test_a_unit_has_known_sections_and_keys_alone(path: Path) -> None:
    assert "Description" in parsed(path)["Unit"]


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd-analyze here (apt-get install systemd)")
def test_systemd_itself_finds_nothing_wrong(tmp_path: Path) -> None:
    for path in UNITS:  # with a program that is there
        (tmp_path / path.name).write_text(path.read_text().replace(PROGRAM, "/bin/true"))
    names = [path.name for path in UNITS]
    done = subprocess.run(
        ["systemd-analyze", "verify", *names],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60 * PATIENCE,
        check=False,
    )
    assert [line for line in done.stderr.splitlines() if any(name in line for name in names)] == []


def test_units_start_commands_that_exist() -> None:
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    started = [line for path in UNITS for line in parsed(path)["Service"]["ExecStart"] if line.startswith(PROGRAM)]
    assert sorted(line.split()[1] for line in started) == ["dispatch", "supervise", "supervise"]
    for line in started:
        command = commands[line.split()[1]]
        options = {option for parameter in command.params for option in parameter.opts}
        assert set(re.findall(r"--[a-z-]+", line)) <= options


def test_the_timer_ends_the_machine_by_its_service() -> None:
    timer, service = unit("fleet-lifetime.timer"), unit("fleet-lifetime.service")
    assert timer["Timer"]["Unit"] == ["fleet-lifetime.service"]
    assert timer["Install"]["WantedBy"] == ["timers.target"]
    assert service["Service"]["ExecStart"][-1] == "/usr/bin/systemctl poweroff --force"
    named = {word for line in service["Service"]["ExecStart"] for word in line.split() if word.endswith(".service")}
    assert named == {"fleet-supervise.service"}


def test_a_hung_supervisor_is_aborted_by_systemd_and_leaves_no_core_with_its_secrets() -> None:
    service = unit("fleet-supervise.service")["Service"]
    assert (service["Type"], service["WatchdogSec"], service["LimitCORE"]) == (["notify"], ["2min"], ["0"])
    longest_sleep_of_the_loop, patience = BURY_EVERY.total_seconds(), 120
    assert longest_sleep_of_the_loop + SIGN_EVERY_S < patience
    assert Path("/run/fleet/alive").as_posix() in "".join(service["Environment"])
    assert service["RuntimeDirectory"] == ["fleet"]
    assert service["RuntimeDirectoryPreserve"] == ["yes"]  # a stamp that went with its supervisor would tell nothing


def judged(tmp_path: Path, stamp: str | None, **seconds: str) -> bool:
    """Whether the condition of the watch holds, so that it ends the machine; run by the shell, as systemd does."""
    service = unit("fleet-watch.service")["Service"]
    shell, option, script = shlex.split(service["ExecCondition"][0].replace("/run/fleet", str(tmp_path)))
    environment = dict(pair.split("=") for pair in service["Environment"][0].split())
    if stamp is not None:
        (tmp_path / "alive").write_text(stamp)
    command = [shell, option, script.replace("$$", "$")]
    return subprocess.run(command, env={**environment, "PATH": os.defpath, **seconds}, check=False).returncode == 0


def test_the_watch_ends_a_machine_whose_supervisor_was_silent_for_ten_minutes(tmp_path: Path) -> None:
    now = int(time.clock_gettime(time.CLOCK_BOOTTIME))
    assert not judged(tmp_path, f"{now - 590}\n")
    assert judged(tmp_path, f"{now - 601}\n")
    Signs(stamp=tmp_path / "alive").alive()
    assert not judged(tmp_path, None)


def test_the_watch_ends_a_machine_whose_supervisor_was_never_at_work_at_the_boot_deadline(tmp_path: Path) -> None:
    up = int(time.clock_gettime(time.CLOCK_BOOTTIME))
    assert judged(tmp_path, None, FLEET_BOOT_S=str(up - 1))
    assert not judged(tmp_path, None, FLEET_BOOT_S=str(up + 60))
    assert unit("fleet-watch.service")["Service"]["Environment"] == ["FLEET_SILENT_S=600 FLEET_BOOT_S=1500"]
    assert ENROLL_WITHIN_S < 1500


def test_the_watch_asks_nobody_and_does_not_trust_a_clean_end() -> None:
    timer, service = unit("fleet-watch.timer"), unit("fleet-watch.service")
    assert timer["Timer"]["Unit"] == ["fleet-watch.service"]
    assert timer["Install"]["WantedBy"] == ["timers.target"]
    assert service["Service"]["ExecStart"] == [
        "-/usr/bin/systemctl poweroff --force",
        "/bin/sleep 120",
        "/usr/bin/systemctl poweroff --force --force",
    ]


def test_a_supervisor_that_ends_takes_its_machine_with_it() -> None:
    supervise = unit("fleet-supervise.service")
    assert supervise["Unit"]["SuccessAction"] == ["poweroff"]
    assert supervise["Unit"]["StartLimitAction"] == ["poweroff"]
    assert supervise["Service"]["KillMode"] == ["mixed"]  # the first SIGTERM is for the supervisor alone
    assert supervise["Service"]["EnvironmentFile"] == ["/etc/fleet/supervise.env"]
    text = (ROOT / "images" / "systemd" / "fleet-supervise.service").read_text()
    assert [name for name in NEEDED if name not in text] == []


def test_a_computer_without_a_dispatcher_stays_on_and_its_supervisor_always_comes_back() -> None:
    standalone = unit("fleet-standalone.service")
    assert "SuccessAction" not in standalone["Unit"]
    assert "StartLimitAction" not in standalone["Unit"]
    assert standalone["Unit"]["StartLimitIntervalSec"] == ["0"]
    service = standalone["Service"]
    assert (service["Restart"], service["KillMode"], service["User"]) == (["always"], ["mixed"], ["fleet"])
    assert "FLEET_POWER=exit" in service["Environment"][0]
    (started,) = service["ExecStart"]
    assert started.split()[1:] == ["supervise", "--standalone", "--config", "/etc/fleet/machine.toml"]


def test_local_machines_outlive_a_restart_of_the_dispatcher() -> None:
    dispatch = unit("fleet-dispatch.service")
    assert dispatch["Service"]["KillMode"] == ["process"]
    assert dispatch["Unit"]["StartLimitIntervalSec"] == ["0"]


@pytest.mark.parametrize("name", ["fleet-dispatch.service", "fleet-supervise.service"])
def test_a_unit_runs_without_privileges_and_comes_back_after_a_failure(name: str) -> None:
    service = unit(name)["Service"]
    assert service["User"] == ["fleet"]
    assert service["NoNewPrivileges"] == ["yes"]
    assert service["Restart"] == ["on-failure"]
    assert service["StateDirectoryMode"] == ["0700"]
