"""Frames are sampled by their times, whatever is wrong with the file."""

import socket
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from bdam.data.images import ImageError
from bdam.footage.files import list_footage
from bdam.footage.frames import Frame, Video, open_frames
from bdam.footage.placing import show_in_frame


def write(path: Path, times: Sequence[float], codec: str = "libx264", size: tuple[int, int] = (64, 48)) -> Path:
    """A video with frames at these seconds; the n-th has a gray level of 4 n, and noise that fills the file."""
    random = np.random.default_rng(0)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25, options={"g": "5", "bf": "0"})
        stream.width, stream.height = size
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        for number, time in enumerate(times):
            pixels = 4 * number + random.integers(0, 8, (size[1], size[0], 1))
            frame = av.VideoFrame.from_ndarray(np.repeat(pixels, 3, 2).clip(0, 255).astype(np.uint8))
            frame.pts, frame.time_base = round(1000 * time), Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def number_of(frame: Frame) -> int:
    """Which frame of [`write`] it is."""
    return round((np.asarray(frame.image()).mean() - 3.5) / 4)


EVEN = [number / 25 for number in range(50)]


def test_frames_of_a_regular_video_are_those_at_the_ticks(tmp_path):
    video = Video(write(tmp_path / "a.mp4", EVEN), rate=5)
    frames = list(video)
    assert [frame.time for frame in frames] == pytest.approx([number / 5 for number in range(10)])
    assert [number_of(frame) for frame in frames] == list(range(0, 50, 5))
    assert video.problem is None
    assert [frame.number for frame in video] == list(range(10))  # a second time


def test_frames_of_a_variable_rate_are_the_first_at_or_after_the_ticks(tmp_path):
    times = [0, 0.04, 0.9, 1.1, 1.5, 1.9, 2.0, 2.04, 6.5, 6.6, 7.2]
    frames = list(Video(write(tmp_path / "a.mkv", times), rate=1))
    assert [frame.time for frame in frames] == [0, 1.1, 2.0, 6.5, 7.2]
    assert [number_of(frame) for frame in frames] == [0, 3, 6, 8, 10]


