"""Several processes ask as one does, and end with the one that started them."""

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from server import GOOD, Response, paint, serve

from bdam.captions import helpers
from bdam.captions.client import MLLM, Reply, RequestError, ServerError
from bdam.captions.describing import Options, describe_images, find_images
from bdam.captions.helpers import Helper, Team
from bdam.captions.images import image_url
from bdam.captions.prompts import build_messages
from bdam.captions.records import DescribedImage, read_records


COUNT = 40
SCRIPT = """
import asyncio, os, signal, sys
from contextlib import suppress
from bdam.captions.client import MLLM
from bdam.captions.helpers import Team

async def main():
    os.cpu_count = lambda: 2
    async with Team(MLLM("m", "http://127.0.0.1:9/v1", max_retries=0), 64) as team:
        print(await asyncio.gather(team.ask([]), team.ask([]), return_exceptions=True), flush=True)
        await asyncio.sleep(60)

signal.signal(signal.SIGINT, signal.default_int_handler)  # what runs in the background may have it switched off
with suppress(KeyboardInterrupt):
    asyncio.run(main())
"""


def ask_helper(mllm: MLLM, requests: list[list[dict]]) -> list[Reply | BaseException]:
    async def ask() -> list[Reply | BaseException]:
        helper = await Helper.start(mllm)
        try:
            return await asyncio.gather(*map(helper.ask, requests), return_exceptions=True)
        finally:
            await helper.close()

    return asyncio.run(ask())


@pytest.fixture
def requests(tmp_path) -> list[list[dict]]:
    """One for the identity on each of four images."""
    for index in range(4):
        paint(index).save(tmp_path / f"{index}.png")
    return [build_messages("identity", image_url(tmp_path / f"{index}.png"), None, []) for index in range(4)]


def describe(folder: Path, script: dict) -> tuple[list[DescribedImage], dict]:
    folder.mkdir()
    for index in range(COUNT):
        paint(index).save(folder / f"{index:02}.png")
    images, path = find_images(str(folder))
    with serve(script) as server:
        server.delay = 0.1
        describe_images(images, path, MLLM("m", server.url, max_retries=1), None, Options(concurrency=6))
    return sorted(read_records(path), key=lambda record: record.image_id), server.requests


def test_many_requests_at_once_are_worth_processes(monkeypatch):
    mllm = MLLM("m")
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    assert [Team(mllm, concurrency).size for concurrency in (0, 1, 63, 64, 100, 500)] == [1, 1, 1, 2, 3, 4]
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert Team(mllm, 500).size == 1


def test_several_processes_describe_as_one_does(tmp_path, monkeypatch):
    script = {
        (0, "identity"): [(429, {"Retry-After": "1"})],
        (1, "clothing"): [(500, {})],
        (2, "identity"): ["I cannot help with that."],
        (3, "clothing"): ["No."] * 3,
        (4, "identity"): [(500, {})] * 9,
    }
    one, asked_by_one = describe(tmp_path / "one", script)
    asked_here = []
    ask = MLLM.ask

    async def note_and_ask(mllm: MLLM, messages: list[dict]) -> Reply:
        asked_here.append(messages)
        return await ask(mllm, messages)

    monkeypatch.setattr(MLLM, "ask", note_and_ask)
    monkeypatch.setattr(os, "cpu_count", lambda: 3)
    monkeypatch.setattr(helpers, "REQUESTS_PER_PROCESS", 2)
    several, asked_by_several = describe(tmp_path / "several", script)
    assert several == one and asked_by_several == asked_by_one
    assert 0 < len(asked_here) < 2 * COUNT


def test_helpers_say_what_became_of_each_request(requests, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    script = {(1, "identity"): [(500, {})], (2, "identity"): [(401, {})], (3, "identity"): [Response(200, "<html>")]}
    with serve(script) as server:
        good, silent, refused, broken = ask_helper(MLLM("m", server.url, max_retries=0), requests)
        assert {said["authorization"] for said in server.said} == {"Bearer sk-secret"}
    assert good == Reply(GOOD["identity"].format(0), is_cut=False, tokens=100)
    assert isinstance(silent, RequestError) and str(silent) == "the server answered 500: no"
    assert isinstance(refused, ServerError) and "refused the key" in str(refused)
    assert isinstance(broken, RequestError) and "no answer" in str(broken)
    assert ask_helper(MLLM("m", "http://127.0.0.1:9/v1", max_retries=0), requests)[0].args == (
        "No server at http://127.0.0.1:9/v1: start it, or give its --base-url.",
    )


def test_a_helper_that_is_killed_leaves_nobody_waiting(requests):
    async def ask_and_kill(mllm: MLLM) -> None:
        helper = await Helper.start(mllm)
        asked = asyncio.create_task(helper.ask(requests[0]))
        await asyncio.sleep(0.1)  # the process has begun, or not: the request has no answer
        helper.process.kill()
        for request in (asked, helper.ask(requests[1])):
            with pytest.raises(ServerError, match="has ended: ask for less at once"):
                await request
        await helper.close()

    with serve() as server:
        server.gathers = 2  # of which one comes: it is not answered
        asyncio.run(ask_and_kill(MLLM("m", server.url)))


@pytest.mark.parametrize("kill", [signal.SIGKILL, signal.SIGINT])
def test_helpers_end_with_who_started_them_and_without_a_word(kill):
    """Their end is that of the error stream, which they hold open."""
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        start_new_session=True,
    )
    assert process.stdout.readline().count(b"No server at") == 2
    os.killpg(process.pid, kill)
    assert process.communicate(timeout=30) == (b"", b"")
