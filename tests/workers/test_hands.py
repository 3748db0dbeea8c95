"""The threads that do tasks while Procrastinate's workers come and go."""

import asyncio
import threading

from xobackup.workers.procrastinate_dispatch import Hands


def test_what_is_brought_after_the_connection_was_lost_is_not_begun() -> None:
    begun, go_on = [], threading.Event()

    def do(task: str) -> None:
        begun.append(task)
        go_on.wait(10)

    async def bring(hands: Hands) -> None:
        leaving = asyncio.Event()
        one = asyncio.create_task(hands.do("one", leaving))
        while not begun:
            await asyncio.sleep(0.01)
        leaving.set()
        await one
        for number in range(5):
            await hands.do(f"late {number}", leaving)

    with Hands(2, do) as hands:
        asyncio.run(bring(hands))
        assert hands.free == 1 and len(hands.busy) == 1, "it goes on by itself"
        go_on.set()
    assert begun == ["one"] and hands.free == 2
