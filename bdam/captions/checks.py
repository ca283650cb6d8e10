"""Whether an answer can be trusted: what an MLLM gets wrong, found without another model."""

import json
import re
from collections.abc import Iterable

from bdam.captions.lexicon import attributes, attributes_of, mentions
from bdam.data.descriptions import KINDS, Description, Kind


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


WORDS = (6, 90)  # somewhat wider than what the prompt asks for
MIN_ATTRIBUTES = 2

# What models say before they answer. Servers that read no tags may leave any of them out.
_OPENED = r"(?:<(?:think|thinking|thought|reasoning)>|\[THINK\]|◁think▷)"
_CLOSED = r"(?:</(?:think|thinking|thought|reasoning)>|\[/THINK\]|◁/think▷|<\|channel\|>final<\|message\|>)"
REASONING = re.compile(f"{_OPENED}.*?{_CLOSED}", re.DOTALL | re.IGNORECASE)
HALF_REASONING = re.compile(f"^.*{_CLOSED}|{_OPENED}.*$", re.DOTALL | re.IGNORECASE)
DECODER = json.JSONDecoder(strict=False)  # models write lines into strings
FENCE = re.compile(r"^(?:```(?:json)?|<answer>)\s*|\s*(?:```|</answer>)$", re.IGNORECASE)
JSON = re.compile(r"""^[\[{]\s*"|\{\s*["'“]?\w+["'”]?\s*:""")
QUOTED = re.compile(r"""["“]([^"“”]*)["”]""")

