"""From images to records, whatever the server does."""

import json
import os
import signal
import subprocess
import sys
import time
from io import BytesIO
from pathlib import Path
from random import Random

import pytest
from mllm_server import GOOD, Response, completion, paint, serve
from PIL import Image

from bdam import cli
from bdam.captions.batch_files import export_requests, import_answers
from bdam.captions.describing import Options, describe_images
from bdam.captions.description_file import DescriptionFile
from bdam.captions.images import ImageFile, find_images, take_shard
from bdam.commands.options import IN_PART
from bdam.data.descriptions import merge_descriptions, read_descriptions
from bdam.data.loading import load_split
from bdam.mllm.client import MLLM
from bdam.mllm.replies import ServerError
from processing_bdam import to_upright_rgb


@pytest.fixture
def folder(tmp_path) -> Path:
    """Thirteen images."""
    (tmp_path / "people").mkdir()
    for index in range(13):
        paint(index).save(tmp_path / f"people/{index:02}.png")
    return tmp_path / "people"


def describe(folder: Path, server, retry_failed=False, timeout: float = 60, max_retries: int = 3, **options):
    images, path = find_images(str(folder))
    mllm = MLLM("m", server.url, timeout=timeout, max_retries=max_retries)
    tally = describe_images(images, path, mllm, None, Options(**options), retry_failed)
    return tally, {int(record.image_id[:2]): record for record in read_descriptions(path)}


def test_every_kind_of_misbehaviour_ends_in_a_valid_record_or_a_recorded_failure(folder):
    leak = "A tall man with short grey hair and a slim build in a red coat."
    script = {
        (0, "identity"): [(429, {"Retry-After": "1"})],
        (1, "identity"): [(429, {})],
        (2, "clothing"): [(500, {})],
        (4, "clothing"): ['{"description": "The person wears'],
        (5, "identity"): [""],
        (6, "identity"): ["I'm sorry, but I can't help with identifying people in images."],
        (7, "clothing"): ["Die Person trägt einen roten Mantel und blaue Jeans mit schwarzen Stiefeln."],
        (8, "identity"): [leak] * 3,
        (9, "clothing"): [[GOOD["clothing"], "length"]],
        (10, "identity"): [f"A tall man with grey hair. {'He stands upright and still. ' * 40}"],
        (11, "identity"): [(500, {})] * 9,
        (12, "identity"): [Response(200, "<html>")] * 9,
    }
    with serve(script) as server:
        tally, records = describe(folder, server)
    assert sorted(records) == list(range(13))
    assert {index for index, record in records.items() if record.failures} == {8, 11, 12}
    assert (tally.described, tally.failed) == (10, 3)
    assert records[8].failures == {"identity": "it speaks of clothing: coat"} or "coat" in str(records[8].failures)
    assert records[8].identity_description is None and records[8].clothing_description is not None
    assert records[11].failures == {"identity": "the server answered 500: no"}
    assert "no answer" in records[12].failures["identity"]
    for index in (4, 5, 6, 7, 9, 10):  # asked again, with the reason
        kind = next(kind for image, kind in script if image == index)
        assert records[index].attempts[kind] == 2 and len(records[index].checks[kind]) == 1
    for index in (0, 1, 2):  # sent again, which is no other attempt
        assert set(records[index].attempts.values()) == {1} and not records[index].checks
    reasons = [
        request["body"]["messages"][-1]["content"]
        for request in server.received
        if len(request["body"]["messages"]) > 2
    ]
    assert any("it is not in English" in reason for reason in reasons)
    assert any("refuses" in reason for reason in reasons)


def test_what_takes_too_long_is_sent_again(folder):
    """The server waits longer than a request may take, and only the first time."""
    images, path = find_images(str(folder))
    with serve({(0, "identity"): [4.0]}) as server:
        describe_images(images[:1], path, MLLM("m", server.url, timeout=2), None, Options())
    (record,) = read_descriptions(path)
    assert not record.failures and set(record.attempts.values()) == {1}
    assert server.requests[0, "identity"] >= 2


