"""What servers say when they do not take a request, and how their answers look."""

import asyncio
import email.utils
import time
from pathlib import Path

import pytest
from mllm_server import GOOD, Response, completion, paint, serve

from bdam.captions.describing import Options, describe_images
from bdam.captions.images import find_images
from bdam.captions.prompts import build_messages
from bdam.data.descriptions import read_descriptions
from bdam.mllm.client import MLLM, find_refused
from bdam.mllm.images import image_url
from bdam.mllm.replies import Reply, ServerError


FORMAT = "response_format"
SENT = {"temperature": 0.7, "max_tokens": 200, "response_format": {}}


def openai_error(message: str, param: str | None = None) -> dict:
    return {"error": {"message": message, "type": "invalid_request_error", "param": param, "code": None}}


def pydantic_error(*loc: str | int) -> dict:
    return {"detail": [{"type": "extra", "loc": [*loc], "msg": "Extra inputs are not permitted", "input": SENT}]}


def refusing(**answers: Response):
    """Refuses requests that carry one of these parameters; the first of them, if they carry several."""
    return lambda body: next((answer for name, answer in answers.items() if name in body), None)


@pytest.fixture
def messages(tmp_path) -> list[dict]:
    paint(0).save(tmp_path / "0.png")
    return build_messages("identity", image_url(tmp_path / "0.png"), None, [])


def ask(messages: list[dict], server, max_retries: int = 0) -> Reply:
    async def ask_once() -> Reply:
        mllm = MLLM("m", server.url, timeout=60, max_retries=max_retries)
        try:
            return await mllm.ask(messages)
        finally:
            await mllm.close()

    return asyncio.run(ask_once())


def describe(folder: Path, count: int, server, **options):
    folder.mkdir(exist_ok=True)
    for index in range(count):
        paint(index).save(folder / f"{index:03}.png")
    images, path = find_images(str(folder))
    tally = describe_images(images, path, MLLM("m", server.url, max_retries=1), None, Options(**options))
    return tally, list(read_descriptions(path))


@pytest.mark.parametrize(
    ("body", "name"),
    [
        # OpenAI and Azure
        (
            openai_error("Unsupported: 'max_tokens'. Use 'max_completion_tokens'.", "max_tokens"),
            "max_tokens",
        ),
        (openai_error("Use 'max_completion_tokens', as 'max_tokens' is not supported with this model."), "max_tokens"),
        (openai_error("Unsupported value: only the default (1) is supported.", "temperature"), "temperature"),
        (openai_error("Must be 'text' or 'json_object'.", "response_format.type"), FORMAT),
        (openai_error("Unknown field.", "body.response_format.json_schema.strict"), FORMAT),
        # llama.cpp, LM Studio, Groq, DeepSeek, a proxy
        ({"error": {"code": 400, "message": "response_format type must be one of text, got: json_schema"}}, FORMAT),
        ({"error": "'response_format.type' must be 'json_schema' or 'text'"}, FORMAT),
        (openai_error("This model does not support response format `json_schema`."), FORMAT),
        (openai_error("This response_format type is unavailable now"), FORMAT),
        ({"error": {"message": "m does not support parameters: {'temperature': 0.7}", "code": "400"}}, "temperature"),
        # vLLM, FastAPI, Mistral, TGI
        ({"object": "error", "message": "max_tokens is too large", "param": None, "code": 400}, "max_tokens"),
        ({"object": "error", "message": "No.", "param": "temperature", "code": 400}, "temperature"),
        ({"message": "[{'type': 'extra_forbidden', 'loc': ('body', 'response_format'), 'input': {}}]"}, FORMAT),
        (pydantic_error("body", "max_tokens"), "max_tokens"),
        ({"object": "error", "message": pydantic_error("body", "response_format")}, FORMAT),
        ({"error": "Bad Request", **pydantic_error("body", "temperature")}, "temperature"),
        ({"error": "Input validation error: `temperature` must be strictly positive"}, "temperature"),
        ("Failed to deserialize the JSON body: response_format: unknown variant `json_schema`", FORMAT),
        # Google and others
        ([{"error": {"code": 400, "message": 'Unknown name "max_tokens": Cannot find field.'}}], "max_tokens"),
        ("<html><body><h1>Bad Request</h1>temperature is unknown</body></html>", "temperature"),
        ({"error": {"message": "grammar is not supported by this backend"}}, FORMAT),
        # What no request can do without, and what names nothing
        (openai_error("'messages' must contain the word 'json' to use 'response_format'.", "messages"), None),
        (openai_error("Invalid image.", "messages[1].content[0].image_url"), None),
        (openai_error("This model takes no temperature.", "model"), None),
        (pydantic_error("body", "messages", 1, "content"), None),
        (openai_error("Invalid image."), None),
        (openai_error("max_completion_tokens is too large"), None),  # which was not sent
        ("<html>400</html>", None),
        ("", None),
        (None, None),
        ([], None),
        ({"error": {"message": None, "param": []}}, None),
    ],
)
def test_the_parameter_that_a_refusal_names_is_found(body, name):
    assert find_refused(body, SENT) == name


