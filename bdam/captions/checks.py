"""Checks of descriptions: common mistakes of MLLMs, found without another model.

A check is a function that returns what is wrong with a [`Draft`], or None. To add one, write the function and name it
in `CHECKS`.
"""

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

from bdam.captions.answers import BadAnswer, read_answer
from bdam.captions.lexicon import Mention, attributes_of, mentions, split_words
from bdam.data.descriptions import KINDS, Description, Kind


WORDS = (6, 90)  # somewhat wider than what the prompt asks for
MIN_ATTRIBUTES = 2
LONGEST_LOOP = 30  # words

# A description says "I" only of what can be seen: "I cannot make out the shoes", but not "I cannot see the image".
REFUSAL = re.compile(
    r"""(?:^|\bi'm\s|\bi\sam\s)(?:very\s|so\s)?sorry\b | \bapolog(?:y|ies|i[sz]e)\b
    | \b(?:as\san\sai|language\smodel|privacy|polic(?:y|ies)|guidelines|permitted|request)\b
    | \bunable\sto\s(?:assist|help|identify|describe)\b
    | \bno\s(?:image|picture|photo)\s(?:was|is|has\sbeen)\s(?:provided|attached|included|uploaded|shared)\b
    | (?<!["“])(?-i:\bI\b)(?!(?:'\w+)?(?:\s[\w']+){0,3}?
      \s(?:notice|observe|make\sout|tell|discern|sure|certain|say|guess|think|estimate
      |see(?!\s(?:the|an|any)\s(?:image|picture|photo)))\b)""",
    re.VERBOSE | re.IGNORECASE,
)
CONVERSATION = re.compile(r"\b(?:(?-i:I)|me|my|you|your|please)\b", re.IGNORECASE)
ENGLISH = frozenset(
    split_words(
        """a about an and any are at be but by for from has have he her his i in is it its no not of on or over she
        that the their there they this to under wearing wears which while who with you"""
    )
)
OTHER_LANGUAGES = frozenset(
    split_words(
        """avec com con da das de del der des det di die dos du een ein eine einem einen el en et ett het il la las le
        les los med met mit och para per por sur und un una une uma van von y"""
    )
)
TAG = re.compile(r"<(?P<tag>\w+)>(?=.*</(?P=tag)>)|</\w+>|<br ?/?>", re.DOTALL)
# Besides signs, the lists of short answers: "Gender: male. Age: thirty."
MARKUP = re.compile(
    rf"{TAG.pattern}|[*`|•\n]|^#|^(?:[-–]|\d+[.)])\s|https?://|\[\d|^[A-Z]\w+: .*[.;] [A-Z]\w+: ", re.DOTALL
)
PLACEHOLDER = re.compile(
    r"[\[{<][a-z]|[a-z][\]}>]|\(insert\b|\bdescription\s*:|\bplaceholder\b|__|\bxx+\b", re.IGNORECASE
)
SENTENCE_END = re.compile(r"(?<!\.\.)[.!][)\"'”’]*$")


@dataclass(frozen=True)
class Draft:
    """
    A description that is to be checked.

    Args:
        kind: what it should describe.
        text: as it was written.
    """

    kind: Kind
    text: str

    @property
    def other_kind(self) -> Kind:
        """What it should not describe."""
        (other,) = set(KINDS) - {self.kind}
        return other

    @cached_property
    def without_tags(self) -> str:
        return TAG.sub("", self.text)

    @cached_property
    def plain(self) -> str:
        """The text without tags and signs of markup, with straight apostrophes."""
        return re.sub(r"[][{}<>*`|_#]", "", self.without_tags).replace("’", "'").strip()

    @cached_property
    def words(self) -> list[str]:
        """The words of the plain text, in lower case."""
        return split_words(self.plain)

    @cached_property
    def mentions(self) -> list[Mention]:
        """Where it speaks of the person and of clothes."""
        return mentions(self.plain)

    @cached_property
    def attributes(self) -> dict[str, str]:
        """The attributes of its kind, each with the first term for it."""
        found = attributes_of(self.kind, self.mentions)
        found.pop("outfit", None)  # "casual clothes" fit everybody
        return found

    @cached_property
    def other_attributes(self) -> dict[str, str]:
        """The attributes of the other kind, each with the first term for it."""
        return attributes_of(self.other_kind, self.mentions)


def check_refusal(draft: Draft) -> str | None:
    is_evasive = len(draft.attributes) < MIN_ATTRIBUTES and CONVERSATION.search(draft.plain)
    return "it refuses to describe the person" if is_evasive or REFUSAL.search(draft.plain) else None


