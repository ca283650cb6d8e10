"""
What the checks find in answers as MLLMs write them.

`answers/*.txt` holds labelled ones: one a line, below `== KIND: CHECKS`, where CHECKS are those that must find fault.
`⏎` stands for the end of a line, `∅` for nothing, and `✂` for where the server cut an answer off. All come from
one hand; the checks were mended where they failed on `tune.txt`, and never for the sake of `held_out.txt`.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import NamedTuple

import pytest

from bdam.captions.agreement import agreement, is_near_duplicate, most_typical
from bdam.captions.answers import BadAnswer, read_answer
from bdam.captions.checks import CHECKS, DECISIVE_CHECKS, check_answer, find_problems
from bdam.data.descriptions import Kind
from bdam.data.pedestrians import draw_identity, draw_outfit, write_clothing_description, write_identity_description


# All that can be found, with the problems of answers without a description.
PROBLEMS = (*DECISIVE_CHECKS, *CHECKS, "empty", "cut", "json")


class Labelled(NamedTuple):
    kind: Kind
    answer: str
    is_cut: bool
    expected: frozenset[str]
    found: frozenset[str]


def read_labelled(path: Path) -> Iterator[Labelled]:
    for line in path.read_text(encoding="utf-8").splitlines():
        if heading := re.fullmatch(r"== (identity|clothing)(?:: ([\w, ]+))?", line):
            kind, expected = heading[1], frozenset(re.findall(r"\w+", heading[2] or ""))
        elif line:
            answer, is_cut = line.removesuffix("✂").replace("⏎", "\n").replace("∅", ""), line.endswith("✂")
            yield Labelled(kind, answer, is_cut, expected, frozenset(check_answer(kind, answer, is_cut)[1]))


@pytest.fixture(scope="module")
def labelled() -> list[Labelled]:
    return [case for path in sorted(Path(__file__).with_name("answers").iterdir()) for case in read_labelled(path)]


def test_there_are_enough_answers_of_each_kind(labelled):
    assert len(labelled) >= 200
    assert set().union(*(case.expected | case.found for case in labelled)) == set(PROBLEMS)
    for check in PROBLEMS:
        assert sum(check in case.expected for case in labelled) >= 10, check
    for kind in ("identity", "clothing"):
        assert sum(case.kind == kind and not case.expected for case in labelled) >= 30


@pytest.mark.parametrize("check", PROBLEMS)
def test_precision_and_recall(labelled, check):
    wanted = [case for case in labelled if check in case.expected]
    found = [case for case in labelled if check in case.found]
    right = sum(check in case.found for case in wanted)
    wrong = [case.answer for case in labelled if (check in case.expected) != (check in case.found)]
    assert min(right / len(wanted), right / len(found)) >= 0.95, "\n".join(wrong)


def test_generated_pedestrians_are_described_well():
    random = Random(0)
    for _ in range(300):
        identity = write_identity_description(draw_identity(random), random)
        clothing = write_clothing_description(draw_outfit(random), random)
        assert not find_problems("identity", identity), identity
        assert not find_problems("clothing", clothing), clothing
        assert "leakage" in find_problems("clothing", identity), identity
        assert "leakage" in find_problems("identity", clothing), clothing


def test_problems_are_told_to_who_wrote_the_answer():
    problems = find_problems("identity", "a man in a red coat")
    assert problems == {
        "ending": "it does not end with a full stop",
        "capital": "it does not begin with a capital letter",
        "coverage": "it says too little about identity: gender",
        "leakage": "it speaks of clothing: red, coat",
    }
    assert check_answer("identity", None, False) == ("", {"empty": "it is empty"})


@pytest.mark.parametrize("word", ["image", "picture", "photo"])
def test_an_answer_that_misses_the_image_is_a_refusal(word):
    for text in (
        f"No {word} was shared of the tall man with grey hair.",
        f"I see the {word} of a tall man in glasses.",
    ):
        assert find_problems("identity", text).keys() == {"refusal"}


@pytest.mark.parametrize(
    "content",
    [
        "He is tall.",
        "\n He is tall. ",
        "```\nHe is tall.\n```",
        '"He is tall."',
        "“He is tall.”",
        '{"description": "He is tall."}',
        '{\n  "description": " He is tall.\\n"\n}\n',
        '```json\n{"description": "He is tall."}\n```',
        'Sure: {"description": "He is tall."}',
        'Here it is:\n```json\n{"description": "He is tall."}\n```\nAnything else?',
        '{"description": "He is tall.", "confidence": 0.9}',
        '[{"description": "He is tall."}]',
        '{"answer": {"description": "He is tall."}}',
        '{"description": "He is short."} No: {"description": "He is tall."}',
        'As in {"description": "…"}: {"note": "{ and \\"}{", "description": "He is tall."} {not this}',
        '{{{ {"description": "He is tall."} }}} {"identity": "He is short."}',
        "<think>He may be short.</think>He is tall.",
        '<think>{"description": "He is short."}</think>\n\n{"description": "He is tall."}',
        "He may be short.\n</think>\n\nHe is tall.",
        "<thinking>\nA <think>b</think> c.</thinking> He is tall.",
        "[THINK]He may be short.[/THINK]He is tall.",
        "◁think▷He may be short.◁/think▷He is tall.",
        "<|channel|>analysis<|message|>Short?<|end|><|start|>assistant<|channel|>final<|message|>He is tall.",
        "<think>Hm.</think><answer>He is tall.</answer>",
        "He is tall.<think>Is he?</think>",
        "He is tall. <think>Is he",
        '<think>{"description": "He is tall."}</think>',
    ],
)
def test_answers_are_read(content):
    assert read_answer(content, is_cut=False) == "He is tall."


@pytest.mark.parametrize(
    ("problem", "content"),
    [
        ("empty", None),
        ("empty", ""),
        ("empty", "```json\n```"),
        ("empty", '{"description": " "}'),
        ("json", '{"description": "He is'),
        ("json", '{"description": ["He is tall."]}'),
        ("json", '<think>Hm.</think>{"identity": "He is tall."}'),
        ("empty", "<think>He is tall.</think>"),
        ("empty", "<think>He is tall."),
        ("empty", "He is tall.</think>"),
        ("json", '{"a":' * 100_000),
        ("json", '{"identity": "He is tall."}'),
        ("json", '{"description": null}'),
    ],
)
def test_answers_without_a_description_are_named(problem, content):
    with pytest.raises(BadAnswer) as error:
        read_answer(content, is_cut=False)
    assert error.value.problem == problem


@pytest.mark.parametrize(
    "content", ["He is tall.", '{"description": "He is', "<think>Hm", '<think>{"description": "He is tall."} Hm', ""]
)
def test_what_the_server_cut_off_is_not_read(content):
    with pytest.raises(BadAnswer, match="cut off"):
        read_answer(content, is_cut=True)


def test_what_is_cut_off_after_the_description_is_read():
    assert read_answer('{"description": "He is tall."}' + "\n" * 99, is_cut=True) == "He is tall."


def test_near_duplicates_share_nearly_all_runs_of_three_words():
    text = "The person wears a red coat over blue jeans, black boots, a grey scarf, and carries a brown leather bag."
    assert is_near_duplicate(text, ["Something else entirely.", text.upper().replace(",", "")])
    assert not is_near_duplicate(text, [text.replace("red", "green")])
    assert not is_near_duplicate(text, [])
    assert is_near_duplicate("Nothing visible.", ["nothing visible"])


def test_descriptions_of_one_image_agree_by_attribute():
    texts = ["A tall man with a beard.", "A short man with a beard.", "A tall man.", "A tall man with a beard."]
    assert agreement("identity", texts) == {"gender": 1, "height": 0.75, "face": 0.75}
    assert agreement("clothing", texts) == {}


def test_the_most_typical_description_says_what_most_say():
    texts = ["A short woman with glasses.", "A tall man.", "A tall man with a beard.", "A thin man."]
    assert most_typical("identity", texts) == "A tall man."  # nobody else speaks of a beard
    assert most_typical("identity", texts[:1]) == texts[0]


@pytest.mark.parametrize(
    ("text", "repeated"),
    [
        ("A tall man with glasses. He stands. A TALL man with glasses!", "a tall man with glasses"),
        ("A tall man with glasses glasses glasses.", "glasses"),
        ("A tall man, a man with glasses, a man with glasses, a man with glasses.", "a man with glasses"),
    ],
)
def test_repeated_sentences_and_words_are_named(text, repeated):
    assert find_problems("identity", text)["repetition"] == f'it repeats itself: "{repeated}"'


def test_words_may_be_there_twice_in_a_row_and_more_often_apart():
    text = "A very, very tall man with grey hair, a grey beard and grey brows, who has a very, very round face."
    assert not find_problems("identity", text)