REFUSALS = [
    {"response_format": Response(400, openai_error("response_format is not supported"))},
    {"response_format": Response(422, "unknown variant `json_schema`, expected `json_object`")},
    {"max_tokens": Response(400, openai_error("Use 'max_completion_tokens' instead.", "max_tokens"))},
    {"max_tokens": Response(422, pydantic_error("body", "max_tokens"))},
    {
        "max_tokens": Response(400, openai_error("No.", "max_tokens")),
        "max_completion_tokens": Response(400, pydantic_error("body", "max_completion_tokens")),
    },
    {"temperature": Response(400, openai_error("Only the default (1) value is supported.", "temperature"))},
    {
        "temperature": Response(422, {"error": "`temperature` must be strictly positive"}),
        "max_tokens": Response(400, "max_tokens: unknown"),
        "max_completion_tokens": Response(400, "max_completion_tokens: unknown"),
        "response_format": Response(400, {"detail": "json_schema is not supported"}),
    },
]


@pytest.mark.parametrize("concurrency", [1, 16])
@pytest.mark.parametrize("refusals", REFUSALS, ids=lambda refusals: "-".join(refusals))
def test_what_a_server_refuses_by_name_is_left_out(tmp_path, refusals, concurrency, caplog):
    """With many requests under way, all were sent with what the first of them learns to leave out."""
    count = 32
    with serve(refuse=refusing(**refusals)) as server:
        server.gathers = concurrency
        tally, records = describe(tmp_path / "people", count, server, concurrency=concurrency)
    assert (tally.described, tally.failed) == (count, 0) and not any(record.checks for record in records)
    sent = [request["body"] for request in server.received]
    assert tally.requests == 2 * count and len(sent) <= 2 * count + concurrency * len(refusals)
    assert not refusals.keys() & sent[-1].keys() and sent[-1]["model"] == "m"
    if refusals.keys() == {"max_tokens"}:
        assert sent[-1]["max_completion_tokens"] == 200
    assert set(server.requests.values()) == {1}
    assert caplog.text.count("requests are sent without") == 1 and all(name in caplog.text for name in refusals)


