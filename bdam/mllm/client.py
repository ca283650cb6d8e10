"""An MLLM behind any OpenAI-compatible endpoint: vLLM, TGI, llama.cpp, Ollama, `transformers serve` or a service."""

import json
import logging
import os
import re
from typing import Any
from urllib.parse import urlsplit

from bdam.mllm.replies import Reply, RequestError, ServerError, error_message, full_message, read_completion


try:
    import openai
except ImportError as error:
    raise ImportError("An MLLM needs the client of OpenAI-compatible servers: pip install bdam[captions]") from error


logger = logging.getLogger(__name__)

API_KEY = "OPENAI_API_KEY"
# What a request can do without, and how servers name it that do not take it.
PARAMETERS = {
    "response_format": re.compile(r"response[_ ]?format|json[_ ]?schema|structured[_ ]?output|guided_|grammar", re.I),
    "max_tokens": re.compile(r"max_?tokens", re.I),
    "max_completion_tokens": re.compile(r"max_?completion_?tokens", re.I),
    "temperature": re.compile(r"temperature", re.I),
    "logprobs": re.compile(r"(?<!top_)(?<!top)log_?probs", re.I),
    "top_logprobs": re.compile(r"top_?log_?probs", re.I),
}
# What no request can do without, at the beginning of the field that a server names.
REQUIRED = re.compile(r"\W*(?:body\W+)?(?:model|messages)\b")
# The exceptions of the HTTP client, which has had several names, where no server listens at the address.
NO_SERVER = ("ConnectError", "ConnectTimeout", "UnsupportedProtocol")


class MLLM:
    """
    A client of an MLLM.

    It sends a request again after 429, 5xx, timeouts and broken connections, as late as `Retry-After` says or else
    with growing pauses; and again without a parameter that the server refuses by name, which later requests leave out.

    Args:
        model: its name on the server.
        base_url: the endpoint, such as http://127.0.0.1:8000/v1; OpenAI's if None.
        temperature, max_tokens: of the answers.
        timeout: seconds that one request may take.
        max_retries: how often a request is sent again.

    The key of the endpoint is read from the environment, `OPENAI_API_KEY`, and is never written anywhere.

    Raises:
        ValueError: if `base_url` is no address of the web.
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
        self.model = model
        self.base_url = base_url
        self.temperature = temperature
        self.max_tokens = max_tokens
        self.refused: frozenset[str] = frozenset()
        if base_url is not None and not _is_address(base_url):
            raise ValueError(f"--base-url must be an address such as http://127.0.0.1:8000/v1, got {base_url!r}.")
        self.timeout = timeout
        self.max_retries = max_retries
        self._client = self._connect()

    async def ask(self, messages: list[dict], **wanted: Any) -> Reply:
        """
        The answer to a conversation.

        Args:
            messages: as OpenAI-compatible servers take them.
            **wanted: what else to send, such as `response_format` or `logprobs`, as far as the server takes it.

        Raises:
            ServerError: if the server is not there, or does not know the model or the key.
            RequestError: if it does not answer this request.
        """
        try:
            return await self._ask(messages, wanted)
        except openai.AuthenticationError as error:
            raise ServerError(f"{self._place} refused the key: set {API_KEY} to a valid one.") from error
        except openai.NotFoundError as error:
            raise self._no_model(_read_body(error)) from error
        except openai.APITimeoutError as error:
            if _is_no_server(error):
                raise self._no_server() from error
            raise RequestError("the server did not answer in time") from error
        except openai.APIConnectionError as error:
            if _is_no_server(error):
                raise self._no_server() from error
            raise RequestError("the server broke off the connection") from error
        except (openai.BadRequestError, openai.UnprocessableEntityError) as error:
            body = _read_body(error)
            if _named_field(body) == "model":
                raise self._no_model(body) from error
            raise RequestError(f"the server refused the request: {error_message(body)}") from error
        except openai.APIStatusError as error:
            message = error_message(_read_body(error))
            raise RequestError(f"the server answered {error.status_code}: {message}") from error
        except (openai.APIError, ValueError, RecursionError) as error:  # what is no JSON, or no completion
            raise RequestError(f"the server sent what is no answer: {error}") from error

    async def close(self) -> None:
        """Closes the connections. Another event loop can ask again, by new ones."""
        await self._client.close()
        self._client = self._connect()

    def _connect(self) -> openai.AsyncOpenAI:
        key = os.environ.get(API_KEY, "").strip() or "none"
        return openai.AsyncOpenAI(
            api_key=key, base_url=self.base_url, timeout=self.timeout, max_retries=self.max_retries
        )

    @property
    def _place(self) -> str:
        return self.base_url or str(self._client.base_url)

    def _no_server(self) -> ServerError:
        return ServerError(f"No server at {self._place}: start it, or give its --base-url.")

    def _no_model(self, body: Any) -> ServerError:
        message = error_message(body)
        return ServerError(f"{self._place} has no model {self.model!r}, or is no such server: {message}")

    async def _ask(self, messages: list[dict], wanted: dict[str, Any]) -> Reply:
        """What this request left out is kept with it: others are under way, which were sent with more or with less."""
        refused = self.refused
        while True:
            parameters = self._parameters(wanted, refused)
            try:
                reply = await self._send({"model": self.model, **parameters, "messages": messages})
            except (openai.BadRequestError, openai.UnprocessableEntityError) as error:
                name = find_refused(_read_body(error), parameters)
                if name is None:
                    raise
                refused |= {name}
            else:
                self._leave_out(refused)
                return reply

    def _parameters(self, wanted: dict[str, Any], refused: frozenset[str]) -> dict[str, Any]:
        """What a request carries besides model and messages, if the server takes it."""
        limit = "max_completion_tokens" if "max_tokens" in refused else "max_tokens"  # as newer models call it
        parameters = {"temperature": self.temperature, limit: self.max_tokens, **wanted}
        return {name: value for name, value in parameters.items() if name not in refused}

    def _leave_out(self, refused: frozenset[str]) -> None:
        """Has later requests sent without what the server refused before it answered."""
        if new := sorted(refused - self.refused):
            logger.warning("%s refuses %s: requests are sent without.", self._place, ", ".join(new))
            self.refused |= refused

    async def _send(self, body: dict) -> Reply:
        # Not `chat.completions.create`, which walks through every request, image and answer to check their types.
        return read_completion(await self._client.post("/chat/completions", body=body, cast_to=object))


def find_refused(body: Any, parameters: dict[str, Any]) -> str | None:
    """
    The one of the parameters that a server names first when it refuses a request; None if it names none, or says that
    what is wrong is the model or the messages.
    """
    field = _named_field(body)
    for text in (field, "" if REQUIRED.match(field) else full_message(body)):
        found = {name: match.start() for name in parameters if (match := PARAMETERS[name].search(text))}
        if found:
            return min(found, key=lambda name: found[name])
    return None


def _named_field(body: Any) -> str:
    """The `param` of OpenAI's errors, which some servers write beside the message and some around it."""
    places = (body.get("error"), body) if isinstance(body, dict) else ()
    return next((str(place["param"]) for place in places if isinstance(place, dict) and place.get("param")), "")


def _read_body(error: openai.APIStatusError) -> Any:
    """The JSON of an error, or its text."""
    try:
        return json.loads(error.response.text)
    except (ValueError, RecursionError):
        return error.response.text


def _is_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        is_whole = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:  # brackets, or a port that is none
        return False
    return bool(is_whole) and not re.search(r"\s", url)


def _is_no_server(error: openai.APIConnectionError) -> bool:
    return type(error.__cause__).__name__ in NO_SERVER
