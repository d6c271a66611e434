"""Byte-pair encoding by the tokenizers library, with what a language model asks of it; Keras has no tokenizer."""

import json
import sys
from collections.abc import Iterable
from typing import Any

import numpy as np

from kerasblocks._arguments import as_integer
from kerasblocks.data._tokens import in_vocabulary


class BytePairTokenizer:
    """Frequent runs of bytes as tokens, as in GPT-2; any text can be written. It needs the package `tokenizers`.

    Args:
        content: what the tokenizers library writes, JSON text.

    Attributes:
        vocabulary_size: how many tokens there are.

    Raises:
        ModuleNotFoundError: the package is missing.
        ValueError: text that the library does not read.

    Source: Sennrich, Haddow and Birch, "Neural machine translation of rare words with subword units", ACL 2016.

    Example:

    >>> from kerasblocks.data import BytePairTokenizer
    >>> tokenizer = BytePairTokenizer.trained(["to be or not to be"] * 9, vocabulary_size=260)
    >>> tokenizer.vocabulary_size, tokenizer.decode(tokenizer.encode("to beé"))
    (260, 'to beé')
    """

    def __init__(self, content: str) -> None:
        tokenizers = _library()
        try:
            self._tokenizer = tokenizers.Tokenizer.from_str(content)
        except Exception as error:  # The library raises nothing more special.
            raise ValueError(f"content must be the JSON text of a tokenizer; {error}") from error
        names = [self._tokenizer.id_to_token(token) or "" for token in range(self.vocabulary_size)]
        alphabet = _bytes_by_character()
        starts = [sum(alphabet.get(letter, 0) & 0xC0 != 0x80 for letter in name) for name in names]
        self._characters = np.array(starts, "int64")

    @classmethod
    def trained(cls, texts: Iterable[str], vocabulary_size: int = 4096) -> "BytePairTokenizer":
        """Returns a tokenizer trained on texts, of at most so many tokens, 257 or more."""
        tokenizers = _library()
        if isinstance(texts, str):
            raise ValueError("texts must be several in a list or the like; got one. Give [text].")
        vocabulary_size = as_integer("vocabulary_size", vocabulary_size, least=257)
        tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
        tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = tokenizers.decoders.ByteLevel()
        alphabet = tokenizers.pre_tokenizers.ByteLevel.alphabet()
        trainer = tokenizers.trainers.BpeTrainer(
            vocab_size=vocabulary_size, initial_alphabet=sorted(alphabet), show_progress=sys.stdout.isatty()
        )
        tokenizer.train_from_iterator(texts, trainer)
        return cls(tokenizer.to_str())

    @property
    def vocabulary_size(self) -> int:
        return int(self._tokenizer.get_vocab_size())

    def encode(self, text: str) -> np.ndarray:
        """Returns the tokens of a text, int32."""
        return np.array(self._tokenizer.encode(text).ids, "int32")

    def decode(self, tokens: Any) -> str:
        """Returns the text of tokens; of bytes that are no UTF-8, replacement characters."""
        return str(self._tokenizer.decode(in_vocabulary(tokens, self.vocabulary_size).tolist()))

    def count_characters(self, tokens: np.ndarray) -> int:
        """Returns how many characters the text of the tokens has."""
        return int(self._characters[np.asarray(tokens)].sum())

    def get_config(self) -> dict[str, Any]:
        """Returns what `tokenizer_of` makes the tokenizer of again, ready for JSON."""
        return {"kind": "bpe", "content": json.loads(self._tokenizer.to_str())}


def _library() -> Any:
    try:
        import tokenizers
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "Byte-pair encoding needs the package tokenizers: pip install tokenizers (the extra text brings it)"
        ) from error
    return tokenizers


def _bytes_by_character() -> dict[str, int]:
    """Returns the byte for which each character stands in the names of tokens: itself where it can be printed."""
    printed = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printed]
    named = {chr(byte): byte for byte in printed}
    return named | {chr(256 + place): byte for place, byte in enumerate(others)}
