"""
Results that the paper and others publish. They were not measured here, and are always marked as published.

All are percentages of the standard protocol, by caption on the test split.
"""

from typing import NamedTuple


class Scores(NamedTuple):
    """R-1, R-5, R-10 and mAP in percent; None where the source has none."""

    r1: float
    r5: float | None
    r10: float | None
    map: float | None


class Method(NamedTuple):
    """
    How a method came to its scores.

    Attributes:
        backbone: that of its vision encoder.
        source: its authors, and who cites them, if the scores were read there.
        pretraining: the images of persons that it was trained on before those of the benchmark; empty if the source
            does not say.
        at_test_time: what it does besides comparing embeddings, such as asking a language model; empty if the source
            does not say.
    """

    backbone: str
    source: str
    pretraining: str = ""
    at_test_time: str = ""


# Table I, with the results of others as it cites them.
METHODS = {
    "IRRA": Method("CLIP-ViT", "Jiang and Ye 2023"),
    "IRLT": Method("CLIP-ViT", "Liu et al. 2024"),
    "CFAM": Method("CLIP-ViT", "Zuo et al. 2024"),
    "Propot": Method("CLIP-ViT", "Yan et al. 2024"),
    "RDE": Method("CLIP-ViT", "Qin et al. 2024"),
    "HAM": Method("CLIP-ViT", "Jiang et al. 2025"),
    "CPCL": Method("ViT", "Zheng et al. 2024"),
    "PDReid": Method("ViT", "Li et al. 2024"),
    "SSAN": Method("ViT", "Ding et al. 2021"),
    "CFine": Method("ViT", "Yan et al. 2022"),
    "IVT": Method("ViT", "Shu et al. 2022"),
    "BDAM": Method("ViT", "the paper"),
}
TABLE_I = {
    "cuhk-pedes": {
        "IRRA": Scores(73.38, 89.93, 93.71, 66.10),
        "IRLT": Scores(73.67, 89.71, 93.57, 65.94),
        "CFAM": Scores(74.46, 90.19, 94.01, None),
        "Propot": Scores(74.89, 89.90, 94.17, 67.12),
        "RDE": Scores(75.94, 90.14, 94.12, 67.56),
        "HAM": Scores(77.99, 91.34, 95.03, 69.72),
        "CPCL": Scores(70.03, 87.28, 91.78, 63.19),
        "PDReid": Scores(71.59, 87.95, 92.45, 65.03),
        "SSAN": Scores(61.37, 80.15, 86.73, None),
        "CFine": Scores(69.57, 85.93, 91.15, None),
        "IVT": Scores(65.59, 83.11, 89.21, None),
        "BDAM": Scores(79.93, 92.95, 96.47, 72.61),
    },
    "icfg-pedes": {
        "IRRA": Scores(63.36, 80.82, 85.82, 38.06),
        "IRLT": Scores(63.57, 80.57, 86.32, 38.34),
        "CFAM": Scores(64.72, 81.35, 86.31, None),
        "Propot": Scores(65.12, 81.57, 86.97, 42.93),
        "RDE": Scores(67.68, 82.47, 87.36, 40.06),
        "HAM": Scores(69.95, 83.88, 88.39, 42.72),
        "CPCL": Scores(62.60, 79.07, 84.46, 36.16),
        "PDReid": Scores(60.93, 77.96, 84.11, 36.44),
        "SSAN": Scores(54.23, 72.63, 79.53, None),
        "CFine": Scores(60.83, 76.55, 82.42, None),
        "IVT": Scores(56.04, 73.60, 80.22, None),
        "BDAM": Scores(68.68, 84.29, 89.74, 41.78),
    },
    "rstpreid": {
        "IRRA": Scores(60.20, 81.30, 88.20, 47.17),
        "IRLT": Scores(60.51, 82.85, 89.71, 47.64),
        "CFAM": Scores(61.49, 82.26, 89.23, None),
        "Propot": Scores(61.87, 83.63, 89.70, 47.82),
        "RDE": Scores(65.35, 83.95, 89.90, 50.88),
        "HAM": Scores(72.50, 87.70, 91.95, 55.47),
        "CPCL": Scores(58.35, 81.05, 87.65, 45.81),
        "PDReid": Scores(56.65, 77.40, 84.70, 45.27),
        "SSAN": Scores(43.50, 67.80, 77.15, None),
        "CFine": Scores(50.55, 72.50, 81.60, None),
        "IVT": Scores(46.70, 70.00, 78.80, None),
        "BDAM": Scores(74.33, 88.85, 92.95, 57.68),
    },
}