def test_a_refusal_that_leaving_out_does_not_mend_changes_nothing_for_others(tmp_path):
    """A message that names a parameter by chance, of one image alone."""
    odd = Response(400, openai_error("The image is broken (temperature 0.7, response_format json_schema)."))
    script = {(0, kind): [odd] * 9 for kind in GOOD}
    with serve(script) as server:
        tally, records = describe(tmp_path / "people", 3, server, concurrency=1)
    assert (tally.described, tally.failed) == (2, 1)
    assert records[0].failures["identity"].startswith("the server refused the request: The image is broken")
    assert {"temperature", "max_tokens", "response_format"} <= server.received[-1]["body"].keys()


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (Response(400, openai_error("Invalid image.")), "the server refused the request: Invalid image."),
        (Response(400, "<html><title>400 Bad Request</title><hr></html>"), "the request: 400 Bad Request"),
        (Response(400, "bad"), "the server refused the request: bad"),
        (Response(400, ""), "the server refused the request: no reason given"),
        (Response(400, '{"error":'), 'the server refused the request: {"error":'),
        (Response(400, '{"error": "cut \\ud83d off"}'), "the server refused the request: cut ? off"),
        (Response(400, {"error": "x" * 999}), f"the server refused the request: {'x' * 300}…"),
        (Response(400, openai_error("Too long.", "messages")), "the server refused the request: Too long."),
        (Response(422, pydantic_error("body", "messages", 1)), "body.messages.1: Extra inputs are not permitted"),
        (Response(403, openai_error("Your input was flagged.")), "the server answered 403: Your input was flagged."),
        (Response(413, "<html><h1>413 Request Entity Too Large</h1></html>"), "413: 413 Request Entity Too Large"),
        (Response(429, openai_error("You exceeded your quota.")), "the server answered 429: You exceeded your quota."),
        (Response(500, None), "the server answered 500: None"),
        (Response(529, {"type": "error", "error": {"message": "Overloaded"}}), "the server answered 529: Overloaded"),
        (Response(200, {"choices": [], "error": {"message": "No GPU."}}), "what is no answer: No GPU."),
        (Response(200, {"error": "No GPU.", "choices": None}), "what is no answer: No GPU."),
        (Response(200, {"choices": []}), 'what is no answer: {"choices": []}'),
        (Response(200, {"choices": [{"message": None}]}), "the server sent what is no answer"),
        (Response(200, []), "the server sent what is no answer"),
        (Response(200, None), "the server sent what is no answer"),
        (Response(200, '{"choices": [{"message"'), "the server sent what is no answer"),
        (Response(200, "[" * 100_000), "the server sent what is no answer"),
        (Response(200, "<html>Welcome</html>", {"Content-Type": "text/html"}), "what is no answer: Welcome"),
        (Response(200, completion({"content": "\ud83d"})), "the server sent what is no answer"),
        (Response(200, completion({"content": None}, "content_filter")), "its content filter stopped the answer"),
        (Response(200, completion({"content": "A tall"}, "content_filter")), "its content filter stopped the answer"),
    ],
)
def test_what_is_no_answer_is_one_recorded_reason(tmp_path, answer, reason):
    with serve({(0, "identity"): [answer] * 9}) as server:
        tally, records = describe(tmp_path / "people", 2, server, concurrency=1)
    assert (tally.described, tally.failed) == (1, 1)
    assert records[0].failures.keys() == {"identity"} and reason in records[0].failures["identity"]


@pytest.mark.parametrize(
    "message",
    [
        {"content": "He is."},
        {"content": [{"type": "text", "text": "He "}, {"type": "text", "text": "is."}]},
        {"content": ["He is."]},
        {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "Hm."}]}, {"text": "He is."}]},
        {"content": "He is.", "reasoning_content": "Hm.", "tool_calls": [], "refusal": None},
        {"content": "He is.", "reasoning": None},
        {"refusal": "He is."},
    ],
)
@pytest.mark.parametrize("usage", [None, {}, [], "many", {"total_tokens": None, "prompt_tokens": None}])
def test_answers_have_several_shapes(messages, message, usage):
    body = {**completion(message), "usage": usage}
    with serve({(0, "identity"): [Response(200, body)]}) as server:
        assert ask(messages, server) == Reply("He is.", is_cut=False, tokens=0)


