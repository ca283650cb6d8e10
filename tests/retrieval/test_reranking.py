"""A second look at the first images of a search, by servers that behave and misbehave, and by a cross-encoder."""

import asyncio
import math
from pathlib import Path

import pytest
from datasets import load_from_disk
from loopback import free_ports
from mllm_server import Response, completion, paint, serve
from sentence_transformers import CrossEncoder
from sentence_transformers.base.modules import Transformer
from sentence_transformers.cross_encoder.modules import LogitScore
from tiny import SENTENCES
from tiny_llava import save_tiny_llava

from bdam.mllm.client import MLLM
from bdam.mllm.replies import Reply, read_completion
from bdam.retrieval.gallery import Gallery
from bdam.retrieval.reranking import Answers, CrossEncoderReranker, MLLMReranker, read_probability, reorder
from bdam.retrieval.reranking_evaluation import evaluate_reranking


COUNT = 4
SENTENCE = SENTENCES[0]


@pytest.fixture
def gallery(embedder, tmp_path) -> Gallery:
    """Images `0.png`, `1.png`, …, each of which the server knows."""
    folder = tmp_path / "painted"
    folder.mkdir()
    for index in range(COUNT):
        paint(index).save(folder / f"{index}.png")
    return Gallery.from_images(embedder, folder, uri=tmp_path / "gallery")


def reranker(url: str, tmp_path: Path, timeout: float = 60, **options) -> MLLMReranker:
    mllm = MLLM("m", url, temperature=0, timeout=timeout, max_retries=0)
    return MLLMReranker(mllm, cache=tmp_path / "answers.sqlite", **options)


def names(hits) -> list[str]:
    return [hit.image_id for hit in hits]


def match(index: int | str) -> tuple[int, str]:
    """The key in the script of the server for the question about an image."""
    return int(str(index).removesuffix(".png")), "match"


def tokens(*likely: tuple[str, float]) -> dict:
    """The first token of an answer: the likeliest, and those in its place, with their probabilities."""
    listed = [{"token": token, "logprob": math.log(probability)} for token, probability in likely]
    return {"content": [{**listed[0], "top_logprobs": listed}]}


def answer(*likely: tuple[str, float]) -> Response:
    """An answer of a server that gives log-probabilities for the first token."""
    body = completion({"content": likely[0][0]})
    body["choices"][0]["logprobs"] = tokens(*likely)
    return Response(200, body)


def reply(content: str | None, logprobs: object = None) -> Reply:
    body = completion({"content": content})
    body["choices"][0]["logprobs"] = logprobs
    return read_completion(body)


@pytest.mark.parametrize(
    "scores, probabilities, order",
    [
        ([0.9, 0.8, 0.7], [0.5, 0.5, 0.5], [0, 1, 2]),
        ([0.9, 0.8, 0.7], [0.0, 0.0, 1.0], [2, 0, 1]),
        ([0.9, 0.8, 0.7], [0.4, 0.6, 0.9], [0, 1, 2]),
        ([0.9, 0.89, 0.7], [0.4, 0.6, 0.9], [1, 0, 2]),
        ([0.9, 0.8, 0.7, 0.6], [0.0, None, None, 1.0], [3, 1, 2, 0]),
        ([0.5, 0.5], [0.1, 0.2], [1, 0]),
        ([0.5], [None], [0]),
        ([], [], []),
    ],
)
def test_probabilities_and_scores_make_the_order(scores, probabilities, order):
    assert reorder(scores, probabilities) == order