def test_requests_are_sent_at_once_but_not_too_many(folder):
    with serve() as server:
        server.gathers, server.delay = 4, 0.05
        describe(folder, server, concurrency=4)
    assert server.most_at_once == 4
    assert set(server.requests.values()) == {1} and len(server.requests) == 26


def test_a_budget_ends_the_run_and_the_next_one_goes_on(folder):
    with serve() as server:
        tally, records = describe(folder, server, concurrency=1, max_requests=6)
        assert len(records) == 3 and tally.requests == 6
        tally, records = describe(folder, server, concurrency=1, max_tokens=400)
        assert len(records) == 5 and tally.tokens == 400
        _, records = describe(folder, server)
    assert len(records) == 13 and set(server.requests.values()) == {1}


def test_failures_are_asked_for_again_on_request(folder):
    with serve({(3, "identity"): ["No."] * 3}) as server:
        _, records = describe(folder, server)
        assert records[3].failures
        tally, _ = describe(folder, server)
        assert tally.requests == 0
        tally, records = describe(folder, server, retry_failed=True)
    assert tally.requests == 2 and not records[3].failures and len(records) == 13


def test_several_samples_say_how_far_they_agree(folder):
    bald = GOOD["identity"].replace("short grey hair", "a bald head").format(0)
    with serve({(0, "identity"): [None, bald, None]}) as server:
        _, records = describe(folder, server, samples=3, concurrency=1)
    assert records[0].identity_description == GOOD["identity"].format(0)
    assert records[0].agreement["identity"]["gender"] == 1
    assert min(records[0].agreement["identity"].values()) == pytest.approx(2 / 3)
    assert set(records[1].agreement["clothing"].values()) == {1.0}


def test_the_same_words_for_two_images_of_a_person_are_asked_for_again(folder):
    lines = [{"image": f"{index:02}.png", "person_id": 0, "split": "test"} for index in range(2)]
    (folder / "annotations.jsonl").write_text("\n".join(map(json.dumps, lines)))
    same = GOOD["identity"].format(0)
    with serve({(1, "identity"): [same], (1, "clothing"): [GOOD["clothing"].format(0)] * 3}) as server:
        mllm = MLLM("m", server.url)
        images, path = find_images(f"own:{folder}")
        describe_images(images, path, mllm, None, Options(concurrency=1))
    first, second = read_descriptions(path)
    assert second.attempts == {"identity": 2, "clothing": 3} and not second.failures
    assert first.clothing_description == second.clothing_description  # the same three times is believed
    rows = load_split(f"own:{folder}", "test")
    assert rows[1]["identity_description"] == second.identity_description


def test_a_server_that_is_not_there_costs_no_image(folder):
    images, path = find_images(str(folder))
    nowhere = MLLM("m", "http://127.0.0.1:9/v1", max_retries=0)
    with pytest.raises(ServerError, match="No server at http://127.0.0.1:9/v1: start it"):
        describe_images(images, path, nowhere, None, Options())
    for status, message in ((401, "refused the key: set OPENAI_API_KEY"), (404, "has no model 'm'")):
        with serve({(0, "identity"): [(status, {})]}) as server, pytest.raises(ServerError, match=message):
            describe(folder, server, concurrency=1)
    assert not list(read_descriptions(path))


def test_a_server_that_never_answers_ends_the_run(folder, monkeypatch):
    monkeypatch.setattr("bdam.captions.describing.MAX_UNANSWERED", 3)
    script = {(index, kind): [(503, {})] * 2 for index in range(13) for kind in GOOD}
    with serve(script) as server, pytest.raises(ServerError, match="3 images in a row got no answer"):
        describe(folder, server, concurrency=1, max_retries=0)
    _, path = find_images(str(folder))
    assert len(list(read_descriptions(path))) == 3


