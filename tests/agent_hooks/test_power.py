"""How a machine ends: by its own shutdown, by Google's API, or not at all."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agent_hooks.gce import delete_self
from agent_hooks.power import ExitProcess, FirstThatWorks, Poweroff, RunCommand, power_of
from tests.google_cloud import INSTANCE, GoogleCloud


@pytest.fixture
def google(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., GoogleCloud]]:
    made = []

    def make(**settings) -> GoogleCloud:
        made.append(GoogleCloud(**settings))
        for name, value in made[-1].environment.items():
            monkeypatch.setenv(name, value)
        return made[-1]

    yield make
    for cloud in made:
        cloud.close()


def noted(note: Path) -> FirstThatWorks:
    """Deletes itself, or leaves a note where it would power off."""
    return FirstThatWorks(delete_self, Poweroff([["touch", str(note)]]))


def test_an_instance_of_google_cloud_deletes_itself_with_the_token_of_its_own_account(google, tmp_path):
    cloud = google()
    assert noted(tmp_path / "off").end() == 0
    assert cloud.deleted == [INSTANCE]
    assert not (tmp_path / "off").exists()


def test_a_passing_failure_is_tried_again(google, tmp_path):
    cloud = google(failures=(503, 429))
    assert noted(tmp_path / "off").end() == 0
    assert (cloud.deleted, cloud.asked) == ([INSTANCE], 3)


@pytest.mark.parametrize(
    "settings", [{"failures": (403,)}, {"has_account": False}], ids=["no permission", "no account"]
)
def test_where_it_may_not_delete_itself_it_powers_off_and_says_why_without_its_token(
    google, tmp_path, caplog, settings
):
    cloud = google(**settings)
    assert noted(tmp_path / "off").end() == 0
    assert cloud.deleted == []
    assert (tmp_path / "off").exists()
    assert "could not delete itself" in caplog.text
    assert "answered 40" in caplog.records[0].why
    assert "ya29" not in caplog.records[0].why


def test_somewhere_else_than_on_google_cloud_it_powers_off(google, tmp_path):
    google().close()
    assert noted(tmp_path / "off").end() == 0
    assert (tmp_path / "off").exists()


def test_the_second_way_to_power_off_is_taken_where_the_first_fails(tmp_path):
    first, second, third = (["sh", "-c", f"echo {n} >> {tmp_path / 'ran'}; exit {n}"] for n in (1, 0, 5))
    assert Poweroff([["/no/such/command"], first, second, third]).end() == 0
    assert (tmp_path / "ran").read_text() == "1\n0\n"


def test_a_service_that_may_not_power_off_ends_with_success_so_that_its_unit_does():
    assert Poweroff([["false"]]).end() == 0


def test_a_command_of_the_owners_says_by_its_exit_code_whether_it_worked(tmp_path):
    assert RunCommand(["touch", str(tmp_path / "called")]).end() == 0
    assert (tmp_path / "called").exists()
    assert RunCommand(["false"]).end() == 1


def test_the_word_in_the_environment_says_which_end_is_meant():
    kinds = [type(power_of(word)) for word in ("exit", "poweroff", "delete-self")]
    assert kinds == [ExitProcess, Poweroff, FirstThatWorks]
    with pytest.raises(ValueError, match="'off' is no way to end a machine; there are poweroff, delete-self and exit"):
        power_of("off")
