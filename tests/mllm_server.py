"""A server on loopback that speaks as an OpenAI-compatible one does, and misbehaves as it is told to."""

import base64
import json
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from typing import Any, NamedTuple

from loopback import serving
from PIL import Image


GOOD = {
    "identity": "A tall man of middle age with short grey hair and a slim build, standing upright (image {}).",
    "clothing": "The person wears a red coat over blue jeans, black boots, and carries a brown bag (image {}).",
}
GENERALIZED = "The [person] in [garment]."
MATCH = "Yes."
STEP = 8  # between the colours of two images, which survives JPEG


def paint(index: int) -> Image.Image:
    """An image that the server knows by its colour, one of 1024."""
    return Image.new("RGB", (16, 32), (index % 32 * STEP, index // 32 * STEP, 128))


class Response(NamedTuple):
    """What is sent to the letter: a `body` of JSON, or of text."""

    status: int
    body: Any
    headers: dict[str, str] = {}


Script = dict[tuple[int | str, str], list]
Refuse = Callable[[dict], Response | None]


class Server(ThreadingHTTPServer):
    """
    Args:
        script: what to do, by image: for each answer in turn, a text, `(status, headers)`, a [`Response`], a message
            as a dict, seconds to wait, or None for the good answer, which everything else gets, too.
        refuse: what answers a request, by its body, before the script is looked at; None where it answers not.

    `gathers` answers are held back until as many requests have been under way at once.
    """

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, script: Script, refuse: Refuse):
        super().__init__(("127.0.0.1", 0), Handler)
        self.script = script
        self.refuse = refuse
        self.requests: Counter = Counter()
        self.received: list[dict] = []
        self.most_at_once = self.at_once = 0
        self.delay = 0.0
        self.gathers = 0
        self.gathered = threading.Event()
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        server, key = self.server, what_is_asked(body)
        with server.lock:
            server.at_once += 1
            server.most_at_once = max(server.most_at_once, server.at_once)
            refusal = server.refuse(body)
            server.received.append({"key": key, "authorization": self.headers["Authorization"], "body": body})
            turns = server.script.get(key, [])
            turn = turns[server.requests[key]] if server.requests[key] < len(turns) else None
            if refusal is None:
                server.requests[key] += 1
            if server.at_once >= server.gathers:
                server.gathered.set()
        server.gathered.wait(60)
        time.sleep(server.delay)
        with server.lock:  # before the client can have the answer, and send the next request
            server.at_once -= 1
        subject, kind = key
        good = {"style": GENERALIZED, "match": MATCH, **GOOD}[kind].format(subject)
        self.answer(turn if refusal is None else refusal, good)

    def answer(self, turn, good: str) -> None:
        if isinstance(turn, Response):
            return self.send(*turn)
        if isinstance(turn, tuple):
            status, headers = turn
            return self.send(status, {"error": {"message": "no"}}, headers)
        if isinstance(turn, float):
            time.sleep(turn)
        content, finish_reason = turn if isinstance(turn, list) else (turn if isinstance(turn, str) else good, "stop")
        message = {"role": "assistant", "content": content} if not isinstance(turn, dict) else turn
        self.send(200, completion(message, finish_reason), {})

    def send(self, status: int, body: Any, headers: dict[str, str]) -> None:
        content = body.encode() if isinstance(body, str) else json.dumps(body).encode()
        try:
            self.send_response(status)
            for name, value in {"Content-Type": "application/json", **headers}.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)
        except OSError:
            pass  # the client went away

    def log_message(self, *_) -> None:
        pass


def completion(message: dict, finish_reason: str = "stop") -> dict:
    choice = {"index": 0, "message": message, "finish_reason": finish_reason}
    usage = {"prompt_tokens": 90, "completion_tokens": 10, "total_tokens": 100}
    fields = {"id": "1", "object": "chat.completion", "created": 0, "model": "m"}
    return {**fields, "choices": [choice], "usage": usage}


def what_is_asked(body: dict) -> tuple[int | str, str]:
    """Image and kind of a request; or the caption that is to be generalized."""
    if isinstance(body["messages"][1]["content"], str):
        return body["messages"][1]["content"], "style"
    image, text = body["messages"][1]["content"]
    _, _, content = image["image_url"]["url"].partition(",")
    red, green, _ = Image.open(BytesIO(base64.b64decode(content))).getpixel((4, 4))
    kinds = {"who the person is": "identity", "what the person wears": "clothing", "Yes or No": "match"}
    kind = next(kind for asked, kind in kinds.items() if asked in text["text"])
    return round(red / STEP) + 32 * round(green / STEP), kind


def serve(
    script: dict[tuple[int | str, str], list] | None = None,
    refuse: Callable[[dict], Response | None] = lambda body: None,
) -> AbstractContextManager[Server]:
    return serving(Server(script or {}, refuse))
