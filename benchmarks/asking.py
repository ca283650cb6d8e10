"""
Whether questions help a short sentence to find its person, by a user who answers from the attributes of the data.

    python benchmarks/asking.py MODEL DATA

DATA is a folder of generated pedestrians. For the first image of each person of its split `test`, the search starts
with a sentence such as "A man in a red coat.". R-1 in percent after 0 to 5 answers, among all images of the split, and
what the answers gain, with 95 % intervals by a bootstrap over persons: for questions chosen by mutual information, by
the entropy of the answer, and by chance; and for mutual information where the answers join the sentence and do nothing
else.
"""

import json
import sys
import time
from collections import Counter
from random import Random
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from tqdm.auto import tqdm

from bdam.data.loading import load_split
from bdam.data.pedestrians.attributes import NONE
from bdam.retrieval.asking import Asker, entropy
from bdam.retrieval.gallery import Gallery
from bdam.retrieval.questions import Question


ANSWERS = 5
RESAMPLES = 2000
# What of the attributes answers each question.
ATTRIBUTES = {
    "Is the person a man or a woman?": "gender",
    "How old is the person?": "age",
    "What build is the person?": "build",
    "How tall is the person?": "height",
    "How is the hair?": "hair_style",
    "What color is the hair?": "hair_colour",
    "How dark is the skin?": "skin_tone",
    "Does the person wear glasses?": "glasses",
    "Does the person have a beard or a moustache?": "beard",
    "What does the person wear on top?": "upper",
    "What color is the top, coat or dress?": "upper_colour",
    "What pattern does the top, coat or dress have?": "pattern",
    "What does the person wear on the legs?": "lower",
    "What color are the trousers, the shorts or the skirt?": "lower_colour",
    "What does the person wear on the feet?": "shoes",
    "What color are the shoes?": "shoes_colour",
    "What does the person carry?": "bag",
    "What color is the bag?": "bag_colour",
    "What does the person wear on the head?": "hat",
    "What color is the hat or cap?": "hat_colour",
    "Does the person wear a scarf?": "scarf",
}
# Answers that the data spells otherwise.
VALUES = dict.fromkeys(["no glasses", "neither", "no bag", "nothing", "no scarf"], NONE)
VALUES |= {"T-shirt": "t-shirt", "other shoes": "shoes"}


class ByEntropy(Asker):
    def usefulness(self, weights: torch.Tensor, log_p: torch.Tensor) -> float:
        return entropy(weights, log_p)


class ByChance(Asker):
    random = Random(0)

    def usefulness(self, weights: torch.Tensor, log_p: torch.Tensor) -> float:
        return self.random.random()


def first_sentence(attributes: dict[str, str]) -> str:
    article = "an" if attributes["upper_colour"] == "orange" else "a"
    return "A {gender} in {article} {upper_colour} {upper}.".format(article=article, **attributes)


def answer_to(question: Question, attributes: dict[str, str]) -> str | None:
    """The answer of somebody who knows the attributes; None if it is not among the answers."""
    value = attributes[ATTRIBUTES[question.text]]
    return next((answer for answer in question.answers if VALUES.get(answer, answer) == value), None)


def search(asker: Asker, row: dict, joins: bool) -> tuple[list[bool], list[str]]:
    """Whether the first hit is the person, after 0 to 5 answers, and what was asked."""
    attributes = {**row["identity_attributes"], **row["clothing_attributes"]}
    text, answers, found = first_sentence(attributes), {}, []
    for _ in range(ANSWERS + 1):
        hits, question = asker.search(answers, k=1, text=text)
        found.append(hits[0].row["person_id"] == row["person_id"])
        answer = answer_to(question, attributes)
        if joins and answer is not None:
            text = f"{text} {question.sentences[answer]}"
        answers[question.text] = None if joins else answer
    return found, list(answers)[:ANSWERS]


def first_images(dataset: Dataset) -> Dataset:
    """The rows of the first image of each person, without images."""
    _, first = np.unique(dataset["person_id"], return_index=True)
    return dataset.select(first).remove_columns("image")


def intervals(found: np.ndarray) -> list[list[float]]:
    """For each column of (persons, C): its mean in percent, and the ends of its interval."""
    drawn = np.random.default_rng(0).integers(len(found), size=(RESAMPLES, len(found)))
    ends = np.percentile([found[draw].mean(axis=0) for draw in drawn], [2.5, 97.5], axis=0)
    return (100 * np.stack([found.mean(axis=0), *ends], axis=1)).round(1).tolist()


def main() -> None:
    model, data = sys.argv[1:]
    dataset = load_split(data, "test")
    gallery = Gallery.from_images(model, dataset)
    targets = first_images(dataset)
    figures: dict[str, Any] = {"benchmark": "asking", "persons": len(targets), "images": len(dataset)}
    for name, kind, joins in (
        ("mutual information", Asker, False),
        ("entropy", ByEntropy, False),
        ("chance", ByChance, False),
        ("mutual information, answers join the sentence", Asker, True),
    ):
        asker = kind(gallery)
        start = time.process_time()
        searches = [search(asker, row, joins) for row in tqdm(targets, name, leave=False)]
        seconds = (time.process_time() - start) / len(targets) / (ANSWERS + 1)
        found = np.array([first_hits for first_hits, _ in searches], dtype=float)
        (gain,) = intervals(found[:, -1:] - found[:, :1])
        asked = Counter(text for _, texts in searches for text in texts).most_common(6)
        shares = {text: round(count / len(targets), 2) for text, count in asked}
        figures[name] = {"r1": intervals(found), "gain": gain, "cpu_seconds": round(seconds, 4), "asked": shares}
        cells = ["{} ({} to {})".format(*column) for column in [*figures[name]["r1"], gain]]
        print(name, *cells, sep=" | ", flush=True)
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