@pytest.mark.parametrize(
    "content, logprobs, probability",
    [
        ("Yes.", None, 1.0),
        ("no, they wear a hat", {"content": []}, 0.0),
        ("**Yes**", tokens(("**", 1.0)), 1.0),
        ("<think>No? Yes.</think>\nNo", None, 0.0),
        ("Yes", tokens(("Yes", 0.6), (" yes", 0.1), ("No", 0.2), ("NO", 0.1), ("Maybe", 0.05)), 0.7),
        ("No", tokens((" no", 0.9), ("Perhaps", 0.05)), 0.0),
        ("Yes", {"content": [{"token": "Yes", "logprob": float("nan")}]}, 1.0),
        ("Yes", {"tokens": ["Yes"], "token_logprobs": [-0.1]}, 1.0),
        ("Yes", {"content": [{"token": "\n", "logprob": -0.1}, {"token": "Yes", "logprob": 5.0}]}, 1.0),
        ("I cannot say.", tokens(("I", 0.9), ("Yes", 0.1)), None),
        ("Yesterday.", None, None),
        ("<think>Yes", None, None),
        (None, None, None),
    ],
)
def test_a_reply_is_read_as_a_probability(content, logprobs, probability):
    assert read_probability(reply(content, logprobs)) == (None if probability is None else pytest.approx(probability))


def test_the_first_images_are_put_in_a_new_order(gallery, tmp_path):
    before = gallery.search(SENTENCE, k=COUNT)
    *_, last = names(before)
    likely = {match(name): [answer(("No", 0.99), ("Yes", 0.01))] for name in names(before)}
    with serve({**likely, match(last): [answer(("Yes", 0.97), ("No", 0.03))]}) as server:
        hits = gallery.search(SENTENCE, k=2, rerank=reranker(server.url, tmp_path))
    assert names(hits) == [before[0].image_id, last] or names(hits) == [last, before[0].image_id]
    assert {hit.image_id: hit.probability for hit in hits}[last] == pytest.approx(0.97) and not hits.warnings
    assert hits.confidence is None and "after a second look" in hits.meaning
    sent = server.received[0]["body"]
    assert sent["temperature"] == 0 and sent["logprobs"] is True
    assert sent["messages"][1]["content"][1]["text"].endswith(SENTENCE)


def test_only_the_first_images_are_looked_at(gallery, tmp_path):
    before = names(gallery.search(SENTENCE, k=COUNT))
    with serve({match(before[0]): ["No."]}) as server:
        hits = gallery.search(SENTENCE, k=COUNT, rerank=reranker(server.url, tmp_path, top=2))
    assert names(hits) == [before[1], before[0], *before[2:]]
    assert [hit.probability for hit in hits] == [1.0, 0.0, None, None] and len(server.received) == 2


def test_a_server_without_log_probabilities_is_asked_for_words(gallery, tmp_path):
    before = names(gallery.search(SENTENCE, k=COUNT))
    refusal = Response(400, {"error": {"message": "top_logprobs and logprobs are not supported", "param": None}})
    with serve({match(before[0]): ["No."]}, lambda body: refusal if "logprobs" in body else None) as server:
        hits = gallery.search(SENTENCE, k=COUNT, rerank=reranker(server.url, tmp_path))
    assert names(hits) == [*before[1:], before[0]] and not hits.warnings


REFUSALS = {
    "key": (Response(401, {}), "refused the key"),
    "model": (Response(404, {"error": {"message": "no such model"}}), "has no model 'm'"),
    "images": (Response(400, {"error": {"message": "no images"}}), "the server refused the request: no images"),
    "broken": (Response(500, {"error": {"message": "out of memory"}}), "the server answered 500: out of memory"),
    "no JSON": (Response(200, "<html>Welcome</html>"), "the server sent what is no answer"),
    "lies": ("Perhaps.", 'the model said neither yes nor no, but "Perhaps."'),
}


@pytest.mark.parametrize("turn, reason", REFUSALS.values(), ids=REFUSALS)
def test_a_server_that_does_not_answer_leaves_the_order_and_one_warning(gallery, tmp_path, turn, reason):
    before = gallery.search(SENTENCE, k=COUNT)
    with serve({match(index): [turn] * 3 for index in range(COUNT)}) as server:
        hits = gallery.search(SENTENCE, k=COUNT, rerank=reranker(server.url, tmp_path))
    (warning,) = hits.warnings
    assert hits == before and reason in warning and warning.startswith("The order is that of the first search.")


