import io
import json
from dataclasses import asdict
from math import log

import numpy as np
import pytest
import torch
from tiny import SENTENCES

from bdam import cli
from bdam.retrieval.asking import Asker, entropy, mutual_information
from bdam.retrieval.gallery import Gallery
from bdam.retrieval.questions import Question, load_questions


GLASSES = Question(
    text="Does the person wear glasses?",
    stream="identity",
    sentence="A person {}.",
    answers={"yes": "with glasses", "no": "in black"},
)
COAT = Question(
    text="What colour is the coat?",
    stream="clothing",
    sentence="A {} coat.",
    answers={"red": "red", "black": "black", "blue": "blue"},
    about=("coat", "coats"),
)
# Whose answers no image can tell apart.
SAME = Question(text="Yes or no?", stream="identity", sentence="A {}.", answers={"yes": "man", "no": "man"})


@pytest.fixture
def gallery(embedder, images, tmp_path) -> Gallery:
    return Gallery.from_images(embedder, images, uri=tmp_path / "gallery")


def test_mutual_information_is_the_entropy_of_the_mean_minus_the_mean_entropy():
    generator = np.random.default_rng(0)
    weights, p = generator.dirichlet(np.ones(7)), generator.dirichlet(np.ones(3), size=7)
    mean = sum(weight * row for weight, row in zip(weights, p, strict=True))
    of_mean = -sum(value * log(value) for value in mean)
    of_rows = [-sum(value * log(value) for value in row) for row in p]
    expected = of_mean - sum(weight * value for weight, value in zip(weights, of_rows, strict=True))
    inputs = torch.tensor(weights, dtype=torch.float32), torch.tensor(p, dtype=torch.float32).log()
    assert mutual_information(*inputs) == pytest.approx(expected, abs=1e-6)
    assert entropy(*inputs) == pytest.approx(of_mean, abs=1e-6)


def test_a_question_that_splits_the_images_tells_more_than_one_that_is_a_guess_for_each():
    weights = torch.full((4,), 0.25)
    splits = torch.tensor([[1.0, 1e-9], [1.0, 1e-9], [1e-9, 1.0], [1e-9, 1.0]]).log()
    guesses = torch.full((4, 2), 0.5).log()
    assert mutual_information(weights, splits) == pytest.approx(log(2), abs=1e-5)
    assert mutual_information(weights, guesses) == pytest.approx(0, abs=1e-6)
    assert entropy(weights, splits) == pytest.approx(entropy(weights, guesses), abs=1e-5)


def test_what_the_images_cannot_tell_is_asked_last(gallery):
    _, question = Asker(gallery, [SAME, GLASSES]).search({}, text=SENTENCES[0])
    assert question == GLASSES


def test_no_question_is_asked_twice(gallery):
    asker = Asker(gallery)
    answers: dict[str, str | None] = {}
    while question := asker.search(answers, text="He walks by.")[1]:
        assert question.text not in answers
        answers[question.text] = list(question.answers)[0] if len(answers) % 2 else None
    assert set(answers) == set(asker.questions)


def test_an_answer_that_is_not_known_leaves_the_hits_as_they_are(gallery):
    asker = Asker(gallery, [GLASSES, COAT])
    expected = gallery.search(SENTENCES[0], k=4)
    for answers in ({}, {GLASSES.text: None}, {GLASSES.text: None, COAT.text: None}):
        hits, _ = asker.search(answers, k=4, text=SENTENCES[0])
        assert hits == expected


@pytest.mark.parametrize("question, answer, part", [(GLASSES, "no", "identity"), (COAT, "blue", "clothing")])
def test_an_answer_adds_its_log_probability_to_the_part_of_its_stream(gallery, question, answer, part):
    asker = Asker(gallery, [GLASSES, COAT])
    before = {hit.image_id: hit for hit in asker.search({}, text=SENTENCES[0])[0]}
    after, _ = asker.search({question.text: answer}, text=SENTENCES[0])
    size = gallery.embedder.space.identity_size
    stream = slice(0, size) if part == "identity" else slice(size, None)
    answers = gallery.embedder(text=[*question.sentences.values()])[:, stream].double().numpy()
    for hit in after:
        (stored,) = gallery.store.find([hit.image_id])
        logits = answers @ stored.vector[stream].double().numpy() / asker.temperature
        log_p = logits - np.log(np.exp(logits).sum())
        added = asker.temperature * log_p[list(question.answers).index(answer)]
        assert getattr(hit, part) == pytest.approx(getattr(before[hit.image_id], part) + added, abs=1e-5)
        assert hit.score == pytest.approx(before[hit.image_id].score + added, abs=1e-5)
        assert hit.score == pytest.approx(hit.identity + hit.clothing)
    assert [hit.score for hit in after] == sorted((hit.score for hit in after), reverse=True)


