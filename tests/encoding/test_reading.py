"""What is lost of a sentence is told, for every kind of tokenizer."""

import json
import time

import pytest
from tiny import SENTENCES
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from tokenizers.trainers import BpeTrainer
from transformers import BertTokenizer, ByT5Tokenizer, CLIPTokenizer, PreTrainedTokenizerFast, XLMRobertaTokenizer
from transformers.models.bert.tokenization_bert_legacy import BertTokenizerLegacy

from bdam.encoding.reading import read_sentence
from bdam.training.building import learn_tokenizer


KNOWN = "A man in a red coat."
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
WORDPIECES = [
    *SPECIAL,
    "a",
    "man",
    "in",
    "red",
    "coat",
    "walk",
    "##ing",
    "##s",
    "b",
    "##l",
    "##ue",
    "外",
    "-",
    ",",
    ".",
]


def learned(folder):
    """Whole words and single letters, as in the demo."""
    return learn_tokenizer([*SENTENCES, "A man, red in a coat."], max_length=32)


def wordpiece(folder):
    return BertTokenizer(vocab={piece: index for index, piece in enumerate(WORDPIECES)})


def wordpiece_in_python(folder):
    """Without offsets."""
    (folder / "vocab.txt").write_text("\n".join(WORDPIECES))
    return BertTokenizerLegacy(str(folder / "vocab.txt"))


