"""Files with credentials: in memory, for us alone, and not left behind."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from fleet.errors import ConfigError
from fleet.supervisor import private as private_module
from fleet.supervisor.first import init_script
from fleet.supervisor.private import LOCK, hold, private_directory, write_private


@pytest.fixture
def mounts(tmp_path, monkeypatch):
    """The machine's table of mounts, with these places in memory: mounts("run", "shm")."""

    def write(*in_memory: str) -> None:
        lines = [f"tmpfs {tmp_path / name} tmpfs rw 0 0" for name in in_memory]
        (tmp_path / "mounts").write_text("\n".join(["/dev/sda / ext4 rw 0 0", *lines]))
        monkeypatch.setattr(private_module, "MOUNTS", tmp_path / "mounts")

    return write


def test_the_unit_s_place_in_memory_is_taken_first_then_the_user_s(mounts, tmp_path):
    environ = {"RUNTIME_DIRECTORY": f"{tmp_path}/unit/fleet", "XDG_RUNTIME_DIR": f"{tmp_path}/user"}
    mounts("unit", "user")
    found = private_directory("i1", environ, tmp_path / "disk")
    assert found.parent == tmp_path / "unit/fleet"
    assert stat.S_IMODE(found.stat().st_mode) == 0o700
    mounts("user")
    assert private_directory("i1", environ, tmp_path / "disk").parent == tmp_path / "user/fleet"


def test_it_is_found_again_by_whoever_works_in_the_same_directory_and_by_nobody_else(tmp_path):
    environ = {"FLEET_RUN_DIR": str(tmp_path)}
    first, again = (private_directory("i1", environ, Path("/var/lib/one")) for _ in range(2))
    other = private_directory("i1", environ, Path("/var/lib/two"))
    assert first == again != other


def test_without_a_place_in_memory_it_is_the_disk_and_the_log_says_so(mounts, tmp_path, caplog):
    mounts()
    found = private_directory("i1", {"XDG_RUNTIME_DIR": str(tmp_path)}, tmp_path / "disk")
    assert (found, stat.S_IMODE(found.stat().st_mode)) == (tmp_path / "disk/private", 0o700)
    assert [record.message for record in caplog.records] == ["no place in memory for credentials"]


def test_what_the_operator_names_is_taken_or_refused_in_one_line(tmp_path):
    assert private_directory("i1", {"FLEET_RUN_DIR": f"{tmp_path}/a"}, tmp_path).parent == tmp_path / "a"
    (tmp_path / "file").touch()
    with pytest.raises(
        ConfigError, match=r"^FLEET_RUN_DIR .*/file: File exists; name a directory that we may write to$"
    ):
        private_directory("i1", {"FLEET_RUN_DIR": f"{tmp_path}/file"}, tmp_path)


def test_a_place_that_others_can_write_to_is_not_trusted(mounts, tmp_path):
    (tmp_path / "run").mkdir(mode=0o700)
    (tmp_path / "run").chmod(0o777)
    with pytest.raises(ConfigError, match="others may write to it"):
        private_directory("i1", {"FLEET_RUN_DIR": f"{tmp_path}/run"}, tmp_path)
    mounts("run")
    assert (
        private_directory("i1", {"RUNTIME_DIRECTORY": f"{tmp_path}/run"}, tmp_path / "disk")
        == tmp_path / "disk/private"
    )
    (tmp_path / "run").chmod(0o700)
    (tmp_path / "elsewhere").mkdir()
    environ = {"RUNTIME_DIRECTORY": f"{tmp_path}/run"}
    made = private_directory("i1", environ, tmp_path / "disk")
    made.rmdir()
    made.symlink_to(tmp_path / "elsewhere")
    assert private_directory("i1", environ, tmp_path / "disk") == tmp_path / "disk/private"


HOLD = "import sys, time; from pathlib import Path; from fleet.supervisor.private import hold; hold(Path(sys.argv[1])); print(1, flush=True); time.sleep(60)"


def test_two_supervisors_of_one_instance_do_not_share_a_machine(tmp_path):
    with subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE) as other:
        other.stdout.readline()
        with pytest.raises(ConfigError, match=r"^another supervisor runs here already \(.* is in use\); end it first$"):
            hold(tmp_path)
        other.kill()
    os.close(hold(tmp_path))


def test_what_a_killed_supervisor_left_is_deleted_a_day_later(tmp_path):
    environ = {"FLEET_RUN_DIR": str(tmp_path / "run")}
    old, young, used = (private_directory(name, environ, tmp_path) for name in ("old", "young", "used"))
    for each in (old, young):
        os.close(hold(each))
    lock = hold(used)
    for each in (old, used):
        os.utime(each, (0, 0))
    (tmp_path / "run" / "a stranger's").mkdir()
    private_directory("now", environ, tmp_path)
    left = {path.name.partition("-")[0] for path in (tmp_path / "run").iterdir()}
    assert left == {"now", "young", "used", "a stranger's"}
    os.close(lock)


def test_a_private_file_is_for_its_owner_alone_and_replaces_what_was_there(tmp_path):
    path: Path = tmp_path / "conf"
    path.write_text("old")
    path.chmod(0o644)
    write_private(path, "new")
    assert (path.read_text(), stat.S_IMODE(path.stat().st_mode), os.listdir(tmp_path)) == ("new", 0o600, ["conf"])


def test_a_file_that_cannot_be_written_leaves_what_was_there_and_no_part(tmp_path):
    (tmp_path / "conf").mkdir()
    with pytest.raises(OSError, match="conf"):
        write_private(tmp_path / "conf", "new")
    assert os.listdir(tmp_path) == ["conf"]


def test_an_init_script_runs_once_for_each_boot_and_again_when_it_failed_or_changed(tmp_path):
    (hook,) = init_script(f"echo ran >> {tmp_path}/out; [ -e {tmp_path}/ok ]", tmp_path)
    assert subprocess.run(hook.command, check=False).returncode == 1
    (tmp_path / "ok").touch()
    (again,) = init_script(f"echo ran >> {tmp_path}/out; [ -e {tmp_path}/ok ]", tmp_path)
    assert subprocess.run(again.command, check=False).returncode == 0
    assert (tmp_path / "out").read_text() == "ran\nran\n"
    assert init_script(f"echo ran >> {tmp_path}/out; [ -e {tmp_path}/ok ]", tmp_path) == ()
    assert len(init_script("another", tmp_path)) == 1
    assert init_script("", tmp_path) == ()
    assert stat.S_IMODE((tmp_path / "init_script").stat().st_mode) == 0o600


def test_what_another_supervisor_deletes_at_the_same_moment_does_not_keep_this_one_from_its_start(tmp_path):
    """Two that start at once find the same directory of a third. Here it is one that cannot be looked into, which fails alike."""
    environ = {"FLEET_RUN_DIR": str(tmp_path / "run")}
    gone = private_directory("gone", environ, tmp_path)
    (gone / LOCK).mkdir()
    os.utime(gone, (0, 0))
    assert private_directory("now", environ, tmp_path).is_dir()
