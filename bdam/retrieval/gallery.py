"""A gallery of images, searched by sentences and by example images."""

import logging
from collections.abc import Collection, Mapping
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
from bdam.evaluation.calibration import UncalibratedError
from bdam.retrieval.agreement import check_agreement
from bdam.retrieval.changes import Addition, Comparison, compare
from bdam.retrieval.confidence import Confidence, check_query, judge
from bdam.retrieval.embedder import Embedder
from bdam.retrieval.hits import Hit, Hits, Query, first_of_each
from bdam.retrieval.occlusion import CELLS, LostScore, lost_score
from bdam.retrieval.recall import measure_recall
from bdam.retrieval.reranking import Reranker, rerank_hits
from bdam.retrieval.rows import digest, file_path, normalize_name, open_images, to_table, why_unreadable
from bdam.retrieval.sources import GallerySource, ImageSource, Source, check_is_folder, open_source
from bdam.retrieval.stores import open_store
from bdam.retrieval.stores.base import Filter, ImageState, Store, StoredImage


logger = logging.getLogger(__name__)

# Images, at most, among which one is found per value of a column. Milvus returns no more than 16,384.
MAX_CANDIDATES = 10_000


class Gallery:
    """
    Images with one vector each, `[identity ; clothing]`, so that each search can choose its clothing weight.

    Args:
        embedder: embeds sentences and images.
        store: keeps the rows and vectors, and searches them.

    Example:

    ```python
    >>> from bdam import Gallery
    >>> gallery = Gallery.from_images("outputs/demo/model", "images")
    >>> hits = gallery.search("A tall man in a red coat.", clothing_weight=0.3, k=5)
    >>> hits[0].score >= hits[1].score
    True
    >>> best = gallery.image(hits[0].image_id)
    >>> same_person = gallery.search(like=hits[0].image_id, clothing_weight=0)
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
        The gallery at a URI, with the images of a source added to it.

        Args:
            model: a checkpoint, or an [`Embedder`] of one.
            source: see [`open_source`].
            descriptions: image id → identity description, which its image is fused with.
            uri: of the store, see [`open_store`]; it is made if there is none. Default: a new one in memory.

        Raises:
            FileNotFoundError, ValueError: as [`open_source`], [`open_store`] and [`Gallery.add`].
        """
        source = open_source(source, descriptions)  # before a store is made
        embedder = model if isinstance(model, Embedder) else Embedder(model)
        gallery = cls(embedder, open_store(uri, embedder.space))
        addition = gallery.add(source)
        for reason in addition.reasons():
            logger.warning(f"{source.name}: {reason}.")
        return gallery

    @classmethod
    def load(cls, uri: str | Path, model: str | Path | Embedder | None = None, index: str = "exact") -> "Gallery":
        """
        The gallery at a URI.

        Args:
            uri: of the store, see [`open_store`].
            model: a checkpoint, or an [`Embedder`] of one. Default: the checkpoint that the gallery was made with.
            index: `"exact"`, or an index of FAISS: `"hnsw"` or any factory string, see [`build_index`].

        Raises:
            FileNotFoundError: if there is no gallery at the URI, or no model at its checkpoint.
            ValueError: if the gallery was made with other weights; if another encoder of the same weights, such as
                their ONNX export, embeds its images differently; or if FAISS has no such index.
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
        Adds the images of a source that are new or have changed; returns how many were added, moved and left out.

        Images of a folder or data set are embedded; those of another gallery keep their vectors. An image whose file
        was moved keeps its vector, and one that cannot be read is left out. Each chunk is stored as soon as it is
        embedded, so that an interrupted call can be repeated and continues. Processes share the work; reload the
        gallery to see what the others have added.

        Args:
            source: see [`open_source`].
            descriptions: image id → identity description, which its image is fused with.

        Raises:
            ValueError: if none of the images can be read; or if an image has the id of another one of the gallery
                whose file still exists.
        """
        source = open_source(source, descriptions)
        if isinstance(source, GallerySource):
            return self._copy(open_store(source.path, self.store.space))
        comparison = self.compare(source)
        self._update_known(source, comparison)
        rank, num_processes = place_among_processes()
        left_out: dict[str, str] = {}
        for unreadable in gather(self._embed_images(source, comparison.to_embed[rank::num_processes])):
            left_out |= unreadable
        if len(left_out) == len(source.rows):
            reasons = "; ".join(Addition(left_out=left_out).reasons())
            raise ValueError(f"No image of {source.name} was added: {reasons}.")
        return Addition(len(comparison.to_embed) - len(left_out), len(comparison.moved), left_out)

    def plan(self, source: Source) -> str:
        """What [`Gallery.add`] would do with a source, in words, such as `"3 new, 1 changed, 0 moved"`."""
        if isinstance(source, GallerySource):
            return f"would copy what is new in {source.name}"
        comparison = self.compare(source)
        counts = {"new": comparison.new, "changed": comparison.changed, "moved": comparison.moved}
        return ", ".join(f"{len(positions):,} {change}" for change, positions in counts.items())

    def compare(self, source: ImageSource) -> Comparison:
        """
        Which images of a source are new, changed or moved, see [`compare`]. A source without descriptions leaves
        those that the images are fused with.
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
        """Removes images; ids that the gallery does not have are ignored."""
        self.store.remove(image_ids)

    def find_deleted(self, source: Source, force: bool = False) -> list[str]:
        """
        The ids of the images below a folder whose files no longer exist, and were not moved within it.

        Args:
            source: the folder, as it is now.
            force: whether to return them even if they are more than half of the images below the folder.

        Raises:
            ValueError: if the source is no folder of images; or, without `force`, if they are more than half, which a
                disk that is not mounted explains better.
        """
        folder = check_is_folder(source)
        states = self.store.states().items()
        known = {image_id: Path(state.path) for image_id, state in states if state.path}
        below = {image_id: path for image_id, path in known.items() if folder.folder in path.parents}
        moved = set(self.compare(folder).moved.values())
        deleted = [image_id for image_id, path in below.items() if not path.is_file() and image_id not in moved]
        if 2 * len(deleted) > len(below) and not force:
            raise ValueError(
                f"{len(deleted):,} of the {len(below):,} images of the gallery below {source.name} have no file any "
                "more: check that all disks are mounted; if the files were deleted, confirm it by --force."
            )
        return deleted

    def save(self, uri: str | Path) -> None:
        """Copies the images that the store at a URI does not have yet to it, see [`open_store`]."""
        Gallery(self.embedder, open_store(uri, self.store.space))._copy(self.store)

    def measure_recall(self, num_queries: int = 200, k: int = 10) -> dict[float, float]:
        """
        Recall@k of the store's index: the share of the k nearest images that it finds, by clothing weight.

        Args:
            num_queries: number of images of the gallery, evenly spaced, whose vectors are the queries.
            k: number of nearest images.

        Returns:
            Clothing weight → recall in [0, 1], for 0, the model's own weight and 1.
        """
        image_ids = list(self.store.states())
        sample = self.store.find(image_ids[:: max(len(image_ids) // num_queries, 1)])
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
        one_per: str | None = None,
        rerank: Reranker | None = None,
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
            filter: columns, each with the value, the list of values or the [`Span`] that its images must have.
            one_per: a column, such as `track`: of images with the same value, the best alone is among the hits. They
                may be fewer than k, if the 10,000 images that fit best show too few.
            rerank: looks at the first images again, and puts them in a new order; see [`reorder`]. If its server
                fails, the order stays and a warning says so. Default: none.

        Returns:
            Up to k images, best first, whose `warnings` say what the model lost of the sentences, and whose
            `confidence` says what the scores mean, if the model is calibrated and the query is a sentence.

        Raises:
            ValueError: if nobody is described, `rerank` is given with `like`, a sentence holds no word that the model
                knows, the weight is not in [0, 1], or the filter names an unknown column or a value of another type.
        """
        if rerank is not None and like is not None:
            raise ValueError("`rerank` compares images with a sentence: leave out `like`.")
        query = self.embed_query(text, identity, clothing, like, clothing_weight)
        nearest = self.find_nearest(query, k if rerank is None else max(k, rerank.top), filter, one_per)
        hits = Hits([self._hit(query.vector, stored) for stored in nearest], query.warnings)
        asked = {"text": text, "identity": identity, "clothing": clothing, "like": like}
        try:
            is_cut = len(hits) >= k
            hits.confidence = self._judge(hits[:k], asked, query.clothing_weight, filter or {}, is_cut)
            hits.meaning = str(hits.confidence)
        except UncalibratedError as error:
            hits.meaning = str(error)
        if rerank is not None:
            sentences = [sentence for sentence in (text, identity, clothing) if sentence is not None]
            rerank_hits(hits, " ".join(sentences), rerank, self.image)
            del hits[k:]
        return hits

    def embed_query(
        self,
        text: str | None = None,
        identity: str | None = None,
        clothing: str | None = None,
        like: str | PILImage.Image | None = None,
        clothing_weight: float | None = None,
    ) -> Query:
        """The query of [`Gallery.search`] as a vector; with its arguments and errors."""
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
        like_id = normalize_name(like) if isinstance(like, str) else None
        return Query(self.embedder.weigh(vector, clothing_weight), clothing_weight, like_id, warnings)

    def find_nearest(
        self, query: Query, k: int, filter: Filter | None = None, one_per: str | None = None
    ) -> list[StoredImage]:
        """The k images that fit a query best, but for its example; other arguments as for [`Gallery.search`]."""
        count = k + (query.like_id is not None)
        while True:
            found = self.store.search(query.vector, count, filter or {})
            others = [stored for stored in found if stored.image_id != query.like_id]
            best = (others if one_per is None else first_of_each(others, one_per))[:k]
            if len(best) == k or len(found) < count or count >= MAX_CANDIDATES:
                return best
            count = min(4 * count, MAX_CANDIDATES)

    def explain(
        self,
        image_id: str,
        text: str | None = None,
        identity: str | None = None,
        clothing: str | None = None,
        like: str | PILImage.Image | None = None,
        clothing_weight: float | None = None,
        cells: tuple[int, int] = CELLS,
    ) -> LostScore:
        """
        What the score of an image loses when a part of the image is hidden: which parts it was found for.

        The image is embedded once for each cell of a grid, with the mean color of the image over the cell and half a
        cell around it. An image that the gallery has fused with an identity description is fused with it here, too.

        Args:
            image_id: the image.
            text, identity, clothing, like, clothing_weight: the query, as in [`Gallery.search`].
            cells: rows and columns of the grid.

        Raises:
            ValueError, FileNotFoundError: as [`Gallery.search`] and [`Gallery.image`].
        """
        query = self.embed_query(text, identity, clothing, like, clothing_weight)
        return self.explain_image(query, image_id, self.image(image_id), cells)

    def explain_image(
        self, query: Query, image_id: str, image: PILImage.Image, cells: tuple[int, int] = CELLS
    ) -> LostScore:
        """As [`Gallery.explain`], of a query that is embedded and of an image that is open."""
        (state,) = self.store.states([normalize_name(image_id)]).values()
        return lost_score(self.embedder, query.vector, image, state.identity_description, cells)

    def image(self, image_id: str) -> PILImage.Image:
        """
        An image of the gallery, upright, in RGB.

        Raises:
            ValueError: if the gallery has no image of that id, or it cannot be read.
            FileNotFoundError: if its file no longer exists.
        """
        stored = self._find(image_id)
        path = stored.row["path"]
        if path is None:
            return open_image(BytesIO(self.store.content(stored.image_id)), image_id)
        if not Path(path).is_file():
            raise FileNotFoundError(f"{path} is gone since it was indexed: restore it, or run `bdam index --prune`.")
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
        """The vector (D,) of the sentence or the example; zeros if there is neither."""
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
        identity, clothing = (part.item() for part in self.embedder.score_parts(query, stored.vector))
        return Hit(stored.image_id, identity + clothing, identity, clothing, stored.row)

    def _judge(
        self, hits: list[Hit], asked: dict[str, Any], clothing_weight: float, filter: Filter, is_cut: bool
    ) -> Confidence:
        """What the scores of hits mean; raises [`UncalibratedError`] if that is not known."""
        if self.embedder.calibration is None:
            raise UncalibratedError(
                f"`bdam calibrate {self.embedder.space.checkpoint} --data DATA` fits what scores mean."
            )
        kind = check_query(self.embedder.calibration, asked, hits)
        num_images = self.store.count(filter)
        expected = self.embedder.calibration.expect(kind, clothing_weight, num_images)
        return judge(expected, hits, has_others=is_cut and len(hits) < num_images)

    def _embed_images(self, source: ImageSource, positions: list[int]) -> dict[str, str]:
        """Embeds and adds the images at these positions; returns image id → reason for those that cannot be read."""
        left_out: dict[str, str] = {}
        start = 0
        for vectors, is_readable, contents in self.embedder.embed_rows(
            open_images(source.rows.select(positions)), source.has_descriptions
        ):
            chunk = positions[start : start + len(vectors)]
            start += len(vectors)
            readable = is_readable.nonzero()[:, 0]
            if len(readable):
                rows = source.rows.select([chunk[row] for row in readable])
                self.store.add(to_table(rows, contents[readable].tolist()), vectors[readable])
            for row in source.rows.select([chunk[row] for row in (~is_readable).nonzero()[:, 0]]):
                left_out[row["image_id"]] = why_unreadable(row["image"])
        return left_out

    def _update_known(self, source: ImageSource, comparison: Comparison) -> None:
        """Removes images that have changed, and adds those that were moved again with their vectors."""
        rank, _ = place_among_processes()
        wait_for_all_processes()  # which compare before the store changes
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
        """Adds the rows of another store that are new or have changed, with their vectors."""
        states = other.states()
        image_ids = list(states)
        comparison = compare(self.store, states, lambda image_id: states[image_id].content)
        to_copy = {image_ids[position] for position in (*comparison.to_embed, *comparison.moved)}
        rank, num_processes = place_among_processes()
        wait_for_all_processes()  # which compare before the store changes
        if rank == 0:
            self.remove([*(image_ids[position] for position in comparison.changed), *comparison.moved.values()])
        wait_for_all_processes()
        for rows, vectors in islice(other.chunks(), rank, None, num_processes):
            positions = [position for position, name in enumerate(rows["image_id"].to_pylist()) if name in to_copy]
            if positions:
                self.store.add(rows.take(pa.array(positions, pa.int64())), vectors[positions])
        return Addition(len(comparison.to_embed), len(comparison.moved))
