"""Names of projects: asked for once, known as long as something of them waits."""

from collections.abc import Iterator

import pytest

from fleet.model import GpuNeed, Queue
from fleet.queues.client import ClearMLServer
from tests.queues.fake_clearml import FakeClearML
from tests.queues.queues_contract import ApiPeople

TRAIN = Queue(name="train", resources=("lab",), need=GpuNeed(at_least=1, at_most=1))


@pytest.fixture
def fake() -> Iterator[FakeClearML]:
    fake = FakeClearML()
    yield fake
    fake.close()


def test_names_of_projects_in_which_nothing_waits_any_more_are_forgotten_and_asked_for_again(fake: FakeClearML) -> None:
    client = ClearMLServer(fake.access)
    client.ensure_queues(["train"])
    people = ApiPeople(client)

    def wait_in(project: str) -> str:
        task = people.draft("one")
        fake.tasks[task]["project"] = project
        people.enqueue(task, "train")
        return task

    for number in range(20):
        fake.projects[f"p{number}"] = f"project {number}"
        wait_in(f"p{number}")
        (task,) = client.waiting([TRAIN])
        assert task.project == f"project {number}"
        assert client.waiting([TRAIN]) == (task,)
        assert client.claim(task)
    assert len(client._waiting._projects) == 1
    assert len([call for call in fake.calls if call[0] == "projects.get_all"]) == 20
    fake.projects["p0"] = "renamed"
    wait_in("p0")
    assert [task.project for task in client.waiting([TRAIN])] == ["renamed"]
    client.close()
