"""A gallery of pictures: made once, kept, searched by sentences and by example."""

from collections.abc import Collection as Names
from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import torch
from datasets import Dataset
from PIL import Image as PILImage

from bdam.data.pictures import open_picture, open_pictures
from bdam.encoding.extraction import place_among_processes, wait_for_all_processes
from bdam.retrieval.collection import Collection, Entry, Filter, LocalCollection, open_collection
from bdam.retrieval.indexes import recall
from bdam.retrieval.parts import is_gallery
from bdam.retrieval.pipeline import BDAMPipeline
from bdam.retrieval.sources import read_pictures


@dataclass(frozen=True)
class Hit:
    """
    A picture found.

    Args:
        picture: its name in the gallery; [`Gallery.picture`] opens it.
        score: how well it fits: the sum of the two following.
        identity, clothing: what the person and the clothes have in the score, each with its weight.
        row: what else the gallery knows of it, such as its `folder`, or the columns of the data set it came from.
    """

    picture: str
    score: float
    identity: float
    clothing: float
    row: dict[str, Any]


class Gallery:
    """
    Pictures with one vector each, `[identity ; clothing]`, so that the searcher chooses how much clothing counts.

    Args:
        pipeline: embeds sentences and pictures.
        collection: keeps and compares the vectors.

    Example:

    ```python
    >>> gallery = Gallery.from_images("outputs/demo/model", "pictures/")
    >>> for hit in gallery.search("A tall man in a red coat.", clothing_weight=0.3, k=5):
    ...     print(hit.score, hit.picture)
    ```"""

    def __init__(self, pipeline: BDAMPipeline, collection: Collection):
        self.pipeline = pipeline
        self.collection = collection

    @classmethod
    def from_images(
        cls,
        model: str | Path | BDAMPipeline,
        source: str | Path | Dataset,
        descriptions: Mapping[str, str | None] | None = None,
        place: str | Path | None = None,
    ) -> "Gallery":
        """
        A gallery of the pictures of a folder or data set, see [`read_pictures`]; of what is there already, if it is
        kept at a place where an earlier run left it.

        Args:
            model: a checkpoint, or a [`BDAMPipeline`] of one.
            descriptions: identity descriptions by name, which the pictures are fused with.
            place: where to keep it, see [`open_collection`]; by default in memory.
        """
        pipeline = model if isinstance(model, BDAMPipeline) else BDAMPipeline(model)
        collection = LocalCollection(pipeline.space) if place is None else open_collection(place, pipeline.space)
        gallery = cls(pipeline, collection)
        gallery.add(source, descriptions)
        return gallery

    @classmethod
    def load(
        cls, place: str | Path, model: str | Path | BDAMPipeline | None = None, approximate: bool = False
    ) -> "Gallery":
        """
        The gallery that is kept at a place, see [`open_collection`].

        Args:
            model: a checkpoint, or a [`BDAMPipeline`] of one; by default the checkpoint that the gallery names.
            approximate: whether to search by FAISS.

        Raises:
            FileNotFoundError: if there is no gallery, or its model is gone.
            ValueError: if the gallery was made by a model with other weights.
        """
        collection = open_collection(place, approximate=approximate)
        try:
            pipeline = model if isinstance(model, BDAMPipeline) else BDAMPipeline(model or collection.space.checkpoint)
        except FileNotFoundError as error:
            raise FileNotFoundError(f"{error} {place} was made with it; if it has moved, give `model`.") from error
        collection.space.check(pipeline.space, str(place))
        return cls(pipeline, collection)

    def __len__(self) -> int:
        return len(self.collection)

    def add(self, source: str | Path | Dataset, descriptions: Mapping[str, str | None] | None = None) -> int:
        """
        Takes in the pictures that are new here or have changed, and returns how many these are: those of a folder or
        data set are embedded, see [`read_pictures`]; those of another gallery's folder come with their vectors.

        What is embedded is kept at once: what was interrupted goes on when it is called again. Processes share the
        work, and see of each other's part what they load anew.
        """
        if isinstance(source, str | Path) and is_gallery(source):
            return self._copy(open_collection(source, self.collection.space))
        rows = read_pictures(source, descriptions)
        names = rows["picture"][:]
        paths = pc.struct_field(rows.with_format("arrow")["image"][:], "path").to_pylist()
        states, paths = (dict(zip(names, column, strict=True)) for column in (rows["state"][:], paths))
        missing = self._make_room(states, paths)
        rank, num_processes = place_among_processes()
        places = [place for place, name in enumerate(names) if name in missing]
        rows = rows.select(places[rank::num_processes])
        start = 0
        for vectors in self.pipeline.embed_rows(open_pictures(rows, _name(source)), descriptions is not None):
            chunk = rows.select(range(start, start + len(vectors)))
            self.collection.add(chunk.with_format("arrow")[:], vectors)
            start += len(vectors)
        return len(missing)

    def remove(self, names: Names[str]) -> None:
        """Forgets pictures by name."""
        self.collection.remove(names)

    def prune(self) -> list[str]:
        """Forgets the pictures whose files are gone, and returns their names."""
        gone = [name for name, path in self.collection.paths() if not Path(path).is_file()]
        self.remove(gone)
        return gone

    def save(self, place: str | Path) -> None:
        """Keeps a copy at another place; see [`open_collection`]."""
        Gallery(self.pipeline, open_collection(place, self.collection.space))._copy(self.collection)

    def measure_recall(self, num_queries: int = 200, k: int = 10) -> dict[float, float]:
        """
        How much of what an exact search finds an approximate one finds, by clothing weight: pictures of the gallery,
        drawn evenly, search for others like them.

        Raises:
            ValueError: if Milvus searches, not FAISS.
        """
        if not isinstance(self.collection, LocalCollection):
            raise ValueError("Recall is measured of galleries in folders.")
        names = list(self.collection.states())
        entries = self.collection.find(names[:: max(len(names) // num_queries, 1)])
        vectors = torch.stack([entry.vector for entry in entries])
        weights = sorted({0.0, self.pipeline.clothing_weight, 1.0})
        return {weight: recall(self.collection.index, self.pipeline.weigh(vectors, weight), k) for weight in weights}

    def search(
        self,
        text: str | None = None,
        identity: str | None = None,
        clothing: str | None = None,
        like: str | PILImage.Image | None = None,
        clothing_weight: float | None = None,
        k: int = 10,
        filter: Filter | None = None,
    ) -> list[Hit]:
        """
        The k pictures that fit best.

        Args:
            text: a sentence about the person, the clothes or both.
            identity: a sentence about the person, which goes before the text.
            clothing: a sentence about the clothes, which goes before the text.
            like: an example in place of the text: a picture, or the name of one in the gallery, which is then not
                among those found. With `clothing` besides: this person in those clothes.
            clothing_weight: 0 looks at the person alone, 1 at the clothes alone; by default 0 if nothing but the
                person was described, 1 if nothing but the clothes, and else the model's own choice.
            filter: columns with the value, or a list of values, that they must have.

        Raises:
            ValueError: if nobody is described, the weight is not in [0, 1], or the filter names what is not there.
        """
        if text is not None and like is not None:
            raise ValueError("Give either `text` or `like`: a sentence or an example.")
        has_person, has_clothes = (
            any(given is not None for given in (text, like, half)) for half in (identity, clothing)
        )
        if not has_person and not has_clothes:
            raise ValueError("Say whom you look for: give `text`, `identity`, `clothing` or `like`.")
        if clothing_weight is None:
            clothing_weight = self.pipeline.clothing_weight if has_person and has_clothes else float(has_clothes)
        if not 0 <= clothing_weight <= 1:
            raise ValueError(f"`clothing_weight` must lie in [0, 1], got {clothing_weight}.")
        if (not has_person and clothing_weight < 1) or (not has_clothes and clothing_weight > 0):
            what = "what they wear" if has_person else "who they are"
            raise ValueError(f"With a clothing weight of {clothing_weight:g}, say {what}, too.")

        vector, size = self._vector(text, like).clone(), self.pipeline.space.identity_size
        if identity is not None:
            vector[:size] = self._embed(identity)[:size]
        if clothing is not None:
            vector[size:] = self._embed(clothing)[size:]
        query = self.pipeline.weigh(vector, clothing_weight)
        name = like if isinstance(like, str) else None
        entries = self.collection.search(query, k + (name is not None), filter or {})
        return [self._hit(query, entry) for entry in entries if entry.picture != name][:k]

    def picture(self, name: str) -> PILImage.Image:
        """
        A picture of the gallery.

        Raises:
            ValueError: if there is none of that name.
            FileNotFoundError: if its file is gone.
        """
        path = self._entry(name).row["path"]
        if path is None:
            return open_picture(BytesIO(self.collection.content(name)))
        if not Path(path).is_file():
            raise FileNotFoundError(f"{path} is gone since it was indexed: restore it, or prune the gallery.")
        return open_picture(path)

    def _vector(self, text: str | None, like: str | PILImage.Image | None) -> torch.Tensor:
        """What is asked for as a whole, (D,); nothing if nothing is."""
        if text is not None:
            return self._embed(text)
        if isinstance(like, PILImage.Image):
            return self.pipeline(images=like)[0]
        if like is None:
            return torch.zeros(self.pipeline.space.size)
        return self._entry(like).vector

    def _entry(self, name: str) -> Entry:
        if not (entries := self.collection.find([name])):
            raise ValueError(f"No picture of the gallery is named {name!r}.")
        return entries[0]

    def _embed(self, sentence: str) -> torch.Tensor:
        if not sentence.strip():
            raise ValueError("The sentence is empty: say whom you look for.")
        return self.pipeline(text=sentence)[0]

    def _hit(self, query: torch.Tensor, entry: Entry) -> Hit:
        parts, size = query * entry.vector, self.pipeline.space.identity_size
        identity, clothing = parts[:size].sum().item(), parts[size:].sum().item()
        return Hit(entry.picture, identity + clothing, identity, clothing, entry.row)

    def _make_room(self, states: dict[str, int], paths: dict[str, str | None]) -> set[str]:
        """
        The names of those that are new here or have changed; what was known of the latter is forgotten.

        Raises:
            ValueError: if another picture, whose file is still there, has the name already.
        """
        known = self.collection.states(states.keys())
        missing = {name for name, state in states.items() if known.get(name) != state}
        changed = missing & known.keys()
        for entry in self.collection.find(sorted(changed)):
            path, other = paths.get(entry.picture), entry.row["path"]
            if path and other and path != other and Path(other).is_file():
                raise ValueError(f"Both {other} and {path} are named {entry.picture}: index a folder that holds both.")
        rank, _ = place_among_processes()
        wait_for_all_processes()  # until each knows what there was
        if rank == 0 and changed:
            self.remove(changed)
        wait_for_all_processes()
        return missing

    def _copy(self, other: Collection) -> int:
        missing = self._make_room(other.states(), dict(other.paths()))
        rank, num_processes = place_among_processes()
        for rows, vectors in islice(other.chunks(), rank, None, num_processes):
            places = [place for place, name in enumerate(rows["picture"].to_pylist()) if name in missing]
            if places:
                self.collection.add(rows.take(pa.array(places, pa.int64())), vectors[places])
        return len(missing)


def _name(source: str | Path | Dataset) -> str:
    return "the data set" if isinstance(source, Dataset) else str(source)
