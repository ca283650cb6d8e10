"""One person who passes is one track, and of a track the best crops are kept."""

from random import Random

import pytest

from bdam.footage.crops import choose_best, crop_box
from bdam.footage.detection import Detection
from bdam.footage.tracking import SearchedFrame, Sighting, join_tracks


SIZE = (1920, 1080)


def walk(rate: float, seconds: float = 20, missed: float = 0.15) -> tuple[list[SearchedFrame], dict]:
    """Six people who walk up and down a street, some of whom are missed now and then; and who is who."""
    random = Random(0)
    people = [(random.uniform(0, 1800), 100 + 120 * index, random.uniform(-100, 100)) for index in range(6)]
    frames, who = [], {}
    for number in range(round(seconds * rate)):
        found = []
        for person, (x, y, speed) in enumerate(people):
            left = x + speed * number / rate + random.gauss(0, 3)
            if random.random() > missed and 0 <= left <= SIZE[0] - 80:
                found.append(Detection(left, y + random.gauss(0, 3), left + 80, y + 200 + random.gauss(0, 3), 0.9))
                who[found[-1]] = person
        frames.append(SearchedFrame(number, number / rate, SIZE, found))
    return frames, who


@pytest.mark.parametrize("rate", [5, 12.5])
def test_people_who_pass_are_a_track_each(rate):
    frames, who = walk(rate)
    tracks = join_tracks(frames, rate)
    people = [{who[sighting.person] for sighting in track} for track in tracks]
    assert sum(map(len, tracks)) == len(who)
    assert all(len(found) == 1 for found in people)
    assert len(tracks) <= 8


@pytest.mark.parametrize("height", [90, 400])
def test_who_walks_fast_past_a_detector_whose_boxes_jump_is_one_track(height):
    random = Random(1)
    jumps = [[random.gauss(0, 0.05) for _ in range(4)] for _ in range(25)]
    edges = [(1 + 0.2 * number, 0.2, 1.3 + 0.2 * number, 1.2) for number in range(25)]  # heights; 1 per second
    frames = []
    for number, (box, jump) in enumerate(zip(edges, jumps, strict=True)):
        person = Detection(*(height * (edge + off) for edge, off in zip(box, jump, strict=True)), 0.9)
        frames.append(SearchedFrame(number, number / 5, (7 * height, 2 * height), [person]))
    assert [len(track) for track in join_tracks(frames, rate=5)] == [25]


@pytest.mark.parametrize("rate", [5, 12.5, 25])
def test_who_is_missed_for_a_second_and_a_half_keeps_the_track(rate):
    person = Detection(100, 100, 180, 300, 0.9)
    frames = [
        SearchedFrame(number, number / rate, SIZE, [] if 2 < number / rate < 3.5 else [person])
        for number in range(round(6 * rate))
    ]
    assert len(join_tracks(frames, rate)) == 1


def test_with_few_frames_each_sighting_is_a_track():
    frames, who = walk(rate=1)
    assert [len(track) for track in join_tracks(frames, rate=1)] == [1] * len(who)


def test_a_track_ends_where_a_video_has_no_frames_for_long():
    person = Detection(100, 100, 180, 300, 0.9)
    times = [0, 0.2, 0.4, 9, 9.2]
    frames = [SearchedFrame(number, time, SIZE, [person]) for number, time in enumerate(times)]
    assert [len(track) for track in join_tracks(frames, rate=5)] == [3, 2]


def sighting(number: int, left: float = 100, height: float = 200, score: float = 0.9) -> Sighting:
    return Sighting(SearchedFrame(number, number / 5, SIZE, []), Detection(left, 100, left + 80, 100 + height, score))


def test_the_best_crops_are_spread_in_time_whole_tall_and_sure():
    track = [sighting(number) for number in range(30)]
    track[4] = sighting(4, height=250)
    track[12] = sighting(12, score=0.95)
    track[22] = sighting(22, left=0, height=400)  # cut off by the edge
    track[25] = sighting(25, height=220)
    assert [one.frame.number for one in choose_best(track, 3)] == [4, 12, 25]
    assert [one.frame.number for one in choose_best(track[:1], 3)] == [0]


def test_a_crop_has_a_margin_and_stays_inside_the_frame():
    assert crop_box(sighting(0)) == (96, 90, 184, 310)
    assert crop_box(sighting(0, left=SIZE[0] - 80, height=980)) == (1836, 51, 1920, 1080)
