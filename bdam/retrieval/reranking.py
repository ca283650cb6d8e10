"""A second look at the first images of a search, by a model that reads the sentence and the image together."""

import hashlib
import json
import math
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from huggingface_hub import cached_assets_path
from PIL.Image import Image

from bdam.mllm.cache import AnswerCache
from bdam.mllm.concurrency import run, run_concurrently
from bdam.mllm.images import jpeg_url
from bdam.mllm.replies import Reply, RequestError, ServerError, error_message, without_reasoning


if TYPE_CHECKING:
    from bdam.mllm.client import MLLM
    from bdam.retrieval.hits import Hits

TOP = 20
YES, NO = "yes", "no"
SYSTEM = "You compare people in images from street cameras with descriptions of them."
QUESTION = """
Does this image show a person who fits this description? What the image does not show may be true. Answer with one
word: Yes or No. Description:"""
MAX_ANSWER = 16  # tokens of an answer
NUM_LOGPROBS = 20  # the most that OpenAI and vLLM give
BUDGET = "the budget of requests is used up"
UNCALIBRATED = "What scores mean is not known after a second look, which has changed the order."


@dataclass
class Answers:
    """
    What a reranker says of N images.

    Args:
        probabilities: for each image, that it shows the person of the sentence; None where there is no answer.
        reasons: how many images have no answer for each reason.
        requests, tokens: requests sent to a server, and tokens that they took.
    """

    probabilities: list[float | None]
    reasons: Counter[str] = field(default_factory=Counter)
    requests: int = 0
    tokens: int = 0


class Reranker(Protocol):
    """
    Looks at the first images of a search again: a function of a sentence and of images, best first, to [`Answers`].

    Args:
        top: how many images it looks at.
    """

    top: int

    def __call__(self, sentence: str, images: Sequence[Image]) -> Answers: ...


class CrossEncoderReranker:
    """
    A [`Reranker`] by a cross-encoder of sentence-transformers that takes pairs of a sentence and an image.

    Args:
        checkpoint: its folder, or its name on the Hub, such as Qwen/Qwen3-VL-Reranker-2B.
        top: how many images it looks at.
        batch_size: pairs per forward pass.

    Raises:
        ImportError: without sentence-transformers.
        OSError: if there is no such model.
        ValueError: if it does not take images, or gives more than one score.
    """

    def __init__(self, checkpoint: str | Path, top: int = TOP, batch_size: int = 16):
        try:
            from sentence_transformers import CrossEncoder
        except ImportError as error:
            raise ImportError("Cross-encoders need sentence-transformers: pip install bdam[rerank]") from error
        self.top = top
        self.batch_size = batch_size
        self.model = CrossEncoder(str(checkpoint))
        if "image" not in self.model.modalities or self.model.num_labels != 1:
            raise ValueError(f"{checkpoint} gives no score for a sentence and an image: name another cross-encoder.")

    def __call__(self, sentence: str, images: Sequence[Image]) -> Answers:
        from torch.nn import Sigmoid

        pairs = [(sentence, image) for image in images]
        scores = self.model.predict(pairs, batch_size=self.batch_size, activation_fn=Sigmoid())
        return Answers([float(score) for score in scores])


class MLLMReranker:
    """
    A [`Reranker`] that asks an MLLM about each image, yes or no. The probability is that of yes against no, where the
    server gives log-probabilities, and otherwise 1 or 0.

    Args:
        mllm: is asked; with temperature 0.
        top: how many images it looks at.
        concurrency: requests under way at once.
        max_requests: the budget of all calls; None for no limit. Images beyond it have no answer.
        cache: the file of answers, which are asked for once for each model, sentence and image. Default: one in the
            assets cache of the Hub's libraries. It holds neither sentences nor images, only their digests.

    Example:

    ```python
    >>> from bdam import Gallery
    >>> from bdam.mllm.client import MLLM
    >>> from bdam.retrieval.reranking import MLLMReranker
    >>> reranker = MLLMReranker(MLLM("Qwen/Qwen3-VL-8B-Instruct", "http://127.0.0.1:8000/v1", temperature=0))
    >>> gallery = Gallery.from_images("outputs/demo/model", "images")
    >>> hits = gallery.search("A tall man in a red coat.", k=5, rerank=reranker)
    >>> 0 <= hits[0].probability <= 1
    True
    ```"""

    def __init__(
        self,
        mllm: "MLLM",
        top: int = TOP,
        concurrency: int = 16,
        max_requests: int | None = None,
        cache: Path | None = None,
    ):
        self.mllm = mllm
        self.top = top
        self.concurrency = concurrency
        self.requests_left = math.inf if max_requests is None else max_requests
        self.cache = cache or cached_assets_path("bdam", "answers") / "answers.sqlite"

    def __call__(self, sentence: str, images: Sequence[Image]) -> Answers:
        """
        The answers for the images.

        Raises:
            ServerError: if the server cannot answer anything, or answered about none of the images.
        """
        answers = run(self._ask_for_all(sentence, images))
        if images and answers.reasons.total() == len(images) and BUDGET not in answers.reasons:
            raise ServerError(f"{self.mllm.model} answered about no image: {next(iter(answers.reasons))}.")
        return answers

    async def _ask_for_all(self, sentence: str, images: Sequence[Image]) -> Answers:
        answers = Answers([None] * len(images))
        with AnswerCache(self.cache) as cache:

            async def ask(position: int) -> None:
                messages = build_question(sentence, jpeg_url(images[position]))
                answers.probabilities[position] = await self._ask(messages, answers, cache)

            try:
                await run_concurrently(range(len(images)), ask, self.concurrency)
            finally:
                await self.mllm.close()
        return answers

    async def _ask(self, messages: list[dict], answers: Answers, cache: AnswerCache) -> float | None:
        """The probability for one image, counted in the answers."""
        request = hashlib.sha256(json.dumps([self.mllm.model, messages]).encode()).hexdigest()
        if (known := cache.find(request)) is not None:
            return known
        if self.requests_left < 1:
            answers.reasons[BUDGET] += 1
            return None
        self.requests_left -= 1
        answers.requests += 1
        try:
            reply = await self.mllm.ask(messages, logprobs=True, top_logprobs=NUM_LOGPROBS)
        except RequestError as error:
            answers.reasons[str(error)] += 1
            return None
        answers.tokens += reply.tokens
        probability = read_probability(reply)
        if probability is None:
            answers.reasons[f'the model said neither yes nor no, but "{error_message(reply.content or "")}"'] += 1
        else:
            cache.add(request, probability)
        return probability


