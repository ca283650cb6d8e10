"""Asks whoever searches a gallery the question whose answer would tell most about whom they look for."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch

from bdam.retrieval.gallery import Gallery
from bdam.retrieval.hits import Hit, Hits, Query
from bdam.retrieval.questions import Question, load_questions
from bdam.retrieval.stores.base import Filter, StoredImage


# The images, at least, that answers reorder and that a question is chosen for.
CANDIDATES = 200
# Of the temperature over that of the model's loss; the best of 0.6 to 4 on 200 validation persons.
TEMPERATURE_FACTOR = 2


class Asker:
    """
    Searches a gallery by a query and by answers to questions, and chooses the next question.

    The model reads an answer off an image: `p(answer | image)` is the softmax over the answers of the cosine
    similarity of image and answer, in the stream of the question, divided by a temperature T. Each answer that is
    given adds `T · log p(answer | image)` to the score of an image. By Bayes' rule, `softmax(score / T)` is then the
    probability that an image is the one looked for, and the question to ask next is that whose answer has the most
    mutual information with the image.

    Nothing but the answers is embedded, once. A question about what the clothing weight leaves out, or whose answer
    the query has already, is not asked.

    Args:
        gallery: to search.
        questions: to choose from. Default: those of [`load_questions`].

    Example:

    ```python
    >>> from bdam import Gallery
    >>> from bdam.retrieval.asking import Asker
    >>> asker = Asker(Gallery.from_images("outputs/demo/model", "images"))
    >>> hits, question = asker.search({}, text="A man in a red coat.")
    >>> answers = {question.text: list(question.answers)[0]}
    >>> hits, question = asker.search(answers, text="A man in a red coat.")
    ```"""

    def __init__(self, gallery: Gallery, questions: list[Question] | None = None):
        self.gallery = gallery
        self.questions = {question.text: question for question in questions or load_questions()}
        self.temperature = TEMPERATURE_FACTOR * gallery.embedder.temperature
        # Question → the vectors (A, D) of its answers, zero outside its stream.
        self._vectors = self._embed_answers()

    def search(
        self,
        answers: Mapping[str, str | None],
        k: int = 10,
        filter: Filter | None = None,
        one_per: str | None = None,
        **query: Any,
    ) -> tuple[Hits, Question | None]:
        """
        The k images that fit a query and answers best, and the next question.

        Args:
            answers: text of a question → its answer, or None if it is not known: then the question is not asked
                again, and the ranking stays as it is.
            k: number of images.
            filter: as for [`Gallery.search`].
            one_per: as for [`Gallery.search`].
            query: other arguments of [`Gallery.search`], such as `text`.

        Returns:
            The hits as [`Gallery.search`] returns them, where `identity` and `clothing` hold what the answers add; and
            the question, None if none is left or nothing was found.

        Raises:
            ValueError: as [`Gallery.search`], and if there is no such question or answer.
        """
        places = self._places(answers)
        embedded = self.gallery.embed_query(**query)
        readable = [text for text in self.questions if self._is_readable(text, embedded.clothing_weight)]
        given = {text: place for text, place in places.items() if text in readable}
        found = self.gallery.find_nearest(self._move(embedded, given), max(k, CANDIDATES), filter, one_per)
        if not found:
            return Hits(warnings=embedded.warnings), None
        images = torch.stack([stored.vector for stored in found])
        log_p = {text: (images @ self._vectors[text].T / self.temperature).log_softmax(dim=1) for text in readable}
        identity, clothing = self.gallery.embedder.score_parts(embedded.vector, images)
        for text, place in given.items():
            part = clothing if self._is_of_clothing(text) else identity
            part += self.temperature * log_p[text][:, place]
        said = " ".join(query[name] for name in ("text", "identity", "clothing") if query.get(name))
        unknown = [text for text in readable if text not in answers and not self.questions[text].is_answered(said)]
        question = self._choose(identity + clothing, {text: log_p[text] for text in unknown})
        return _best(k, found, identity, clothing, embedded.warnings), question

    def usefulness(self, weights: torch.Tensor, log_p: torch.Tensor) -> float:
        """How much the answer to a question would tell: [`mutual_information`], with its arguments."""
        return mutual_information(weights, log_p)

    def _embed_answers(self) -> dict[str, torch.Tensor]:
        embedder, questions = self.gallery.embedder, self.questions.values()
        sentences = [sentence for question in questions for sentence in question.sentences.values()]
        vectors = embedder(text=sentences).split([len(question.answers) for question in questions])
        return {
            question.text: embedder.weigh(of_question, float(self._is_of_clothing(question.text)))
            for question, of_question in zip(questions, vectors, strict=True)
        }

    def _is_of_clothing(self, text: str) -> bool:
        """Whether the answers to a question are read in the clothing stream, which some models lack."""
        return self.questions[text].stream == "clothing" and self.gallery.embedder.space.clothing_size > 0

    def _is_readable(self, text: str, clothing_weight: float) -> bool:
        """Whether a search of this clothing weight compares the stream of a question at all."""
        return clothing_weight > 0 if self._is_of_clothing(text) else clothing_weight < 1

    def _places(self, answers: Mapping[str, str | None]) -> dict[str, int]:
        """Question → the place of its answer among its answers, where the answer is known."""
        places = {}
        for text, answer in answers.items():
            if text not in self.questions:
                raise ValueError(f"{text!r} is none of the questions.")
            labels = list(self.questions[text].answers)
            if answer is not None and answer not in labels:
                raise ValueError(f"{answer!r} is no answer to {text!r}: there are {', '.join(labels)}.")
            if answer is not None:
                places[text] = labels.index(answer)
        return places

    def _move(self, query: Query, given: Mapping[str, int]) -> Query:
        """The query plus what the answers add to a score to first order, by which any index can search."""
        steps = [self._vectors[text][place] - self._vectors[text].mean(dim=0) for text, place in given.items()]
        return replace(query, vector=sum(steps, query.vector))

    def _choose(self, scores: torch.Tensor, log_p: Mapping[str, torch.Tensor]) -> Question | None:
        """The question that tells most about images with these scores (N,); None if no question is left."""
        weights = (scores / self.temperature).softmax(dim=0)
        best = max(log_p, key=lambda text: self.usefulness(weights, log_p[text]), default=None)
        return None if best is None else self.questions[best]


def _best(
    k: int, found: list[StoredImage], identity: torch.Tensor, clothing: torch.Tensor, warnings: list[str]
) -> Hits:
    """The k images of the largest scores, the sum of their parts (N,), best first."""
    order = (identity + clothing).argsort(descending=True, stable=True)[:k].tolist()
    parts = [(found[place], identity[place].item(), clothing[place].item()) for place in order]
    hits = [Hit(stored.image_id, who + wear, who, wear, stored.row) for stored, who, wear in parts]
    return Hits(hits, warnings, meaning="What scores mean is not known where answers may add to them.")


def mutual_information(weights: torch.Tensor, log_p: torch.Tensor) -> float:
    """
    How many nats an answer tells about which image is looked for: `H(mean answer) - mean H(answer)`.

    Args:
        weights: (N,), the probabilities of the images.
        log_p: (N, A), the log probabilities of the answers for each image.
    """
    return entropy(weights, log_p) - float(weights @ -(log_p.exp() * log_p).sum(dim=1))


def entropy(weights: torch.Tensor, log_p: torch.Tensor) -> float:
    """The entropy of the answer, in nats; arguments as for [`mutual_information`]."""
    return float(torch.special.entr(weights @ log_p.exp()).sum())