def check_language(draft: Draft) -> str | None:
    """
    Asks for enough English function words, and no more of other languages than of them. Terms for people and clothes
    count as well, for the sake of "red jacket, blue jeans", but do not decide: "Jacke, Jeans und Pullover".
    """
    words, terms = draft.words, len(draft.attributes) + len(draft.other_attributes)
    is_latin = sum(word.isascii() for word in words) >= 0.8 * len(words)
    english, other = (sum(word in known for word in words) for known in (ENGLISH, OTHER_LANGUAGES))
    is_english = is_latin and english >= other and english + terms >= 0.15 * len(words)
    return None if is_english else "it is not in English"


def check_length(draft: Draft) -> str | None:
    count, (least, most) = len(draft.text.split()), WORDS
    return None if least <= count <= most else f"it has {count} words, not {least} to {most}"


def check_ending(draft: Draft) -> str | None:
    return None if SENTENCE_END.search(draft.plain) else "it does not end with a full stop"


def check_capital(draft: Draft) -> str | None:
    return "it does not begin with a capital letter" if re.match(r"\W*[a-z]", draft.plain) else None


def check_placeholder(draft: Draft) -> str | None:
    return "it contains placeholders" if PLACEHOLDER.search(draft.without_tags) else None


def check_markup(draft: Draft) -> str | None:
    return "it contains markup or lines" if MARKUP.search(draft.text) else None


def check_coverage(draft: Draft) -> str | None:
    if len(draft.attributes) >= MIN_ATTRIBUTES:
        return None
    return f"it says too little about {draft.kind}: {', '.join(draft.attributes) or 'nothing'}"


def check_leakage(draft: Draft) -> str | None:
    terms = ", ".join(draft.other_attributes.values())
    return f"it speaks of {draft.other_kind}: {terms}" if terms else None


def check_repetition(draft: Draft) -> str | None:
    """
    Looks for a sentence that is there twice, and for words that follow three times in a row, with or without "and"
    between them, as where an MLLM does not find an end.
    """
    sentences = [" ".join(split_words(sentence)) for sentence in re.split(r"[.!?;]", draft.plain)]
    repeated = next((text for text, count in Counter(filter(None, sentences)).items() if count > 1), None)
    repeated = repeated or _find_loop([word for word in draft.words if word != "and"])
    return f'it repeats itself: "{repeated}"' if repeated else None


def _find_loop(words: list[str]) -> str | None:
    """The shortest words that follow three times in a row; None if there are none."""
    for length in range(1, min(LONGEST_LOOP, len(words) // 3) + 1):
        # How many words in a row equal the word that stands `length` before them.
        equal = 0
        for place in range(length, len(words)):
            equal = equal + 1 if words[place] == words[place - length] else 0
            if equal == 2 * length:
                return " ".join(words[place - length + 1 : place + 1])
    return None


Check = Callable[[Draft], str | None]
# What one of these finds makes all other checks pointless.
DECISIVE_CHECKS: dict[str, Check] = {"refusal": check_refusal, "language": check_language}
CHECKS: dict[str, Check] = {
    "length": check_length,
    "ending": check_ending,
    "capital": check_capital,
    "placeholder": check_placeholder,
    "markup": check_markup,
    "coverage": check_coverage,
    "leakage": check_leakage,
    "repetition": check_repetition,
}


def find_problems(kind: Kind, text: str) -> dict[str, str]:
    """
    What is wrong with a description.

    Args:
        kind: what it should describe.
        text: as it was written.

    Returns:
        By the name of the check that found it, each problem in words for the model that wrote the description; empty
        if the description can be used.
    """
    draft = Draft(kind, text)
    for name, check in DECISIVE_CHECKS.items():
        if problem := check(draft):
            return {name: problem}
    return {name: problem for name, check in CHECKS.items() if (problem := check(draft))}


def check_answer(kind: Kind, content: str | None, is_cut: bool) -> tuple[str, dict[str, str]]:
    """
    The description in an answer, and what is wrong with it.

    Args:
        kind: what was asked for.
        content, is_cut: as for [`read_answer`].

    Returns:
        The description, or the content if there is none in it; and the problems, as of [`find_problems`], or that of
        [`BadAnswer`].
    """
    try:
        text = read_answer(content, is_cut)
    except BadAnswer as error:
        return content or "", {error.problem: str(error)}
    return text, find_problems(kind, text)


def check_again(description: Description) -> Description:
    """
    The description of an image by the checks of today: texts that do not pass become failures, with the reason.
    Failures stay failures.
    """
    failures, texts = dict(description.failures), {}
    for kind in KINDS:
        text = description.text(kind)
        problems = find_problems(kind, text) if text else {}
        if problems:
            failures[kind] = "; ".join(problems.values())
        texts[f"{kind}_description"] = None if problems else text
    return description.model_copy(update={**texts, "failures": failures})
