"""Finds what a model does not read of a sentence: words beyond its limit, and unknown words."""

import unicodedata
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass

from tokenizers.models import WordPiece
from transformers import PreTrainedTokenizerBase


# Kana and Chinese characters, of which each counts as a word, as in BERT's tokenizer.
UNSPACED = (("\u3040", "\u30ff"), ("\u3400", "\u4dbf"), ("\u4e00", "\u9fff"), ("\uf900", "\ufaff"))
JOINERS = "'\u2019-\u2010\u200c\u200d"
SPACE = "\u2581"  # SentencePiece puts this before each word, also before unknown ones
QUOTED_WORDS, QUOTED_LETTERS, NAMED_WORDS = 3, 40, 10


@dataclass(frozen=True)
class Word:
    """A word of a sentence, which is `sentence[start:end]`."""

    text: str
    start: int
    end: int


def read_sentence(tokenizer: PreTrainedTokenizerBase, sentence: str, max_length: int) -> list[str]:
    """
    Warnings about words of a sentence that a model does not read, such as `The sentence was cut after "… red coat"
    (word 61 of 80): the model reads 77 tokens.` and `The model does not know: "xqzt", "ñandú".` Empty if it reads all.

    A word is unknown if the tokenizer has no token for it or for a part of it. A tokenizer whose vocabulary has whole
    words and single letters, such as that of `learn_tokenizer`, splits other words into letters, which have no meaning
    for the model. There, a word is known if one token is more than half of it, as "coat" of "coats". For byte-level
    tokenizers, such as those of CLIP and RoBERTa, all words are known.

    Args:
        tokenizer: the tokenizer of the model.
        sentence: the sentence.
        max_length: the number of tokens that the model reads, including special ones.

    Raises:
        ValueError: if the model knows no word of the sentence.
    """
    words = list(split_words(sentence))
    if not any(letter.isalnum() for word in words for letter in word.text):
        raise ValueError(f'There is no word in the sentence "{_shorten(sentence)}": describe a person in words.')

    end, where = _find_cut(tokenizer, sentence, words, max_length)
    unknown, is_any_known = _find_unknown(tokenizer, sentence[:end])
    if not is_any_known:
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
    Yields the words of a text: sequences of letters, digits and combining marks, which apostrophes and hyphens may
    join; and each symbol, such as an emoji. Punctuation is no word.

    Args:
        text: the text.
        joiners: the characters that join letters to one word.
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
    """The kind of a character in a word: letter, mark or symbol; None if it is not part of words."""
    category = unicodedata.category(character or " ")
    if any(first <= character <= last for first, last in UNSPACED) or (category[0] == "S" and not character.isascii()):
        return "symbol"
    return {"L": "letter", "N": "letter", "M": "mark"}.get(category[0])


def _find_cut(
    tokenizer: PreTrainedTokenizerBase, sentence: str, words: list[Word], max_length: int
) -> tuple[int, str]:
    """
    The number of characters that are read, and a phrase for the last word that is read; an empty one if the sentence
    is not cut. A binary search tokenizes shorter texts until one fits, which works without offsets, too.
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
    """The words that are unknown, at least in part, each once; and whether any word is mostly known."""
    spells = _spells_by_letters(tokenizer)
    unknown, is_any_known = [], False
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
        is_any_known = is_any_known or is_known or 2 * num_letters > len(word)
    return unknown, is_any_known


def _spells_by_letters(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether the vocabulary has whole words, and only single letters as parts of words."""
    if not isinstance(getattr(getattr(tokenizer, "backend_tokenizer", None), "model", None), WordPiece):
        return False
    continuations = [piece for piece in tokenizer.get_vocab() if piece.startswith("##")]
    return bool(continuations) and all(len(piece) == len("##") + 1 for piece in continuations)


def _shorten(text: str, from_end: bool = False) -> str:
    text = " ".join(text.split())
    if len(text) <= QUOTED_LETTERS:
        return text
    return f"…{text[-QUOTED_LETTERS:]}" if from_end else f"{text[:QUOTED_LETTERS]}…"
