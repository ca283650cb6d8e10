"""The web page, served as `bdam app` does, asked by programs and by a real browser."""

import asyncio
import http.client
import json
import os
import runpy
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

import gradio_client
import pytest
from datasets import Dataset
from huggingface_hub import SpaceCard
from loopback import PATIENCE, free_ports
from PIL import Image
from selenium import webdriver
from selenium.webdriver.common.keys import Keys
from tiny import SENTENCES, tiny_model

from bdam.data.pedestrians import generate_pedestrians
from bdam.retrieval.asking import Asker
from bdam.retrieval.bounded_search import BoundedSearch, open_example
from bdam.retrieval.gallery import Gallery
from bdam.retrieval.page import SENTENCES as OFFERED
from bdam.retrieval.page_handlers import FoundValues, caption
from bdam.retrieval.stores.base import Span


ROOT = Path(__file__).parents[2]
# https://huggingface.co/docs/hub/spaces-config-reference
COLORS = {"red", "yellow", "green", "blue", "indigo", "purple", "pink", "gray"}
SENTENCE = SENTENCES[3]
HACK = """<img src=x onerror="document.title='hacked'">"""
HOSTILE = [
    HACK,
    "<script>document.title='hacked'</script>",
    "**bold** [x](javascript:alert(1)) ![x](/etc/passwd)",
    "'; DROP TABLE images; --",
    '{"__type__": "update", "visible": false, "path": "/etc/passwd"}',
    "a\x00b",
    "高个子男人穿着红色外套",
    "\u202e🏃‍♀️ ٪ \x1b[31m",
    "../" * 20 + "etc/passwd",
]


@pytest.fixture(scope="module")
def place(processor, tmp_path_factory) -> Path:
    """A gallery of a folder of images, one of which has a wicked name and another has been deleted since."""
    folder = tmp_path_factory.mktemp("page")
    tiny_model(clothing_weight=0.6).save_pretrained(folder / "model")
    processor.save_pretrained(folder / "model")
    people = generate_pedestrians(1, 1, 5, image_size=(64, 32))["test"]
    for index, image in enumerate(people["image"]):
        (folder / f"images/camera {index % 2}").mkdir(parents=True, exist_ok=True)
        image.save(folder / f"images/camera {index % 2}/{index:02}.png")
    people[0]["image"].save(folder / f"images/{HACK}.png".replace("'", "`"))
    Gallery.from_images(folder / "model", folder / "images", uri=folder / "gallery")
    (folder / "images/camera 1/07.png").unlink()
    return folder


@pytest.fixture(scope="module")
def gallery(place) -> Gallery:
    return Gallery.load(place / "gallery")


@contextmanager
def served(place: Path, *arguments: str) -> Iterator[str]:
    """The address of `bdam app`, which by the end has not met anything unexpected, and leaves nothing behind."""
    (port,) = free_ports(1)
    command = [sys.executable, "-m", "bdam.cli", "app", place / "gallery", "--port", str(port), *arguments]
    with running(command, port, place) as url:
        yield url
    assert "Traceback" not in (place / "server.log").read_text()
    assert [file for file in (place / "cache").rglob("*") if file.is_file()] == []


@contextmanager
def running(command: list[str | Path], port: int, folder: Path, cwd: Path = ROOT) -> Iterator[str]:
    """The address of a page that a process of its own serves, with its log and its cache in a folder."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "GRADIO_TEMP_DIR": str(folder / "cache")}
    environment |= {"GRADIO_SERVER_NAME": "127.0.0.1", "GRADIO_SERVER_PORT": str(port)}
    log = folder / "server.log"
    with log.open("w") as output:
        process = subprocess.Popen(command, cwd=cwd, stdout=output, stderr=output, env=environment)
        try:
            deadline = time.monotonic() + PATIENCE
            while ask(port, "/gradio_api/startup-events")[0] not in (200, 401):
                assert process.poll() is None and time.monotonic() < deadline, log.read_text()[-3000:]
                time.sleep(0.2)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait(timeout=PATIENCE)


@pytest.fixture(scope="module")
def url(place) -> Iterator[str]:
    with served(place, "--log", str(place / "queries.jsonl")) as url:
        yield url


@pytest.fixture(scope="module")
def client(url) -> Iterator:
    client = gradio_client.Client(url, verbose=False, analytics_enabled=False)
    yield client
    client.close()


def ask(port: int, path: str) -> tuple[int | None, bytes]:
    """What the server answers to a path as it stands, without the cleaning that clients do."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    try:
        connection.putrequest("GET", path)
        connection.endheaders()
        answer = connection.getresponse()
        return answer.status, answer.read(100)
    except OSError:
        return None, b""
    finally:
        connection.close()


