"""A console on disk when the machine is short of something."""

import errno
from datetime import UTC, datetime

from fleet.supervisor import spool as spool_module
from fleet.supervisor.spool import Spool


def test_the_next_segment_that_cannot_be_opened_now_is_opened_later_and_no_line_is_lost_or_read_twice(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(spool_module, "SEGMENT_BYTES", 1)
    spool = Spool(tmp_path / "spool")
    for number in range(5):
        spool.append(datetime.now(UTC), f"{number}\n")
    opened, failures = spool._open, []

    def open_every_other_time(segment: int, flags: int) -> int:
        if len(failures) < 3 and (not failures or failures[-1] != segment):
            failures.append(segment)
            raise OSError(errno.EMFILE, "Too many open files")
        return opened(segment, flags)

    monkeypatch.setattr(spool, "_open", open_every_other_time)
    read = []
    for _ in range(20):
        try:
            lines = spool.peek(1000)
        except OSError:
            continue
        read += [line.text for line in lines]
        if lines:
            try:
                spool.confirm()
            except OSError:
                continue
    assert read == [f"{number}\n" for number in range(5)]
    assert len(failures) == 3
    spool.remove()
