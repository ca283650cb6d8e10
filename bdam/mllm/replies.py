"""What a server sends: replies of an MLLM, and errors."""

import json
import re
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, Field, FiniteFloat, ValidationError


MAX_LENGTH = 300  # characters of a server's message that go into a reason
# The tags around the reasoning of a model. Servers that do not know them may leave any of them out.
_OPENED = r"(?:<(?:think|thinking|thought|reasoning)>|\[THINK\]|◁think▷)"
_CLOSED = r"(?:</(?:think|thinking|thought|reasoning)>|\[/THINK\]|◁/think▷|<\|channel\|>final<\|message\|>)"
REASONING = re.compile(f"{_OPENED}.*?{_CLOSED}", re.DOTALL | re.IGNORECASE)
HALF_REASONING = re.compile(f"^.*{_CLOSED}|{_OPENED}.*$", re.DOTALL | re.IGNORECASE)


class ServerError(ConnectionError):
    """The server cannot answer anything: there is no use in going on."""


class RequestError(RuntimeError):
    """The server did not answer this request, though it was sent `max_retries` times more."""


@dataclass(frozen=True)
class Reply:
    """
    An answer of the MLLM.

    Args:
        content: the text of the MLLM; None if it wrote none.
        is_cut: whether the limit of tokens cut the text off.
        tokens: how many were read and written.
        first_token: the first token that is not blank; None if the server gives no log-probabilities.
    """

    content: str | None
    is_cut: bool
    tokens: int
    first_token: "Token | None" = None


class Token(BaseModel):
    """A token of an answer; `top_logprobs` are those that were the likeliest in its place, if they were asked for."""

    token: str
    logprob: FiniteFloat
    top_logprobs: "list[Token] | None" = None


class LogProbs(BaseModel):
    content: list[Token] | None = None


class Part(BaseModel):
    text: str | None = None


class Message(BaseModel):
    content: str | list[Part | str] | None = None
    refusal: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None

    def text(self) -> str | None:
        """The text of the answer. If it is empty, the reasoning in `<think>` tags: some servers answer there."""
        content = self.content
        if isinstance(content, list):
            content = "".join(part if isinstance(part, str) else part.text or "" for part in content)
        reasoning = self.reasoning_content or self.reasoning
        return content or self.refusal or (f"<think>{reasoning}</think>" if reasoning else None)


class Choice(BaseModel):
    message: Message
    finish_reason: str | None = None
    logprobs: Any = None

    def first_token(self) -> Token | None:
        """The first token that is not blank; None if the server gives none, or gives them in a form of its own."""
        try:
            tokens = LogProbs.model_validate(self.logprobs).content or []
        except ValidationError:
            return None
        return next((token for token in tokens if token.token.strip()), None)


class Completion(BaseModel):
    """The fields of a chat completion that are read. The other fields differ from server to server."""

    choices: list[Choice] = Field(min_length=1)
    usage: Any = None

    def tokens(self) -> int:
        usage = self.usage if isinstance(self.usage, dict) else {}
        read, written, both = (usage.get(f"{name}_tokens") for name in ("prompt", "completion", "total"))
        return both if isinstance(both, int) else sum(part for part in (read, written) if isinstance(part, int))


def read_completion(body: Any) -> Reply:
    """
    Reads the JSON of a chat completion.

    Raises:
        ValueError: if it is none, or its filter stopped the answer.
    """
    try:
        completion = Completion.model_validate(body)
    except ValidationError:
        raise ValueError(error_message(body)) from None
    choice = completion.choices[0]
    if choice.finish_reason == "content_filter":
        raise ValueError("its content filter stopped the answer")
    is_cut = choice.finish_reason == "length"
    return Reply(choice.message.text(), is_cut, completion.tokens(), choice.first_token())


def without_reasoning(text: str) -> str:
    """A text without what its model says to itself, as in `<think>…</think>`."""
    return HALF_REASONING.sub("", REASONING.sub("", text)).strip()


def error_message(body: Any) -> str:
    """What the body of an error says, whichever server wrote it, in one short line."""
    text = re.sub(r"<[^<>]*>", " ", full_message(body))
    text = " ".join(text.encode(errors="replace").decode().split()) or "no reason given"
    return text if len(text) <= MAX_LENGTH else f"{text[:MAX_LENGTH]}…"


def full_message(body: Any) -> str:
    if isinstance(body, list):
        return "; ".join(map(full_message, body))
    if not isinstance(body, dict):
        return str(body)
    # The places where pydantic, and with it FastAPI, names a field; beside it stands the whole input.
    where = ".".join(map(str, body["loc"])) + ": " if isinstance(body.get("loc"), list) else ""
    messages = [body[name] for name in ("error", "message", "detail", "msg") if body.get(name)]
    return where + (full_message(messages) if messages else json.dumps(body))
