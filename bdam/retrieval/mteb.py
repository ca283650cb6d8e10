"""Person retrieval as a task of MTEB (MIEB), and models as its harness calls them, which has metrics of its own."""

from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset
from torch.utils.data import DataLoader

from bdam.data.images import read_column
from bdam.data.loading import load_split
from bdam.evaluation.metrics import PROTOCOLS
from bdam.retrieval.embedder import Embedder


try:
    from mteb.abstasks.retrieval import AbsTaskRetrieval
    from mteb.abstasks.task_metadata import TaskMetadata
    from mteb.models import ModelMeta
    from mteb.models.abs_encoder import AbsEncoder
except ImportError as error:
    raise ImportError("MTEB is not installed: pip install bdam[mteb]") from error


class PersonRetrieval(AbsTaskRetrieval):
    """
    Images of a data set, searched by its captions or its identity descriptions.

    `hit_rate_at_1` of MTEB is R-1; its `recall_at_1` divides by the number of right images.

    Args:
        source: see [`load_data`].
        protocol: `standard`, `same-clothes` or `clothes-changed`.
        query: `caption` or `identity_description`.
        split: `train`, `validation` or `test` (default).
    """

    metadata = TaskMetadata(
        name="PersonT2IRetrieval",
        description="Find a person's images by a sentence.",
        dataset={"path": "local", "revision": "1"},
        type="Any2AnyRetrieval",
        category="t2i",
        modalities=["text", "image"],
        eval_splits=["test"],
        eval_langs=["eng-Latn"],
        main_score="hit_rate_at_1",
    )

    def __init__(self, source: str, protocol: str = "standard", query: str = "caption", split: str = "test"):
        if protocol not in PROTOCOLS:
            raise ValueError(f"{protocol!r} is no protocol: give {', '.join(PROTOCOLS)}.")
        super().__init__()
        self.metadata = self.metadata.model_copy(update={"eval_splits": [split]})
        self.source, self.protocol, self.query, self.split = source, protocol, query, split

    def load_data(self, num_proc: int | None = None, **_: Any) -> None:
        """Reads images and queries. For each query, it lists the right images, and all images that count."""
        rows = load_split(self.source, self.split)
        names = list(map(str, range(len(rows))))
        persons, outfits = (np.array(read_column(rows, name)) for name in ("person_id", "outfit_id"))
        queries: list[dict[str, str]] = []
        relevant, ranked = {}, {}
        for image, text in self._sentences(rows):
            is_right, is_left_out = persons == persons[image], np.zeros(len(rows), dtype=bool)
            if self.protocol != "standard":
                is_left_out = is_right & ((outfits == outfits[image]) == (self.protocol == "clothes-changed"))
            if self.query == "identity_description":
                is_left_out[image] = True  # the image that it was written for
            if not (is_right & ~is_left_out).any():
                continue
            number = str(len(queries))
            queries.append({"id": number, "text": text})
            relevant[number] = {names[row]: 1 for row in np.flatnonzero(is_right & ~is_left_out)}
            ranked[number] = [names[row] for row in np.flatnonzero(~is_left_out)]
        corpus = Dataset.from_dict({"id": names, "image": rows["image"][:]})
        split = {"queries": Dataset.from_list(queries), "corpus": corpus, "relevant_docs": relevant}
        self.dataset = {"default": {self.split: {**split, "top_ranked": ranked}}}  # type: ignore[typeddict-item]
        self.data_loaded = True

    def _sentences(self, rows: Dataset) -> list[tuple[int, str]]:
        if self.query == "identity_description":
            return [(row, text) for row, text in enumerate(read_column(rows, self.query)) if text]
        return [(row, text) for row, texts in enumerate(read_column(rows, "captions")) for text in texts]


class PersonEncoder(AbsEncoder):
    """
    A checkpoint as MTEB calls it.

    Args:
        checkpoint: any that [`Embedder`] takes.
        clothing_weight: how much clothing counts, in [0, 1].
    """

    def __init__(self, checkpoint: str, clothing_weight: float = 0.0):
        self.embedder = Embedder(checkpoint)
        self.clothing_weight = clothing_weight
        unknown: dict[str, Any] = {name: None for name, field in ModelMeta.model_fields.items() if field.is_required()}
        known = {"name": f"bdam/{Path(checkpoint).name}", "revision": "1", "modalities": ["text", "image"]}
        known |= {"framework": ["PyTorch"], "similarity_fn_name": "dot"}
        self.mteb_model_meta = ModelMeta.model_validate({**unknown, **known})

    def encode(self, inputs: DataLoader, **_: Any) -> np.ndarray:
        """Embeddings (N, D) of images or of sentences, whose inner products are the scores."""
        batches = list(inputs)
        if "image" in batches[0]:
            return self.embedder(images=[image for batch in batches for image in batch["image"]]).numpy()
        vectors = self.embedder(text=[text for batch in batches for text in batch["text"]])
        return self.embedder.weigh(vectors, self.clothing_weight).numpy()
