"""An MLLM behind any OpenAI-compatible endpoint: vLLM, TGI, llama.cpp, Ollama, `transformers serve` or a service."""

import os
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, Field

from bdam.captions.prompts import ANSWER_SCHEMA


try:
    import openai
except ImportError as error:
    raise ImportError("Captions need the client of OpenAI-compatible servers: pip install bdam[captions]") from error


API_KEY = "OPENAI_API_KEY"
RESPONSE_FORMAT = {
    "type": "json_schema",
    "json_schema": {"name": "description", "schema": ANSWER_SCHEMA, "strict": True},
}


class ServerError(ConnectionError):
    """The server cannot answer anything: there is no use in going on."""


class RequestError(RuntimeError):
    """The server did not answer this request, however often it was sent."""


@dataclass(frozen=True)
class Reply:
    """
    Args:
        content: what the MLLM said.
        is_cut: whether it was cut off by the limit of tokens.
        tokens: how many were read and written.
    """

    content: str | None
    is_cut: bool
    tokens: int


class MLLM:
    """
    Sends requests, again after 429, 5xx, timeouts and broken connections, as late as `Retry-After` says or else with
    growing pauses.

    Args:
        model: its name on the server.
        base_url: the endpoint, such as http://127.0.0.1:8000/v1; OpenAI's if None.
        temperature, max_tokens: of the answers.
        timeout: seconds that one request may take.
        max_retries: how often a request is sent again.

    The key of the endpoint is read from the environment, `OPENAI_API_KEY`, and is never written anywhere.
    """

    def __init__(
        self,
        model: str,
        base_url: str | None = None,
        temperature: float = 0.7,
        max_tokens: int = 200,
        timeout: float = 60,
        max_retries: int = 5,
    ):
        self._settings = (model, base_url, temperature, max_tokens, timeout, max_retries)
        self.model = model
        self.base_url = base_url
        self.body = {"model": model, "temperature": temperature, "max_tokens": max_tokens}
        self.takes_schema = True
        self._client = openai.AsyncOpenAI(
            api_key=os.environ.get(API_KEY, "none"), base_url=base_url, timeout=timeout, max_retries=max_retries
        )

    def __reduce__(self) -> tuple:
        """A copy in another process has connections of its own."""
        return type(self), self._settings

    async def ask(self, messages: list[dict]) -> Reply:
        """
        Raises:
            ServerError: if the server is not there, or does not know the model or the key.
            RequestError: if it does not answer this request.
        """
        try:
            return await self._send(messages)
        except openai.BadRequestError as error:
            if not self.takes_schema or "response_format" not in str(error):
                raise RequestError(f"the server refused the request: {error.message}") from error
            self.takes_schema = False  # some servers do not know schemas; answers are checked in any case
            return await self.ask(messages)
        except (openai.AuthenticationError, openai.PermissionDeniedError) as error:
            raise ServerError(f"{self._place} refused the key: set {API_KEY} to a valid one.") from error
        except openai.NotFoundError as error:
            raise ServerError(f"{self._place} has no model {self.model!r}, or is no such server: {error}") from error
        except openai.APITimeoutError as error:
            raise RequestError("the server did not answer in time") from error
        except openai.APIConnectionError as error:
            raise ServerError(f"No server at {self._place}: start it, or give its --base-url.") from error
        except openai.APIStatusError as error:
            raise RequestError(f"the server answered {error.status_code}") from error
        except (openai.APIError, ValueError) as error:  # what is no JSON, or no completion
            raise RequestError(f"the server sent what is no answer: {type(error).__name__}") from error

    async def close(self) -> None:
        await self._client.close()

    @property
    def _place(self) -> str:
        return self.base_url or str(self._client.base_url)

    async def _send(self, messages: list[dict]) -> Reply:
        schema = {"response_format": RESPONSE_FORMAT} if self.takes_schema else {}
        # Not `chat.completions.create`, which walks through every request, picture and answer to check their types.
        body = {**self.body, **schema, "messages": messages}
        return read_completion(await self._client.post("/chat/completions", body=body, cast_to=object))


class Message(BaseModel):
    content: str | None = None


class Choice(BaseModel):
    message: Message
    finish_reason: str | None = None


class Usage(BaseModel):
    total_tokens: int | None = None


class Completion(BaseModel):
    """What is read of a chat completion; with the rest, servers take liberties."""

    choices: list[Choice] = Field(min_length=1)
    usage: Usage | None = None


def read_completion(body: Any) -> Reply:
    """
    Reads the JSON of a chat completion.

    Raises:
        ValueError: if it is none.
    """
    completion = Completion.model_validate(body)
    choice, usage = completion.choices[0], completion.usage or Usage()
    return Reply(choice.message.content, choice.finish_reason == "length", usage.total_tokens or 0)