def odd_file(name: str) -> bytes | None:
    """What no server can be shown, in a file that is called an image; None for a link to nothing."""
    if name == "huge":
        buffer = BytesIO()
        Image.new("1", (20_000, 10_000)).save(buffer, "PNG")
        return buffer.getvalue()
    whole = BytesIO()
    paint(0).save(whole, "PNG")
    return {
        "empty": b"",
        "text": b"not an image",
        "truncated": whole.getvalue()[:60],
        "wrong checksum": whole.getvalue().replace(b"IDAT", b"IDAX"),
        "no size": whole.getvalue()[:16] + bytes(8) + whole.getvalue()[24:],
        "link to nothing": None,
    }[name]


ODD = ("huge", "empty", "text", "truncated", "wrong checksum", "no size", "link to nothing")


@pytest.mark.parametrize("name", ODD)
def test_an_image_that_cannot_be_read_is_one_failure(folder, tmp_path, name, monkeypatch, capsys):
    content, odd = odd_file(name), folder / "05.png"
    odd.unlink()
    odd.symlink_to("nowhere.png") if content is None else odd.write_bytes(content)
    images = [ImageFile(f"{index:02}.png", folder / f"{index:02}.png") for index in range(13)]
    path = folder / "descriptions.jsonl"
    with serve() as server:
        tally = describe_images(images, path, MLLM("m", server.url), None, Options())
    assert (tally.described, tally.failed) == (12, 1)
    failures = {record.image_id: record.failures for record in read_descriptions(path) if record.failures}
    assert list(failures) == ["05.png"] and failures["05.png"].keys() == {"identity", "clothing"}
    assert all(reason.startswith("the image cannot be read: ") for reason in failures["05.png"].values())
    path.unlink()
    tally = export_requests(images, path, tmp_path / "requests.jsonl", {"model": "m"})
    assert (tally.requests, tally.failed) == (24, 1) and "'05.png': the image cannot be read" in str(tally.reasons)
    assert "05.png" not in (tmp_path / "requests.jsonl").read_text()


@pytest.mark.parametrize("name", [b"caf\xe9.png", b"\xff/05.png", b"\x93\xfa\x96{.png"])
def test_an_image_whose_name_is_no_text_is_one_failure(folder, tmp_path, monkeypatch, capsys, name):
    """As it was written by a system with another encoding. No record can name it, and no other is lost."""
    odd = Path(os.fsdecode(os.fsencode(folder) + b"/" + name))
    odd.parent.mkdir(exist_ok=True)
    (folder / "05.png").rename(odd)
    images = [
        ImageFile(path.relative_to(folder).as_posix(), path) for path in (*sorted(folder.glob("[01]?.png")), odd)
    ]
    path = tmp_path / "descriptions.jsonl"
    with serve() as server:
        tallies = [describe_images(images, path, MLLM("m", server.url), None, Options()) for _ in range(2)]
    assert [tally.failed for tally in tallies] == [1, 1] and len(list(read_descriptions(path))) == 12
    assert "is no UTF-8: rename the file" in str(tallies[0].reasons)
    tally = export_requests(images, tmp_path / "none.jsonl", tmp_path / "requests.jsonl", {"model": "m"})
    assert (tally.requests, tally.failed) == (24, 1) and str(tally.reasons).isascii()


@pytest.mark.parametrize("error", [ZeroDivisionError("division by zero"), MemoryError(), AttributeError("no tile")])
def test_whatever_a_decoder_raises_is_one_failure(folder, monkeypatch, error):
    def decode(image):
        if image.filename.endswith("05.png"):
            raise error
        return to_upright_rgb(image)

    monkeypatch.setattr("bdam.data.images.to_upright_rgb", decode)
    with serve() as server:
        tally, records = describe(folder, server)
    assert (tally.described, tally.failed) == (12, 1)
    assert records[5].failures["identity"] == f"the image cannot be read: {str(error) or type(error).__name__}"


