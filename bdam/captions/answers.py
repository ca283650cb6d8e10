"""Descriptions in the answers of an MLLM, with reasoning, JSON and code fences around them."""

import json
import re

from bdam.mllm.replies import without_reasoning


DECODER = json.JSONDecoder(strict=False)  # models write lines into strings
FENCE = re.compile(r"^(?:```(?:json)?|<answer>)\s*|\s*(?:```|</answer>)$", re.IGNORECASE)
JSON = re.compile(r"""^[\[{]\s*"|\{\s*["'“]?\w+["'”]?\s*:""")
QUOTED = re.compile(r"""["“]([^"“”]*)["”]""")


class BadAnswer(ValueError):
    """An answer that holds no description; `problem` is "cut", "json" or "empty"."""

    def __init__(self, problem: str, message: str):
        super().__init__(message)
        self.problem = problem


def read_answer(content: str | None, is_cut: bool) -> str:
    """
    The description in an answer: that of the last JSON object that has one, wherever it stands, or else the plain
    text. Reasoning, as in `<think>…</think>`, does not count, unless there is an object in it and nothing after it.

    Args:
        content: the text of the answer; None if there is none.
        is_cut: whether the server cut it off.

    Raises:
        BadAnswer: if there is none, naming what is wrong with the answer: "cut", "json" or "empty".
    """
    whole = (content or "").strip()
    text = without_reasoning(whole)
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
    """The description of the last JSON object that has one. Objects may be nested; braces in strings are none."""
    description, start = None, text.find("{")
    while start >= 0:
        try:
            value, end = DECODER.raw_decode(text, start)
        except ValueError:
            value, end = None, start + 1
        except RecursionError:  # no answer is nested so deeply, and each brace would be tried
            break
        if isinstance(value, dict) and isinstance(value.get("description"), str):
            description = value["description"]
        else:
            end = start + 1
        start = text.find("{", end)
    return description
