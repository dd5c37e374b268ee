"""fleet/web/hints.py: thousands wait, nobody holds a thread, nobody misses a bump."""

import asyncio
import threading

from fleet.web.hints import Hints


async def waiting(hints: Hints, count: int) -> list[asyncio.Task[int]]:
    """So many who have begun to wait for what comes after the newest hint."""
    tasks = [asyncio.create_task(hints.wait(hints.seq, 20)) for _ in range(count)]
    await asyncio.sleep(0)  # each runs up to where it waits
    return tasks


def test_a_bump_from_another_thread_wakes_all_who_wait_and_none_of_them_held_a_thread() -> None:
    async def many() -> list[int]:
        hints, threads = Hints(), threading.active_count()
        tasks = await waiting(hints, 3000)
        assert threading.active_count() == threads
        assert not any(task.done() for task in tasks)
        threading.Thread(target=hints.bump).start()
        return await asyncio.gather(*tasks)

    assert asyncio.run(many()) == [1] * 3000


def test_every_bump_is_a_new_hint_to_who_listens_on() -> None:
    async def follow() -> list[int]:
        hints, heard = Hints(), [0]
        bumping = threading.Thread(target=lambda: [hints.bump() for _ in range(100)])
        bumping.start()
        while heard[-1] < 100:
            heard.append(await hints.wait(heard[-1], 20))
        return heard

    heard = asyncio.run(follow())
    assert heard == sorted(set(heard))


def test_who_gives_up_waiting_takes_nobody_along() -> None:
    async def one_gives_up() -> tuple[int, list[int]]:
        hints = Hints()
        impatient = await hints.wait(0, 0.01)
        tasks = await waiting(hints, 2)
        tasks[0].cancel()
        await asyncio.sleep(0)
        hints.bump()
        return impatient, [await tasks[1]]

    assert asyncio.run(one_gives_up()) == (0, [1])


def test_after_close_nobody_waits() -> None:
    async def close() -> list[int]:
        hints = Hints()
        tasks = await waiting(hints, 3)
        hints.close()
        return [*await asyncio.gather(*tasks), await hints.wait(0, 20)]

    assert asyncio.run(close()) == [0, 0, 0, 0]


def test_a_loop_that_has_ended_is_no_trouble_to_the_next() -> None:
    hints = Hints()

    async def give_up() -> None:
        await hints.wait(hints.seq, 0.01)

    asyncio.run(give_up())
    hints.bump()
    asyncio.run(give_up())
    assert hints.seq == 1