def names(hits) -> list[str]:
    return [hit.image_id for hit in hits]


@pytest.mark.parametrize(
    "query",
    [
        {"text": SENTENCE, "k": 5},
        *({"text": SENTENCE, "clothing_weight": weight} for weight in (0, 0.35, 1)),
        {"identity": SENTENCES[0], "clothing": SENTENCES[3], "clothing_weight": 0.5},
        {"like": "camera 0/02.png", "clothing_weight": 0.2, "filter": {"folder": ["camera 0"]}},
    ],
)
def test_the_endpoint_ranks_as_the_gallery_does(client, gallery, query):
    found = client.predict(**query, api_name="/search")["hits"]
    expected = gallery.search(**{"k": 12, **query})
    assert [hit["image_id"] for hit in found] == names(expected)
    for part in ("score", "identity", "clothing"):
        assert [hit[part] for hit in found] == pytest.approx([getattr(hit, part) for hit in expected], abs=1e-5)


def test_the_slider_decides(gallery):
    """Or else the tests of the page would see nothing."""
    assert len({tuple(names(gallery.search(SENTENCE, clothing_weight=weight))) for weight in (0, 0.6, 1)}) == 3


def test_the_endpoint_tells_which_words_are_lost(client):
    assert client.predict(text=f"{SENTENCE} xqzt", api_name="/search")["warnings"] == [
        'The model does not know: "xqzt".'
    ]
    with pytest.raises(gradio_client.exceptions.AppError, match="The model knows no word of the sentence"):
        client.predict(text="xqzt", api_name="/search")


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_words_are_words(client, text):
    assert len(client.predict(text=f"{SENTENCE} {text}", k=3, api_name="/search")["hits"]) == 3


@pytest.mark.parametrize(
    "query, message",
    [
        ({}, "Say whom you look for"),
        ({"text": " \n"}, "The sentence is empty"),
        ({"text": "word " * 2000}, "`text`: String should have at most 1000 characters"),
        ({"text": ["a"]}, "`text`: Input should be a valid string"),
        ({"text": "a", "clothing_weight": 2}, r"`clothing_weight` must lie in \[0, 1\], got 2"),
        ({"text": "a", "k": 10**9}, "`k`: Input should be less than or equal to 60"),
        ({"text": "a", "filter": {"camera": [1]}}, "Nothing to filter by is called 'camera'"),
        ({"text": "a", "filter": {"folder": [{"$ne": 1}]}}, "'folder' holds string"),
        ({"like": "/etc/passwd"}, "No image of the gallery is named '/etc/passwd'"),
        ({"like": "../images/camera 0/02.png"}, "No image of the gallery is named"),
        ({"like": {"path": "/etc/passwd"}}, "`like`: Input should be a valid string"),
    ],
)
def test_mistakes_are_told_in_a_sentence(client, query, message):
    with pytest.raises(gradio_client.exceptions.AppError, match=message):
        client.predict(**query, api_name="/search")


def test_no_file_can_be_fetched(url, place):
    port = int(url.rpartition(":")[2])
    files = [Path("/etc/passwd"), *place.glob("gallery/*"), *place.glob("model/*.safetensors")]
    files += [place / "images/camera 0/02.png", place / "server.log", ROOT / "bdam/retrieval/page.py"]
    for file in files:
        plain = str(file).replace(" ", "%20")
        ways = [plain, "".join(f"%{ord(letter):02x}" for letter in str(file)), f"/{plain}", f"file://{plain}"]
        ways += [f"{plain}%00.png", f"{'../' * 12}{plain[1:]}", f"{place}/cache/{'..%2f' * 12}{plain[1:]}"]
        ways = [f"/gradio_api/file={way}" for way in ways] + [f"/file={plain}", f"/gradio_api/file/{plain}"]
        ways += [f"/{folder}/{'%2e%2e/' * 12}{plain[1:]}" for folder in ("static", "assets", "svelte")]
        assert {way: code for way in ways if (code := ask(port, way)[0]) not in (403, 404)} == {}
    elsewhere = ("https://example.com/a.png", "HTTP://127.0.0.1:1/a.png", "https:%2f%2fexample.com")
    assert {ask(port, f"/gradio_api/file={address}") for address in elsewhere} == {(403, b"Not of this gallery.")}