def test_a_server_that_is_not_there_leaves_the_order_and_one_warning(gallery, tmp_path):
    (port,) = free_ports(1)
    hits = gallery.search(SENTENCE, k=COUNT, rerank=reranker(f"http://127.0.0.1:{port}/v1", tmp_path))
    assert hits == gallery.search(SENTENCE, k=COUNT) and len(hits.warnings) == 1 and "No server at" in hits.warnings[0]


def test_a_server_that_stalls_leaves_the_order_and_one_warning(gallery, tmp_path):
    with serve() as server:
        server.gathers = 99
        hits = gallery.search(SENTENCE, k=COUNT, rerank=reranker(server.url, tmp_path, timeout=0.5))
        server.gathered.set()
    assert hits == gallery.search(SENTENCE, k=COUNT)
    assert len(hits.warnings) == 1 and "did not answer in time" in hits.warnings[0]


def test_images_without_an_answer_keep_their_places_and_are_counted(gallery, tmp_path):
    before = names(gallery.search(SENTENCE, k=COUNT))
    with serve({match(before[0]): ["No."], match(before[1]): ["Perhaps."]}) as server:
        hits = gallery.search(SENTENCE, k=COUNT, rerank=reranker(server.url, tmp_path))
    assert names(hits) == [before[2], before[1], before[3], before[0]]
    assert len(hits.warnings) == 1 and "1 of the first 4 images have no answer" in hits.warnings[0]


def test_an_image_that_is_gone_keeps_its_place(gallery, tmp_path):
    before = names(gallery.search(SENTENCE, k=COUNT))
    (tmp_path / "painted" / before[1]).unlink()
    with serve({match(before[0]): ["No."]}) as server:
        hits = gallery.search(SENTENCE, k=COUNT, rerank=reranker(server.url, tmp_path))
    assert names(hits) == [before[2], before[1], before[3], before[0]]
    assert len(hits.warnings) == 1 and "is gone since it was indexed" in hits.warnings[0]


def test_nothing_is_asked_twice_and_a_budget_ends_a_run_that_goes_on_later(gallery, tmp_path):
    with serve() as server:
        first = gallery.search(SENTENCE, rerank=reranker(server.url, tmp_path, max_requests=3, concurrency=1))
        assert len(server.received) == 3 and "the budget of requests is used up" in first.warnings[0]
        second = gallery.search(SENTENCE, rerank=reranker(server.url, tmp_path, concurrency=1))
        assert len(server.received) == COUNT and not second.warnings and server.most_at_once == 1
        gallery.search(SENTENCE, rerank=reranker(server.url, tmp_path))
        assert len(server.received) == COUNT
        gallery.search(SENTENCES[2], rerank=reranker(server.url, tmp_path))
    assert len(server.received) == 2 * COUNT


def test_a_notebook_whose_event_loop_is_running_can_search(gallery, tmp_path):
    async def search():
        return gallery.search(SENTENCE, rerank=reranker(server.url, tmp_path))

    with serve() as server:
        assert [hit.probability for hit in asyncio.run(search())] == [1.0] * COUNT


def test_a_file_that_holds_no_answers_is_named(gallery, tmp_path):
    (tmp_path / "answers.sqlite").write_text("no database, but a text that is long enough" * 99)
    with serve() as server, pytest.raises(ValueError, match=r"answers.sqlite holds no answers \(.*\): remove it"):
        gallery.search(SENTENCE, rerank=reranker(server.url, tmp_path))


def test_an_example_is_not_compared_with_a_sentence(gallery, tmp_path):
    with serve() as server, pytest.raises(ValueError, match="leave out `like`"):
        gallery.search(like="0.png", rerank=reranker(server.url, tmp_path))