def test_what_the_search_leaves_out_is_neither_asked_nor_counted(gallery):
    asker = Asker(gallery, [GLASSES, COAT])
    hits, question = asker.search({COAT.text: "red"}, clothing_weight=0, text=SENTENCES[0])
    assert hits == gallery.search(SENTENCES[0], clothing_weight=0) and question == GLASSES
    _, question = asker.search({}, clothing=SENTENCES[3])
    assert question is None  # which says the colour of the coat


@pytest.mark.parametrize(
    "query, is_answered",
    [
        ("A man in a red coat.", True),
        ("A man in a Red, long coat.", True),
        ("A man in a coat and red shoes.", False),
        ("A man in red shoes.", False),
        ("A man in a redder coat.", False),
    ],
)
def test_a_query_that_has_an_answer_is_not_asked_for_it(query, is_answered):
    assert COAT.is_answered(query) is is_answered


def test_answers_that_name_what_the_question_is_about_need_no_other_word():
    hair = next(question for question in load_questions() if question.text == "How is the hair?")
    assert hair.is_answered("A bald man.") and hair.is_answered("She has short black hair.")
    assert not hair.is_answered("A short woman.")


def test_nothing_is_asked_where_nothing_was_found(gallery):
    assert Asker(gallery).search({}, text=SENTENCES[0], filter={"folder": "nowhere"}) == ([], None)


@pytest.mark.parametrize(
    "answers, message",
    [
        ({"Who?": "yes"}, "'Who\\?' is none of the questions"),
        ({GLASSES.text: "maybe"}, "'maybe' is no answer to 'Does the person wear glasses\\?': there are yes, no"),
    ],
)
def test_unknown_questions_and_answers_are_named(gallery, answers, message):
    with pytest.raises(ValueError, match=message):
        Asker(gallery, [GLASSES]).search(answers, text=SENTENCES[0])


ENTRY = '{text: "Hat?", stream: clothing, sentence: "A person %s.", answers: {yes: in a hat%s}}'


@pytest.mark.parametrize(
    "text, message",
    [
        ("[", "is not valid YAML: line 1"),
        ("{}", "Input should be a valid list"),
        ("[]", "List should have at least 1 item"),
        (f"[{ENTRY % ('{}', ', no: in a cap')}, {ENTRY % ('{}', '')}]", "entry 2, answers: Dictionary should have at"),
        (f"[{ENTRY % ('', ', no: in a cap')}]", "entry 1, sentence: it needs {} once"),
        ('[{text: "Hat?"}]', "entry 1, stream: Field required"),
        (f"[{', '.join([ENTRY % ('{}', ', no: in a cap')] * 2)}]", "two questions are 'Hat?'"),
    ],
)
def test_a_wrong_file_of_questions_is_named_with_its_entry(bdam, tmp_path, text, message):
    (tmp_path / "own.yaml").write_text(text)
    code, output = bdam("search", tmp_path, "A man.", "--ask", "--questions", tmp_path / "own.yaml")
    assert code == 1 and output.startswith("error: ") and f"{tmp_path}/own.yaml" in output and message in output


def test_answers_come_from_a_pipe(gallery, bdam, tmp_path, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO("1\n0\n"))
    code, output = bdam("search", tmp_path / "gallery", SENTENCES[0], "--ask", "--k", 2)
    assert code == 0 and output.count("rank") == 3 and "0 not known" in output


def test_programs_get_a_line_of_json_per_round(gallery, tmp_path, monkeypatch, capsys):
    (tmp_path / "own.yaml").write_text(json.dumps([COAT.model_dump()]))
    monkeypatch.setattr("sys.stdin", io.StringIO("3\n"))
    options = ["--ask", "--json", "--k", "2", "--questions", str(tmp_path / "own.yaml")]
    monkeypatch.setattr("sys.argv", ["bdam", "search", str(tmp_path / "gallery"), SENTENCES[0], *options])
    with pytest.raises(SystemExit):
        cli.main()
    first, second = map(json.loads, capsys.readouterr().out.splitlines())
    assert first["query"] == SENTENCES[0] and second["query"] == f"{SENTENCES[0]} A blue coat."
    assert first["question"] == {"text": COAT.text, "answers": ["red", "black", "blue"]} and second["question"] is None
    hits, _ = Asker(gallery, [COAT]).search({COAT.text: "blue"}, text=SENTENCES[0], k=2)
    assert second["hits"] == [asdict(hit) for hit in hits]


@pytest.mark.parametrize("line", ["99", "-1", "yes", "1.5"])
def test_what_is_no_number_of_an_answer_is_named(gallery, bdam, tmp_path, monkeypatch, line):
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{line}\n"))
    code, output = bdam("search", tmp_path / "gallery", SENTENCES[0], "--ask")
    assert code == 1 and f"error: '{line}' is no answer to" in output and "give a number from 0 to" in output


@pytest.mark.parametrize(
    "options, message",
    [(["A woman.", "--ask"], "With --ask, give one sentence"), (["--questions", "own.yaml"], "are for --ask")],
)
def test_options_that_contradict_each_other_are_refused(bdam, tmp_path, options, message):
    code, output = bdam("search", tmp_path, "A man.", *options)
    assert code == 1 and output.startswith("error: ") and message in output