def test_tokens_are_added_up_where_their_sum_is_missing(messages):
    body = {**completion({"content": "He is."}), "usage": {"prompt_tokens": 5, "completion_tokens": 2}}
    with serve({(0, "identity"): [Response(200, body)]}) as server:
        assert ask(messages, server).tokens == 7


@pytest.mark.parametrize(
    "message",
    [
        {"content": None, "reasoning_content": 'So be it: {"description": "%s"}'},
        {"content": "", "reasoning": '{"description": "%s"}'},
        {"content": [], "reasoning_content": '```json\n{"description": "%s"}\n```'},
        {"content": 'What is "{"? Hm. {"description": "He"}</think>{"description": "%s"}'},
        {"content": '<think>He is {tall}.</think>\n```json\n{"description": "%s"}\n```\nShall I go on?'},
        {"content": "<think>Hm.</think>%s"},
    ],
)
def test_what_models_say_to_themselves_is_no_description(tmp_path, message):
    text = str(GOOD["identity"].format(0))
    filled = {name: value.replace("%s", text) if isinstance(value, str) else value for name, value in message.items()}
    with serve({(0, "identity"): [filled]}) as server:
        _, (record,) = describe(tmp_path / "people", 1, server)
    assert record.identity_description == text and not record.checks


def test_reasoning_without_an_answer_is_none(tmp_path):
    message = {"content": None, "reasoning_content": GOOD["identity"].format(0)}
    with serve({(0, "identity"): [message] * 3}) as server:
        _, (record,) = describe(tmp_path / "people", 1, server)
    assert record.failures == {"identity": "it is empty"}


@pytest.mark.parametrize("seconds", [1.0, -100.0])
def test_a_server_may_say_by_date_when_to_ask_again(messages, seconds):
    """A time in the past is as if it had said nothing."""
    at = email.utils.formatdate(time.time() + seconds, usegmt=True)
    with serve({(0, "identity"): [Response(429, {}, {"Retry-After": at})]}) as server:
        assert ask(messages, server, max_retries=3).content == GOOD["identity"].format(0)


@pytest.mark.parametrize(("status", "param"), [(404, None), (400, "model"), (422, "model")])
def test_a_server_that_does_not_know_the_model_costs_no_image(tmp_path, status, param):
    answer = Response(status, openai_error("The model 'm' does not exist", param))
    message = "has no model 'm', or is no such server: The model 'm' does not exist"
    with serve(refuse=lambda body: answer) as server, pytest.raises(ServerError, match=message):
        describe(tmp_path / "people", 2, server, concurrency=1)
    assert not list(read_descriptions(tmp_path / "people/descriptions.jsonl"))


def test_a_connection_that_breaks_off_is_one_recorded_reason(tmp_path):
    """As it does where a proxy takes no image of this size, or where an image brings down the server's worker."""
    half = Response(200, "{", {"Content-Length": "9"})
    with serve({(0, "identity"): [half] * 9}) as server:
        tally, records = describe(tmp_path / "people", 2, server, concurrency=1)
    assert (tally.described, tally.failed) == (1, 1)
    assert records[0].failures == {"identity": "the server broke off the connection"}


@pytest.mark.parametrize(
    "url",
    [
        "127.0.0.1:8000",
        "",
        "localhost",
        "ftp://a/v1",
        "http://",
        "http:///v1",
        "http://[a",
        "http://a:99999",
        "http://a b",
    ],
)
def test_an_address_that_is_none_is_named(url):
    with pytest.raises(ValueError, match="--base-url must be an address such as http://127.0.0.1:8000/v1"):
        MLLM("m", url)


@pytest.mark.parametrize("key", ["", " ", "sk-secret\n"])
def test_a_key_may_have_blanks_around_it(messages, monkeypatch, key):
    monkeypatch.setenv("OPENAI_API_KEY", key)
    with serve() as server:
        ask(messages, server)
    assert server.received[0]["authorization"] == f"Bearer {key.strip() or 'none'}"