def test_a_cross_encoder_looks_again(gallery, tmp_path):
    save_tiny_llava(tmp_path / "llava")
    body = Transformer(str(tmp_path / "llava"), transformer_task="any-to-any")
    yes, no = (body.tokenizer.convert_tokens_to_ids(token) for token in "YN")
    CrossEncoder(modules=[body, LogitScore(yes, no)]).save(str(tmp_path / "cross-encoder"))
    by_model = CrossEncoderReranker(tmp_path / "cross-encoder")
    before = gallery.search(SENTENCE, k=COUNT)
    hits = gallery.search(SENTENCE, k=COUNT, rerank=by_model)
    images = [gallery.image(name) for name in names(before)]
    probabilities = by_model.model.predict([(SENTENCE, image) for image in images]).tolist()
    order = reorder([hit.score for hit in before], probabilities)
    assert names(hits) == [before[position].image_id for position in order]
    assert [hit.probability for hit in hits] == pytest.approx([probabilities[position] for position in order])


def test_search_prints_the_second_look(bdam, gallery, tmp_path):
    arguments = ["search", tmp_path / "gallery", SENTENCE, "--rerank", "m", "--base-url"]
    with serve() as server:
        code, output = bdam(*arguments, server.url, "--max-requests", "3")
    assert code == 0 and "second look" in output and "1 of the first 4 images have no answer" in output
    code, output = bdam(*arguments, f"http://127.0.0.1:{free_ports(1)[0]}/v1")
    assert code == 0 and "warning: The order is that of the first search. No server at" in output
    code, output = bdam("search", tmp_path / "gallery", SENTENCE, "--base-url", "http://127.0.0.1:1/v1")
    assert code == 1 and "--base-url needs --rerank" in output


class PerfectReader:
    """Knows all images of the split, and whom the sentences are about."""

    top = 5

    def __init__(self, data: Path):
        rows = load_from_disk(data)["test"]
        self.persons = {row["image"].tobytes(): row["person_id"] for row in rows}
        self.sought = {row["identity_description"]: row["person_id"] for row in rows}
        self.sought |= {caption: row["person_id"] for row in rows for caption in row["captions"]}

    def __call__(self, sentence, images) -> Answers:
        return Answers([float(self.persons[image.tobytes()] == self.sought[sentence]) for image in images])


def test_an_evaluation_says_what_a_second_look_brings(checkpoint, data):
    by_caption, by_description = evaluate_reranking(str(checkpoint), str(data), PerfectReader(data))
    assert (by_caption.setting.protocol, by_description.setting.protocol) == ("standard", "clothes-changed")
    assert by_caption.setting.clothing_weight == 0.4 and by_caption.num_queries == 40 and by_caption.pairs == 200
    assert by_caption.before.mean < by_caption.after.mean <= 100
    assert by_caption.gain.mean == pytest.approx(by_caption.after.mean - by_caption.before.mean)
    assert by_caption.gain.low <= by_caption.gain.mean <= by_caption.gain.high


def test_evaluate_prints_the_second_look_within_its_budget(bdam, checkpoint, data):
    with serve() as server:
        arguments = ["evaluate", checkpoint, "--data", data, "--rerank", "m", "--rerank-top", "2"]
        arguments += ["--base-url", server.url]
        code, output = bdam(*arguments, "--max-requests", "13")
        assert code == 0 and "0.0 (0.0 to 0.0)" in output and "12 pairs, " in output and len(server.received) <= 12
        code, output = bdam(*arguments, "--max-requests", "3")
        assert code == 1 and "--max-requests must be 4 or more" in output
    code, output = bdam(*arguments, "--open-set")
    assert code == 1 and "without --open-set" in output
    nowhere = ["--base-url", f"http://127.0.0.1:{free_ports(1)[0]}/v1"]
    code, output = bdam(*arguments, "--rerank", "unknown", *nowhere)
    assert code == 1 and "No server at" in output
