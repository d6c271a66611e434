"""Text as tokens, the embedded default or one's own files, memory-mapped; Keras has no loader of text."""

import codecs
import dataclasses
import json
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kerasblocks._arguments import as_number
from kerasblocks._progress import progress
from kerasblocks.data._digest import digest_of
from kerasblocks.data._tokens import in_vocabulary
from kerasblocks.data.byte_pair_tokenizer import BytePairTokenizer
from kerasblocks.data.byte_tokenizer import ByteTokenizer
from kerasblocks.data.character_tokenizer import CharacterTokenizer

Tokenizer = CharacterTokenizer | ByteTokenizer | BytePairTokenizer
_CHUNK = 1 << 20  # bytes that are read at a time
_TOPICS = "topics"


@dataclasses.dataclass(frozen=True)
class TextData:
    """A text as tokens, its end kept for validation.

    Attributes:
        train: tokens of the training part.
        validation: tokens of the rest.
        tokenizer: what made them.
        source: where the text came from.
    """

    train: np.ndarray
    validation: np.ndarray
    tokenizer: Any
    source: str

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the tokens of both parts, which takes a pass over them."""
        return digest_of([self.train, self.validation])


def load_text(
    source: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] = _TOPICS,
    tokenizer: Any = "characters",
    *,
    vocabulary_size: int | None = None,
    validation_split: float = 0.1,
) -> TextData:
    """Reads text, makes tokens of it in one pass, and keeps the last part for validation.

    The tokens are written to a temporary file, which goes with the process, and memory-mapped: text and tokens may be
    larger than the memory. (Characters are collected, and byte pairs trained, in a pass before.)

    Args:
        source: `"topics"`, the help texts on the topics of Python itself, which each installation has: half a million
            characters of English; a file of UTF-8; or several, which are joined in this order.
        tokenizer: `"characters"`, one token for each character that there is; `"bytes"`; `"bpe"`, byte-pair encoding
            by the package `tokenizers`; or a tokenizer, to be used as it is.
        vocabulary_size: how many tokens `"bpe"` makes at most; None for 4,096. Not with the others.
        validation_split: which part of the tokens, from the end, is kept for validation, 0 < validation_split < 1.

    Returns:
        Training and validation tokens, uint16 or uint32, and the tokenizer.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a folder, an empty file, bytes that are no UTF-8 (the place is named), a text that is too short to
            be split, an unknown tokenizer, numbers out of their ranges.

    Example:

    >>> from kerasblocks.data import load_text
    >>> text = load_text()
    >>> len(text.train) > 400_000, "statement" in text.tokenizer.decode(text.validation)
    (True, True)
    """
    share = as_number("validation_split", validation_split)
    if not 0 < share < 1:
        raise ValueError(f"validation_split must lie in 0 < validation_split < 1; got {validation_split!r}.")
    read, name = _reader(source)
    if vocabulary_size is not None and tokenizer != "bpe":
        raise ValueError(f"vocabulary_size is that of 'bpe'; got {vocabulary_size!r} with {tokenizer!r}.")
    if isinstance(tokenizer, str):
        trained: dict[str, Callable[[], Any]] = {
            "characters": lambda: CharacterTokenizer.trained(read()),
            "bytes": ByteTokenizer,
            "bpe": lambda: BytePairTokenizer.trained(
                read(), **({} if vocabulary_size is None else {"vocabulary_size": vocabulary_size})
            ),
        }
        if tokenizer not in trained:
            known = ", ".join(map(repr, trained))
            raise ValueError(f"tokenizer must be one of {known}, or a tokenizer; got {tokenizer!r}.")
        tokenizer = trained[tokenizer]()
    elif not callable(getattr(tokenizer, "encode", None)) or not hasattr(tokenizer, "vocabulary_size"):
        raise ValueError(
            "tokenizer must be the name of one, or have a method encode(text) and a vocabulary_size; got "
            f"{tokenizer!r}."
        )
    size = tokenizer.vocabulary_size
    with progress(None, "piece") as advance:

        def encoded() -> Iterator[np.ndarray]:
            for piece in read():
                yield in_vocabulary(tokenizer.encode(piece), size)
                advance()

        tokens = _mapped(encoded(), size)
    kept = int(len(tokens) * (1 - share))
    if min(kept, len(tokens) - kept) < 2:
        raise ValueError(
            f"{name}: {len(tokens)} tokens are too few for a training and a validation part of at least two each."
        )
    return TextData(tokens[:kept], tokens[kept:], tokenizer, name)


def tokenizer_of(config: dict[str, Any]) -> Any:
    """Returns the tokenizer that has given this configuration.

    Args:
        config: what its `get_config()` returned.

    Raises:
        ValueError: it is of none that is known.

    Example:

    >>> from kerasblocks.data import ByteTokenizer, tokenizer_of
    >>> tokenizer_of(ByteTokenizer().get_config()).vocabulary_size
    256
    """
    kind = config.get("kind") if isinstance(config, dict) else None
    if kind == "characters":
        return CharacterTokenizer(config["characters"])
    if kind == "bytes":
        return ByteTokenizer()
    if kind == "bpe":
        return BytePairTokenizer(json.dumps(config["content"]))
    raise ValueError(f"config must be what a tokenizer's get_config() returned; got {config!r}.")


def _reader(source: Any) -> tuple[Callable[[], Iterable[str]], str]:
    """Returns a function that reads the text piece by piece, whenever it is called, and the name of the source."""
    if source == _TOPICS:
        return _topics, "Python's help topics"
    several = isinstance(source, list | tuple)
    files = [Path(each) for each in (source if several else [source])]
    if not files:
        raise ValueError("There must be at least one file; got none.")
    for file in files:
        if not file.exists():
            raise FileNotFoundError(f"{file}: no such file.")
        if not file.is_file():
            raise ValueError(f"{file}: not a file of text.")
        if file.stat().st_size == 0:
            raise ValueError(f"{file}: the file is empty.")
    return lambda: (piece for file in files for piece in _pieces(file)), ", ".join(map(str, files))


def _topics() -> Iterator[str]:
    from pydoc_data.topics import topics

    for name in sorted(topics):
        yield f"{topics[name].strip()}\n\n"


def _pieces(file: Path) -> Iterator[str]:
    """Reads a file of UTF-8 in pieces that end with a line where they can."""
    decoder, read, rest = codecs.getincrementaldecoder("utf-8")(), 0, ""
    with file.open("rb") as opened:
        while block := opened.read(_CHUNK):
            pending = len(decoder.getstate()[0])
            try:
                rest += decoder.decode(block, final=False)
            except UnicodeDecodeError as error:
                raise ValueError(
                    f"{file}: no UTF-8 text at byte {read - pending + error.start}: {error.reason}."
                ) from None
            read += len(block)
            end = rest.rfind("\n") + 1 or len(rest)
            yield rest[:end]
            rest = rest[end:]
    if decoder.getstate()[0]:
        raise ValueError(f"{file}: no UTF-8 text at byte {read - len(decoder.getstate()[0])}: it ends in a character.")
    if rest:
        yield rest


def _mapped(pieces: Iterable[np.ndarray], vocabulary_size: int) -> np.ndarray:
    """Returns the tokens of all pieces, in a file that is gone with the process."""
    dtype = np.dtype("uint16" if vocabulary_size <= 1 << 16 else "uint32")
    with tempfile.TemporaryFile() as file:
        count = 0
        for piece in pieces:
            file.write(piece.astype(dtype).tobytes())
            count += len(piece)
        file.flush()
        if count == 0:
            return np.zeros(0, dtype)
        return np.memmap(file, dtype, "r", shape=(count,))
