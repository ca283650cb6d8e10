"""Processes that help to ask: one alone is busy with some hundreds of requests a second, whatever the server can take.

A helper reads requests from its input and writes what became of them to its output. It ends when its input does, so
that it outlives nobody, not even who was killed.
"""

import asyncio
import os
import pickle
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import suppress
from itertools import count
from typing import Any, TypeVar

from bdam.captions.client import MLLM, Reply, RequestError, ServerError


# As many at once as one process keeps up with if each is answered in 50 ms.
REQUESTS_PER_PROCESS = 32
LENGTH_BYTES = 8

Item = TypeVar("Item")


async def share(items: Iterable[Item], work: Callable[[Item], Awaitable[None]], concurrency: int) -> None:
    """Does the work for all items, for so many at once, until one fails."""
    queue = iter(items)

    async def take() -> None:
        for item in queue:
            await work(item)

    workers = [asyncio.create_task(take()) for _ in range(concurrency)]
    try:
        await asyncio.gather(*workers)
    finally:
        for worker in workers:
            worker.cancel()


class Team:
    """
    Asks an MLLM as [`MLLM.ask`] does, from this process and, where many requests are under way, from helpers as well.

    Args:
        mllm: who is asked; closed with the team.
        concurrency: how many requests are under way at once.
    """

    def __init__(self, mllm: MLLM, concurrency: int):
        self.mllm = mllm
        self.size = max(1, min(os.cpu_count() or 1, concurrency // REQUESTS_PER_PROCESS))

    async def __aenter__(self) -> "Team":
        self.helpers = [await Helper.start(self.mllm) for _ in range(self.size - 1)]
        self._members: list[MLLM | Helper] = [self.mllm, *self.helpers]
        self._under_way = [0] * self.size
        return self

    async def __aexit__(self, *_) -> None:
        for member in self._members:
            await member.close()

    async def ask(self, messages: list[dict]) -> Reply:
        """Has the least busy member ask."""
        place = self._under_way.index(min(self._under_way))
        self._under_way[place] += 1
        try:
            return await self._members[place].ask(messages)
        finally:
            self._under_way[place] -= 1


class Helper:
    """An MLLM that is asked from a process of its own, by [`Helper.start`]."""

    def __init__(self, process: asyncio.subprocess.Process):
        assert process.stdin and process.stdout
        self.process = process
        self._input, self._output = process.stdin, process.stdout
        self._numbers = count()
        self._awaited: dict[int, asyncio.Future[Reply]] = {}
        self._listening = asyncio.create_task(self._listen())

    @classmethod
    async def start(cls, mllm: MLLM) -> "Helper":
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", __name__),
            stdin=pipe,
            stdout=pipe,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONSAFEPATH": "1"},
            start_new_session=True,  # Ctrl-C is for who started it
        )
        helper = cls(process)
        helper._input.write(_pack(mllm))
        return helper

    async def ask(self, messages: list[dict]) -> Reply:
        """
        Raises:
            ServerError, RequestError: as [`MLLM.ask`], or if the process is no more.
        """
        if self._listening.done():
            raise _ended()
        number = next(self._numbers)
        self._awaited[number] = asyncio.get_running_loop().create_future()
        self._input.write(_pack((number, messages)))
        try:
            return await self._awaited[number]
        finally:
            del self._awaited[number]

    async def close(self) -> None:
        with suppress(ProcessLookupError):
            self.process.kill()
        await self.process.wait()
        await self._listening

    async def _listen(self) -> None:
        async for number, outcome in _unpack(self._output):
            reply = self._awaited.get(number)
            if reply is None or reply.done():
                continue  # nobody waits for it any more
            if isinstance(outcome, Exception):
                reply.set_exception(outcome)
            else:
                reply.set_result(outcome)
        for reply in self._awaited.values():
            if not reply.done():
                reply.set_exception(_ended())


def _ended() -> ServerError:
    return ServerError("A process that helped to ask has ended: ask for less at once, by --concurrency.")


def _pack(message: Any) -> bytes:
    content = pickle.dumps(message)
    return len(content).to_bytes(LENGTH_BYTES, "big") + content


async def _unpack(stream: asyncio.StreamReader) -> AsyncIterator[Any]:
    """The messages of a stream until it ends, which it may within one."""
    with suppress(asyncio.IncompleteReadError):
        while True:
            length = await stream.readexactly(LENGTH_BYTES)
            yield pickle.loads(await stream.readexactly(int.from_bytes(length, "big")))


async def _help() -> None:
    """What a helper does: the MLLM comes first, then requests."""
    stream, tasks = asyncio.StreamReader(), set()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(stream), sys.stdin)
    received = _unpack(stream)
    mllm = await anext(received)
    async for number, messages in received:
        task = asyncio.create_task(_answer(mllm, number, messages))
        tasks.add(task)  # the event loop itself would not keep it
        task.add_done_callback(tasks.discard)


async def _answer(mllm: MLLM, number: int, messages: list[dict]) -> None:
    outcome: Reply | Exception
    try:
        outcome = await mllm.ask(messages)
    except (RequestError, ServerError) as error:
        outcome = error
    except Exception as error:  # which may hold what cannot be sent
        outcome = RuntimeError(repr(error))
    with suppress(BrokenPipeError):
        os.write(sys.stdout.fileno(), _pack((number, outcome)))


if __name__ == "__main__":
    asyncio.run(_help())
