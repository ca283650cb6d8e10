"""A gallery of images: made once, kept, searched by sentences and by example."""

import logging
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from io import BytesIO
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch
from datasets import Dataset
from PIL import Image as PILImage

from bdam.data.images import open_image
from bdam.encoding.extraction import gather, place_among_processes, wait_for_all_processes
from bdam.retrieval.agreement import check_agreement
from bdam.retrieval.changes import Addition, Comparison, compare
from bdam.retrieval.embedder import Embedder
from bdam.retrieval.recall import measure_recall
from bdam.retrieval.rows import digest, file_path, normalize_name, open_images, to_table, why_unreadable
from bdam.retrieval.sources import GallerySource, ImageSource, Source, open_source
from bdam.retrieval.stores import open_store
from bdam.retrieval.stores.base import Filter, ImageState, Store, StoredImage


logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Hit:
    """
    An image found.

    Args:
        image_id: its name in the gallery; [`Gallery.image`] opens it.
        score: how well it fits: the sum of the two following.
        identity, clothing: what the person and the clothes have in the score, each with its weight.
        row: what else the gallery knows of it, such as its `folder`, or the columns of the data set it came from.
    """

    image_id: str
    score: float
    identity: float
    clothing: float
    row: dict[str, Any]


class Hits(list[Hit]):
    """
    The images that a search found, best first.

    Args:
        hits: the images.
        warnings: one sentence for each thing that the model lost of the query: where a sentence was cut, which words
            it does not know.
    """

    def __init__(self, hits: Iterable[Hit] = (), warnings: Iterable[str] = ()):
        super().__init__(hits)
        self.warnings = list(warnings)


