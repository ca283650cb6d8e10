import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from accelerate import Accelerator, debug_launcher
from datasets import Dataset, load_dataset
from PIL import Image
from processes import environment
from tiny import COLOURS, SENTENCES, tiny_model

from bdam.retrieval.embedder import Embedder
from bdam.retrieval.gallery import Gallery
from bdam.retrieval.sources import open_source
from bdam.retrieval.stores.base import Span
from bdam.retrieval.stores.columns import list_choices


def data_set(**columns) -> Dataset:
    return Dataset.from_dict({"image": [Image.new("RGB", (16, 32), colour) for colour in COLOURS], **columns})


def names(hits) -> list[str]:
    return [hit.image_id for hit in hits]


@pytest.mark.parametrize("clothing_weight", [0.0, 0.4, 1.0])
def test_scores_are_the_mix_of_both_streams(embedder, processor, clothing_weight):
    model = embedder.model
    rows = data_set(image_id=list(COLOURS))
    hits = Gallery.from_images(embedder, rows).search(SENTENCES[0], clothing_weight=clothing_weight, k=3)
    with torch.inference_mode():
        inputs = processor(images=list(rows["image"]), return_tensors="pt")
        query = processor(text=SENTENCES[0], return_tensors="pt")
        identity = model.get_image_features(**inputs).pooler_output @ model.get_text_features(**query).pooler_output[0]
        clothing_query = model.get_clothing_text_features(**query).pooler_output[0]
        clothing = model.get_clothing_image_features(**inputs).pooler_output @ clothing_query
    scores, places = ((1 - clothing_weight) * identity + clothing_weight * clothing).topk(3)
    assert names(hits) == [COLOURS[place] for place in places]
    assert [hit.score for hit in hits] == pytest.approx(scores.tolist(), abs=1e-5)
    of_identity = (1 - clothing_weight) * identity[places]
    assert [hit.identity for hit in hits] == pytest.approx(of_identity.tolist(), abs=1e-5)


def test_each_half_can_be_asked_for_by_itself(embedder, images):
    gallery = Gallery.from_images(embedder, images)
    person, clothes = SENTENCES[0], SENTENCES[2]
    assert gallery.search(identity=person) == gallery.search(person, clothing_weight=0)
    assert gallery.search(clothing=clothes) == gallery.search(clothes, clothing_weight=1)
    assert gallery.search(identity=person, clothing=clothes) == gallery.search(clothes, identity=person)
    assert gallery.search(person) == gallery.search(person, clothing_weight=0.4)  # the model's own


def test_an_example_finds_those_like_it(embedder, images):
    gallery = Gallery.from_images(embedder, images)
    by_name = gallery.search(like="camera0/red.png", k=10)
    by_image = gallery.search(like=Image.open(images / "camera0/red.png"), k=10)
    assert "camera0/red.png" not in names(by_name) and len(by_name) == 5
    assert names(by_image) == ["camera0/red.png", *names(by_name)]
    dressed = names(gallery.search(like="camera0/red.png", clothing=SENTENCES[2], clothing_weight=1))
    assert dressed == [name for name in names(gallery.search(clothing=SENTENCES[2])) if name != "camera0/red.png"]


def test_filters_leave_the_rest_out(embedder, images):
    gallery = Gallery.from_images(embedder, images)
    hits = gallery.search(SENTENCES[0], filter={"folder": "camera1"})
    assert {hit.row["folder"] for hit in hits} == {"camera1"} and len(hits) == 3
    assert len(gallery.search(SENTENCES[0], filter={"folder": ["camera0", "camera1"]})) == 6
    assert gallery.search(SENTENCES[0], filter={"folder": "nowhere"}) == []
    assert gallery.store.choices() == {"folder": ["camera0", "camera1"]}


def test_one_hit_per_value_of_a_column(embedder):
    rows = data_set(track=["a", "a", "b", None, "b", None], time=[0.5, 1.5, 2.5, 3.5, 4.5, 5.5])
    gallery = Gallery.from_images(embedder, rows)
    everything = gallery.search(SENTENCES[0], k=6)
    hits = gallery.search(SENTENCES[0], k=6, one_per="track")
    tracks = [hit.row["track"] for hit in everything]
    assert hits == [hit for i, hit in enumerate(everything) if tracks[i] is None or tracks[i] not in tracks[:i]]
    assert gallery.search(SENTENCES[0], k=2, one_per="track") == hits[:2]
    assert hits[0].image_id not in names(gallery.search(like=hits[0].image_id, k=6, one_per="track"))
    early = gallery.search(SENTENCES[0], filter={"time": Span(end=2.5)}, one_per="track")
    assert {hit.row["track"] for hit in early} == {"a", "b"} and len(early) == 2
    with pytest.raises(ValueError, match="Nothing to filter by is called 'shelf'"):
        gallery.search(SENTENCES[0], one_per="shelf")


