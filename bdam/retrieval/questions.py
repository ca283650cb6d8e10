"""Questions about a person whom somebody looks for."""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from bdam.recipes.yaml_text import MAX_BYTES, parse_yaml


QUESTIONS = Path(__file__).with_name("questions.yaml")
# Between an answer and the word that it describes: "short, light brown hair".
FEW_WORDS = r"(?:[ ,-]+\w+){0,2}[ ,-]+"


def _has_gap(sentence: str) -> str:
    if sentence.count("{}") != 1:
        raise ValueError("it needs {} once, where the words of an answer stand")
    return sentence


class Question(BaseModel):
    """
    A question with its possible answers.

    Args:
        text: the question.
        stream: what an answer speaks of: "identity" or "clothing".
        sentence: what an answer says of the person, where `{}` stands for its words.
        answers: answer → its words; at least two.
        about: words for what the question is about, such as "hair": a query that has an answer shortly before one of
            them, as in "brown hair", or an answer that is one of them, is not asked. Without them, any answer counts.

    Example:

    ```python
    >>> from bdam.retrieval.questions import Question
    >>> question = Question(
    ...     text="Does the person wear glasses?",
    ...     stream="identity",
    ...     sentence="A person {}.",
    ...     answers={"yes": "with glasses", "no": "without glasses"},
    ... )
    >>> question.sentences
    {'yes': 'A person with glasses.', 'no': 'A person without glasses.'}
    ```"""

    model_config = ConfigDict(frozen=True, extra="forbid", str_strip_whitespace=True)

    text: Annotated[str, Field(min_length=1)]
    stream: Literal["identity", "clothing"]
    sentence: Annotated[str, AfterValidator(_has_gap)]
    answers: Annotated[dict[str, str], Field(min_length=2)]
    about: tuple[str, ...] = ()

    @property
    def sentences(self) -> dict[str, str]:
        """Answer → what it says of the person."""
        return {answer: self.sentence.replace("{}", words) for answer, words in self.answers.items()}

    def is_answered(self, query: str) -> bool:
        """Whether a query has an answer to this already, as far as `about` tells."""
        alone = [answer for answer in self.answers if not self.about or answer in self.about]
        described = rf"(?:{_any_of(self.answers)}){FEW_WORDS}(?:{_any_of(self.about)})"
        patterns = [_any_of(alone)] * bool(alone) + [described] * bool(self.about)
        return re.search(rf"\b(?:{'|'.join(patterns)})\b", query, re.IGNORECASE) is not None


def _any_of(words: Iterable[str]) -> str:
    return "|".join(map(re.escape, words))


def load_questions(path: str | Path = QUESTIONS) -> list[Question]:
    """
    The questions of a YAML file.

    Args:
        path: the file, a list of questions with the fields of [`Question`]. Default: questions about people on
            photographs of streets.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is not valid, naming the file and the entry; or if two questions have the same text.
    """
    with open(path, "rb") as file:
        entries = parse_yaml(file.read(MAX_BYTES + 1), str(path))
    try:
        questions = TypeAdapter(Annotated[list[Question], Field(min_length=1)]).validate_python(entries)
    except ValidationError as error:
        mistake = error.errors()[0]
        reason = mistake["msg"].removeprefix("Value error, ")
        entry = ", ".join(f"entry {part + 1}" if isinstance(part, int) else str(part) for part in mistake["loc"])
        raise ValueError(f"{path}: {f'{entry}: ' if entry else ''}{reason}.") from None
    texts = [question.text for question in questions]
    if repeated := next((text for text in texts if texts.count(text) > 1), None):
        raise ValueError(f"{path}: two questions are {repeated!r}: leave one out.")
    return questions
