"""
How busy `bdam caption describe` keeps a server: descriptions per second over the most that a server allows which takes
50 ms per answer, of 64 requests at once; what processor time that takes; and how memory grows from a tenth of the
images to all of them.

    python benchmarks/captions.py [--images 10000] [--concurrency 64]

The server is a process of its own on loopback and answers every request with a description that can be used, each in
other words. Its time and the client's add up to what the machine must have to spare, whatever else it does.
"""

import argparse
import asyncio
import itertools
import json
import multiprocessing
import os
import resource
import tempfile
import time
from pathlib import Path

from bdam.captions.describing import Options, describe_images
from bdam.captions.images import find_images
from bdam.data.pedestrians import generate_pedestrians
from bdam.mllm.client import MLLM


DELAY = 0.05
ANSWERS = {
    b"who the person is": "A tall man of {} with short grey hair and a slim build, standing upright.",
    b"what the person wears": "The person wears a red coat over blue jeans, black boots, and carries {} brown bags.",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--concurrency", type=int, default=64)
    arguments = parser.parse_args()
    ports: multiprocessing.Queue = multiprocessing.Queue()
    server = multiprocessing.Process(target=lambda: asyncio.run(serve(ports)), daemon=True)
    server.start()
    mllm_url = f"http://127.0.0.1:{ports.get()}/v1"
    with tempfile.TemporaryDirectory() as folder:
        save_images(Path(folder), arguments.images)
        images, path = find_images(folder)
        options = Options(concurrency=arguments.concurrency)
        describe_images(images[: arguments.images // 10], path, MLLM("m", mllm_url), None, options)
        before, start, busy = peak(), time.perf_counter(), busy_seconds()
        tally = describe_images(images, path, MLLM("m", mllm_url), None, options)
        seconds, client = time.perf_counter() - start, busy_seconds() - busy
    busy = busy_seconds()
    server.terminate()
    server.join()
    rate, ideal = tally.requests / seconds, arguments.concurrency / DELAY
    figures = {
        "benchmark": "captions",
        "images": tally.described,
        "failed": tally.failed,
        "requests_per_second": round(rate, 1),
        "ideal": round(ideal, 1),
        "ratio": round(rate / ideal, 3),
        "client_ms": round(1000 * client / tally.requests, 3),
        "server_ms": round(1000 * (busy_seconds() - busy) / (2 * arguments.images), 3),
        "growth_mb": round(peak() - before, 1),
    }
    print(f"{rate:.0f} requests per second of {ideal:.0f} that the server allows: {rate / ideal:.1%}.")
    print("Processor time of a request: {client_ms} ms of the client, {server_ms} ms of the server.".format(**figures))
    print(json.dumps(figures))


def save_images(folder: Path, count: int) -> None:
    """People of 256 x 128 pixels, again and again until they are many."""
    rows = generate_pedestrians(1, 1, 8, image_size=(256, 128))["test"]
    for index, row in enumerate(rows):
        row["image"].save(folder / f"{index:06}.jpg")
    for index in range(len(rows), count):
        (folder / f"{index:06}.jpg").hardlink_to(folder / f"{index % len(rows):06}.jpg")


async def serve(ports: multiprocessing.Queue) -> None:
    server = await asyncio.get_running_loop().create_server(Connection, "127.0.0.1", 0)
    ports.put(server.sockets[0].getsockname()[1])
    await server.serve_forever()


class Connection(asyncio.Protocol):
    """One of a client, which stays open for many requests."""

    numbers = itertools.count()

    def connection_made(self, transport: asyncio.Transport) -> None:
        self.transport, self.received = transport, b""

    def data_received(self, data: bytes) -> None:
        self.received += data
        head, _, request = self.received.partition(b"\r\n\r\n")
        length = head.lower().partition(b"content-length:")[2].split(maxsplit=1)
        if length and len(request) == int(length[0]):
            self.received = b""
            text = next(text for asked, text in ANSWERS.items() if asked in request).format(next(self.numbers))
            asyncio.get_running_loop().call_later(DELAY, self.transport.write, answer(text))


def answer(text: str) -> bytes:
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    completion = {"id": "1", "object": "chat.completion", "created": 0, "model": "m", "choices": [choice]}
    body = json.dumps(completion).encode()
    return b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)


def busy_seconds() -> float:
    """Processor time of this process and of its children that have ended."""
    return sum(os.times()[:4])


def peak() -> float:
    """Megabytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