def test_times_are_offered_as_a_span():
    rows = pa.table({"time": [step / 10 for step in range(60)], "person_id": [*range(60)], "camera": ["a", "b"] * 30})
    assert list_choices(rows) == {"time": Span(0.0, 5.9), "camera": ["a", "b"]}


def test_columns_of_a_data_set_can_be_filtered_by(embedder):
    rows = data_set(person_id=[1, 1, 2, 2, 3, 3], captions=[["a"]] * 6, identity_description=["a"] * 6)
    gallery = Gallery.from_images(embedder, rows)
    hits = gallery.search(SENTENCES[0], filter={"person_id": [2, 3]})
    assert len(hits) == 4 and {hit.row["person_id"] for hit in hits} == {2, 3}
    assert gallery.image(hits[0].image_id).size == (16, 32)


@pytest.mark.parametrize(
    "options, message",
    [
        ({}, "Say whom you look for"),
        ({"text": " "}, "The sentence is empty"),
        ({"text": "A man.", "like": "camera0/red.png"}, "either `text` or `like`"),
        ({"text": "A man.", "clothing_weight": 2}, r"`clothing_weight` must lie in \[0, 1\], got 2"),
        ({"identity": "A man.", "clothing_weight": 0.5}, "say what they wear"),
        ({"clothing": "A coat.", "clothing_weight": 0.5}, "say who they are"),
        ({"like": "camera0/grey.png"}, "No image of the gallery is named 'camera0/grey.png'"),
        ({"text": "A man.", "filter": {"folder": Span(1)}}, "'folder' holds string, which has no span"),
        ({"text": "A man.", "filter": {"shelf": 1}}, "Nothing to filter by is called 'shelf': there is folder"),
        ({"text": "A man.", "filter": {"folder": [1, "a"]}}, "'folder' holds string"),
    ],
)
def test_what_cannot_be_searched_for_is_said(embedder, images, options, message):
    gallery = Gallery.from_images(embedder, images)
    with pytest.raises(ValueError, match=message):
        gallery.search(**options)


def test_descriptions_are_fused_with_the_images_that_have_one(embedder, images):
    alone = Gallery.from_images(embedder, images)
    described = Gallery.from_images(embedder, images, {"camera0/red.png": SENTENCES[0]})
    known = list(alone.store.states())
    entries = zip(alone.store.find(known), described.store.find(known), strict=True)
    changed = [one.image_id for one, other in entries if not torch.allclose(one.vector, other.vector, atol=1e-5)]
    assert changed == ["camera0/red.png"]


def test_a_gallery_is_kept_and_read_again(checkpoint, embedder, images, tmp_path):
    made = Gallery.from_images(embedder, images, uri=tmp_path / "gallery")
    read = Gallery.load(tmp_path / "gallery")
    assert read.search(SENTENCES[0]) == made.search(SENTENCES[0]) and len(read) == 6
    assert read.image("camera0/red.png").getpixel((0, 0)) == (255, 0, 0)
    in_memory = Gallery.from_images(embedder, data_set(image_id=list(COLOURS)))
    in_memory.save(tmp_path / "copy")
    copy = Gallery.load(tmp_path / "copy", embedder)
    assert copy.search(SENTENCES[0]) == in_memory.search(SENTENCES[0])
    assert copy.image("red").getpixel((0, 0)) == (255, 0, 0)


def test_the_files_of_a_gallery_are_a_data_set(embedder, tmp_path):
    Gallery.from_images(embedder, data_set(image_id=list(COLOURS)), uri=tmp_path / "gallery")
    rows = load_dataset(
        "parquet", data_files=f"{tmp_path}/gallery/*.parquet", split="train", cache_dir=str(tmp_path / "cache")
    )
    assert rows["image_id"][:] == list(COLOURS) and rows[0]["image"].getpixel((0, 0)) == (255, 0, 0)
    assert len(rows[0]["vector"]) == embedder.space.identity_size + embedder.space.clothing_size


def test_only_what_is_new_or_changed_is_embedded(embedder, images, tmp_path):
    gallery = Gallery.from_images(embedder, images, uri=tmp_path / "gallery")
    before = gallery.search(SENTENCES[0])
    assert gallery.add(images).added == 0
    Image.new("RGB", (16, 32), "pink").save(images / "camera0/pink.png")
    Image.new("RGB", (16, 32), "purple").save(images / "camera0/red.png")
    assert gallery.add(images).added == 2
    for after in (gallery, Gallery.load(tmp_path / "gallery", embedder)):
        assert len(after) == 7 and len(after.search(SENTENCES[0])) == 7
        assert after.image("camera0/red.png").getpixel((0, 0)) == (128, 0, 128)
        assert after.search(SENTENCES[0]) != before


