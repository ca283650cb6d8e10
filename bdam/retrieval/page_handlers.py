"""What the web page does when its user searches, opens an image or answers a question."""

import html
from typing import Any, NamedTuple

import gradio

from bdam.retrieval.bounded_search import BoundedSearch, Example, open_example
from bdam.retrieval.display import lay_over
from bdam.retrieval.hits import Hit, Hits
from bdam.retrieval.questions import Question


HITS = 12  # images per search, at first


# Columns that say nothing to the user of the page; where a file is on the server concerns nobody.
HIDDEN = ("image_id", "stamp", "content", "path", "part", "box")


UNKNOWN = "I don't know"

# Question → its answer, or None if it is not known.
Answers = dict[str, str | None]


class FoundValues(NamedTuple):
    """New values of the components that show what a search has found."""

    meaning: gradio.HTML
    results: gradio.Gallery
    found: list[str]
    example: Example
    shown: gradio.Image
    clear: gradio.Button
    opened: gradio.Column
    answers: Answers
    said: gradio.HTML
    asked: str | None
    question: gradio.Dataset
    ask: gradio.Button


class OpenedValues(NamedTuple):
    """New values of the components that show one image."""

    opened: gradio.Column
    views: list[tuple[Any, str]]
    facts: str
    frame: gradio.Gallery
    track: gradio.Gallery
    image_id: str


