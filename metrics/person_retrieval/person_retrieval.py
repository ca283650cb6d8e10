"""R-k, mAP and mINP of person retrieval for `evaluate`, computed by `bdam.evaluation.metrics`."""

import datasets
import evaluate
import torch

from bdam import retrieval_metrics


_DESCRIPTION = """\
R-1, R-5, R-10, mAP and mINP of searching a gallery of images for persons, by a sentence or by an image. Exact,
without sorting the gallery; a tie is a miss; in percent.
"""

_INPUTS_DESCRIPTION = """
Args:
    predictions: Embeddings of the queries, Q rows of D numbers, kept in float32.
    references: Person of each query, Q whole numbers.
    gallery_embeds: Embeddings of the gallery images, (G, D); scores are inner products.
    gallery_person_ids: Person in each image, (G,).
    **options: `protocol` ("standard", "same-clothes" or "clothes-changed"), `query_outfit_ids`, `gallery_outfit_ids`,
        `query_camera_ids`, `gallery_camera_ids` and `own_images`, as in `bdam.retrieval_metrics`. What
        speaks of queries follows the order in which they were added.

Returns:
    `r1`, `r5`, `r10`, `map`, `minp` and `chance`, the `r1` of a random order, in percent; `num_queries`, the number of
    queries that have a right image and are therefore counted; `num_gallery`, the number of images.
"""

_CITATION = """\
@article{ye2021deep,
  title   = {Deep Learning for Person Re-identification: A Survey and Outlook},
  author  = {Ye, Mang and Shen, Jianbing and Lin, Gaojie and Xiang, Tao and Shao, Ling and Hoi, Steven C. H.},
  journal = {IEEE Transactions on Pattern Analysis and Machine Intelligence},
  volume  = {44},
  number  = {6},
  pages   = {2872--2893},
  year    = {2021}
}
"""


class PersonRetrieval(evaluate.Metric):
    """R-k, mAP and mINP. Queries are stored by `evaluate` in Arrow tables; the gallery is an argument of `compute`."""

    def _info(self):
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description=_INPUTS_DESCRIPTION,
            features=datasets.Features(
                {"predictions": datasets.List(datasets.Value("float32")), "references": datasets.Value("int64")}
            ),
            reference_urls=["https://arxiv.org/abs/2001.04193"],
        )

    def _compute(self, predictions, references, *, gallery_embeds, gallery_person_ids, **options):
        gallery_embeds = torch.as_tensor(gallery_embeds)
        query_embeds = torch.tensor(predictions, device=gallery_embeds.device)
        return retrieval_metrics(query_embeds, gallery_embeds, references, gallery_person_ids, **options)