def test_two_images_of_one_name_are_told_apart(embedder, images, tmp_path):
    (images / "camera1/red.png").write_bytes((images / "camera1/navy.png").read_bytes())
    gallery = Gallery.from_images(embedder, images / "camera0", uri=tmp_path / "gallery")
    before = gallery.search(SENTENCES[0])
    with pytest.raises(ValueError, match="Both .*0/red.png and .*1/red.png are named red.png: index a folder"):
        gallery.add(images / "camera1")
    assert gallery.search(SENTENCES[0]) == before
    (images / "camera0/red.png").rename(images / "camera0/moved.png")
    assert gallery.add(images / "camera1").added == 4


def test_what_is_removed_is_found_no_more(embedder, images, tmp_path):
    gallery = Gallery.from_images(embedder, images, uri=tmp_path / "gallery")
    gallery.remove(["camera0/red.png"])
    (images / "camera1/navy.png").unlink()
    with pytest.raises(FileNotFoundError, match="navy.png is gone since it was indexed"):
        gallery.image("camera1/navy.png")
    assert gallery.find_deleted(open_source(images)) == ["camera1/navy.png"]
    gallery.remove(["camera1/navy.png"])
    for after in (gallery, Gallery.load(tmp_path / "gallery", embedder)):
        assert len(after) == 4
        assert not {"camera0/red.png", "camera1/navy.png"} & set(names(after.search(SENTENCES[0])))
    gallery.remove(list(gallery.store.states()))
    assert len(gallery) == 0 and gallery.search(SENTENCES[0]) == []


def test_galleries_are_joined_without_embedding_anew(embedder, images, tmp_path):
    whole = Gallery.from_images(embedder, images, uri=tmp_path / "whole")
    joined = Gallery.from_images(embedder, images / "camera0", uri=tmp_path / "joined")
    assert joined.add(tmp_path / "whole").added == 6
    assert len(joined) == 9 and len(Gallery.load(tmp_path / "joined", embedder)) == 9
    assert joined.add(tmp_path / "whole").added == 0
    assert {hit.image_id: hit.score for hit in whole.search(SENTENCES[0])}.items() <= {
        hit.image_id: hit.score for hit in joined.search(SENTENCES[0])
    }.items()


def test_vectors_of_other_weights_are_refused(processor, embedder, images, tmp_path):
    Gallery.from_images(embedder, images, uri=tmp_path / "gallery")
    tiny_model(seed=1).save_pretrained(tmp_path / "other")
    processor.save_pretrained(tmp_path / "other")
    other = Embedder(tmp_path / "other")
    for do in (
        lambda: Gallery.load(tmp_path / "gallery", other),
        lambda: Gallery.from_images(other, images, uri=tmp_path / "gallery"),
        lambda: Gallery.from_images(other, tmp_path / "gallery"),
    ):
        with pytest.raises(ValueError, match=f"holds vectors .* do not compare with those of {tmp_path}/other"):
            do()


def test_a_gallery_outlives_the_place_of_its_model(checkpoint, images, tmp_path):
    shutil.copytree(checkpoint, tmp_path / "model")
    Gallery.from_images(tmp_path / "model", images, uri=tmp_path / "gallery")
    (tmp_path / "model").rename(tmp_path / "moved")
    with pytest.raises(FileNotFoundError, match="No model at .*gallery was made with it; if it has moved, give"):
        Gallery.load(tmp_path / "gallery")
    assert len(Gallery.load(tmp_path / "gallery", tmp_path / "moved").search(SENTENCES[0])) == 6


def test_damaged_files_are_named_and_mended(embedder, images, tmp_path):
    folder = tmp_path / "gallery"
    gallery = Gallery.from_images(embedder, images / "camera0", uri=folder)
    gallery.add(images)
    expected = gallery.search(SENTENCES[0])
    part = sorted(folder.glob("part-*"))[0]
    part.write_bytes(part.read_bytes()[:-100])
    with pytest.raises(ValueError, match=f"{part.name} is damaged .* delete it, then index again"):
        Gallery.load(folder, embedder)
    part.unlink()
    mended = Gallery.from_images(embedder, images / "camera0", uri=folder)
    assert {hit.image_id for hit in mended.search(SENTENCES[0])} == {hit.image_id for hit in expected}
    (folder / "gallery.json").write_text("{")
    with pytest.raises(ValueError, match="gallery.json is damaged"):
        Gallery.load(folder, embedder)
    with pytest.raises(FileNotFoundError, match="No gallery at .*nowhere: make one with `bdam index"):
        Gallery.load(tmp_path / "nowhere", embedder)


