"""Does many things at once."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar


Item = TypeVar("Item")
Value = TypeVar("Value")


async def run_concurrently(items: Iterable[Item], work: Callable[[Item], Awaitable[None]], concurrency: int) -> None:
    """
    Awaits `work(item)` for each item: begun in their order, at most `concurrency` under way at once.

    Raises:
        Exception: the first one that `work` raises; no further item is begun, and those under way are canceled.
    """
    queue = iter(items)

    async def work_on_queue() -> None:
        for item in queue:
            await work(item)

    workers = [asyncio.create_task(work_on_queue()) for _ in range(concurrency)]
    try:
        await asyncio.gather(*workers)
    finally:
        for worker in workers:
            worker.cancel()


def run(coroutine: Coroutine[Any, Any, Value]) -> Value:
    """The result of a coroutine; also where an event loop is running already, as in a notebook."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(coroutine)
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, coroutine).result()
