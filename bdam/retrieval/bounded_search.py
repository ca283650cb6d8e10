"""Search with untrusted input: any query ends in hits, or in a ValueError whose message the sender can read."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from io import BytesIO
from threading import Lock
from typing import Annotated, Any

import numpy as np
import torch
from PIL import Image, ImageFilter
from pydantic import ConfigDict, Field, ValidationError, validate_call

from bdam.data.images import open_image
from bdam.retrieval.asking import Asker
from bdam.retrieval.display import InFrame, placeholder, read_image, show_image, show_time
from bdam.retrieval.gallery import Gallery
from bdam.retrieval.hits import Hits
from bdam.retrieval.questions import Question
from bdam.retrieval.stores.base import Span, StoredImage


MAX_SENTENCE = 1000  # characters
MAX_HITS = 60
MAX_PIXELS = 25_000_000  # of an example; a file of some kilobytes can hold far more
EXAMPLE_SIDE = 1024  # pixels
THUMBNAIL_SIDE = 512  # pixels

# The arguments of a search that say whom to look for.
ASKED = ("text", "identity", "clothing", "like", "clothing_weight")
TRACK = "track"  # the column of the track that an image belongs to, as `bdam detect` writes it

Sentence = Annotated[str | None, Field(max_length=MAX_SENTENCE)]
Count = Annotated[int, Field(ge=1, le=MAX_HITS)]
Example = str | Image.Image | None
Log = Callable[[dict[str, Any], list[str] | None, str | None], None]


@dataclass(frozen=True, eq=False)
class OpenedImage:
    """
    An image of the gallery, and what is known of it.

    Args:
        image: of at most `EXAMPLE_SIDE` pixels a side; a placeholder if it cannot be read.
        frame: that it was cut from; None if that is not known.
        row: its columns.
        lost: `identity` and `clothing` → what that part of its score loses, see [`Gallery.explain`]; without what
            counts for nothing.
        track: thumbnails of all images of its track, with their times; empty if it is alone.
    """

    image: Image.Image
    frame: Image.Image | None
    row: dict[str, Any]
    lost: dict[str, np.ndarray]
    track: list[tuple[Image.Image, str]]


class BoundedSearch:
    """
    Searches a gallery with bounds on the types and sizes of a query.

    Args:
        gallery: to search. One thread at a time does, since tokenizers and database clients may not be thread-safe.
        blur_heads: whether thumbnails show heads blurred.
        log: is called with each query, the ids of the images that were shown, None if it was refused, and the id of
            the image that was opened, None for a search.
        in_frame: shows where an image was cut out, by its row, or None. Default: nothing does.
    """

    def __init__(
        self,
        gallery: Gallery,
        blur_heads: bool = False,
        log: Log | None = None,
        in_frame: InFrame | None = None,
    ):
        self.gallery = gallery
        self.blur_heads = blur_heads
        self.choices = {name: values for name, values in gallery.store.choices().items() if name != TRACK}
        self.one_per = TRACK if _has_tracks(gallery) else None
        self._log = log or (lambda query, shown, opened: None)
        self._in_frame = in_frame or (lambda row: None)
        self._lock = Lock()

    def search(self, **query: Any) -> Hits:
        """
        The hits of [`Gallery.search`].

        Args:
            query: its arguments: sentences of at most `MAX_SENTENCE` characters, and `k` up to `MAX_HITS`.

        Raises:
            ValueError: as [`Gallery.search`]; and if an argument is out of bounds or of the wrong type.
        """
        with self._logged(query) as shown:
            checked = _check(**query)
            with self._lock:
                hits = self.gallery.search(**checked)
            shown += [hit.image_id for hit in hits]
        return hits

    def ask(self, answers: dict[str, str | None], **query: Any) -> tuple[Hits, Question | None]:
        """
        The hits of a query and of answers to questions, and the next question; see [`Asker.search`].

        Args:
            answers: those so far.
            query: as in [`BoundedSearch.search`].

        Raises:
            ValueError: as [`BoundedSearch.search`].
        """
        with self._logged({**query, "answers": answers}) as shown:
            checked = _check(**query)
            with self._lock:
                hits, question = self._asker.search(answers, **checked)
            shown += [hit.image_id for hit in hits]
        return hits, question

    def open(self, image_id: str, **query: Any) -> OpenedImage:
        """
        One of the images that a query found.

        Args:
            image_id: the image.
            query: the query, as [`Gallery.explain`] takes it.

        Raises:
            ValueError: as [`BoundedSearch.search`]; and if the gallery has no such image.
        """
        with self._logged(query, image_id) as shown:
            checked = _check(**query)
            if not (found := self.gallery.store.find([image_id])):
                raise ValueError(f"No image of the gallery is named {image_id!r}.")
            image = read_image(self.gallery, image_id)
            lost = {} if image is None else self._explain(image_id, image, checked)
            track = self._find_track(found[0])
            shown += [one.image_id for one in track] or [image_id]
        image, row = image or placeholder(), found[0].row
        thumbnails = self._show_track(track, {image_id: image})
        return OpenedImage(_shrink(image, EXAMPLE_SIDE), self._in_frame(row), row, lost, thumbnails)

    def filter(self, values: Sequence[Any]) -> dict[str, list | Span]:
        """
        The filter for [`BoundedSearch.search`] of values that were chosen from `choices`.

        Args:
            values: for each column of `choices` the positions of the chosen values, none for any value; for a span its
                start and its end, None for no bound.
        """
        given = iter(values)
        chosen: dict[str, list | Span] = {}
        for column, choices in self.choices.items():
            if isinstance(choices, Span):
                chosen[column] = Span(next(given), next(given))
            elif positions := next(given):
                chosen[column] = [choices[position] for position in positions]
        return {column: wanted for column, wanted in chosen.items() if wanted != Span()}

    def thumbnail(self, image_id: str) -> Image.Image:
        """An image of the gallery of at most `THUMBNAIL_SIDE` pixels a side; a placeholder if it cannot be read."""
        return self._to_thumbnail(show_image(self.gallery, image_id))

    def _to_thumbnail(self, image: Image.Image) -> Image.Image:
        thumbnail = _shrink(image, THUMBNAIL_SIDE)
        return blur_head(thumbnail) if self.blur_heads else thumbnail

    def _find_track(self, opened: StoredImage) -> list[StoredImage]:
        """The images of the track of an image, in order of time; none if it is alone."""
        track = opened.row.get(TRACK)
        images = [] if track is None else self.gallery.store.search(opened.vector, MAX_HITS, {TRACK: track})
        images.sort(key=lambda image: (image.row.get("time") or 0, image.image_id))
        return images if len(images) > 1 else []

    def _show_track(self, track: list[StoredImage], is_read: dict[str, Image.Image]) -> list[tuple[Image.Image, str]]:
        """Thumbnails of the images of a track, of which some were read before, with their times."""
        images = (is_read.get(one.image_id) or show_image(self.gallery, one.image_id) for one in track)
        return [(self._to_thumbnail(image), show_time(one.row)) for image, one in zip(images, track, strict=True)]

    def _explain(self, image_id: str, image: Image.Image, query: dict[str, Any]) -> dict[str, np.ndarray]:
        with self._lock:
            embedded = self.gallery.embed_query(**{name: query[name] for name in ASKED})
            lost = self.gallery.explain_image(embedded, image_id, image)
        return {name: part for name in ("identity", "clothing") if (part := getattr(lost, name)).any()}

    @property
    def questions(self) -> dict[str, Question]:
        """The questions of [`BoundedSearch.ask`] by their texts."""
        return self._asker.questions

    @cached_property
    def _asker(self) -> Asker:
        return Asker(self.gallery)

    @contextmanager
    def _logged(self, query: dict[str, Any], opened: str | None = None) -> Iterator[list[str]]:
        """Logs a query with the ids that are put into the list, or with None if there is an error."""
        shown: list[str] = []
        try:
            with _mistakes_told():
                yield shown
        except Exception:
            self._log(query, None, opened)
            raise
        self._log(query, shown, opened)


@validate_call(config=ConfigDict(arbitrary_types_allowed=True))
def _check(
    text: Sentence = None,
    identity: Sentence = None,
    clothing: Sentence = None,
    like: Example = None,
    clothing_weight: float | None = None,
    k: Count = 12,
    filter: dict[str, list | Span] | None = None,
    one_per: str | None = None,
) -> dict[str, Any]:
    """The arguments of a search, of the right types and within bounds."""
    return locals()


@contextmanager
def _mistakes_told() -> Iterator[None]:
    """Raises what a validation finds wrong as one sentence."""
    try:
        yield
    except ValidationError as error:
        mistakes = ((mistake["loc"][0], mistake["msg"]) for mistake in error.errors())
        raise ValueError("; ".join(f"`{name}`: {message}" for name, message in mistakes)) from None


def _has_tracks(gallery: Gallery) -> bool:
    some = gallery.store.search(torch.zeros(gallery.embedder.space.size), 1, {})
    return bool(some) and TRACK in some[0].row


def _shrink(image: Image.Image, side: int) -> Image.Image:
    """A copy of an image of at most so many pixels a side."""
    copy = image.copy()
    copy.thumbnail((side, side))
    return copy


def open_example(content: bytes) -> Image.Image:
    """
    An uploaded image, opened by [`open_image`] and scaled to at most `EXAMPLE_SIDE` pixels a side.

    Args:
        content: bytes of the file.

    Raises:
        ImageError: if it has more than `MAX_PIXELS` pixels, or cannot be read.
    """
    image = open_image(BytesIO(content), max_pixels=MAX_PIXELS)
    image.thumbnail((EXAMPLE_SIDE, EXAMPLE_SIDE))
    return image


def blur_head(image: Image.Image) -> Image.Image:
    """
    The image with its upper fifth blurred, where the head of a person is whom it shows whole.

    Args:
        image: of one person, such as a crop that a detector made.
    """
    head = (0, 0, image.width, image.height // 5)
    blurred = image.copy()
    blurred.paste(image.crop(head).filter(ImageFilter.GaussianBlur(image.height / 30)), head)
    return blurred
