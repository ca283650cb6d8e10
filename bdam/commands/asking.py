"""The dialogue of `bdam search --ask`."""

import json
import sys
from typing import TYPE_CHECKING, Any

from rich.markup import escape

from bdam.commands.hits import print_hits, to_record
from bdam.commands.options import console, errors


if TYPE_CHECKING:
    from bdam.retrieval.asking import Asker
    from bdam.retrieval.hits import Hits
    from bdam.retrieval.questions import Question


def hold_dialogue(asker: "Asker", title: str, query: dict[str, Any], as_json: bool) -> "tuple[str, Hits]":
    """
    Searches, asks, and searches again with each answer that standard input gives, until it gives none.

    Args:
        asker: searches and chooses the questions.
        title: what is searched for, in words.
        query: arguments of [`Asker.search`].
        as_json: whether to print the hits and the question of each round as a line of JSON.

    Returns:
        The title with what the answers say, and the last hits.

    Raises:
        ValueError: if standard input is no terminal and has a line that is not a number of an answer.
    """
    answers: dict[str, str | None] = {}
    while True:
        hits, question = asker.search(answers, **query)
        print_round(title, hits, question, as_json)
        number = None if question is None else read_number(question)
        if question is None or number is None:
            return title, hits
        answer = list(question.answers)[number - 1] if number else None
        answers[question.text] = answer
        title = f"{title} {question.sentences[answer]}" if answer else title


def print_round(title: str, hits: "Hits", question: "Question | None", as_json: bool) -> None:
    """Prints hits and the next question, if there is one."""
    if as_json:
        asked = question and {"text": question.text, "answers": [*question.answers]}
        print(json.dumps({**to_record(title, hits), "question": asked}), flush=True)
        return
    print_hits(title, hits)
    if question:
        choices = "  ".join(f"[bold]{number}[/] {escape(answer)}" for number, answer in enumerate(question.answers, 1))
        console.print(f"{escape(question.text)}\n{choices}\n[bold]0[/] not known, an empty line to end")


def read_number(question: "Question") -> int | None:
    """The number of an answer, from 1, that standard input gives; 0 if it is not known, None if the search ends."""
    most = len(question.answers)
    while line := sys.stdin.readline().strip():
        if line.isdecimal() and int(line) <= most:
            return int(line)
        message = f"{line!r} is no answer to {question.text!r}: give a number from 0 to {most}."
        if not sys.stdin.isatty():
            raise ValueError(message)
        errors.print(escape(message))
    return None