def sentencepiece(folder):
    letters = [(letter, -9.0) for letter in "amnredcot"]
    words = [(f"\u2581{word}", -3.0) for word in ("a", "A", "man", "in", "red", "coat", "walk", "b")]
    special = [("<s>", 0.0), ("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)]
    return XLMRobertaTokenizer(vocab=[*special, ("\u2581", -5.0), *words, *letters, ("ing", -4.0), (".", -5.0)])


def learn_bytes(**options) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE(**options))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(
        SENTENCES, BpeTrainer(vocab_size=400, initial_alphabet=alphabet, show_progress=False)
    )
    return tokenizer


def byte_pairs(folder):
    """As RoBERTa's."""
    tokenizer = learn_bytes()
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<s>", "</s>", "<unk>"])
    ends = {name: tokenizer.token_to_id(name) for name in ("<s>", "</s>")}
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", ends["</s>"]), ("<s>", ends["<s>"]))
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>", bos_token="<s>", eos_token="</s>")


def clip(folder):
    model = json.loads(learn_bytes(end_of_word_suffix="</w>").to_str())["model"]
    pieces = [*model["vocab"], *(f"{letter}</w>" for letter in pre_tokenizers.ByteLevel.alphabet())]
    vocabulary = {
        piece: index for index, piece in enumerate(dict.fromkeys([*pieces, "<|startoftext|>", "<|endoftext|>"]))
    }
    return CLIPTokenizer(vocab=vocabulary, merges=[tuple(pair) for pair in model["merges"]])


def bytes_in_python(folder):
    return ByT5Tokenizer()


KINDS = [learned, wordpiece, wordpiece_in_python, sentencepiece, byte_pairs, clip, bytes_in_python]
KNOWING_ALL = [byte_pairs, clip, bytes_in_python]
KNOWING_SOME = [kind for kind in KINDS if kind not in KNOWING_ALL]


@pytest.fixture
def tokenizer(request, tmp_path):
    return request.param(tmp_path)


def of(kinds):
    return pytest.mark.parametrize("tokenizer", kinds, indirect=True, ids=lambda kind: kind.__name__)


@of(KINDS)
def test_nothing_is_said_of_a_sentence_that_is_read_whole(tokenizer):
    assert read_sentence(tokenizer, KNOWN, 77) == []
    assert read_sentence(tokenizer, KNOWN, 10**30) == []
    exactly = len(tokenizer(KNOWN.rstrip("."))["input_ids"])
    assert read_sentence(tokenizer, KNOWN, exactly) == []  # a full stop is no loss


@of(KINDS)
@pytest.mark.parametrize("number", [40, 80, 400, 10_000])
def test_where_a_sentence_is_cut_is_told_by_its_words(tokenizer, number):
    words = (["a", "man", "in", "a", "red", "coat"] * number)[:number]
    for max_length in (16, 33):
        (warning,) = read_sentence(tokenizer, " ".join(words), max_length)
        read = int(warning.partition("(word ")[2].partition(" ")[0])
        lengths = [len(tokenizer(" ".join(words[:count]))["input_ids"]) for count in (read, read + 1)]
        assert lengths[0] <= max_length < lengths[1]
        tail = " ".join(words[max(read - 3, 0) : read])
        dots = "… " if read > 3 else ""
        where = f'"{dots}{tail}" (word {read} of {number})'
        assert warning == f"The sentence was cut after {where}: the model reads {max_length} tokens."


@of(KINDS)
def test_what_is_told_is_what_the_tokenizer_keeps(tokenizer):
    """The tokens of the words up to the cut are those that truncation leaves."""
    sentence = "A man in a red coat. " * 60
    (warning,) = read_sentence(tokenizer, sentence, 32)
    read = int(warning.partition("(word ")[2].partition(" ")[0])
    kept = tokenizer(sentence, truncation=True, max_length=32)["input_ids"]
    told = tokenizer(" ".join(sentence.split()[:read]).rstrip("."))["input_ids"]
    ends = len(tokenizer("")["input_ids"])  # special tokens, at most one of them before the text
    assert kept[: len(told) - ends] == told[: len(told) - ends]


@of(KNOWING_SOME)
@pytest.mark.parametrize(
    ("sentence", "unknown"),
    [
        ("A man in a xqzt coat.", ["xqzt"]),
        ("A man (Xqzt) in, a «żółw» red coat", ["Xqzt", "żółw"]),
        ("xqzt a man xqzt", ["xqzt"]),
        ("A man in a red-xqzt coat", ["xqzt"]),
        ("A man in a 👕", ["👕"]),
        ("A man in a 红色 coat", ["红", "色"]),
        ("человек in a coat", ["человек"]),
        ("a man " + "x" * 500, ["x" * 40 + "…"]),
    ],
)
def test_unknown_words_are_named(tokenizer, sentence, unknown):
    named = ", ".join(f'"{word}"' for word in unknown)
    assert read_sentence(tokenizer, sentence, 600) == [f"The model does not know: {named}."]


@of(KNOWING_ALL)
@pytest.mark.parametrize("sentence", ["xqzt", "ñandú żółw", "红色的外套", "שלום", "ש", "ฉันชอบกิน", "A man in a 👕"])
def test_bytes_know_every_word(tokenizer, sentence):
    assert read_sentence(tokenizer, sentence, 600) == []


@of(KNOWING_SOME)
@pytest.mark.parametrize(
    "sentence", ["xqzt", "Xqzt, (żółw)!", "человек", "色的", "한국", "xqzt " * 10_000, "x" * 9_000]
)
def test_a_sentence_of_which_no_word_is_known_is_an_error(tokenizer, sentence):
    with pytest.raises(ValueError, match="The model knows no word of the sentence .*: use other words"):
        read_sentence(tokenizer, sentence, 64)


@of(KINDS)
@pytest.mark.parametrize("sentence", ["", "  \n", "...", "?!, (—) «»", "👕👖", "\u200b\u00ad", "\u0301", "$ + = <>"])
def test_a_sentence_without_words_is_an_error(tokenizer, sentence):
    with pytest.raises(ValueError, match="There is no word in the sentence .*: describe a person in words"):
        read_sentence(tokenizer, sentence, 77)


@of([learned])
def test_a_vocabulary_of_words_knows_what_it_has_and_what_is_mostly_that(tokenizer):
    assert read_sentence(tokenizer, "Coats! She carries handbags, (boots) and he a coat", 77) == []
    spelled = ["nest", "walker", "heading", "12"]  # "walk" is no word of it, "he" is too little of "heading"
    (warning,) = read_sentence(tokenizer, f"A man {' '.join(spelled)} walks", 77)
    assert all(f'"{word}"' in warning for word in spelled)


@of([wordpiece])
def test_a_vocabulary_of_pieces_knows_what_it_can_put_together(tokenizer):
    assert read_sentence(tokenizer, "walking blue coats, a-a", 77) == []


@of([sentencepiece])
def test_a_word_that_is_known_for_the_most_part_is_better_than_none(tokenizer):
    assert read_sentence(tokenizer, "coatñ", 77) == ['The model does not know: "coatñ".']


@of([learned])
def test_both_losses_are_told_and_of_unknown_words_not_all(tokenizer):
    words = ["man", *(f"xqz{letter}" for letter in "abcdefghijklmnopqrst")]
    cut, unknown = read_sentence(tokenizer, " ".join(words) + " red coat" * 99, 99)
    assert cut.startswith("The sentence was cut after") and unknown.endswith('"xqzj" and 10 more.')


@of([clip, byte_pairs, bytes_in_python])
def test_one_endless_word_is_cut_between_its_letters(tokenizer):
    (warning,) = read_sentence(tokenizer, "ฉันชอบกิน" * 100, 32)
    assert "(character " in warning and warning.endswith(" of 900): the model reads 32 tokens.")


@of(KINDS)
def test_long_sentences_are_read_fast(tokenizer):
    start = time.process_time()
    read_sentence(tokenizer, "a man in a red coat, " * 3_000, 77)
    assert time.process_time() - start < 10
