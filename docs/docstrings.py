"""Reads docstrings in the style of transformers for the API reference, which expects the style of Google."""

import re

import griffe


# "image_size (`int`, *optional*, defaults to `224`):", in one line or two
TYPE = re.compile(r"^(\s*[\w, ]+? \()(`[^\n]*?(?:\n[^\n]*?)?)(\):)", re.MULTILINE)
# "[`BDAMModel`]", a link in the documentation of transformers
LINK = re.compile(r"\[(`[^`\]]+`)\](?![\[(])")
# The head of what Google's style would indent
EXAMPLE = re.compile(r"^(\s*)Example:$", re.MULTILINE)


def to_google(text: str) -> str:
    """The docstring with types as plain text, links as code, and the word Example as a heading."""
    text = EXAMPLE.sub(r"\1**Example:**", LINK.sub(r"\1", text))
    return TYPE.sub(lambda found: f"{found[1]}{_plain(found[2])}{found[3]}", text)


def _plain(type_: str) -> str:
    return re.sub(r"`|, \*optional\*", "", " ".join(type_.split()))


class TransformersDocstrings(griffe.Extension):
    def on_object(self, *, obj: griffe.Object, **kwargs) -> None:
        if obj.docstring is not None:
            obj.docstring.value = to_google(obj.docstring.value)