# What Table I lacks, as of October 2026. Only numbers whose source could be read are here:
# - TBPS-CLIP and HPL: Table 1 of Zhou et al. 2026, https://ojs.aaai.org/index.php/AAAI/article/view/38380
# - RaSa: its README, https://github.com/Flame-Chasers/RaSa
# - RDE with THI: Qin et al. 2025, https://github.com/QinYang79/ICL, which also names the pretraining of ICL
# - ICL, GA-DMS and CECA: a note on Zou et al. 2026, "Tackling Alignment Ambiguity in Person Retrieval through
#   Conversational Attribute Mining", CVPR 2026; GA-DMS also a note on its paper, https://arxiv.org/abs/2509.09118
# - Bi-IRRA and CONQUER: notes on https://arxiv.org/abs/2510.17685 and 2601.18625
LATER_METHODS = {
    "TBPS-CLIP": Method("CLIP-ViT", "Cao et al. 2024", "none", "nothing"),
    "RaSa": Method("ALBEF", "Bai et al. 2023", "none", "re-ranks 128 images"),
    "RDE with THI": Method("CLIP-ViT", "Qin et al. 2025", "none", "asks an MLLM"),
    "ICL": Method("CLIP-ViT", "Qin et al. 2025, by Zou et al. 2026", "none", "asks an MLLM"),
    "ICL, pretrained": Method("CLIP-ViT", "Qin et al. 2025, by Zou et al. 2026", "LUPerson-MLLM", "asks an MLLM"),
    "GA-DMS": Method("CLIP-ViT", "Zheng et al. 2025", "WebPerson", "nothing"),
    "Bi-IRRA": Method("BEiT v2", "Cao et al. 2025", "not named", "re-ranks the best images"),
    "HPL": Method("CLIP-ViT", "Zhou et al. 2026", "LUPerson and synthetic pairs", "nothing"),
    "CONQUER": Method("CLIP-ViT", "Xie 2026", "none", "asks an MLLM"),
    "CECA": Method("CLIP-ViT", "Zou et al. 2026", "none", "nothing"),
    "CECA, pretrained": Method("CLIP-ViT", "Zou et al. 2026", "not named", "nothing"),
}
LATER = {
    "cuhk-pedes": {
        "TBPS-CLIP": Scores(73.54, None, None, 65.38),
        "RaSa": Scores(76.51, None, None, 69.38),
        "RDE with THI": Scores(77.47, None, None, None),
        "ICL": Scores(77.91, None, None, None),
        "ICL, pretrained": Scores(79.06, None, None, None),
        "GA-DMS": Scores(77.60, None, None, None),
        "Bi-IRRA": Scores(79.43, None, None, None),
        "HPL": Scores(76.28, None, None, 70.90),
        "CONQUER": Scores(77.13, None, None, 68.75),
        "CECA": Scores(78.30, None, None, 65.92),
        "CECA, pretrained": Scores(79.65, 92.35, 95.27, None),
    },
    "icfg-pedes": {
        "TBPS-CLIP": Scores(65.05, None, None, 39.83),
        "RaSa": Scores(65.28, None, None, 41.29),
        "RDE with THI": Scores(68.72, None, None, None),
        "ICL": Scores(69.02, None, None, None),
        "ICL, pretrained": Scores(70.05, None, None, None),
        "GA-DMS": Scores(69.51, None, None, None),
        "Bi-IRRA": Scores(70.36, None, None, None),
        "HPL": Scores(66.61, None, None, 44.14),
        "CONQUER": Scores(67.70, None, None, 40.36),
        "CECA": Scores(72.25, None, None, None),
        "CECA, pretrained": Scores(74.32, None, None, None),
    },
    "rstpreid": {
        "TBPS-CLIP": Scores(61.95, None, None, 48.26),
        "RaSa": Scores(66.90, None, None, 52.31),
        "RDE with THI": Scores(68.45, None, None, None),
        "ICL": Scores(70.55, None, None, None),
        "ICL, pretrained": Scores(72.55, None, None, None),
        "GA-DMS": Scores(71.25, None, None, None),
        "Bi-IRRA": Scores(72.50, None, None, None),
        "HPL": Scores(64.00, None, None, 53.13),
        "CONQUER": Scores(68.40, None, None, 51.73),
        "CECA": Scores(71.40, None, None, None),
        "CECA, pretrained": Scores(73.45, None, None, None),
    },
}

# Tables II, III and IV, on CUHK-PEDES, by the name of the recipe.
ABLATION_TABLES = {
    # Tables II and III, which share their baseline.
    "baseline": Scores(70.54, 85.49, 91.26, 59.81),
    # Table II.
    "table2_bdam": Scores(76.27, 89.30, 94.02, 66.74),
    "table2_without_cross_attention": Scores(71.39, 87.05, 92.98, 62.56),
    "table2_without_gate": Scores(74.63, 88.77, 93.56, 65.11),
    "table2_shallow": Scores(73.74, 88.09, 93.32, 64.27),
    # Table III.
    "table3_fusion": Scores(78.42, 90.74, 95.11, 69.58),
    "table3_without_mamba": Scores(75.73, 89.06, 93.92, 66.89),
    "table3_without_gate": Scores(77.58, 90.11, 94.87, 68.64),
    "table3_without_alignment": Scores(77.09, 89.84, 94.53, 68.15),
    # Table IV.
    "full": Scores(79.93, 92.95, 96.47, 72.61),
    "table4_without_info_nce": Scores(36.55, 55.21, 65.83, 28.14),
    "table4_without_triplet": Scores(74.89, 88.15, 93.12, 67.22),
    "table4_without_alignment": Scores(76.92, 89.53, 94.22, 69.15),
    "table4_without_decoupling": Scores(77.81, 90.11, 94.98, 70.03),
    "table4_without_gate_regularizer": Scores(79.23, 91.35, 95.71, 71.98),
}