def test_uploads_are_bounded(url):
    form = b'--b\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n\r\n%s\r\n--b--\r\n'
    body = form % bytes((10 << 20) + 1)  # no more: what the server has not read when it answers would break the line
    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(urllib.request.Request(f"{url}/gradio_api/upload", body, headers), timeout=PATIENCE)
    assert refused.value.code == 413
    refused.value.close()


@pytest.mark.parametrize(
    "size, message",
    [((5001, 5000), "it has over 25,000,000 pixels"), ((20_000, 10_000), "it has over 25,000,000 pixels")],
)
def test_small_files_of_huge_images_are_not_decoded(size, message):
    bomb = BytesIO()
    Image.new("1", size).save(bomb, "PNG")
    assert len(bomb.getvalue()) < 100_000
    with pytest.raises(ValueError, match=message):
        open_example(bomb.getvalue())


@pytest.mark.parametrize("content", [b"", b"<svg onload='alert(1)'/>", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0" * 9])
def test_what_is_no_image_is_no_example(content):
    with pytest.raises(ValueError, match=r"The image cannot be read \(.*\): restore or remove it"):
        open_example(content)


def test_examples_stand_upright_and_are_small():
    content = BytesIO()
    orientation = Image.Exif()
    orientation[0x0112] = 6
    Image.new("RGBA", (3000, 1500)).save(content, "PNG", exif=orientation)
    example = open_example(content.getvalue())
    assert example.mode == "RGB" and example.size == (512, 1024)


def test_a_deleted_image_has_a_placeholder(gallery):
    bounded = BoundedSearch(gallery)
    assert "camera 1/07.png" in names(bounded.search(text=SENTENCE, k=30))
    assert bounded.thumbnail("camera 1/05.png").size == (32, 64)
    assert bounded.thumbnail("camera 1/07.png").size == (160, 320)


def test_a_track_is_one_hit(gallery):
    """Of images with a track, as footage has them, the best is shown; the others with the one that is opened."""
    people = generate_pedestrians(1, 1, 3, image_size=(64, 32))["test"]
    columns = {"track": ["a"] * 4 + ["b"] * 7 + [None], "time": [61.5 - second for second in range(12)]}
    rows = Dataset.from_dict(
        {"image": list(people["image"]), "image_id": [f"{row}.png" for row in range(12)], **columns}
    )
    bounded = BoundedSearch(Gallery.from_images(gallery.embedder, rows))
    assert list(bounded.choices) == ["time"]
    hits = bounded.search(text=SENTENCE, one_per=bounded.one_per)
    assert sorted(str(hit.row["track"]) for hit in hits) == ["None", "a", "b"]
    opened = bounded.open("1.png", text=SENTENCE, clothing_weight=0)
    assert [time for _, time in opened.track] == ["0:58.5", "0:59.5", "1:00.5", "1:01.5"]
    assert list(opened.lost) == ["identity"] and opened.lost["identity"].shape == (8, 4)
    assert bounded.open("11.png", text=SENTENCE).track == []
    assert BoundedSearch(gallery).open("camera 1/07.png", text=SENTENCE).lost == {}
    with pytest.raises(ValueError, match="No image of the gallery is named 'x.png'"):
        bounded.open("x.png", text=SENTENCE)
    with pytest.raises(ValueError, match="`text`: String should have at most 1000 characters"):
        bounded.open("1.png", text="word " * 2000)


def test_an_image_that_is_opened_is_read_once(gallery, tmp_path, monkeypatch):
    people = generate_pedestrians(1, 1, 1, image_size=(64, 32))["test"]
    for number, image in enumerate(people["image"][:2]):
        image.save(tmp_path / f"{number}.png")
    lines = [json.dumps({"file_name": f"{number}.png", "track": "a"}) for number in range(2)]
    (tmp_path / "metadata.jsonl").write_text("\n".join(lines) + "\n")
    bounded = BoundedSearch(Gallery.from_images(gallery.embedder, tmp_path))
    read, open_image = [], Gallery.image

    def note(self, image_id):
        read.append(image_id)
        return open_image(self, image_id)

    monkeypatch.setattr(Gallery, "image", note)
    opened = bounded.open("0.png", text=SENTENCE)
    assert len(opened.track) == 2 and list(opened.lost) == ["identity", "clothing"]
    assert sorted(read) == ["0.png", "1.png"]


def test_spans_are_chosen_by_their_ends(gallery):
    rows = Dataset.from_dict(
        {"image": [Image.new("RGB", (16, 32))] * 60, "time": [float(second) for second in range(60)]}
    )
    bounded = BoundedSearch(Gallery.from_images(gallery.embedder, rows.add_column("image_id", [*map(str, range(60))])))
    assert bounded.choices == {"time": Span(0, 59)} and bounded.filter([None, None]) == {}
    assert len(bounded.search(text=SENTENCE, k=60, filter=bounded.filter([50, None]))) == 10
    assert len(bounded.search(text=SENTENCE, k=60, filter={"time": {"start": 3, "end": 7}})) == 5


def test_fifty_users_at_once(url, gallery):
    def search(weight: float) -> list[str]:
        """As `curl` would: the request, then the stream of what becomes of it."""
        data = json.dumps({"data": [SENTENCE, None, None, None, weight, 12, None, None]}).encode()
        request = urllib.request.Request(f"{url}/gradio_api/call/search", data, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
            event = json.load(answer)["event_id"]
        with urllib.request.urlopen(f"{url}/gradio_api/call/search/{event}", timeout=PATIENCE) as answer:
            lines = answer.read().decode().splitlines()
        assert "event: complete" in lines, lines
        return [hit["image_id"] for hit in json.loads(lines[-2].removeprefix("data: "))[0]["hits"]]

    weights = [user / 49 for user in range(50)]
    with ThreadPoolExecutor(50) as users:
        found = list(users.map(search, weights))
    assert found == [names(gallery.search(SENTENCE, clothing_weight=weight, k=12)) for weight in weights]


def test_fifty_users_are_asked_at_once(url, gallery):
    """As fifty browsers would, each with a session of its own."""
    with urllib.request.urlopen(f"{url}/config", timeout=PATIENCE) as answer:
        config = json.load(answer)
    (button,) = [part["id"] for part in config["components"] if part["props"].get("value") == "Ask me what would help"]
    (handler,) = [handler for handler in config["dependencies"] if [button, "click"] in handler["targets"]]

    def press_ask(weight: float) -> tuple[str, int]:
        """The question, and how many images are shown."""
        event = {"fn_index": handler["id"], "session_hash": f"user at {weight}"}
        event["data"] = [None, None, SENTENCE, None, None, weight, 12, *[None] * (len(handler["inputs"]) - 7)]
        join = urllib.request.Request(
            f"{url}/gradio_api/queue/join", json.dumps(event).encode(), {"Content-Type": "application/json"}
        )
        urllib.request.urlopen(join, timeout=PATIENCE).close()
        session = urllib.parse.quote(event["session_hash"])
        with urllib.request.urlopen(f"{url}/gradio_api/queue/data?session_hash={session}", timeout=PATIENCE) as answer:
            messages = [json.loads(line.removeprefix(b"data: ")) for line in answer if line.startswith(b"data: ")]
        (done,) = [message for message in messages if message["msg"] == "process_completed"]
        values = dict(zip(FoundValues._fields, done["output"]["data"], strict=True))
        return values["question"]["label"], len(values["results"]["value"])

    weights = [user / 49 for user in range(50)]
    with ThreadPoolExecutor(50) as users:
        asked = list(users.map(press_ask, weights))
    asker = Asker(gallery)
    questions = [asker.search({}, text=SENTENCE, clothing_weight=weight, k=12)[1] for weight in weights]
    assert asked == [(question.text, 12) for question in questions]


@pytest.fixture
def space(place, tmp_path) -> Path:
    """The folder of the Space, with a model and a gallery."""
    space = shutil.copytree(ROOT / "spaces/search", tmp_path / "space")
    shutil.copytree(place / "model", space / "model")
    people = generate_pedestrians(1, 1, 2, image_size=(64, 32))["test"]
    Gallery.from_images(place / "model", people, uri=space / "gallery")
    return space


def test_the_space_searches_what_is_beside_it(space):
    async def build():  # in a loop, since Gradio makes one where there is none, and leaves it open
        return runpy.run_path(str(space / "app.py"))["page"]

    page = asyncio.run(build())
    gallery = Gallery.load(space / "gallery", space / "model")
    (search,) = (function.fn for function in page.fns.values() if function.api_name == "search")
    assert [hit["image_id"] for hit in search(SENTENCE, k=3)["hits"]] == names(gallery.search(SENTENCE, k=3))


def test_the_container_has_what_its_command_needs(space, tmp_path):
    lines = [line.split() for line in (space / "Dockerfile").read_text().splitlines() if line and line[0] != "#"]
    container = tmp_path / "container"
    container.mkdir()
    for _, _, source, target in (words for words in lines if words[0] == "COPY"):
        copy = shutil.copytree if (space / source).is_dir() else shutil.copy
        copy(space / source, container / target)
    ((program, *arguments),) = (json.loads(" ".join(words[1:])) for words in lines if words[0] == "CMD")
    assert program == "python"
    (port,) = free_ports(1)
    with running([sys.executable, *arguments], port, tmp_path, cwd=container) as url:
        client = gradio_client.Client(url, verbose=False, analytics_enabled=False)
        hits = client.predict(text=SENTENCE, k=3, api_name="/search")["hits"]
        client.close()
    gallery = Gallery.load(space / "gallery", space / "model")
    assert [hit["image_id"] for hit in hits] == names(gallery.search(SENTENCE, k=3))
    assert ["ENV", "GRADIO_SERVER_NAME=0.0.0.0", "GRADIO_SERVER_PORT=7860"] in lines and ["EXPOSE", "7860"] in lines


def test_the_card_configures_a_space():
    folder = ROOT / "spaces/search"
    card = SpaceCard.load(folder / "README.md").data
    assert card.sdk == "gradio" and (folder / card.app_file).is_file() and len(card.short_description) <= 60
    assert f"gradio=={card.sdk_version}" in (ROOT / "constraints.txt").read_text().split()
    assert {card.colorFrom, card.colorTo} <= COLORS
    assert (folder / "requirements.txt").read_text().split() == ["bdam[app]"]


@pytest.fixture(scope="module")
def browser(url, tmp_path_factory) -> Iterator:
    """Chromium without a screen, with an empty profile, at the address of the page."""
    programs = [shutil.which(program) for program in ("chromium", "chromedriver")]
    if None in programs:
        pytest.skip("The page is tested in Chromium where that is installed: apt-get install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = programs[0]
    for argument in ("headless", "no-sandbox", "disable-gpu", "disable-background-networking"):
        options.add_argument(f"--{argument}")
    options.add_argument(f"--user-data-dir={tmp_path_factory.mktemp('profile')}")
    options.add_argument("--window-size=1280,1000")
    browser = webdriver.Chrome(options, webdriver.ChromeService(programs[1]))
    browser.set_page_load_timeout(PATIENCE)
    yield browser
    browser.quit()


@pytest.fixture
def page(browser, url):
    """The page, fresh, with the focus where it puts it itself: into the box for the sentence."""
    browser.get(url)
    until(lambda: browser.switch_to.active_element.tag_name == "textarea")
    return browser


def until(happens, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not happens():
        assert time.monotonic() < deadline, "It did not happen in time."
        time.sleep(0.05)


def press(page, *keys: str) -> None:
    """On the keyboard, wherever the focus is."""
    page.switch_to.active_element.send_keys(*keys)


def captions(page, place: str = "results") -> list[str]:
    labels = f"[...document.querySelectorAll('#{place} .caption-label')]"
    return page.execute_script(f"return {labels}.map(each => each.textContent)")


def shows(page, hits) -> bool:
    """Whether the page has these very hits, in their order, with their scores."""
    return captions(page) == [caption(hit) for hit in hits]


def tab_to(page, label: str) -> None:
    """Goes on by the tabulator alone, once around at most."""
    for _ in range(80):
        press(page, Keys.TAB)
        if focused(page) == label:
            return
    raise AssertionError(f"The tabulator does not reach {label!r}.")


def focused(page) -> str:
    element = page.switch_to.active_element
    return element.get_attribute("aria-label") or element.text.split("\n")[0] or element.tag_name


def toasts(page) -> list[str]:
    return [element.text for element in page.find_elements("class name", "toast-body")]


def test_enter_searches_and_the_slider_searches_again(page, gallery):
    press(page, SENTENCE, Keys.ENTER)
    until(lambda: shows(page, gallery.search(SENTENCE, clothing_weight=0.6, k=12)))
    tab_to(page, "range slider for Clothing weight")
    for key, weight in ((Keys.HOME, 0), (Keys.ARROW_RIGHT, 0.05), (Keys.END, 1)):
        press(page, key)
        until(lambda weight=weight: shows(page, gallery.search(SENTENCE, clothing_weight=weight, k=12)))
    tab_to(page, "range slider for Images")
    press(page, Keys.ARROW_LEFT)
    until(lambda: shows(page, gallery.search(SENTENCE, clothing_weight=1, k=11)))
    assert not toasts(page)


def test_the_keyboard_reaches_everything(page):
    press(page, SENTENCE, Keys.ENTER)
    until(lambda: captions(page))
    for closed in ("Person and clothes apart", "Filters"):
        tab_to(page, closed)
        press(page, Keys.ENTER)
    page.find_element("tag name", "textarea").click()
    reached = []
    while "Built with Gradio" not in reached:
        press(page, Keys.TAB)
        reached.append(focused(page))
    everything = ["Search", f"{OFFERED[0][:60]}...", "range slider for Clothing weight"]
    everything += [
        "range slider for Images",
        "Person and clothes apart",
        "textarea",
        "textarea",
        "Filters",
        "folder",
    ]
    everything += ["Upload an example", "Thumbnail 1 of 12", "Thumbnail 12 of 12"]
    everything += ["What the score says, and how to use it well", "Use via API"]
    assert [label for label in reached if label in everything] == everything


def text(page, place: str) -> str:
    """What is written in a part of the page; empty if it is not shown."""
    return page.execute_script(f"return document.getElementById('{place}')?.innerText ?? ''")


def opened(page) -> str:
    """What is written about the image that is opened."""
    return text(page, "facts")


def test_why_an_image_was_found(page, gallery, place):
    """By keyboard alone: the image, what it was found for at the weight of the slider, and nothing hostile."""
    press(page, f"{SENTENCE} {HACK}", Keys.ENTER)
    found = gallery.search(f"{SENTENCE} {HACK}", clothing_weight=0.6, k=12)
    until(lambda: shows(page, found))
    tab_to(page, "Thumbnail 1 of 12")
    press(page, Keys.ENTER)
    until(lambda: found[0].image_id in opened(page) and "folder" in opened(page))
    parts = ["image", "identity\nlost if hidden", "clothing\nlost if hidden"]
    until(lambda: captions(page, "views") == parts)
    entry = json.loads((place / "queries.jsonl").read_text().splitlines()[-1])
    assert (entry["opened"], entry["query"]["clothing_weight"]) == (found[0].image_id, 0.6)
    assert page.title == "Find a person" and not page.find_elements("css selector", "img[src=x]")
    page.find_element("tag name", "textarea").click()
    tab_to(page, "Close")
    press(page, Keys.ENTER)
    until(lambda: not opened(page))
    assert shows(page, found)


def test_what_was_cut_from_footage_is_shown_in_its_frame(browser, place, tmp_path):
    """As large as the page lets it be, below what it was found for."""
    (tmp_path / "footage").mkdir()
    Image.effect_noise((640, 360), 90).save(tmp_path / "footage/street.png")
    (tmp_path / "crops").mkdir()
    Image.new("RGB", (40, 80), "navy").save(tmp_path / "crops/1.png")
    row = {"file_name": "1.png", "source": "street.png", "time": 0.0, "box": [20, 20, 60, 100]}
    (tmp_path / "crops/metadata.jsonl").write_text(json.dumps(row))
    Gallery.from_images(place / "model", tmp_path / "crops", uri=tmp_path / "gallery")
    with served(tmp_path, "--footage", str(tmp_path / "footage")) as url:
        browser.get(url)
        until(lambda: browser.switch_to.active_element.tag_name == "textarea")
        press(browser, SENTENCE, Keys.ENTER)
        until(lambda: captions(browser))
        tab_to(browser, "Thumbnail 1 of 1")
        press(browser, Keys.ENTER)
        width = "return document.querySelector('#frame img')?.clientWidth ?? 0"
        until(lambda: browser.execute_script(width) >= 600)
        assert "1.png" in opened(browser)


def test_questions_are_asked_and_answered(page, gallery):
    """By keyboard alone; the slider keeps the answers, and another sentence forgets them."""
    press(page, SENTENCE, Keys.ENTER)
    found = gallery.search(SENTENCE, clothing_weight=0.6, k=12)
    until(lambda: shows(page, found))
    asker = Asker(gallery)
    query = {"text": SENTENCE, "clothing_weight": 0.6, "k": 12}
    hits, question = asker.search({}, **query)
    tab_to(page, "Ask me what would help")
    press(page, Keys.ENTER)
    until(lambda: question.text in text(page, "question"))
    assert shows(page, hits)
    answer = list(question.answers)[1]
    tab_to(page, answer)
    press(page, Keys.ENTER)
    hits, following = asker.search({question.text: answer}, **query)
    until(lambda: shows(page, hits))
    assert text(page, "said").strip() == f"{question.text} {answer}." and following.text in text(page, "question")
    page.find_element("tag name", "textarea").click()
    tab_to(page, "range slider for Images")
    press(page, Keys.ARROW_LEFT)
    until(lambda: shows(page, hits[:11]))
    page.find_element("tag name", "textarea").click()
    press(page, Keys.ENTER)
    until(lambda: shows(page, found[:11]))
    assert not toasts(page)


def test_on_a_phone_the_first_hits_are_on_the_first_screen(page, gallery):
    size = {"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": True}
    page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    try:
        press(page, SENTENCE, Keys.ENTER)
        until(lambda: captions(page))
        place = "const box = document.querySelectorAll('#results .caption-label')[1].getBoundingClientRect(); "
        right, bottom = page.execute_script(place + "return [box.right, box.bottom]")
        assert right <= 390 and bottom <= 844
        assert page.execute_script("return document.documentElement.scrollWidth") <= 390
    finally:
        page.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_more_like_this(page, gallery):
    press(page, SENTENCE, Keys.ENTER)
    found = gallery.search(SENTENCE, clothing_weight=0.6, k=12)
    until(lambda: shows(page, found))
    tab_to(page, "Thumbnail 3 of 12")
    press(page, Keys.ENTER)
    until(lambda: found[2].image_id in opened(page))
    page.find_element("tag name", "textarea").click()
    tab_to(page, "More like this")
    press(page, Keys.ENTER)
    until(lambda: shows(page, gallery.search(like=found[2].image_id, clothing_weight=0.6, k=12)))
    until(lambda: not opened(page))
    page.find_element("tag name", "textarea").click()
    tab_to(page, "range slider for Clothing weight")
    press(page, Keys.HOME)
    until(lambda: shows(page, gallery.search(like=found[2].image_id, clothing_weight=0, k=12)))
    tab_to(page, "Clear the example")
    press(page, Keys.ENTER)
    until(lambda: shows(page, gallery.search(SENTENCE, clothing_weight=0, k=12)))
    assert not toasts(page)


def test_an_uploaded_example(page, gallery, place, tmp_path):
    file = place / "images/camera 0/04.png"
    upload = page.find_element("css selector", "input[type=file]")
    upload.send_keys(str(file))
    until(lambda: shows(page, gallery.search(like=Image.open(file).convert("RGB"), clothing_weight=0.6, k=12)))
    assert captions(page)[0] == caption(gallery.search(like=Image.open(file).convert("RGB"), k=1)[0])
    (tmp_path / "words.png").write_text(HACK)
    upload.send_keys(str(tmp_path / "words.png"))
    until(lambda: any("The image cannot be read (it is no image)" in toast for toast in toasts(page)))
    (tmp_path / "large.png").write_bytes(bytes(11 << 20))
    upload.send_keys(str(tmp_path / "large.png"))
    until(lambda: any("exceed the maximum allowed size of 10.0 Mb" in toast for toast in toasts(page)))


def test_person_and_clothes_apart_and_filtered(page, gallery):
    tab_to(page, "Person and clothes apart")
    press(page, Keys.ENTER)
    tab_to(page, "textarea")
    press(page, SENTENCES[0], Keys.ENTER)
    until(lambda: any("With a clothing weight of 0.6, say what they wear, too." in toast for toast in toasts(page)))
    press(page, Keys.TAB)
    press(page, SENTENCES[2], Keys.ENTER)
    halves = {"identity": SENTENCES[0], "clothing": SENTENCES[2], "clothing_weight": 0.6, "k": 12}
    until(lambda: shows(page, gallery.search(**halves)))
    tab_to(page, "Filters")
    press(page, Keys.ENTER)
    tab_to(page, "folder")
    press(page, "camera 1", Keys.ENTER)
    until(lambda: shows(page, gallery.search(**halves, filter={"folder": "camera 1"})))


def test_nothing_hostile_is_rendered(page, gallery):
    """Neither what is typed nor what a file is called; and an image that is gone is shown to be."""
    text = f"{SENTENCE} {HACK}"
    press(page, text, Keys.ENTER)
    until(lambda: shows(page, gallery.search(text, clothing_weight=0.6, k=12)))
    tab_to(page, "range slider for Images")
    press(page, Keys.END)
    everything = gallery.search(text, clothing_weight=0.6, k=60)
    until(lambda: shows(page, everything))
    assert page.title == "Find a person" and not page.find_elements("css selector", "img[src=x]")
    images = "const images = [...document.querySelectorAll('#results .thumbnail-item img')]; "
    widths = images + "return images.map(each => each.naturalWidth)"
    # They load where one scrolls.
    scroll = images + "images.find(each => !each.naturalWidth)?.scrollIntoView()"
    until(lambda: page.execute_script(scroll) or all(page.execute_script(widths)))
    gone = [width == 160 for width in page.execute_script(widths)]
    assert gone == [hit.image_id == "camera 1/07.png" for hit in everything]


def test_words_that_are_lost_are_told(page):
    press(page, f"{SENTENCE} xqzt", Keys.ENTER)
    until(lambda: captions(page) and any('The model does not know: "xqzt".' in toast for toast in toasts(page)))


def test_nothing_hostile_is_rendered_in_messages(page):
    press(page, HACK, Keys.ENTER)
    until(lambda: any(f'knows no word of the sentence "{HACK[:9]}' in toast for toast in toasts(page)))
    assert page.title == "Find a person" and not page.find_elements("css selector", "img[src=x]")


def test_what_is_empty_or_too_much_is_told(page, gallery):
    assert page.switch_to.active_element.get_attribute("maxlength") == "1000"
    press(page, Keys.ENTER)
    until(lambda: any("Say whom you look for." in toast for toast in toasts(page)))
    press(page, SENTENCE, Keys.ENTER)
    until(lambda: captions(page))
    tab_to(page, "number input for Clothing weight")
    press(page, Keys.CONTROL, "a", Keys.NULL, Keys.DELETE)
    press(page, "7")
    until(lambda: any("`clothing_weight` must lie in [0, 1], got 7." in toast for toast in toasts(page)))
    press(page, Keys.TAB)
    until(lambda: shows(page, gallery.search(SENTENCE, clothing_weight=1, k=12)))


def test_the_page_needs_nobody_else(page, url):
    press(page, SENTENCE, Keys.ENTER)
    until(lambda: captions(page))
    loaded = page.execute_script("return performance.getEntriesByType('resource').map(each => each.name)")
    assert loaded and [name for name in loaded if not name.startswith((url, "data:", "blob:"))] == []