INDEX = """
import sys
from bdam.encoding import extraction
from bdam.retrieval.gallery import Gallery
from bdam.retrieval.embedder import Embedder
extraction.BATCHES_PER_CHUNK = 1
Gallery.from_images(Embedder(sys.argv[1], batch_size=4), sys.argv[2], uri=sys.argv[3])
"""


def test_a_killed_run_goes_on(checkpoint, embedder, tmp_path):
    (tmp_path / "images").mkdir()
    for place in range(1500):
        Image.new("RGB", (16, 32), (place % 256, place // 256, 0)).save(tmp_path / "images" / f"{place}.png")
    folder = tmp_path / "gallery"
    command = [sys.executable, "-c", INDEX, str(checkpoint), str(tmp_path / "images"), str(folder)]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as run:
        while len(list(folder.glob("part-*.parquet"))) < 3 and run.poll() is None:
            time.sleep(0.02)
        run.send_signal(signal.SIGKILL)
    kept = Gallery.load(folder, embedder)
    before = kept.store.states()
    assert 0 < len(kept) < 1500
    assert kept.add(tmp_path / "images").added == 1500 - len(before)
    stored = np.concatenate([pq.read_table(path)["image_id"].to_numpy() for path in folder.glob("part-*.parquet")])
    assert sorted(stored) == sorted(f"{place}.png" for place in range(1500))


def test_two_processes_index_what_one_does(checkpoint, embedder, images, tmp_path):
    folder = tmp_path / "gallery"
    Gallery.from_images(embedder, images, uri=folder)
    Image.new("RGB", (16, 32), "purple").save(images / "camera0/red.png")
    Image.new("RGB", (16, 32), "pink").save(images / "camera0/pink.png")
    command = [sys.executable, __file__, str(checkpoint), str(images), str(folder)]
    run = subprocess.run(command, env=environment(), capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    shared, alone = Gallery.load(folder, embedder), Gallery.from_images(embedder, images)
    assert len(shared) == 7
    for hit, expected in zip(shared.search(SENTENCES[0]), alone.search(SENTENCES[0]), strict=True):
        assert hit.image_id == expected.image_id and hit.score == pytest.approx(expected.score, abs=1e-6)


def test_an_approximate_search_is_nearly_exact_and_kept(embedder, images, tmp_path):
    pytest.importorskip("faiss")
    exact = Gallery.from_images(embedder, images, uri=tmp_path / "gallery")
    approximate = Gallery.load(tmp_path / "gallery", embedder, index="hnsw")
    assert names(approximate.search(SENTENCES[0])) == names(exact.search(SENTENCES[0]))
    filters = {"folder": "camera1"}
    assert approximate.search(SENTENCES[0], filter=filters) == exact.search(SENTENCES[0], filter=filters)
    assert approximate.measure_recall(k=3) == {0.0: 1.0, 0.4: 1.0, 1.0: 1.0}
    (graph,) = (tmp_path / "gallery").glob("index-HNSW32-*.faiss")
    written = graph.stat().st_mtime_ns
    Gallery.load(tmp_path / "gallery", embedder, index="hnsw").search(SENTENCES[0])
    assert graph.stat().st_mtime_ns == written
    exact.remove(["camera0/red.png"])
    Gallery.load(tmp_path / "gallery", embedder, index="hnsw").search(SENTENCES[0])
    assert not graph.exists() and len(list((tmp_path / "gallery").glob("index-HNSW32-*.faiss"))) == 1


def test_a_model_without_clothing_stream_searches_by_identity(processor, images, tmp_path):
    tiny_model(use_bdam=False).save_pretrained(tmp_path / "model")
    processor.save_pretrained(tmp_path / "model")
    gallery = Gallery.from_images(tmp_path / "model", images)
    hits = gallery.search(SENTENCES[0])
    assert len(hits) == 6 and all(hit.clothing == 0 and hit.score == hit.identity for hit in hits)


def test_folders_and_data_sets_that_hold_no_images_are_refused(embedder, tmp_path):
    with pytest.raises(FileNotFoundError, match="Nothing at"):
        Gallery.from_images(embedder, tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match="No images in"):
        Gallery.from_images(embedder, tmp_path)
    with pytest.raises(ValueError, match="the data set has no images: it needs rows, and a column `image`"):
        Gallery.from_images(embedder, Dataset.from_dict({"caption": ["a"]}))
    with pytest.raises(ValueError, match="the data set: two images are named a"):
        Gallery.from_images(embedder, data_set(image_id=["a"] * 6))


def index(checkpoint: str, source: str, place: str) -> None:
    """What each of two processes runs."""
    Accelerator(cpu=True)
    Gallery.from_images(checkpoint, source, uri=place)


if __name__ == "__main__":
    debug_launcher(index, args=tuple(sys.argv[1:]), num_processes=2)
