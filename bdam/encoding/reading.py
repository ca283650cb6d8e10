"""What a model reads of a sentence: where it is cut, and which of its words are known."""

import unicodedata
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass

from tokenizers.models import WordPiece
from transformers import PreTrainedTokenizerBase


# Kana and Chinese characters stand without spaces between words: each counts as a word, as in BERT's tokenizer.
UNSPACED = (("\u3040", "\u30ff"), ("\u3400", "\u4dbf"), ("\u4e00", "\u9fff"), ("\uf900", "\ufaff"))
JOINERS = "'\u2019-\u2010\u200c\u200d"
SPACE = "\u2581"  # what SentencePiece puts before a word, also before one that it does not know
QUOTED_WORDS, QUOTED_LETTERS, NAMED_WORDS = 3, 40, 10


@dataclass(frozen=True)
class Word:
    """A word of a sentence, which it is `sentence[start:end]` of."""

    text: str
    start: int
    end: int


def read_sentence(tokenizer: PreTrainedTokenizerBase, sentence: str, max_length: int) -> list[str]:
    """
    What is lost of a sentence when a model reads it, in plain words: `The sentence was cut after "… red coat" (word 61
    of 80): the model reads 77 tokens.` and `The model does not know: "xqzt", "ñandú".` Empty if nothing is lost.

    A word is unknown if the tokenizer has no token for it, or for a part of it. One whose vocabulary holds whole words
    and single letters, as that of `learn_tokenizer` does, spells every other word by letters, which tell the model
    nothing: there, a word is known if one entry of the vocabulary makes up more than half of it, as "coat" of "coats".
    Byte-level tokenizers, such as those of CLIP and RoBERTa, know every word.

    Args:
        max_length: how many tokens the model reads, special ones included.

    Raises:
        ValueError: if the sentence holds no word that the model knows.
    """
    words = list(split_words(sentence))
    if not any(letter.isalnum() for word in words for letter in word.text):
        raise ValueError(f'There is no word in the sentence "{_shorten(sentence)}": describe a person in words.')

    end, where = _find_cut(tokenizer, sentence, words, max_length)
    unknown, is_anything_left = _find_unknown(tokenizer, sentence[:end])
    if not is_anything_left:
        raise ValueError(f'The model knows no word of the sentence "{_shorten(sentence)}": use other words.')
    warnings = []
    if where:
        warnings.append(f"The sentence was cut after {where}: the model reads {max_length} tokens.")
    if unknown:
        named = ", ".join(f'"{_shorten(word)}"' for word in unknown[:NAMED_WORDS])
        more = f" and {len(unknown) - NAMED_WORDS} more" if len(unknown) > NAMED_WORDS else ""
        warnings.append(f"The model does not know: {named}{more}.")
    return warnings


def split_words(text: str, joiners: str = JOINERS) -> Iterator[Word]:
    """
    Runs of letters and digits with their marks, joined by an apostrophe or a hyphen; and each symbol, such as an
    emoji, by itself. Punctuation is no word.
    """
    start, kind = 0, None
    for end, character in enumerate(f"{text} "):
        next_kind = _kind(character)
        joins = character in joiners and kind == "letter" and _kind(text[end + 1 : end + 2]) == "letter"
        if kind and (joins or next_kind == "mark" or kind == next_kind == "letter"):
            continue
        if kind:
            yield Word(text[start:end], start, end)
        start, kind = end, None if next_kind == "mark" else next_kind


def _kind(character: str) -> str | None:
    """What a character is in a word; None if it belongs to none."""
    category = unicodedata.category(character or " ")
    if any(first <= character <= last for first, last in UNSPACED) or (category[0] == "S" and not character.isascii()):
        return "symbol"
    return {"L": "letter", "N": "letter", "M": "mark"}.get(category[0])


def _find_cut(
    tokenizer: PreTrainedTokenizerBase, sentence: str, words: list[Word], max_length: int
) -> tuple[int, str]:
    """
    How many characters are read, and in words, where that is; nothing if it is the last word. Texts that end earlier
    and earlier are tokenized until one fits, which needs no offsets, and less than three times the work of the first.
    """

    def count_tokens(end: int) -> int:
        return len(tokenizer(sentence[:end], verbose=False)["input_ids"])

    ends = [word.end for word in words]
    if count_tokens(ends[-1]) <= max_length:
        return len(sentence), ""
    if num_read := bisect_right(ends, max_length, key=count_tokens):
        start, end = words[max(num_read - QUOTED_WORDS, 0)].start, ends[num_read - 1]
        quoted = _shorten(sentence[start:end], from_end=True)
        return end, f'"{"… " if num_read > QUOTED_WORDS else ""}{quoted}" (word {num_read} of {len(words)})'
    end = bisect_right(range(1, len(sentence) + 1), max_length, key=count_tokens)  # within the first word
    return end, f'"{_shorten(sentence[:end], from_end=True)}" (character {end} of {len(sentence)})'


def _find_unknown(tokenizer: PreTrainedTokenizerBase, text: str) -> tuple[list[str], bool]:
    """The words that are unknown, at least in part, each once; and whether one is known for the most part."""
    spells = _spells_by_letters(tokenizer)
    unknown, is_anything_left = [], False
    for word in dict.fromkeys(word.text for word in split_words(text, joiners="")):
        ids = tokenizer.encode(word, add_special_tokens=False, verbose=False)
        known = [token for token in ids if token != tokenizer.unk_token_id]
        pieces = [piece.removeprefix("##").strip(SPACE) for piece in tokenizer.convert_ids_to_tokens(known)]
        num_letters = sum(map(len, pieces))
        if spells and 2 * max(map(len, pieces), default=0) <= num_letters:
            num_letters = 0
        is_known = num_letters > 0 and len(known) == len(ids)
        if not is_known:
            unknown.append(word)
        is_anything_left = is_anything_left or is_known or 2 * num_letters > len(word)
    return unknown, is_anything_left


def _spells_by_letters(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether its vocabulary holds whole words, and of parts of words single letters alone."""
    if not isinstance(getattr(getattr(tokenizer, "backend_tokenizer", None), "model", None), WordPiece):
        return False
    continuations = [piece for piece in tokenizer.get_vocab() if piece.startswith("##")]
    return bool(continuations) and all(len(piece) == len("##") + 1 for piece in continuations)


def _shorten(text: str, from_end: bool = False) -> str:
    text = " ".join(text.split())
    if len(text) <= QUOTED_LETTERS:
        return text
    return f"…{text[-QUOTED_LETTERS:]}" if from_end else f"{text[:QUOTED_LETTERS]}…"