def load_reranker(
    model: str, base_url: str | None = None, top: int = TOP, concurrency: int = 16, max_requests: int | None = None
) -> Reranker:
    """
    A reranker by name: an MLLM of the server at `base_url`; without one, a cross-encoder.

    Args:
        model: the name of the MLLM on the server; or a folder, or a name on the Hub.
        base_url: an OpenAI-compatible endpoint, such as http://127.0.0.1:8000/v1.
        top, concurrency, max_requests: as for [`MLLMReranker`].
    """
    if base_url is None:
        return CrossEncoderReranker(model, top)
    from bdam.mllm.client import MLLM

    mllm = MLLM(model, base_url, temperature=0, max_tokens=MAX_ANSWER, max_retries=2)
    return MLLMReranker(mllm, top, concurrency, max_requests)


def build_question(sentence: str, image: str) -> list[dict]:
    """The conversation of one request, about an image as a `data:` URL."""
    content = [
        {"type": "image_url", "image_url": {"url": image}},
        {"type": "text", "text": f"{' '.join(QUESTION.split())} {sentence}"},
    ]
    return [{"role": "system", "content": SYSTEM}, {"role": "user", "content": content}]


def read_probability(reply: Reply) -> float | None:
    """
    P(yes) / (P(yes) + P(no)) in a reply, over their spellings: by the log-probabilities of its first token, if that is
    one of the two words; otherwise 1 or 0, by its first word. None if it is neither.
    """
    first = reply.first_token
    if first is not None and _word(first.token) in (YES, NO):
        masses = dict.fromkeys((YES, NO), 0.0)
        for token in first.top_logprobs or [first]:
            if (word := _word(token.token)) in masses:
                masses[word] += math.exp(min(token.logprob, 0.0))
        if total := sum(masses.values()):
            return masses[YES] / total
    return {YES: 1.0, NO: 0.0}.get(_word(without_reasoning(reply.content or "")))


def reorder(scores: Sequence[float], probabilities: Sequence[float | None]) -> list[int]:
    """
    The new order of N images: their positions, by the probability plus the score, rescaled to 0 for the last image and
    1 for the first. So a plain yes comes before a plain no, and equal answers keep their order. An image without an
    answer keeps its place.

    The probabilities alone make a worse order, since they know nothing of the rest of the gallery: among many images,
    the likeliest is often one that the reader is wrong about; see the results on generated pedestrians.

    Args:
        scores: (N,) of the first search, best first.
        probabilities: (N,) in [0, 1]; None where there is no answer.

    Example:

    ```python
    >>> from bdam.retrieval.reranking import reorder
    >>> reorder([0.9, 0.8, 0.6, 0.5], [0.0, None, 1.0, 1.0])
    [2, 1, 3, 0]
    ```"""
    spread = scores[0] - scores[-1] if scores else 0.0

    def fit(position: int) -> tuple[float, float]:
        probability = probabilities[position] or 0.0
        return probability + (scores[position] - scores[-1]) / (spread or 1.0), probability

    answered = [position for position, probability in enumerate(probabilities) if probability is not None]
    best_first = iter(sorted(answered, key=fit, reverse=True))
    return [position if value is None else next(best_first) for position, value in enumerate(probabilities)]


def rerank_hits(hits: "Hits", sentence: str, reranker: Reranker, open_image: Callable[[str], Image]) -> None:
    """
    Puts the first hits in the order of a second look, see [`reorder`], and adds a warning for what has no answer. What
    the scores mean is calibrated for the order of the first search, so it is taken away.

    Args:
        hits: best first, changed in place.
        sentence: that they were found by.
        reranker: looks at the first `reranker.top` of them.
        open_image: from an image id to the image.
    """
    first, images = hits[: reranker.top], {}
    reasons: Counter[str] = Counter()
    for position, hit in enumerate(first):
        try:
            images[position] = open_image(hit.image_id)
        except (OSError, ValueError) as error:
            reasons[str(error).rstrip(".")] += 1
    try:
        answers = reranker(sentence, list(images.values()))
    except ServerError as error:
        hits.warnings.append(f"The order is that of the first search. {error}")
        return
    found = dict(zip(images, answers.probabilities, strict=True))
    judged = [replace(hit, probability=found.get(position)) for position, hit in enumerate(first)]
    order = reorder([hit.score for hit in judged], [hit.probability for hit in judged])
    hits[: len(first)] = [judged[position] for position in order]
    hits.confidence, hits.meaning = None, UNCALIBRATED
    if reasons := reasons + answers.reasons:
        (reason, _), *_ = reasons.most_common(1)
        hits.warnings.append(
            f"{reasons.total()} of the first {len(first)} images have no answer and keep their places: {reason}."
        )


def _word(text: str) -> str:
    """The first word of a text, in lower case."""
    return next(iter(re.findall(r"[^\W\d_]+", text.casefold())), "")
