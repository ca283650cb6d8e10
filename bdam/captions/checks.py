"""Whether an answer can be trusted: what an MLLM gets wrong, found without another model."""

import re
from collections.abc import Iterable

from pydantic import BaseModel, ConfigDict, ValidationError

from bdam.captions.lexicon import attributes
from bdam.captions.prompts import KINDS, Kind


WORDS = (6, 90)  # somewhat wider than what the prompt asks for
MIN_ATTRIBUTES = 2
ENGLISH = re.compile(r"\b(a|an|and|are|has|have|her|his|in|is|not|of|on|the|their|they|to|with|who|wears|wearing)\b")
REFUSAL = re.compile(
    r"\b(i'?m sorry|i am sorry|i apologi[sz]e|as an ai|language model|i (?:can ?not|can'?t|am unable|'m unable|won'?t)"
    r"|unable to (?:assist|help|identify|describe)|no (?:image|picture) (?:was|is) (?:provided|attached))\b"
)
RESIDUE = re.compile(r"[\[\]{}<>]|\bdescription\b\s*:|\b(?:insert|placeholder|lorem)\b")
MARKUP = re.compile(r"[*#`|_~]|\n|^\s*(?:[-•]|\d+[.)])\s|https?://")


class BadAnswer(ValueError):
    """An answer that holds no description."""


class Answer(BaseModel):
    model_config = ConfigDict(extra="forbid")

    description: str


def read_answer(content: str | None, is_cut: bool) -> str:
    """
    The description in an answer: in JSON by `ANSWER_SCHEMA`, with or without a code fence, or as plain text.

    Raises:
        BadAnswer: if there is none, naming what is wrong with the answer.
    """
    text = re.sub(r"^```(?:json)?\s*|\s*```$", "", (content or "").strip())
    if not text:
        raise BadAnswer("it is empty")
    if is_cut:
        raise BadAnswer("it is too long and was cut off")
    if not text.startswith("{"):
        return text
    try:
        return Answer.model_validate_json(text).description.strip()
    except ValidationError:
        raise BadAnswer('it is no JSON of the form {"description": "…"}') from None


def judge(kind: Kind, content: str | None, is_cut: bool) -> tuple[str, list[str]]:
    """The description in an answer, and what is wrong with it: nothing if it can be used."""
    try:
        text = read_answer(content, is_cut)
    except BadAnswer as error:
        return content or "", [str(error)]
    return text, find_problems(kind, text)


def find_problems(kind: Kind, text: str) -> list[str]:
    """What is wrong with a description, as one would tell who wrote it; nothing if it can be used."""
    lower, count = text.lower(), len(text.split())
    if REFUSAL.search(lower):
        return ["it refuses to describe the person"]
    if not _is_english(lower):
        return ["it is not in English"]
    (other,) = set(KINDS) - {kind}
    own, foreign = attributes(kind, text), attributes(other, text)
    found = {
        f"it has {count} words, not {WORDS[0]} to {WORDS[1]}": not WORDS[0] <= count <= WORDS[1],
        "it does not end with a full stop": not text.rstrip().endswith((".", "!", ".”", '."')),
        "it does not begin with a capital letter": not text[:1].isupper(),
        "it contains placeholders": RESIDUE.search(lower) is not None,
        "it contains markup or lines": MARKUP.search(text) is not None,
        f"it says too little about {kind}: {', '.join(own) or 'nothing'}": (
            len(own) < MIN_ATTRIBUTES and "not visible" not in lower
        ),
        f"it speaks of {other}: {', '.join(foreign.values())}": bool(foreign),
    }
    return [problem for problem, is_there in found.items() if is_there]


def is_near_duplicate(text: str, others: Iterable[str], threshold: float = 0.9) -> bool:
    """Whether a text shares nearly all its word trigrams with one of the others (Jaccard index of at least 0.9)."""
    ours = _trigrams(text)
    return any(len(ours & theirs) >= threshold * len(ours | theirs) for theirs in map(_trigrams, others))


def agreement(kind: Kind, texts: list[str]) -> dict[str, float]:
    """
    How far several descriptions of one picture agree: by attribute, the share of texts that say what most of them
    say of it, silence counting as saying something. Attributes that no text speaks of are left out.
    """
    said = [attributes(kind, text) for text in texts]
    names = dict.fromkeys(name for of_text in said for name in of_text)
    values = {name: [of_text.get(name) for of_text in said] for name in names}
    return {name: max(map(of_name.count, of_name)) / len(texts) for name, of_name in values.items()}


def most_typical(kind: Kind, texts: list[str]) -> str:
    """The description that agrees with most others, attribute by attribute; the first of several."""
    said = [attributes(kind, text).items() for text in texts]
    return texts[max(range(len(texts)), key=lambda index: sum(len(said[index] & other) for other in said))]


def _is_english(lower: str) -> bool:
    letters = [letter for letter in lower if letter.isalpha()]
    latin = sum(letter.isascii() for letter in letters)
    return latin >= 0.9 * max(len(letters), 1) and len(ENGLISH.findall(lower)) >= 0.15 * len(lower.split())


def _trigrams(text: str) -> set[tuple[str, ...]]:
    words = re.findall(r"\w+", text.lower())
    return set(zip(words, words[1:], words[2:], strict=False)) or {tuple(words)}
