"""Machines are ended in batches, and those that never came up leave their last words."""

from datetime import timedelta

from fleet.errors import Throttled
from fleet.model import Reason
from fleet.providers.fake import FakeCloud
from tests.builders import a_resource
from tests.dispatcher.world import World

BY_HAND = Reason(code="operator", text="enough")


def test_many_machines_are_ended_by_one_call() -> None:
    world = World()
    world.enqueue(*(f"t{n}" for n in range(12)))
    world.pass_once()
    launched = world.instances()
    assert len(launched) == 3
    for instance in launched:
        world.store.request_terminate(instance.id, BY_HAND, world.at)
    world.pass_once()
    assert world.cloud.terminate_calls == [tuple(i.cloud_id for i in launched)]


def test_a_machine_that_never_came_up_leaves_the_end_of_its_console() -> None:
    world = World(resources=(a_resource(boot_timeout=timedelta(minutes=5)),))
    world.enqueue("t")
    world.pass_once()
    instance = world.instance()
    world.cloud.consoles[f"fake-{instance.id}"] = "x" * 5000 + "\nno such package: fleet"
    world.after(301).pass_once()
    (console,) = [e for e in world.store.events() if e.kind == "instance.console"]
    assert console.instance == instance.id
    assert console.text.endswith("x\nno such package: fleet")
    assert len(console.text) == 4000
    assert world.kinds().index("instance.terminating") < world.kinds().index("instance.console")
    assert world.cloud.terminate_calls[0] == (f"fake-{instance.id}",)


def test_a_console_that_cannot_be_read_holds_up_nothing() -> None:
    class Silent(FakeCloud):
        def console(self, cloud_id: str) -> str | None:
            raise Throttled("too many calls")

    world = World(resources=(a_resource(boot_timeout=timedelta(minutes=5)),))
    world.cloud.__class__ = Silent
    world.enqueue("t")
    world.pass_once()
    (first,) = world.instances()
    world.after(301).pass_once()
    assert world.cloud.terminate_calls[0] == (f"fake-{first.id}",)
    assert "instance.console" not in world.kinds()
