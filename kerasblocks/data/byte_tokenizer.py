"""One token a byte of UTF-8: any text, in 256 tokens; Keras has no tokenizer that runs on every backend."""

from typing import Any

import numpy as np

from kerasblocks.data._tokens import in_vocabulary


class ByteTokenizer:
    """One token for each byte of a text in UTF-8.

    Attributes:
        vocabulary_size: 256.

    Example:

    >>> from kerasblocks.data import ByteTokenizer
    >>> tokenizer = ByteTokenizer()
    >>> tokenizer.encode("né").tolist(), tokenizer.decode([110, 195, 169])
    ([110, 195, 169], 'né')
    """

    vocabulary_size = 256

    def encode(self, text: str) -> np.ndarray:
        """Returns the tokens of a text, int32."""
        return np.frombuffer(text.encode("utf-8"), "uint8").astype("int32")

    def decode(self, tokens: Any) -> str:
        """Returns the text of tokens; of bytes that are no UTF-8, replacement characters."""
        return bytes(in_vocabulary(tokens, self.vocabulary_size).astype("uint8")).decode("utf-8", "replace")

    def count_characters(self, tokens: np.ndarray) -> int:
        """Returns how many characters the text of the tokens has."""
        return int(np.count_nonzero((np.asarray(tokens) & 0xC0) != 0x80))  # Other bytes continue one.

    def get_config(self) -> dict[str, Any]:
        """Returns what `tokenizer_of` makes the tokenizer of again, ready for JSON."""
        return {"kind": "bytes"}
