"""One token a character, of those that a text has; Keras has no tokenizer that runs on every backend."""

from collections.abc import Iterable
from typing import Any

import numpy as np

from kerasblocks.data._tokens import in_vocabulary


class CharacterTokenizer:
    """One token for each of some characters, numbered in their order.

    Args:
        characters: the characters, each once.

    Attributes:
        vocabulary_size: how many there are.

    Raises:
        ValueError: no characters, or one that comes twice.

    Example:

    >>> from kerasblocks.data import CharacterTokenizer
    >>> tokenizer = CharacterTokenizer.trained(["hello", " world"])
    >>> tokenizer.vocabulary_size, tokenizer.decode(tokenizer.encode("hold"))
    (8, 'hold')
    """

    def __init__(self, characters: str) -> None:
        if not isinstance(characters, str) or not characters:
            raise ValueError(f"characters must be a text of at least one; got {characters!r}.")
        if len(set(characters)) < len(characters):
            raise ValueError("Each of the characters must come once.")
        self.characters = characters
        self._codes = np.array([ord(each) for each in characters], "uint32")
        self._order = np.argsort(self._codes)

    @classmethod
    def trained(cls, texts: Iterable[str]) -> "CharacterTokenizer":
        """Returns the tokenizer of the characters of some texts, in the order of their code points."""
        if isinstance(texts, str):
            raise ValueError("texts must be several in a list or the like; got one. Give [text].")
        found: set[str] = set()
        for text in texts:
            found.update(text)
        return cls("".join(sorted(found)))

    @property
    def vocabulary_size(self) -> int:
        return len(self.characters)

    def encode(self, text: str) -> np.ndarray:
        """Returns the tokens of a text, int32.

        Raises:
            ValueError: a character that there was none of; it is named.
        """
        codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "uint32")
        places = np.searchsorted(self._codes, codes, sorter=self._order).clip(max=self.vocabulary_size - 1)
        tokens = self._order[places]
        unknown = self._codes[tokens] != codes
        if unknown.any():
            where = int(unknown.argmax())
            raise ValueError(
                f"The character {text[where]!r}, number {where} of the text, is none of the {self.vocabulary_size} of "
                "the vocabulary."
            )
        found: np.ndarray = tokens.astype("int32")
        return found

    def decode(self, tokens: Any) -> str:
        """Returns the text of tokens."""
        return "".join(self.characters[token] for token in in_vocabulary(tokens, self.vocabulary_size))

    def count_characters(self, tokens: np.ndarray) -> int:
        """Returns how many characters the text of the tokens has."""
        return len(tokens)

    def get_config(self) -> dict[str, Any]:
        """Returns what `tokenizer_of` makes the tokenizer of again, ready for JSON."""
        return {"kind": "characters", "characters": self.characters}
