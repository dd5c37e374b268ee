"""A folder may change while it is looked through."""

from pathlib import Path

import pytest

from tests import folders


def test_what_goes_away_while_one_looks_was_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a", "b/c", "b/d/e"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("secret")
    found = folders.files_below(tmp_path)
    first = next(found)
    for name in ("b/d/e", "b/c"):
        (tmp_path / name).unlink()
    (tmp_path / "b/d").rmdir()
    (tmp_path / "b").rmdir()
    assert [first, *found] == [tmp_path / "a"]
    assert folders.holding(tmp_path, "secret", "other") == [tmp_path / "a"]
    assert folders.holding(tmp_path, "other") == []
    assert folders.contents(tmp_path / "b/c") == b""
