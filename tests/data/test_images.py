import base64
import io
import logging
import os
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import ExifTags, Image

from bdam.data.images import ImageError, MissingImageError, find_image, list_images, open_image
from bdam.mllm.images import image_url


# Brighter to the right and down to a white corner, so that every way to turn it shows.
RAMP = 4 * np.arange(32) + 2 * np.arange(64)[:, None]
GRAY = Image.fromarray(np.where(RAMP > 240, 255, RAMP).astype(np.uint8))
# What a camera that is held in each way takes of an upright scene.
TURNS = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


def encode(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def turned(orientation: int, kind: str, **options) -> bytes:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    turn = TURNS[orientation]
    lying = GRAY.convert("RGB") if turn is None else GRAY.convert("RGB").transpose(turn)
    return encode(lying, kind, exif=exif, **options)


def cut_out() -> Image.Image:
    """A gradient on red that cannot be seen: it is transparent."""
    values = np.asarray(GRAY)
    red = np.where(values[..., None] == 255, (255, 0, 0), values[..., None]).astype(np.uint8)
    return Image.fromarray(np.concatenate([red, np.where(values == 255, 0, 255)[..., None].astype(np.uint8)], axis=2))


def in_16_bits() -> Image.Image:
    return Image.fromarray(np.asarray(GRAY).astype(np.uint16) * 257)


# One image, saved in many ways.
WAYS = {
    **{f"EXIF orientation {number}": turned(number, "JPEG", quality=100) for number in TURNS},
    **{f"{kind} turned": turned(6, kind) for kind in ("PNG", "TIFF")},
    "RGBA": encode(cut_out()),
    "gray with alpha": encode(cut_out().convert("LA")),
    "WebP with alpha": encode(cut_out(), "WEBP", lossless=True),
    "palette": encode(GRAY.convert("P")),
    "palette with transparency": encode(GRAY, "GIF", transparency=255),
    "16-bit gray PNG": encode(in_16_bits()),
    "16-bit gray TIFF": encode(in_16_bits(), "TIFF"),
    "16-bit PGM": encode(in_16_bits(), "PPM"),
    "32-bit gray": encode(Image.fromarray(np.asarray(GRAY).astype(np.int32) * 257), "TIFF"),
    "floats": encode(Image.fromarray(np.asarray(GRAY).astype(np.float32) / 255), "TIFF"),
    "CMYK JPEG": encode(GRAY.convert("RGB").convert("CMYK"), "JPEG", quality=100),
    "CMYK TIFF": encode(GRAY.convert("RGB").convert("CMYK"), "TIFF"),
    "animation": encode(GRAY, "GIF", save_all=True, append_images=[Image.new("L", GRAY.size)]),
}


@pytest.mark.parametrize("way", WAYS)
def test_an_image_is_the_same_however_it_was_saved(way):
    image = open_image(io.BytesIO(WAYS[way]))
    assert image.mode == "RGB" and image.size == GRAY.size
    difference = np.abs(np.asarray(image).astype(int) - np.asarray(GRAY.convert("RGB")).astype(int))
    assert difference.mean() < 1, way


@pytest.mark.parametrize("way", ["EXIF orientation 6", "RGBA", "16-bit gray PNG", "CMYK JPEG"])
def test_what_is_sent_to_a_server_is_what_is_opened_here(way, tmp_path):
    (tmp_path / "image.jpg").write_bytes(WAYS[way])
    sent = image_url(tmp_path / "image.jpg").partition(",")[2]
    with Image.open(io.BytesIO(base64.b64decode(sent))) as image:
        assert image.mode == "RGB" and image.getexif() == {}
        difference = np.abs(np.asarray(image).astype(int) - np.asarray(GRAY.convert("RGB")).astype(int))
    assert difference.mean() < 3


def test_a_plain_jpeg_is_sent_as_it_is(tmp_path):
    (tmp_path / "image.jpg").write_bytes(turned(1, "JPEG"))
    sent = image_url(tmp_path / "image.jpg").partition(",")[2]
    assert base64.b64decode(sent) == turned(1, "JPEG")


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_broken_exif_data_do_no_harm():
    content = encode(GRAY.convert("RGB"), "JPEG", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff")
    assert open_image(io.BytesIO(content)).size == GRAY.size


@pytest.mark.parametrize(
    "content, reason",
    [
        (b"", "it is no image"),
        (b"<html>no</html>", "it is no image"),
        (b"version https://git-lfs.github.com/spec/v1\n", "it is no image"),
        (encode(GRAY)[:60], "truncated|broken|Truncated"),
        (encode(GRAY, "JPEG")[:300], "truncated|Truncated"),
        (encode(GRAY, "TIFF")[:300], "."),
        (encode(Image.new("1", (20_000, 10_000))), "it has over 89,478,485 pixels"),
        (encode(Image.new("1", (9_500, 9_500))), "it has over 89,478,485 pixels"),
    ],
)
def test_what_cannot_be_read_is_one_error(content, reason, tmp_path):
    path = tmp_path / "image.png"
    path.write_bytes(content)
    with pytest.raises(ImageError, match=rf"{path} cannot be read \(.*({reason}).*\): \w+"):
        open_image(path)


def test_what_is_not_there_is_one_error(tmp_path):
    (tmp_path / "folder.png").mkdir()
    for path in (tmp_path / "folder.png", tmp_path / ("a" * 300 + ".png"), Path("nul\0.png")):
        with pytest.raises(ImageError, match="cannot be read"):
            open_image(path)
    with pytest.raises(MissingImageError, match=r"no.png cannot be read \(there is no such file\): restore"):
        open_image(tmp_path / "no.png")


@pytest.mark.filterwarnings("ignore")
@settings(derandomize=True, deadline=None, max_examples=300, suppress_health_check=[HealthCheck.data_too_large])
@given(
    way=st.sampled_from(sorted(WAYS)),
    changes=st.lists(st.tuples(st.integers(0, 4000), st.integers(0, 255)), max_size=12),
    cut=st.integers(0, 4000) | st.none(),
    head=st.binary(max_size=8),
)
def test_any_bytes_are_an_image_or_one_clear_error(way, changes, cut, head):
    content = bytearray(WAYS[way][:cut])
    content[: len(head)] = head if len(head) > 4 else content[: len(head)]
    for place, value in changes:
        if content:
            content[place % len(content)] = value
    try:
        image = open_image(io.BytesIO(bytes(content)))
    except ImageError as error:
        assert str(error).startswith("The image cannot be read (") and error.reason
    else:
        assert image.mode == "RGB" and min(image.size) > 0


def test_what_pillow_reads_is_taken_and_the_rest_is_counted(tmp_path, caplog):
    kinds = ["jpg", "jpeg", "jfif", "png", "webp", "bmp", "tiff", "tif", "gif", "jp2", "ppm", "tga", "PNG"]
    kinds += ["avif"] * (".avif" in Image.registered_extensions())  # which older versions of Pillow do not write
    for kind in kinds:
        GRAY.convert("RGB").save(tmp_path / f"{kind}-image.{kind}")
    (tmp_path / "notes.txt").touch()
    (tmp_path / "film.mpg").touch()
    (tmp_path / "._icon.png").touch()
    (tmp_path / ".thumbnails").mkdir()
    (tmp_path / ".thumbnails/small.png").touch()
    (tmp_path / "lost.png").symlink_to(tmp_path / "nowhere.png")
    os.mkfifo(tmp_path / "pipe.png")
    latin = os.path.join(os.fsencode(tmp_path), b"caf\xe9.png")
    Path(os.fsdecode(latin)).write_bytes(encode(GRAY))
    with caplog.at_level(logging.WARNING):
        found = list_images(tmp_path)
    assert sorted(path.name for path in found) == sorted(f"{kind}-image.{kind}" for kind in kinds)
    assert all(open_image(path).size == GRAY.size for path in found)
    (message,) = caplog.messages
    for part in (
        "files that are no images by their extension: 2 (film.mpg, notes.txt)",
        "hidden files: 1 (._icon.png)",
        "hidden folders: 1 (.thumbnails)",
        "links to nothing: 1 (lost.png)",
        "special files: 1 (pipe.png)",
        "files whose name is not UTF-8: 1 (caf?.png)",
    ):
        assert part in message


def test_links_are_followed_without_loops(tmp_path, caplog):
    outside, inside = tmp_path / "outside", tmp_path / "inside"
    for folder in (outside / "deep", inside / "day 1"):
        folder.mkdir(parents=True)
        GRAY.save(folder / "1.png")
    (inside / "linked").symlink_to(outside)
    (inside / "again").symlink_to(outside)
    (inside / "day 1/up").symlink_to(inside)
    (outside / "deep/self").symlink_to(outside / "deep")
    (inside / "file.png").symlink_to(outside / "deep/1.png")
    names = [path.relative_to(inside).as_posix() for path in list_images(inside)]
    assert names == ["again/deep/1.png", "day 1/1.png", "file.png"]
    assert "links to folders in it" in caplog.text


def test_a_folder_without_images_says_what_it_holds(tmp_path):
    with pytest.raises(FileNotFoundError, match="No images in .*: give a folder with some, such as JPEG or PNG.$"):
        list_images(tmp_path)
    (tmp_path / "a.heic").touch()
    with pytest.raises(FileNotFoundError, match="It holds files that are no images by their extension: 1 .a.heic."):
        list_images(tmp_path)


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_a_name_is_found_however_it_is_spelled(tmp_path, form):
    folder = tmp_path / unicodedata.normalize(form, "Café") / "é"
    folder.mkdir(parents=True)
    GRAY.save(folder / unicodedata.normalize(form, "Zoë.png"))
    for other in ("NFC", "NFD"):
        for name in ("Zoë.png", "Zoë.PNG"):
            asked = tmp_path / unicodedata.normalize(other, "Café") / "é" / unicodedata.normalize(other, name)
            assert open_image(asked).size == GRAY.size, (other, name)
    missing = tmp_path / "Café/Zoé.png"
    assert find_image(missing) == missing
