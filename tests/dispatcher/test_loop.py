"""The dispatcher's loop goes on, whatever happens in a pass: it is the only one that launches and ends machines."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import Any

from fleet.dispatcher.loop import Loop
from fleet.errors import StoreError
from tests.dispatcher.world import World
from tests.waiting import wait_for


class Memory:
    """A store that now and then does not answer."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner
        self.is_down = False
        self.refused: list[str] = []

    def __getattr__(self, name: str) -> Any:
        def verb(*args: Any, **kwargs: Any) -> Any:
            if self.is_down:
                self.refused.append(name)
                raise StoreError("the database does not answer")
            return getattr(self._inner, name)(*args, **kwargs)

        return verb


def test_a_store_that_did_not_answer_for_a_while_is_used_again_when_it_does() -> None:
    world = World()
    dispatcher = world.dispatcher
    store = Memory(world.store)
    dispatcher.parts = replace(dispatcher.parts, store=store)
    dispatcher.policy = replace(dispatcher.policy, poll_interval=dispatcher.policy.poll_interval / 100)
    loop = Loop(dispatcher)
    thread = threading.Thread(target=loop.run)
    thread.start()
    try:
        wait_for(lambda: world.store.view() is not None, what="a first pass")
        store.is_down = True
        wait_for(lambda: len(store.refused) > 5, what="passes that find no store")
        before = world.store.view()
        store.is_down = False
        wait_for(lambda: world.store.view() != before, what="a pass with the store that is back")
    finally:
        store.is_down = False
        loop.stop()
        thread.join()