def test_the_exit_code_says_how_much_was_described(folder, bdam):
    command = ("describe", folder, "--model", "m", "--max-attempts", 1, "--base-url")
    failing = {(index, kind): ["No."] for index in range(13) for kind in GOOD}
    with serve(failing) as server:
        code, output = bdam("caption", *command, server.url)
    assert code == 1 and "0 images described, 13 failed" in output
    assert "failed 13 times: it has 1 words, not 6 to 90" in output
    with serve() as server:
        code, output = bdam("caption", *command, server.url)  # there is nothing to ask for
        assert code == 1 and "13 failed in an earlier run" in output and not server.received
    with serve({(3, "identity"): ["No."]}) as server:
        code, output = bdam("caption", *command, server.url, "--retry-failed")
        assert code == IN_PART and "12 images described, 1 failed" in output and "failed 1 times: it" in output
        code, output = bdam("caption", *command, server.url)
        assert code == IN_PART and "1 failed in an earlier run" in output
        code, output = bdam("caption", *command, server.url, "--retry-failed")
        assert code == 0 and "1 images described, 0 failed" in output
        assert bdam("caption", *command, server.url)[0] == 0


def test_a_budget_is_no_failure(folder, bdam):
    with serve() as server:
        command = ("describe", folder, "--model", "m", "--base-url", server.url, "--max-requests", 4)
        assert bdam("caption", *command)[0] == 0


def test_the_key_is_sent_and_never_shown(folder, monkeypatch, capsys):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    with serve({(0, "identity"): [(401, {})]}) as server:
        monkeypatch.setattr(sys, "argv", ["bdam", "caption", "describe", str(folder), "--model", "m"])
        sys.argv += ["--base-url", server.url, "--concurrency", "1"]
        with pytest.raises(SystemExit):
            cli.main()
    output = "".join(capsys.readouterr())
    assert server.received[0]["authorization"] == "Bearer sk-secret"
    assert "refused the key" in output and "sk-secret" not in output
    assert all(b"sk-secret" not in path.read_bytes() for path in folder.iterdir())


def test_killed_runs_go_on_with_nothing_lost_and_nothing_twice(tmp_path):
    """500 images, five kills at random moments."""
    root, random, concurrency = Path(__file__).parents[2], Random(0), 8
    for index in range(500):
        paint(index).save(tmp_path / f"{index:03}.png")
    path = tmp_path / "descriptions.jsonl"
    with serve() as server:
        server.delay = 0.2  # all images take 25 s at least: five short runs are not enough, however long they wait
        command = [sys.executable, "-m", "bdam.cli", "caption", "describe", str(tmp_path), "--model", "m"]
        command += ["--base-url", server.url, "--concurrency", str(concurrency)]
        for _ in range(5):
            before = path.stat().st_size if path.is_file() else 0
            process = subprocess.Popen(
                command, env={**os.environ, "PYTHONPATH": str(root)}, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
            )
            while not path.is_file() or path.stat().st_size <= before:
                assert process.poll() is None, process.stderr.read()
                time.sleep(0.01)
            time.sleep(0.3 * random.random())
            process.send_signal(signal.SIGKILL)
            process.communicate()
        with path.open("ab") as file:
            file.write(b'{"image_id": "499.png", "identi')  # what a kill in the middle of a line leaves
        kept = list(read_descriptions(path))
        assert 5 <= len(kept) < 500
        images, _ = find_images(str(tmp_path))
        server.delay = 0.0
        tally = describe_images(images, path, MLLM("m", server.url), None, Options())
    assert tally.described == 500 - len(kept)
    assert sorted(record.image_id for record in read_descriptions(path)) == [image.image_id for image in images]
    repeated = sum(count - 1 for count in server.requests.values())
    assert repeated <= 5 * 2 * concurrency  # both requests of the images in flight


def test_two_runs_at_once_do_not_write_one_file(folder):
    busy = pytest.raises(ValueError, match="Another run is writing .*descriptions.jsonl: wait for it, or stop it")
    with DescriptionFile(folder / "descriptions.jsonl"), serve() as server, busy:
        describe(folder, server)


