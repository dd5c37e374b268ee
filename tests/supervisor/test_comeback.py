"""After a reboot a machine is let in again by the token that it was given."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest

from fleet.supervisor import comeback as comeback_module
from fleet.supervisor.comeback import FILE, Comeback


def after_a_reboot(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (place / "boot_id").write_text("another\n")
    monkeypatch.setattr(comeback_module, "BOOT_ID", place / "boot_id")


def test_its_token_is_found_by_the_next_boot_and_readable_by_its_owner_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = Comeback(tmp_path, "i1")
    assert (first.token, first.has_rebooted) == (None, False)
    first.keep("edge-secret")
    assert stat.S_IMODE((tmp_path / FILE).stat().st_mode) == 0o600
    again = Comeback(tmp_path, "i1")
    assert (again.token, again.has_rebooted) == ("edge-secret", False)
    after_a_reboot(tmp_path, monkeypatch)
    rebooted = Comeback(tmp_path, "i1")
    assert (rebooted.token, rebooted.has_rebooted) == ("edge-secret", True)


def test_another_instance_that_boots_from_this_disk_has_none(tmp_path: Path) -> None:
    Comeback(tmp_path, "i1").keep("edge-secret")
    other = Comeback(tmp_path, "i2")
    assert (other.token, other.has_rebooted) == (None, False)


def test_a_machine_that_ends_leaves_none(tmp_path: Path) -> None:
    Comeback(tmp_path, "i1").keep("edge-secret")
    Comeback(tmp_path, "i1").forget()
    assert Comeback(tmp_path, "i1").token is None
    Comeback(tmp_path, "i1").forget()


def test_a_disk_that_has_become_read_only_does_not_keep_a_machine_from_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    comeback = Comeback(tmp_path, "i1")
    comeback.keep("edge-secret")

    def refused(path: Path, missing_ok: bool = False) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(Path, "unlink", refused)
    comeback.forget()
    assert "Read-only file system" in caplog.records[-1].why


@pytest.mark.parametrize("spoil", ["mode", "link", "half", "list", "owner"])
def test_a_file_that_others_could_have_written_is_not_believed(tmp_path: Path, spoil: str) -> None:
    Comeback(tmp_path, "i1").keep("edge-secret")
    path = tmp_path / FILE
    if spoil == "mode":
        path.chmod(0o660)
    elif spoil == "link":
        path.rename(tmp_path / "other")
        path.symlink_to(tmp_path / "other")
    elif spoil == "half":
        path.write_bytes(path.read_bytes()[:20])
    elif spoil == "list":
        path.write_text("[1]")
    elif os.geteuid() == 0:
        os.chown(path, 12345, 12345)
    else:
        pytest.skip("only root may give a file away")
    assert Comeback(tmp_path, "i1").token is None


def test_a_disk_that_is_full_does_not_stop_a_machine(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    Comeback(tmp_path / "gone", "i1").keep("edge-secret")
    assert "a reboot would end this machine" in caplog.text