class Gallery:
    """
    Images with one vector each, `[identity ; clothing]`, so that the searcher chooses how much clothing counts.

    Args:
        embedder: embeds sentences and images.
        store: keeps and compares the vectors.

    Example:

    ```python
    >>> gallery = Gallery.from_images("outputs/demo/model", "images/")
    >>> for hit in gallery.search("A tall man in a red coat.", clothing_weight=0.3, k=5):
    ...     print(hit.score, hit.image_id)
    ```"""

    def __init__(self, embedder: Embedder, store: Store):
        self.embedder = embedder
        self.store = store

    @classmethod
    def from_images(
        cls,
        model: str | Path | Embedder,
        source: str | Path | Dataset | Source,
        descriptions: Mapping[str, str | None] | None = None,
        uri: str | Path | None = None,
    ) -> "Gallery":
        """
        A gallery of the images of a source, see [`open_source`]; and of what is there already, if it is kept where an
        earlier run left it.

        Args:
            model: a checkpoint, or an [`Embedder`] of one.
            descriptions: identity descriptions by image id, which the images are fused with.
            uri: where to keep it, see [`open_store`]; by default in memory.
        """
        source = open_source(source, descriptions)  # before anything is made
        embedder = model if isinstance(model, Embedder) else Embedder(model)
        gallery = cls(embedder, open_store(uri, embedder.space))
        addition = gallery.add(source)
        for reason in addition.reasons():
            logger.warning(f"{source.name}: {reason}.")
        return gallery

    @classmethod
    def load(cls, uri: str | Path, model: str | Path | Embedder | None = None, index: str = "exact") -> "Gallery":
        """
        The gallery that is kept at a URI, see [`open_store`].

        Args:
            model: a checkpoint, or an [`Embedder`] of one; by default the checkpoint that the gallery names.
            index: `"exact"`, or an index of FAISS to search by: `"hnsw"` or any factory string, see [`build_index`].

        Raises:
            FileNotFoundError: if there is no gallery, or its model is gone.
            ValueError: if the gallery was made by a model with other weights, or another encoder of the same weights,
                such as their ONNX export, embeds its images otherwise; or if there is no such index.
        """
        store = open_store(uri, index=index)
        try:
            embedder = model if isinstance(model, Embedder) else Embedder(model or store.space.checkpoint)
        except FileNotFoundError as error:
            raise FileNotFoundError(f"{error} {uri} was made with it; if it has moved, give `model`.") from error
        store.space.check(embedder.space, str(uri))
        if embedder.space.checkpoint != store.space.checkpoint:
            check_agreement(embedder, store, str(uri))
        return cls(embedder, store)

    def __len__(self) -> int:
        return len(self.store)

    def __contains__(self, image_id: str) -> bool:
        """Whether an image of this id is in the gallery."""
        return bool(self.store.find([normalize_name(image_id)]))

    def add(
        self, source: str | Path | Dataset | Source, descriptions: Mapping[str, str | None] | None = None
    ) -> Addition:
        """
        Adds the images of a source, see [`open_source`], that are new here or have changed: those of a folder or data
        set are embedded; those of another gallery come with their vectors. An image whose file was moved keeps its
        vector; one that cannot be read is left out.

        What is embedded is kept at once: what was interrupted goes on when it is called again. Processes share the
        work. Reload the gallery to see what other processes have added.

        Raises:
            ValueError: if another image, whose file is still there, has the name of a new one, or none can be read.
        """
        source = open_source(source, descriptions)
        if isinstance(source, GallerySource):
            return self._copy(open_store(source.path, self.store.space))
        comparison = self.compare(source)
        self._make_room(source, comparison)
        rank, num_processes = place_among_processes()
        left_out: dict[str, str] = {}
        for of_process in gather(self._embed_images(source, comparison.missing[rank::num_processes])):
            left_out |= of_process
        if len(left_out) == len(source.rows):
            reasons = "; ".join(Addition(left_out=left_out).reasons())
            raise ValueError(f"No image of {source.name} was added: {reasons}.")
        return Addition(len(comparison.missing) - len(left_out), len(comparison.moved), left_out)

    def plan(self, source: Source) -> str:
        """What [`Gallery.add`] would do with a source, in words."""
        if isinstance(source, GallerySource):
            return f"would take over what is new in {source.name}"
        comparison = self.compare(source)
        counts = {"new": comparison.new, "changed": comparison.changed, "moved": comparison.moved}
        return ", ".join(f"{len(of_kind):,} {kind}" for kind, of_kind in counts.items())

    def compare(self, source: ImageSource) -> Comparison:
        """
        Which images are new here, have changed, or were moved; see [`compare`]. Where no descriptions are given,
        those that images were fused with stay.
        """
        rows = source.rows
        images = dict(zip(rows["image_id"][:], rows["image"], strict=True))
        if source.has_descriptions:
            descriptions = dict(zip(images, rows["identity_description"], strict=True))
        else:
            states = self.store.states(images.keys())
            descriptions = {name: state.identity_description for name, state in states.items()}
        states = {
            name: ImageState(stamp, 0, file_path(image), descriptions.get(name))
            for (name, image), stamp in zip(images.items(), rows["stamp"], strict=True)
        }
        return compare(self.store, states, lambda name: digest(images[name]))

    def remove(self, image_ids: Collection[str]) -> None:
        """Removes images."""
        self.store.remove(image_ids)

    def find_gone(self, source: Source, force: bool = False) -> list[str]:
        """
        The names of the images below a folder whose files are gone, and were not moved within it.

        Args:
            source: the folder, as it is now.
            force: whether the gone ones may be most of those that were there.

        Raises:
            ValueError: if these are more than half, as when a disk is not there, and `force` is not given; or if the
                images are not those of a folder.
        """
        if not isinstance(source, ImageSource) or source.folder is None:
            raise ValueError(f"What is gone can be told below a folder of images, which {source.name} is not.")
        states = self.store.states().items()
        known = {name: Path(state.path) for name, state in states if state.path}
        below = {name: path for name, path in known.items() if source.folder in path.parents}
        moved = set(self.compare(source).moved.values())
        gone = [name for name, path in below.items() if not path.is_file() and name not in moved]
        if 2 * len(gone) > len(below) and not force:
            raise ValueError(
                f"{len(gone):,} of the {len(below):,} images that the gallery knows below {source.name} are "
                "gone: see that all disks are there; if the files were deleted, confirm it by --force."
            )
        return gone

    def save(self, uri: str | Path) -> None:
        """Keeps a copy at a URI; see [`open_store`]."""
        Gallery(self.embedder, open_store(uri, self.store.space))._copy(self.store)

    def measure_recall(self, num_queries: int = 200, k: int = 10) -> dict[float, float]:
        """
        The share of the k images of an exact search that the gallery finds, by clothing weight: images of the gallery,
        drawn evenly, search for others like them.
        """
        names = list(self.store.states())
        sample = self.store.find(names[:: max(len(names) // num_queries, 1)])
        vectors = torch.stack([image.vector for image in sample])
        weights = sorted({0.0, self.embedder.clothing_weight, 1.0})
        return {weight: measure_recall(self.store, self.embedder.weigh(vectors, weight), k) for weight in weights}

    def search(
        self,
        text: str | None = None,
        identity: str | None = None,
        clothing: str | None = None,
        like: str | PILImage.Image | None = None,
        clothing_weight: float | None = None,
        k: int = 10,
        filter: Filter | None = None,
    ) -> Hits:
        """
        The k images that fit the query best.

        Args:
            text: a sentence about the person, the clothes or both.
            identity: a sentence about the person; it replaces the identity half of `text` or `like`.
            clothing: a sentence about the clothes; it replaces the clothing half of `text` or `like`.
            like: an example in place of `text`: an image, or the id of one in the gallery, which is then not
                among the hits. With `clothing`: this person in those clothes.
            clothing_weight: in [0, 1]; 0 compares the person alone, 1 the clothes alone. Default: 0 with `identity`
                alone, 1 with `clothing` alone, otherwise the `clothing_weight` of the model's configuration.
            k: number of images.
            filter: columns, each with the value, or the list of values, that its images must have.

        Returns:
            Up to k images, best first, whose `warnings` say what the model lost of the sentences.

        Raises:
            ValueError: if nobody is described, a sentence holds no word that the model knows, the weight is not in
                [0, 1], or the filter names an unknown column or a value of another type.
        """
        if text is not None and like is not None:
            raise ValueError("Give either `text` or `like`: a sentence or an example.")
        has_person, has_clothes = (
            any(given is not None for given in (text, like, half)) for half in (identity, clothing)
        )
        clothing_weight = self._choose_weight(clothing_weight, has_person, has_clothes)
        warnings = self._check_sentences(text, identity, clothing)
        vector, size = self._vector(text, like).clone(), self.embedder.space.identity_size
        if identity is not None:
            vector[:size] = self._embed(identity)[:size]
        if clothing is not None:
            vector[size:] = self._embed(clothing)[size:]
        query = self.embedder.weigh(vector, clothing_weight)
        like_id = normalize_name(like) if isinstance(like, str) else None
        found = self.store.search(query, k + (like_id is not None), filter or {})
        return Hits([self._hit(query, stored) for stored in found if stored.image_id != like_id][:k], warnings)

    def image(self, image_id: str) -> PILImage.Image:
        """
        An image of the gallery.

        Raises:
            ValueError: if there is none of that id.
            FileNotFoundError: if its file is gone.
        """
        stored = self._find(image_id)
        path = stored.row["path"]
        if path is None:
            return open_image(BytesIO(self.store.content(stored.image_id)), image_id)
        if not Path(path).is_file():
            raise FileNotFoundError(f"{path} is gone since it was indexed: restore it, or prune the gallery.")
        return open_image(path)

    def _choose_weight(self, clothing_weight: float | None, has_person: bool, has_clothes: bool) -> float:
        """The clothing weight of a query that describes the person, the clothes or both."""
        if not has_person and not has_clothes:
            raise ValueError("Say whom you look for: give `text`, `identity`, `clothing` or `like`.")
        if clothing_weight is None:
            clothing_weight = self.embedder.clothing_weight if has_person and has_clothes else float(has_clothes)
        if not 0 <= clothing_weight <= 1:
            raise ValueError(f"`clothing_weight` must lie in [0, 1], got {clothing_weight}.")
        if (not has_person and clothing_weight < 1) or (not has_clothes and clothing_weight > 0):
            what = "what they wear" if has_person else "who they are"
            raise ValueError(f"With a clothing weight of {clothing_weight:g}, say {what}, too.")
        return clothing_weight

    def _check_sentences(self, *sentences: str | None) -> list[str]:
        """What the model loses of the sentences that are given."""
        given = [sentence for sentence in sentences if sentence is not None]
        if not all(map(str.strip, given)):
            raise ValueError("The sentence is empty: say whom you look for.")
        return [warning for sentence in given for warning in self.embedder.check_sentence(sentence)]

    def _vector(self, text: str | None, like: str | PILImage.Image | None) -> torch.Tensor:
        """What is asked for as a whole, (D,); nothing if nothing is."""
        if text is not None:
            return self._embed(text)
        if isinstance(like, PILImage.Image):
            return self.embedder(images=like)[0]
        if like is None:
            return torch.zeros(self.embedder.space.size)
        return self._find(like).vector

    def _find(self, image_id: str) -> StoredImage:
        if not (found := self.store.find([normalize_name(image_id)])):
            raise ValueError(f"No image of the gallery is named {image_id!r}.")
        return found[0]

    def _embed(self, sentence: str) -> torch.Tensor:
        return self.embedder(text=sentence)[0]

    def _hit(self, query: torch.Tensor, stored: StoredImage) -> Hit:
        parts, size = query * stored.vector, self.embedder.space.identity_size
        identity, clothing = parts[:size].sum().item(), parts[size:].sum().item()
        return Hit(stored.image_id, identity + clothing, identity, clothing, stored.row)

    def _embed_images(self, source: ImageSource, positions: list[int]) -> dict[str, str]:
        """Embeds and adds some of the images; returns those that cannot be read, each with the reason."""
        left_out: dict[str, str] = {}
        start = 0
        for vectors, is_readable, contents in self.embedder.embed_rows(
            open_images(source.rows.select(positions)), source.has_descriptions
        ):
            of_chunk = positions[start : start + len(vectors)]
            start += len(vectors)
            kept = is_readable.nonzero()[:, 0]
            if len(kept):
                rows = source.rows.select([of_chunk[row] for row in kept])
                self.store.add(to_table(rows, contents[kept].tolist()), vectors[kept])
            for row in source.rows.select([of_chunk[row] for row in (~is_readable).nonzero()[:, 0]]):
                left_out[row["image_id"]] = why_unreadable(row["image"])
        return left_out

    def _make_room(self, source: ImageSource, comparison: Comparison) -> None:
        """Forgets what was known of images that have changed or were moved; the latter keep their vectors."""
        rank, _ = place_among_processes()
        wait_for_all_processes()  # until each knows what there was
        if rank == 0 and (comparison.changed or comparison.moved):
            earlier = list(comparison.moved.values())
            stored, states = self.store.find(earlier), self.store.states(earlier)
            self.remove([*source.rows.select(comparison.changed)["image_id"], *earlier])
            if earlier:
                rows = source.rows.select(comparison.moved)
                texts = [states[name].identity_description for name in earlier]
                if any(texts) and not source.has_descriptions:
                    rows = rows.add_column("identity_description", texts)
                contents = [states[name].content for name in earlier]
                self.store.add(to_table(rows, contents), torch.stack([image.vector for image in stored]))
        wait_for_all_processes()

    def _copy(self, other: Store) -> Addition:
        states = other.states()
        names = list(states)
        comparison = compare(self.store, states, lambda name: states[name].content)
        missing = {names[position] for position in (*comparison.missing, *comparison.moved)}
        rank, num_processes = place_among_processes()
        wait_for_all_processes()  # until each knows what there was
        if rank == 0:
            self.remove([*(names[position] for position in comparison.changed), *comparison.moved.values()])
        wait_for_all_processes()
        for rows, vectors in islice(other.chunks(), rank, None, num_processes):
            positions = [position for position, name in enumerate(rows["image_id"].to_pylist()) if name in missing]
            if positions:
                self.store.add(rows.take(pa.array(positions, pa.int64())), vectors[positions])
        return Addition(len(comparison.missing), len(comparison.moved))
