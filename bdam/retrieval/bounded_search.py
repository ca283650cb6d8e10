"""Search with untrusted input: whatever is sent ends in hits or in a ValueError that the sender can read."""

from collections.abc import Sequence
from io import BytesIO
from threading import Lock
from typing import Annotated, Any

from PIL import Image
from pydantic import ConfigDict, Field, ValidationError, validate_call

from bdam.data.images import open_image
from bdam.retrieval.display import show_image
from bdam.retrieval.gallery import Gallery, Hits


MAX_SENTENCE = 1000  # characters
MAX_HITS = 60
MAX_PIXELS = 25_000_000  # of an example; a file of some kilobytes can hold far more
EXAMPLE_SIDE = 1024
THUMBNAIL_SIDE = 512

Sentence = Annotated[str | None, Field(max_length=MAX_SENTENCE)]
Count = Annotated[int, Field(ge=1, le=MAX_HITS)]
Example = str | Image.Image | None


class BoundedSearch:
    """
    Searches a gallery within bounds on what is sent.

    Args:
        gallery: what is searched, by one thread at a time: tokenizers and clients of databases promise no more.
    """

    def __init__(self, gallery: Gallery):
        self.gallery = gallery
        self.choices = gallery.store.choices()
        self._lock = Lock()

    def search(self, **query: Any) -> Hits:
        """
        As [`Gallery.search`], within bounds.

        Raises:
            ValueError: as there; and if a sentence is too long, `k` too large, or anything of the wrong type.
        """
        try:
            return self._search(**query)
        except ValidationError as error:
            mistakes = ((mistake["loc"][0], mistake["msg"]) for mistake in error.errors())
            raise ValueError("; ".join(f"`{name}`: {message}" for name, message in mistakes)) from None

    def filter(self, positions: Sequence[Sequence[int]]) -> dict[str, list]:
        """The filter of values that are given by their positions among the choices of each column."""
        chosen = zip(self.choices.items(), positions, strict=True)
        return {
            column: [values[position] for position in of_column] for (column, values), of_column in chosen if of_column
        }

    def thumbnail(self, image_id: str) -> Image.Image:
        """An image of the gallery, small; or one that says that it is not there any more."""
        image = show_image(self.gallery, image_id)
        image.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE))
        return image

    @validate_call(config=ConfigDict(arbitrary_types_allowed=True))
    def _search(
        self,
        text: Sentence = None,
        identity: Sentence = None,
        clothing: Sentence = None,
        like: Example = None,
        clothing_weight: float | None = None,
        k: Count = 12,
        filter: dict[str, list] | None = None,
    ) -> Hits:
        with self._lock:
            return self.gallery.search(text, identity, clothing, like, clothing_weight, k, filter)


def open_example(content: bytes) -> Image.Image:
    """
    An uploaded image, as [`open_image`] opens it, of at most `EXAMPLE_SIDE` pixels a side.

    Raises:
        ImageError: if it has more than `MAX_PIXELS` pixels, or cannot be read.
    """
    image = open_image(BytesIO(content), max_pixels=MAX_PIXELS)
    image.thumbnail((EXAMPLE_SIDE, EXAMPLE_SIDE))
    return image
