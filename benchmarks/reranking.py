"""
What a second look would bring if a reader of a given quality took it: R-1 before and after re-ranking the first
images, by the order of `reorder` and by that of the probabilities alone; and what asking a server costs the client.

    python benchmarks/reranking.py MODEL DATA [--images 480] [--over-http 24]

This is a simulation. The reader sees no pixels: it knows each image by the digest of what a server is sent, and each
sentence by the image that it was written for, and says yes if both have equal attributes: those of the person for an
identity description, and those of the clothes, too, for a caption. A reader `words-10` says the wrong word in 10 % of
the pairs, each by chance; `logprobs-10` errs as often, and its probabilities are calibrated: it is less sure where it
errs. One sentence per image is looked for. Some of them are also looked for by `evaluate_reranking` over HTTP, by a
server on loopback that answers as the reader does: R-1 has to be the same. Its tokens are reckoned: one per 28 x 28
pixels, and one per 4 letters.
"""

import argparse
import base64
import hashlib
import json
import math
import multiprocessing
import random
import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from itertools import product
from pathlib import Path
from statistics import NormalDist
from typing import Any

from datasets import Dataset
from PIL import Image

from bdam.data.loading import load_split
from bdam.encoding.encoders import load_encoder
from bdam.encoding.extraction import feature_store
from bdam.evaluation.features import extract_features, query_sentences
from bdam.evaluation.intervals import interval
from bdam.mllm.client import MLLM
from bdam.mllm.images import jpeg_url
from bdam.retrieval.reranking import MLLMReranker, build_question, reorder
from bdam.retrieval.reranking_evaluation import (
    RerankingResult,
    choose_queries,
    evaluate_reranking,
    find_hits,
    fitting_settings,
    score_queries,
)


TOPS = (10, 20, 50)
READERS = ("words-0", "words-10", "words-20", "logprobs-10", "logprobs-20")
Attributes = dict[str, str]


class Knowledge:
    """What the readers know: the attributes of each image and of each sentence."""

    def __init__(self, dataset: Dataset):
        rows = dataset.with_format(None)
        person, clothes = rows["identity_attributes"][:], rows["clothing_attributes"][:]
        self.digests = [digest(jpeg_url(image)) for image in dataset["image"]]
        everything = [{**person[row], **clothes[row]} for row in range(len(dataset))]
        self.images = dict(zip(self.digests, everything, strict=True))
        self.sentences: dict[str, Attributes] = {}
        for kind, pairs in query_sentences(dataset).items():
            for row, sentence in pairs:
                self.sentences[question(sentence)] = (person if kind == "identity_description" else everything)[row]

    def read(self, reader: str, text: str, image: str) -> float:
        """
        The log-odds of yes, of a reader by name, to a question about the image of this digest: normally distributed,
        with a variance of twice their mean, so that they are the true odds, of yes against no among as many of both.
        """
        sign = 1 if self.sentences[text].items() <= self.images[image].items() else -1
        if (error := int(reader.partition("-")[2]) / 100) == 0:
            return 20.0 * sign
        spread = -2 * NormalDist().inv_cdf(error)
        return random.Random(f"{reader}{text}{image}").gauss(sign * spread**2 / 2, spread)


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
        log_odds = self.knowledge.read(body["model"], text, digest(image))
        has_logprobs = body["model"].startswith("logprobs")
        content = json.dumps(completion(log_odds, has_logprobs, count_tokens(text, image))).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_) -> None:
        pass


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


def by_probability(scores: list[float], probabilities: list[float]) -> list[int]:
    """The order of the probabilities alone."""
    return sorted(range(len(scores)), key=lambda position: -probabilities[position])


def simulate(model: str, dataset: Dataset, knowledge: Knowledge, num_queries: int) -> Iterator[dict[str, Any]]:
    """R-1 by each search, reader, number of images and order."""
    encoder = load_encoder(model)
    store = feature_store(model, dataset, batch_size=64, mixed_precision="no")
    features = extract_features(encoder, dataset, store=store)
    for setting in fitting_settings(features, encoder.model.config.clothing_weight):
        chosen = choose_queries(features, setting, num_queries)
        images = features.query_images[setting.query][chosen]
        texts = [question(query_sentences(dataset)[setting.query][query][1]) for query in chosen]
        scores, persons = score_queries(features, setting, chosen), features.person_ids[images].numpy()
        before = find_hits(features, setting, images, scores)
        yield {**asdict(setting), "before": interval(before, persons)}
        for reader, top in product(READERS, TOPS):
            best, entries = scores.topk(top)
            answers = [
                [probability(reader, knowledge.read(reader, text, knowledge.digests[row])) for row in rows]
                for text, rows in zip(texts, features.gallery_images[entries].tolist(), strict=True)
            ]
            for order in (reorder, by_probability):
                reranked = scores.clone()
                for query, (of_query, found) in enumerate(zip(best.tolist(), answers, strict=True)):
                    reranked[query, entries[query][order(of_query, found)]] = best[query]
                after = find_hits(features, setting, images, reranked)
                spans = {"after": interval(after, persons), "gain": interval(after - before, persons)}
                yield {**asdict(setting), "reader": reader, "top": top, "order": order.__name__, **spans}


def probability(reader: str, log_odds: float) -> float:
    return 1 / (1 + math.exp(-log_odds)) if reader.startswith("logprobs") else float(log_odds > 0)


def ask_over_http(
    model: str, data: str, knowledge: Knowledge, num_queries: int, top: int = 20
) -> Iterator[tuple[str, RerankingResult]]:
    """The results of `evaluate_reranking` with a server on loopback, by reader."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, knowledge))
    process = multiprocessing.get_context("fork").Process(target=server.serve_forever, daemon=True)
    process.start()
    with tempfile.TemporaryDirectory() as folder:
        for reader in ("words-10", "logprobs-10"):
            mllm = MLLM(reader, f"http://127.0.0.1:{server.server_port}/v1", temperature=0)
            reranker = MLLMReranker(mllm, top, cache=Path(folder) / f"{reader}.sqlite")
            for result in evaluate_reranking(model, data, reranker, max_pairs=2 * top * num_queries):
                yield reader, result
    process.terminate()
    process.join()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("data")
    parser.add_argument("--images", type=int, default=480, help="sentences of each kind, evenly spaced")
    parser.add_argument("--over-http", type=int, default=24, help="sentences of each kind that a server is asked")
    arguments = parser.parse_args()
    dataset = load_split(arguments.data, "test")
    knowledge = Knowledge(dataset)
    figures = []
    for num_queries in (arguments.images, arguments.over_http):
        for figure in simulate(arguments.model, dataset, knowledge, num_queries):
            figures.append({"queries": num_queries, **figure})
            print(", ".join(f"{name} {value}" for name, value in figures[-1].items()), flush=True)
    for reader, result in ask_over_http(arguments.model, arguments.data, knowledge, arguments.over_http):
        figures.append({"over_http": reader, **asdict(result)})
        print(f"over HTTP, {reader}: {result}", flush=True)
    print(json.dumps({"benchmark": "reranking", "results": figures}))


if __name__ == "__main__":
    main()
