"""
What a second look would bring if a reader of a given quality took it: R-1 before and after re-ranking the first
images, by a server on loopback that knows the generated people.

    python benchmarks/reranking.py MODEL DATA [--images 480] [--tops 10,20,50] [--readers words-0,logprobs-10]

This is a simulation. The server reads no pixels: it knows each image by the digest of what it is sent, and each
sentence by the image that it was written for, and says yes if both have equal attributes: those of the person for an
identity description, and those of the clothes, too, for a caption. A reader `words-10` says the wrong word in 10 % of
the pairs, each by chance; `logprobs-10` errs as often, and its probabilities are calibrated: it is less sure where it
errs. One sentence per image is looked for. Tokens are reckoned: one per 28 x 28 pixels, and one per 4 letters.
"""

import argparse
import base64
import hashlib
import json
import math
import multiprocessing
import random
import tempfile
from dataclasses import asdict
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from statistics import NormalDist
from typing import Any

from datasets import Dataset
from PIL import Image

from bdam.data.loading import load_split
from bdam.evaluation.features import query_sentences
from bdam.mllm.client import MLLM
from bdam.mllm.images import jpeg_url
from bdam.retrieval.reranking import MLLMReranker, build_question
from bdam.retrieval.reranking_evaluation import evaluate_reranking


TOPS = "10,20,50"
READERS = "words-0,words-10,words-20,logprobs-10,logprobs-20"
Attributes = dict[str, str]


class Knowledge:
    """What the server knows: the attributes of each image and of each sentence."""

    def __init__(self, dataset: Dataset):
        rows = dataset.with_format(None)
        person, clothes = rows["identity_attributes"][:], rows["clothing_attributes"][:]
        self.images = {
            digest(jpeg_url(image)): {**person[row], **clothes[row]} for row, image in enumerate(dataset["image"])
        }
        self.sentences: dict[str, Attributes] = {}
        for kind, pairs in query_sentences(dataset).items():
            for row, sentence in pairs:
                known = person[row] if kind == "identity_description" else {**person[row], **clothes[row]}
                self.sentences[question(sentence)] = known

    def fits(self, text: str, url: str) -> bool:
        return self.sentences[text].items() <= self.images[digest(url)].items()


class Handler(BaseHTTPRequestHandler):
    """Answers as the reader that is named as the model."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def __init__(self, knowledge: Knowledge, *arguments):
        self.knowledge = knowledge
        super().__init__(*arguments)

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        image, text = (part.get("text") or part["image_url"]["url"] for part in body["messages"][1]["content"])
        kind, _, percent = body["model"].partition("-")
        log_odds = read(self.knowledge.fits(text, image), int(percent) / 100, f"{body['model']}{text}{digest(image)}")
        content = json.dumps(completion(log_odds, kind == "logprobs", count_tokens(text, image))).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_) -> None:
        pass


def read(fits: bool, error: float, seed: str) -> float:
    """
    The log-odds of yes by a reader that errs as often as said: normally distributed, with a variance of twice their
    mean, so that they are what the odds really are, of yes against no among as many of both.
    """
    if error == 0:
        return 20.0 if fits else -20.0
    spread = -2 * NormalDist().inv_cdf(error)
    return random.Random(seed).gauss(spread**2 / 2 if fits else -(spread**2) / 2, spread)


def completion(log_odds: float, has_logprobs: bool, tokens: int) -> dict[str, Any]:
    """A chat completion that says yes or no."""
    yes, no = (
        {"token": word, "logprob": -math.log1p(math.exp(-odds))}
        for word, odds in (("Yes", log_odds), ("No", -log_odds))
    )
    said = yes if log_odds > 0 else no
    choice: dict[str, Any] = {
        "index": 0,
        "message": {"role": "assistant", "content": said["token"]},
        "finish_reason": "stop",
    }
    if has_logprobs:
        choice["logprobs"] = {"content": [{**said, "top_logprobs": [yes, no]}]}
    usage = {"prompt_tokens": tokens, "completion_tokens": 1, "total_tokens": tokens + 1}
    return {"id": "1", "object": "chat.completion", "created": 0, "model": "m", "choices": [choice], "usage": usage}


def count_tokens(text: str, url: str) -> int:
    width, height = Image.open(BytesIO(base64.b64decode(url.partition(",")[2]))).size
    return math.ceil(width / 28) * math.ceil(height / 28) + math.ceil(len(text) / 4)


def question(sentence: str) -> str:
    """What is asked about a sentence."""
    return build_question(sentence, "")[1]["content"][1]["text"]


def digest(url: str) -> str:
    return hashlib.sha256(url.encode()).hexdigest()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("data")
    parser.add_argument("--images", type=int, default=480, help="sentences of each kind, evenly spaced")
    parser.add_argument("--readers", default=READERS)
    parser.add_argument("--tops", default=TOPS)
    arguments = parser.parse_args()
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, Knowledge(load_split(arguments.data, "test"))))
    process = multiprocessing.get_context("fork").Process(target=server.serve_forever, daemon=True)
    process.start()
    figures = []
    with tempfile.TemporaryDirectory() as folder:
        for reader in arguments.readers.split(","):
            for top in map(int, arguments.tops.split(",")):
                mllm = MLLM(reader, f"http://127.0.0.1:{server.server_port}/v1", temperature=0)
                reranker = MLLMReranker(mllm, top, cache=Path(folder) / f"{reader}.sqlite")
                most = 2 * top * arguments.images
                for result in evaluate_reranking(arguments.model, arguments.data, reranker, max_pairs=most):
                    setting = result.setting
                    what = f"{reader}, top {top}, {setting.query}, {setting.protocol}"
                    print(
                        f"{what}: R-1 {result.before} -> {result.after}, "
                        f"gain {result.gain}; {result.pairs:,} pairs, {result.requests:,} of them new requests, "
                        f"{result.tokens:,} tokens, {result.seconds:.1f} s",
                        flush=True,
                    )
                    figures.append({"reader": reader, "top": top, **asdict(result)})
    process.terminate()
    process.join()
    print(json.dumps({"benchmark": "reranking", "results": figures}))


if __name__ == "__main__":
    main()