# Who describes says "I" of what they see at most: "I cannot make out the shoes", but not "I cannot see the image".
REFUSAL = re.compile(
    r"""(?:^|\bi'm\s|\bi\sam\s)(?:very\s|so\s)?sorry\b | \bapolog(?:y|ies|i[sz]e)\b
    | \b(?:as\san\sai|language\smodel|privacy|polic(?:y|ies)|guidelines|permitted|request)\b
    | \bunable\sto\s(?:assist|help|identify|describe)\b
    | \bno\s(?:image|image|photo)\s(?:was|is|has\sbeen)\s(?:provided|attached|included|uploaded|shared)\b
    | (?<!["“])(?-i:\bI\b)(?!(?:'\w+)?(?:\s[\w']+){0,3}?
      \s(?:notice|observe|make\sout|tell|discern|sure|certain|say|guess|think|estimate
      |see(?!\s(?:the|an|any)\s(?:image|image|photo)))\b)""",
    re.VERBOSE | re.IGNORECASE,
)
CONVERSATION = re.compile(r"\b(?:(?-i:I)|me|my|you|your|please)\b", re.IGNORECASE)
ENGLISH = frozenset(
    _words(
        """a about an and any are at be but by for from has have he her his i in is it its no not of on or over she
        that the their there they this to under wearing wears which while who with you"""
    )
)
OTHER_LANGUAGES = frozenset(
    _words(
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


class BadAnswer(ValueError):
    """An answer that holds no description; `problem` is the name of what is wrong with it."""

    def __init__(self, problem: str, message: str):
        super().__init__(message)
        self.problem = problem


def read_answer(content: str | None, is_cut: bool) -> str:
    """
    The description in an answer: that of the last JSON object that has one, wherever it stands, or else the plain
    text. What a model says to itself, as in `<think>…</think>`, does not count, unless there is an object in it and
    nothing after it.

    Raises:
        BadAnswer: if there is none, naming what is wrong with the answer: "cut", "json" or "empty".
    """
    whole = (content or "").strip()
    text = HALF_REASONING.sub("", REASONING.sub("", whole)).strip()
    description = _find_description(text)
    if description is None and is_cut:
        raise BadAnswer("cut", "it is too long and was cut off")
    if description is None and not text:
        description = _find_description(whole)
    if description is None:
        description = FENCE.sub("", text)
        if JSON.search(description):
            raise BadAnswer("json", 'it is no JSON of the form {"description": "…"}')
    description = description.strip()
    if quoted := QUOTED.fullmatch(description):
        description = quoted[1]
    if not description:
        raise BadAnswer("empty", "it is empty")
    return description


def _find_description(text: str) -> str | None:
    """That of the last JSON object in a text that has one. Objects may stand in others; braces in strings are none."""
    description, start = None, text.find("{")
    while start >= 0:
        try:
            value, end = DECODER.raw_decode(text, start)
        except ValueError:
            value, end = None, start + 1
        except RecursionError:  # so deep lies no answer, and each brace would be tried
            break
        if isinstance(value, dict) and isinstance(value.get("description"), str):
            description = value["description"]
        else:
            end = start + 1
        start = text.find("{", end)
    return description


def check_answer(kind: Kind, content: str | None, is_cut: bool) -> tuple[str, dict[str, str]]:
    """The description in an answer, and what is wrong with it, as [`find_problems`] or [`read_answer`] name it."""
    try:
        text = read_answer(content, is_cut)
    except BadAnswer as error:
        return content or "", {error.problem: str(error)}
    return text, find_problems(kind, text)


def find_problems(kind: Kind, text: str) -> dict[str, str]:
    """
    What is wrong with a description, as one would tell who wrote it, by the name of the check that found it; nothing
    if it can be used.
    """
    without_tags = TAG.sub("", text)
    plain = re.sub(r"[][{}<>*`|_#]", "", without_tags).replace("’", "'").strip()
    (other,) = set(KINDS) - {kind}
    said = mentions(plain)
    own, foreign = attributes_of(kind, said), attributes_of(other, said)
    own.pop("outfit", None)  # "casual clothes" tells nobody from anybody
    is_evasive = len(own) < MIN_ATTRIBUTES and CONVERSATION.search(plain)
    if is_evasive or REFUSAL.search(plain):
        return {"refusal": "it refuses to describe the person"}
    if not _is_english(_words(plain), len(own) + len(foreign)):
        return {"language": "it is not in English"}
    count = len(text.split())
    found = [
        ("length", not WORDS[0] <= count <= WORDS[1], f"it has {count} words, not {WORDS[0]} to {WORDS[1]}"),
        ("ending", not SENTENCE_END.search(plain), "it does not end with a full stop"),
        ("capital", re.match(r"\W*[a-z]", plain), "it does not begin with a capital letter"),
        ("placeholder", PLACEHOLDER.search(without_tags), "it contains placeholders"),
        ("markup", MARKUP.search(text), "it contains markup or lines"),
        ("coverage", len(own) < MIN_ATTRIBUTES, f"it says too little about {kind}: {', '.join(own) or 'nothing'}"),
        ("leakage", foreign, f"it speaks of {other}: {', '.join(foreign.values())}"),
    ]
    return {name: problem for name, is_there, problem in found if is_there}


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


def is_near_duplicate(text: str, others: Iterable[str], threshold: float = 0.9) -> bool:
    """Whether a text shares nearly all its word trigrams with one of the others (Jaccard index of at least 0.9)."""
    ours = _trigrams(text)
    return any(len(ours & theirs) >= threshold * len(ours | theirs) for theirs in map(_trigrams, others))


def agreement(kind: Kind, texts: list[str]) -> dict[str, float]:
    """
    How far several descriptions of one image agree: by attribute, the share of texts that say what most of them
    say of it, silence counting as saying something. Attributes that no text speaks of are left out.
    """
    said = [attributes(kind, text) for text in texts]
    names = dict.fromkeys(name for of_text in said for name in of_text)
    values = {name: [of_text.get(name) for of_text in said] for name in names}
    return {name: max(map(of_name.count, of_name)) / len(texts) for name, of_name in values.items()}


def most_typical(kind: Kind, texts: list[str]) -> str:
    """The description that agrees with most others, attribute by attribute; the first of several."""
    if len(texts) == 1:
        return texts[0]
    said = [attributes(kind, text).items() for text in texts]
    # That a long one agrees with itself at length makes it no more typical.
    scores = [sum(len(ours & theirs) for theirs in said) - len(ours) for ours in said]
    return texts[scores.index(max(scores))]


def _is_english(words: list[str], terms: int) -> bool:
    """
    Whether the small words are English ones, and enough of them. The `terms` for people and clothes count as well, for
    the sake of "red jacket, blue jeans", but do not decide: "Jacke, Jeans und Pullover".
    """
    is_latin = sum(word.isascii() for word in words) >= 0.8 * len(words)
    english, other = (sum(word in known for word in words) for known in (ENGLISH, OTHER_LANGUAGES))
    return is_latin and english >= other and english + terms >= 0.15 * len(words)


def _trigrams(text: str) -> set[tuple[str, ...]]:
    words = _words(text)
    return set(zip(words, words[1:], words[2:], strict=False)) or {tuple(words)}