def test_shards_are_merged(folder):
    images, path = find_images(str(folder))
    parts = [take_shard(images, path, f"{index}/3") for index in (1, 2, 3)]
    with serve() as server:
        for some, part in parts:
            describe_images(some, part, MLLM("m", server.url), None, Options())
    merged = merge_descriptions(part for _, part in parts)
    assert sorted(record.image_id for record in merged) == [image.image_id for image in images]
    assert set(server.requests.values()) == {1}
    with pytest.raises(ValueError, match="must be I/N"):
        take_shard(images, path, "4/3")


def test_a_batch_elsewhere_does_the_same_work(folder, tmp_path):
    images, path = find_images(str(folder))
    requests, answers = tmp_path / "requests.jsonl", tmp_path / "answers.jsonl"
    assert export_requests(images, path, requests, {"model": "m", "max_tokens": 200}).requests == 26
    lines = []
    for number, line in enumerate(requests.read_text().splitlines()):
        request = json.loads(line)
        assert request["url"] == "/v1/chat/completions" and request["body"]["model"] == "m"
        kind, image = request["custom_id"].split(":")
        content = "No." if number == 4 else GOOD[kind].format(image)
        response = {"status_code": 200, "body": completion({"content": content})}
        answer = {"custom_id": request["custom_id"], "response": response, "error": None}
        if number == 6:
            answer |= {"response": None, "error": {"code": "expired"}}
        lines.append(json.dumps(answer))
    answers.write_text("\n".join(lines[:-1]))
    tally = import_answers(answers, images, path, "m")
    assert (tally.described, tally.failed) == (10, 3)
    records = list(read_descriptions(path))
    assert "expired" in records[3].failures["identity"]
    assert records[12].failures == {"clothing": "the batch has no answer"}
    tally = import_answers(answers, images, path, "m")
    assert (tally.described, tally.failed, tally.described_before, tally.failed_before) == (0, 0, 10, 3)
    assert export_requests(images, path, requests, {"model": "m"}).requests == 0
    answers.write_text('{"custom_id": "identity:other.png"}')
    with pytest.raises(ValueError, match=r"answers.jsonl, line 1: no image 'other.png' in the data"):
        import_answers(answers, images, path, "m")
    answers.write_text("[]")
    with pytest.raises(ValueError, match="line 1: no answer to a request of ours"):
        import_answers(answers, images, path, "m")
    answers.write_text("\n")
    with pytest.raises(ValueError, match="answers.jsonl holds no answers: give the file that the batch wrote"):
        import_answers(answers, images, path, "m")


def batch_line(kind: str, response, error=None) -> str:
    return json.dumps({"custom_id": f"{kind}:00.png", "response": response, "error": error})


@pytest.mark.parametrize(
    ("response", "error", "reason"),
    [
        (None, {"code": "expired", "message": "This request expired."}, "the batch answered: This request expired."),
        ({"status_code": 400, "body": {"error": {"message": "No image."}}}, None, "the batch answered: No image."),
        ({"status_code": 429, "body": "slow down"}, None, "the batch answered: slow down"),
        ("a text", None, "the batch answered: None"),
        ([], "no such model", "the batch answered: no such model"),
        ({"status_code": 200, "body": completion({"content": None})}, None, "it is empty"),
    ],
)
def test_a_batch_that_failed_says_why(folder, tmp_path, bdam, response, error, reason):
    answers = tmp_path / "answers.jsonl"
    answers.write_text("\ufeff" + "\n\n".join(batch_line(kind, response, error) for kind in GOOD), "utf-8")
    code, output = bdam("caption", "import", folder, answers, "--model", "m")
    assert code == 1 and f"0 images described, 1 failed. failed 2 times: {reason}" in output
    good = [batch_line(kind, {"body": completion({"content": GOOD[kind].format(1)})}) for kind in GOOD]
    answers.write_text("\n".join(good).replace("00.png", "01.png"))
    assert bdam("caption", "import", folder, answers, "--model", "m")[0] == 0
    answers.write_text("\n".join([*good, batch_line("identity", response, error).replace("00", "02")]))
    assert bdam("caption", "import", folder, answers, "--model", "m")[0] == 1  # 02 alone is new, and failed