class PageHandlers:
    """
    The handlers of the page's events.

    A `query` is the values of the controls: text, identity, clothing, clothing weight, number of images, and those of
    the filters, see [`BoundedSearch.filter`].

    Args:
        bounded: the search.
    """

    def __init__(self, bounded: BoundedSearch):
        self.bounded = bounded

    def search(
        self,
        like: Example,
        text: str | None,
        identity: str | None,
        clothing: str | None,
        clothing_weight: float | None,
        k: int | None,
        *filters: Any,
    ) -> FoundValues | dict:
        """Shows the hits of the example or, without one, of the sentence; none if both are empty."""
        try:
            query, options = self._read(like, text, identity, clothing, clothing_weight, k, *filters)
            is_empty = all(query[name] is None for name in ("like", "text", "identity", "clothing"))
            hits = Hits() if is_empty else self.bounded.search(**query, **options)
        except ValueError as error:
            return _warn_only(error)
        return self._show(hits, like)

    def on_ask(self, answers: Answers, like: Example, *controls: Any) -> FoundValues | dict:
        """Shows the hits of the query and of the answers so far, and the next question."""
        try:
            query, options = self._read(like, *controls)
            hits, question = self.bounded.ask(answers, **query, **options)
        except ValueError as error:
            return _warn_only(error)
        if question is None:
            gradio.Info("There is nothing left to ask.")
        return self._show(hits, like, answers, question)

    def on_answer(self, place: int, asked: str, answers: Answers, *query: Any) -> FoundValues | dict:
        """Adds the answer at this place among those of the question, of which the last is that it is not known."""
        labels = list(self.bounded.questions[asked].answers)
        answer = labels[place] if place < len(labels) else None
        return self.on_ask({**answers, asked: answer}, *query)

    def on_change(self, answers: Answers, *query: Any) -> FoundValues | dict:
        """Searches again as before, with the answers if there are any."""
        return self.on_ask(answers, *query) if answers else self.search(*query)

    def on_sentence(self, like: Example, text: str | None, *rest: Any) -> FoundValues | dict:
        """Searches by the sentence; if it is empty, by the example."""
        if like is None and not any(map(_stripped, (text, *rest[:2]))):
            gradio.Info("Say whom you look for.")
        return self.search(None if _stripped(text) else like, text, *rest)

    def on_selection(
        self,
        selected: gradio.SelectData,
        image_ids: list[str],
        like: Example,
        text: str | None,
        identity: str | None,
        clothing: str | None,
        clothing_weight: float | None,
        *_: Any,
    ) -> OpenedValues | dict:
        """Opens a hit: the image, what it was found for, what is known of it, its frame, and the rest of its track."""
        if selected.index not in range(len(image_ids)):
            return _warn_only(ValueError("These results are too old: search again."))
        image_id = image_ids[selected.index]
        try:
            opened = self.bounded.open(image_id, **_query(like, text, identity, clothing, clothing_weight))
        except ValueError as error:
            return _warn_only(error)
        maps = [(lay_over(opened.image, lost), f"{part}\nlost if hidden") for part, lost in opened.lost.items()]
        return OpenedValues(
            gradio.Column(visible=True),
            [(opened.image, "image"), *maps],
            facts(image_id, opened.row),
            gradio.Gallery([opened.frame] if opened.frame else [], visible=opened.frame is not None),
            gradio.Gallery(opened.track, visible=bool(opened.track)),
            image_id,
        )

    def on_upload(self, content: bytes, *query: Any) -> FoundValues | dict:
        """Uses the uploaded image as the example of a search, and searches."""
        try:
            return self.search(open_example(content), *query)
        except ValueError as error:
            return _warn_only(error)

    def on_clear(self, *query: Any) -> FoundValues | dict:
        """Removes the example, and searches by the sentence."""
        return self.search(None, *query)

    def _read(self, like: Example, *controls: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        """The query and the options of a search."""
        text, identity, clothing, clothing_weight, k, *filters = controls
        options = {"k": k or HITS, "filter": self.bounded.filter(filters), "one_per": self.bounded.one_per}
        return _query(like, text, identity, clothing, clothing_weight), options

    def _show(
        self, hits: Hits, like: Example, answers: Answers | None = None, question: Question | None = None
    ) -> FoundValues:
        for warning in hits.warnings:
            _warn(warning)
        known = [f"{asked} {answer}." for asked, answer in (answers or {}).items() if answer]
        return FoundValues(
            gradio.HTML(html.escape(hits.meaning), visible=hits.confidence is not None),
            gradio.Gallery(
                [(self.bounded.thumbnail(hit.image_id), caption(hit)) for hit in hits], selected_index=None
            ),
            [hit.image_id for hit in hits],
            like,
            gradio.Image(self.bounded.thumbnail(like) if isinstance(like, str) else like, visible=like is not None),
            gradio.Button(visible=like is not None),
            gradio.Column(visible=False),
            answers or {},
            gradio.HTML(html.escape(" ".join(known)), visible=bool(known)),
            None if question is None else question.text,
            _choices(question),
            gradio.Button(visible=bool(hits)),
        )


def _choices(question: Question | None) -> gradio.Dataset:
    """A question with a button for each answer; invisible if there is none."""
    if question is None:
        return gradio.Dataset(visible=False)
    return gradio.Dataset(
        label=question.text, samples=[[answer] for answer in (*question.answers, UNKNOWN)], visible=True
    )


def caption(hit: Hit) -> str:
    """The lines below an image: its score, the parts of the score, and its id."""
    return f"{hit.score:.3f}\nidentity {hit.identity:.3f}\nclothing {hit.clothing:.3f}\n{hit.image_id}"


def facts(image_id: str, row: dict[str, Any]) -> str:
    """What is known of an image, as a list in HTML."""
    known = {"image": image_id, **{name: value for name, value in row.items() if name not in HIDDEN}}
    pairs = [(html.escape(name), html.escape(str(value))) for name, value in known.items() if value is not None]
    return "".join(["<dl>", *(f"<dt>{name}</dt><dd>{value}</dd>" for name, value in pairs), "</dl>"])


def _query(like: Example, *controls: Any) -> dict[str, Any]:
    """The query of an example or, without one, of a sentence, as arguments of [`Gallery.search`]."""
    text, identity, clothing, clothing_weight = controls
    return {
        "text": _stripped(text) if like is None else None,
        "identity": _stripped(identity),
        "clothing": _stripped(clothing),
        "like": like,
        "clothing_weight": clothing_weight,
    }


def _stripped(words: str | None) -> str | None:
    """The words; None if they are blank."""
    return words if words and words.strip() else None


def _warn_only(error: ValueError) -> Any:
    """Shows the message of an error, and leaves all components as they are."""
    _warn(str(error))
    return gradio.skip()


def _warn(message: str) -> None:
    """Shows a warning. Gradio shows messages as HTML, and this one may quote what a user typed."""
    gradio.Warning(html.escape(message, quote=False))
