"""The whole way against a real server with a real multimodal model."""

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from tiny_llava import save_tiny_llava

from bdam import cli
from bdam.data.descriptions import read_descriptions
from bdam.data.pedestrians import generate_pedestrians
from bdam.mllm.client import MLLM
from bdam.mllm.replies import ServerError
from bdam.retrieval.reranking import MLLMReranker


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[tuple[str, str]]:
    """Address and model of `transformers serve`, on loopback."""
    model = tmp_path_factory.mktemp("llava")
    save_tiny_llava(model)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [shutil.which("transformers", path=Path(sys.executable).parent), "serve", model]
    command += ["--host", "127.0.0.1", "--port", str(port), "--device", "cpu"]
    log = (model / "server.log").open("w")
    process = subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, "OMP_NUM_THREADS": "1"})
    try:
        deadline = time.monotonic() + 300
        while not is_up(f"http://127.0.0.1:{port}/health"):
            assert process.poll() is None and time.monotonic() < deadline, (model / "server.log").read_text()[-3000:]
            time.sleep(0.2)
        yield f"http://127.0.0.1:{port}/v1", str(model)
    finally:
        process.terminate()
        process.wait(timeout=120)
        log.close()


def is_up(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:
            return answer.status == 200
    except OSError:
        return False


def test_every_image_gets_a_record(server, tmp_path, monkeypatch, capsys):
    """The model is untrained: what it says cannot be used, and is recorded as such, with the reason."""
    url, model = server
    for index, row in enumerate(generate_pedestrians(1, 1, 3, image_size=(64, 32))["test"]):
        row["image"].save(tmp_path / f"{index:02}.png")
    arguments = ["--model", model, "--base-url", url, "--max-attempts", "2", "--max-answer", "12"]
    monkeypatch.setattr(sys, "argv", ["bdam", "caption", "describe", str(tmp_path), *arguments])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    output = " ".join(capsys.readouterr().out.split())
    assert "12 of 12 images to describe: 24 requests" in output
    assert stop.value.code == 1 and "0 images described, 12 failed" in output
    records = list(read_descriptions(tmp_path / "descriptions.jsonl"))
    assert sorted(record.image_id for record in records) == [f"{index:02}.png" for index in range(12)]
    for record in records:
        assert record.model == model and set(record.attempts) == {"identity", "clothing"}
        for kind, attempts in record.attempts.items():
            assert (record.text(kind) is None) == (kind in record.failures)
            assert len(record.checks.get(kind, [])) == attempts - (record.text(kind) is not None)
    monkeypatch.setattr(sys, "argv", ["bdam", "caption", "status", str(tmp_path)])
    with pytest.raises(SystemExit):
        cli.main()
    assert "not asked for yet" in capsys.readouterr().out


def test_a_second_look_says_what_is_no_answer(server, tmp_path):
    """The model is untrained: it says neither yes nor no."""
    url, model = server
    images = generate_pedestrians(1, 1, 1, image_size=(64, 32))["test"]["image"]
    reranker = MLLMReranker(MLLM(model, url, temperature=0, max_tokens=4), cache=tmp_path / "answers.sqlite")
    with pytest.raises(ServerError, match="answered about no image: the model said neither yes nor no, but"):
        reranker("A tall man in a red coat.", images)
