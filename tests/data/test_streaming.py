"""A corpus as a stream: each row once, in an order that nothing but the seed decides."""

import io
import json
import tarfile
from collections import Counter
from itertools import islice
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from bdam.data import streaming
from bdam.data.corpora import open_corpus
from bdam.data.streaming import Position, StreamedBatches, StreamedRows


def picture() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (4, 8), "red").save(file, "PNG")
    return file.getvalue()


def save_webperson(root: Path, counts: list[int], **columns: list) -> str:
    """A corpus in the layout of WebPerson: parquet files with two captions for each image."""
    (root / "data").mkdir(parents=True)
    number = iter(range(sum(counts)))
    for shard, count in enumerate(counts):
        names = [f"{next(number):03}.png" for _ in range(count)]
        images = pa.array([{"bytes": picture(), "path": name} for name in names])
        captions = {f"caption{i}": [f"{name}, caption {i}." for name in names] for i in (1, 2)}
        table = pa.table({"image": images, "image_path": names, **captions, **columns})
        pq.write_table(table, root / f"data/train-{shard:05}-of-{len(counts):05}.parquet")
    return f"webperson:{root}"


@pytest.fixture
def corpus(tmp_path, monkeypatch):
    monkeypatch.setattr(streaming, "BLOCK", 7)
    return open_corpus(save_webperson(tmp_path, [10, 3, 9, 10]))


def names(rows: list[dict]) -> list[str]:
    return [row["image_id"] for row in rows]


START = Position()


def batches(corpus, seed: int = 0, part=(0, 1), **loading) -> StreamedBatches:
    return StreamedBatches(StreamedRows(corpus, 4, seed, START), names, part, steps=8, **loading)


def test_every_row_comes_once_per_pass_in_another_order(corpus):
    stream = batches(corpus)
    turns = [[name for batch in stream.epoch(epoch) for name in batch] for epoch in range(2)]
    everything = [f"{number:03}.png" for number in range(32)]
    assert [sorted(turn) for turn in turns] == [everything] * 2
    assert turns[0] != turns[1] and everything not in turns
    assert [list(batches(corpus, seed=seed).epoch(0)) for seed in (0, 0, 1)].count(list(batches(corpus).epoch(0))) == 2


@pytest.mark.parametrize("taken", [1, 5, 8, 11])
@pytest.mark.filterwarnings("ignore:This DataLoader will create 2 worker processes")  # where there is one core
@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_stream_goes_on_at_the_exact_row(corpus, taken, num_workers):
    unbroken = batches(corpus)
    expected = [batch for epoch in range(2) for batch in unbroken.epoch(epoch)]
    stopped = batches(corpus, num_workers=num_workers)
    found = list(islice((batch for epoch in range(2) for batch in stopped.epoch(epoch)), taken))
    resumed = batches(corpus, num_workers=num_workers)
    resumed.load_state_dict(json.loads(json.dumps(stopped.state_dict())))
    epoch, start = divmod(taken, 8)
    found += list(resumed.epoch(epoch, start))
    found += [batch for later in range(epoch + 1, 2) for batch in resumed.epoch(later)]
    assert found == expected


def test_processes_share_each_batch(corpus):
    whole = list(batches(corpus).epoch(0))
    parts = [list(batches(corpus, part=(index, 2)).epoch(0)) for index in range(2)]
    assert [first + second for first, second in zip(*parts, strict=True)] == whole


def test_nobody_known_is_somebody_else(corpus):
    _, rows = next(iter(StreamedRows(corpus, 4, 0, START)))
    assert len({row["person_id"] for row in rows}) == len({row["seed"] for row in rows}) == 4
    assert all(row["captions"] == [f"{row['image_id']}, caption {i}." for i in (1, 2)] for row in rows)


def test_a_corpus_that_fills_no_batch_is_refused(tmp_path):
    corpus = open_corpus(save_webperson(tmp_path, [2, 1]))
    with pytest.raises(ValueError, match="has fewer than 4 images: lower the batch size"):
        list(batches(corpus).epoch(0))


def records(**changes) -> list[dict]:
    record = {"image": "a/1.png", "caption": "A man.", "image_id": 5, "label": [1, 0]}
    return [{**record, **changes}, {**record, "image": "a/2.png"}]


SYNCPR = {
    **{"reference_image_path": "a/1.png", "reference_caption": "A man in red.", "cpr_id": 7},
    **{"target_image_path": "a/2.png", "target_caption": "A man in blue.", "edit_caption": "In blue instead."},
}
LISTED = {
    "mals": ("gene_attrs/g_c_g_a_0_attrs.json", records(), [None, None]),
    "pab": ("annotation/train/attr_0.json", records(), [None, None]),
    "luperson-mllm": ("qwen_0.json", {"a/1.png": "A man.", "a/2.png": ["A man."]}, [None, None]),
    "synth-pedes": (
        "synthpedes_dataset.json",
        [{"id": 3, "file_path": f"a/{i}.png", "captions": ["A man."], "attributes": ["man"]} for i in (1, 2)],
        [3, 3],
    ),
    "syncpr": ("SynCPR.json", [SYNCPR], [7, 7]),
}