def test_flipped_bytes_cost_some_frames_and_are_told(tmp_path):
    path = write(tmp_path / "a.mp4", EVEN, size=(320, 240))
    content = bytearray(path.read_bytes())
    random = np.random.default_rng(0)
    for place in random.integers(len(content) // 3, len(content) // 2, 200):
        content[place] ^= 0xFF
    path.write_bytes(content)
    video = Video(path, rate=25)
    times = [frame.time for frame in video]
    assert len(times) > 30 and times[-1] == EVEN[-1]
    assert "damaged" in video.problem


def test_the_end_that_is_missing_is_told(tmp_path):
    path = write(tmp_path / "a.mkv", [number / 5 for number in range(50)], size=(320, 240))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    video = Video(path, rate=5)
    assert 10 < len(list(video)) < 40
    assert "its last frame is at" in video.problem and "of 9.8 s" in video.problem


def test_times_go_on_where_the_clock_of_a_file_jumps_back(tmp_path):
    parts = [write(tmp_path / f"{name}.ts", EVEN).read_bytes() for name in "ab"]
    path = tmp_path / "joined.ts"
    path.write_bytes(b"".join(parts))
    times = [frame.time for frame in Video(path, rate=5)]
    assert times == sorted(times) and times[0] == 0 and len(times) == pytest.approx(20, abs=1)


def test_a_video_that_was_filmed_upright_is_upright(tmp_path):
    path = write(tmp_path / "a.mp4", EVEN[:2])
    content = path.read_bytes()
    one, minus, none, end = b"\0\1\0\0", b"\xff\xff\0\0", b"\0" * 4, b"\x40\0\0\0"
    identity = b"".join([one, none, none, none, one, none, none, none, end])
    turned = b"".join([none, one, none, minus, none, none, none, none, end])
    place = content.index(identity, content.index(b"tkhd"))
    path.write_bytes(content[:place] + turned + content[place + len(turned) :])
    assert next(iter(Video(path, 5))).image().size == (48, 64)


@pytest.mark.parametrize(
    "name, reason",
    [
        ("garbage.mp4", "it is no video, or cut off"),
        ("empty.mkv", "it is no video, or cut off"),
        ("cut.mp4", "it is no video, or cut off"),
        ("raw.h264", "its frames have no times"),
        ("codec.mkv", "its codec is unknown"),
    ],
)
def test_a_file_that_is_no_video_is_named(tmp_path, name, reason):
    path = tmp_path / name
    if name == "raw.h264":
        write(path, EVEN)
    elif name == "codec.mkv":
        path.write_bytes(write(path, EVEN, "mpeg4").read_bytes().replace(b"V_MPEG4/ISO/ASP", b"V_NOBODY/HAS/IT"))
    else:
        whole = write(tmp_path / "whole.mp4", EVEN).read_bytes()
        contents = {"garbage.mp4": bytes(range(256)) * 40, "cut.mp4": whole[: len(whole) // 2]}
        path.write_bytes(contents.get(name, b""))
    with pytest.raises(ImageError, match=reason) as refused:
        list(Video(path, 5))
    assert str(path) in str(refused.value)


def test_a_file_that_names_an_address_does_not_have_it_opened(tmp_path):
    path = tmp_path / "a.mp4"
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0)
        address = f"http://127.0.0.1:{server.getsockname()[1]}/a.ts"
        path.write_text(f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{address}\n#EXT-X-ENDLIST\n")
        with pytest.raises(ImageError):
            list(Video(path, 5))
        with pytest.raises(BlockingIOError):
            server.accept()


def test_footage_has_the_names_of_its_folders_as_cameras(tmp_path):
    for name in ("north/a.mp4", "north/up/b.MKV", "gate.mov", "photo.jpg", "notes.txt"):
        path = tmp_path / "all" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    cameras = {file.source: file.camera for file in list_footage(tmp_path / "all")}
    assert cameras == {"north/a.mp4": "north", "north/up/b.MKV": "north/up", "gate.mov": "gate", "photo.jpg": "all"}
    assert [file.source for file in list_footage(tmp_path / "all/gate.mov")] == ["gate.mov"]
    for missing in ("nothing", "rtsp://user:word@camera/stream"):
        with pytest.raises(FileNotFoundError, match="give a photograph, a video or a folder"):
            list_footage(tmp_path / missing)


def test_a_photograph_is_one_frame(tmp_path):
    Image.new("RGB", (30, 20), "red").save(tmp_path / "a.png")
    (frame,) = open_frames(list_footage(tmp_path / "a.png")[0], rate=5)
    assert (frame.number, frame.time, frame.image().size) == (0, 0.0, (30, 20))


def test_a_crop_is_shown_in_its_frame(drawn):
    """The frame of its time, with the box in red; what is around it is blurred if others are hidden."""
    footage, people = drawn
    person = next(person for person in people if person.time == 2.0)
    row = {"source": person.source, "time": person.time, "box": list(person.box)}
    (frame,) = (frame for frame in Video(footage / person.source, 10) if frame.time == person.time)
    shown, hidden = (show_in_frame(footage, row, hide_others=hide) for hide in (False, True))
    left, top, right, bottom = person.box
    inner = (left + 3, top + 3, right - 3, bottom - 3)
    assert shown.size == hidden.size == frame.image().size
    assert shown.crop(inner).tobytes() == hidden.crop(inner).tobytes() == frame.image().crop(inner).tobytes()
    assert shown.getpixel((left, top)) == hidden.getpixel((left, top)) == (220, 38, 38)
    assert shown.tobytes() != hidden.tobytes()


@pytest.mark.parametrize(
    "row",
    [
        {},
        {"source": "gone.mp4", "time": 1.0, "box": [0, 0, 9, 9]},
        {"source": "../secret.mp4", "time": 1.0, "box": [0, 0, 9, 9]},
        {"source": "north/street.mp4", "time": 1e6, "box": [0, 0, 9, 9]},
        {"source": "north/street.mp4", "time": None, "box": [0, 0, 9, 9]},
        {"source": "north/street.mp4", "time": 1.0, "box": [1200, 0, 1280, 200]},
    ],
)
def test_what_has_no_frame_is_not_shown(footage, row):
    (footage.parent / "secret.mp4").write_bytes((footage / "north/street.mp4").read_bytes())
    assert show_in_frame(footage, row) is None
