"""Users of the page, and the log of their searches."""

import asyncio
import json
import urllib.error
import urllib.request
from functools import partial
from pathlib import Path

import bcrypt
import gradio_client
import pytest
from PIL import Image
from test_page import SENTENCE, served
from tiny import tiny_model

from bdam.commands.search import serve
from bdam.data.pedestrians import generate_pedestrians
from bdam.retrieval import access
from bdam.retrieval.access import QueryLog, Users
from bdam.retrieval.bounded_search import BoundedSearch, blur_head
from bdam.retrieval.gallery import Gallery


def line(name: str, password: str) -> str:
    return f"{name}:{bcrypt.hashpw(password.encode()[:72], bcrypt.gensalt(4)).decode()}"


@pytest.fixture
def users(tmp_path) -> Users:
    path = tmp_path / "users"
    path.write_text("\n".join([line("ada", "open sesame"), "", line("bob", "πάσο" * 30)]))
    return Users.read(path)


def check(users: Users, name: str, password: str) -> bool:
    return asyncio.run(users.check(name, password))


def test_users_are_known_by_name_and_password(users):
    assert check(users, "ada", "open sesame") and check(users, "bob", "πάσο" * 30)
    assert not any(check(users, *pair) for pair in [("ada", "πάσο" * 30), ("ada", ""), ("eve", ""), ("", "x")])


def test_guessing_is_stopped_for_a_while(users, monkeypatch):
    now = 0.0
    monkeypatch.setattr(access.time, "monotonic", lambda: now)
    assert not any(check(users, "ada", f"guess {number}") for number in range(access.MAX_FAILURES))
    assert not check(users, "ada", "open sesame") and check(users, "bob", "πάσο" * 30)
    now = access.WINDOW + 1
    assert check(users, "ada", "open sesame")
    assert not any(check(users, f"name {number}", "guess") for number in range(100))
    assert check(users, "bob", "πάσο" * 30)


@pytest.mark.parametrize(
    "content, message",
    [
        ("", "names nobody"),
        ("ada:secret", "users, line 1: it is no NAME:HASH"),
        (line("ada", "a") + "\nbob", "users, line 2: it is no NAME:HASH"),
        ("ada:$apr1$x$y", "users, line 1"),
    ],
)
def test_a_file_of_users_that_is_none(tmp_path, content, message):
    (tmp_path / "users").write_text(content)
    with pytest.raises(ValueError, match=message):
        Users.read(tmp_path / "users")


def test_a_page_for_others_wants_names_and_a_log(tmp_path):
    with pytest.raises(ValueError, match="Other machines can reach a page at 0.0.0.0: give --users and --log"):
        serve(str(tmp_path), host="0.0.0.0", users=tmp_path / "users")
    with pytest.raises(FileNotFoundError, match="No users at .*htpasswd -B -c"):
        serve(str(tmp_path), users=tmp_path / "users")


@pytest.fixture(scope="module")
def place(processor, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("access")
    tiny_model(clothing_weight=0.6).save_pretrained(folder / "model")
    processor.save_pretrained(folder / "model")
    people = generate_pedestrians(1, 1, 2, image_size=(64, 32))["test"]
    Gallery.from_images(folder / "model", people, uri=folder / "gallery")
    (folder / "users").write_text(line("ada", "open sesame"))
    return folder


def test_searches_are_logged(place, tmp_path):
    log = QueryLog(tmp_path / "logs" / "queries.jsonl")
    bounded = BoundedSearch(Gallery.load(place / "gallery"), log=partial(log.write, "ada"))
    found = [hit.image_id for hit in bounded.search(text=SENTENCE, k=2)]
    bounded.search(like=Image.new("RGB", (32, 64)), k=1)
    with pytest.raises(ValueError, match="`k`"):
        bounded.search(text=SENTENCE, k=1000)
    log.close()
    first, second, third = map(json.loads, (tmp_path / "logs" / "queries.jsonl").read_text().splitlines())
    assert first["user"] == "ada" and first["query"] == {"text": SENTENCE, "k": 2} and first["found"] == found
    assert second["query"]["like"].startswith("upload ") and third["found"] is None


def test_images_that_are_opened_are_logged(place, tmp_path):
    """Each has a line of its own, which names all images of its track, since the page shows them, too."""
    rows = generate_pedestrians(1, 1, 2, image_size=(64, 32))["test"].select_columns(["image_id", "image"])
    image_ids = rows["image_id"][:]
    tracks = rows.add_column("track", ["a", "a", *(f"b{row}" for row in range(len(rows) - 2))])
    log = QueryLog(tmp_path / "queries.jsonl")
    bounded = BoundedSearch(Gallery.from_images(place / "model", tracks), log=partial(log.write, "ada"))
    bounded.open(image_ids[0], text=SENTENCE)
    bounded.open(image_ids[2], like=image_ids[0])
    with pytest.raises(ValueError, match="No image of the gallery is named 'x'"):
        bounded.open("x", text=SENTENCE)
    log.close()
    first, second, third = map(json.loads, (tmp_path / "queries.jsonl").read_text().splitlines())
    assert first.pop("time") and first == {
        "user": "ada",
        "opened": image_ids[0],
        "query": {"text": SENTENCE},
        "shown": sorted(image_ids[:2]),
    }
    assert second["query"] == {"like": image_ids[0]} and second["shown"] == [image_ids[2]]
    assert third["opened"] == "x" and third["shown"] is None


def test_a_page_with_users_answers_them_alone(place):
    arguments = ["--users", str(place / "users"), "--log", str(place / "queries.jsonl")]
    with served(place, *arguments) as url:
        for path in ("/config", "/gradio_api/info"):
            with pytest.raises(urllib.error.HTTPError) as refused:
                urllib.request.urlopen(f"{url}{path}")
            assert refused.value.code == 401
            refused.value.close()
        client = gradio_client.Client(url, auth=("ada", "open sesame"), verbose=False, analytics_enabled=False)
        hits = client.predict(text=SENTENCE, k=3, api_name="/search")["hits"]
        client.close()
    (entry,) = map(json.loads, (place / "queries.jsonl").read_text().splitlines())
    assert entry["user"] == "ada" and entry["found"] == [hit["image_id"] for hit in hits]


def test_heads_are_blurred():
    image = Image.effect_noise((64, 128), 100).convert("RGB")
    blurred = blur_head(image)
    assert blurred.crop((0, 25, 64, 128)).tobytes() == image.crop((0, 25, 64, 128)).tobytes()
    shades = [max(b - a for a, b in part.crop((0, 0, 64, 25)).getextrema()) for part in (image, blurred)]
    assert shades[1] < shades[0] / 2