@pytest.mark.parametrize("name", LISTED)
def test_listed_corpora_are_read_in_their_published_layouts(tmp_path, name):
    file, content, persons = LISTED[name]
    (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / file).write_text(json.dumps(content))
    corpus = open_corpus(f"{name}:{tmp_path}")
    rows = list(corpus.read_shard(0))
    assert corpus.num_shards == 1 and names(rows) == ["a/1.png", "a/2.png"]
    assert [row["person_id"] for row in rows] == persons
    assert all(len(row["captions"]) == 1 and row["captions"][0].startswith("A man") for row in rows)
    assert rows[0]["image"] == {"bytes": None, "path": f"{tmp_path}/a/1.png"}


def test_tar_files_and_own_parquet_files_are_read(tmp_path):
    (tmp_path / "tar").mkdir()
    with tarfile.open(tmp_path / "tar/0.tar", "w") as shard:
        members = {"a/1.png": picture(), "a/1.txt": b"A man.", "a/1.json": b'{"person_id": 9}'}
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            shard.addfile(info, io.BytesIO(data))
    (row,) = open_corpus(str(tmp_path / "tar")).read_shard(0)
    assert (row["image_id"], row["captions"], row["person_id"]) == ("a/1", ["A man."], 9)

    (tmp_path / "own").mkdir()
    columns = {"image": [{"bytes": picture(), "path": "1.png"}], "captions": [["A man.", "A boy."]], "person_id": [4]}
    pq.write_table(pa.table(columns), tmp_path / "own/0.parquet")
    (row,) = open_corpus(str(tmp_path / "own")).read_shard(0)
    assert (row["image_id"], row["captions"], row["person_id"]) == ("1.png", ["A man.", "A boy."], 4)


MALFORMED = {
    "no list": ("7", "attr_0.json is damaged"),
    "empty": ("", "attr_0.json is damaged"),
    "torn": (json.dumps(records())[:-30], "attr_0.json is damaged .*: download it again"),
    "no object": (json.dumps([*records(), 7]), "attr_0.json, record 3: must be an object, got 7"),
    "no image": (json.dumps(records(image=None)), "record 1: `image` or `file_name` .* is missing"),
    "outside": (json.dumps(records(image="../1.png")), "record 1: `image`: must lead from the image folder"),
    "a number": (json.dumps(records(image=5)), "record 1: `image`: .* valid string, got 5"),
    "no caption": (json.dumps(records(caption=None)), "record 1: `captions` or `caption` is missing"),
    "blank caption": (json.dumps(records(caption=" ")), r"record 1: `caption\[0\]`: .* at least 1 character"),
    "caption a number": (json.dumps(records(caption=3)), "record 1: `caption`: .* valid list"),
}


@pytest.mark.parametrize("content, message", MALFORMED.values(), ids=MALFORMED)
def test_a_malformed_corpus_is_one_clear_error(tmp_path, content, message):
    (tmp_path / "annotation/train").mkdir(parents=True)
    (tmp_path / "annotation/train/attr_0.json").write_text(content)
    with pytest.raises(ValueError, match=message):
        list(open_corpus(f"pab:{tmp_path}").read_shard(0))


def test_broken_and_foreign_shards_are_named(tmp_path):
    source = save_webperson(tmp_path / "web", [2])
    shard = tmp_path / "web/data/train-00000-of-00001.parquet"
    content = shard.read_bytes()
    shard.write_bytes(content[:100] + b"x" * 200 + content[300:])
    with pytest.raises(ValueError, match="webperson:.*cannot be read|webperson:.*must"):
        list(open_corpus(source).read_shard(0))
    pq.write_table(pa.table({"text": ["A man."]}), shard)
    with pytest.raises(ValueError, match="shard 0, row 1: none of the columns image, .* holds an image"):
        list(open_corpus(source).read_shard(0))
    with pytest.raises(FileNotFoundError, match="holds no data/train-"):
        open_corpus(f"webperson:{tmp_path}")
    for nowhere in (f"mals:{tmp_path}/nowhere", "laion:/data"):
        with pytest.raises(FileNotFoundError, match=f"No corpus at {nowhere}: give NAME:ROOT, where NAME is one of"):
            open_corpus(nowhere)


def test_a_person_known_by_name_is_one_person(tmp_path):
    (tmp_path / "own").mkdir()
    images = [{"bytes": picture(), "path": f"{number}.png"} for number in range(3)]
    people = {"person_id": ["anna", "bob", "anna"], "caption": ["She.", "He.", "She again."]}
    pq.write_table(pa.table({"image": images, **people}), tmp_path / "own/0.parquet")
    _, rows = next(iter(StreamedRows(open_corpus(str(tmp_path / "own")), 3, 0, START)))
    assert Counter(row["captions"][0][0] for row in rows) == {"S": 2, "H": 1}
    assert len({row["person_id"] for row in rows}) == 2
