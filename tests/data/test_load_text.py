import sys

import numpy as np
import pytest

from kerasblocks.data import BytePairTokenizer, ByteTokenizer, CharacterTokenizer, load_text, tokenizer_of

pytestmark = pytest.mark.once

TEXT = "Grüße aus der Küche.\nAn old cat sat on a warm wall, 12 times 3.\r\n" * 40


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "text.txt"
    path.write_bytes(TEXT.encode())
    return path


@pytest.mark.parametrize("tokenizer", ["characters", "bytes", "bpe"])
def test_a_file_comes_back_whole(file, tokenizer):
    text = load_text(file, tokenizer, validation_split=0.25)
    tokens = np.concatenate([text.train, text.validation])
    assert text.tokenizer.decode(tokens) == TEXT
    assert text.tokenizer.count_characters(tokens) == len(TEXT)
    assert len(text.train) == int(len(tokens) * 0.75)
    assert tokens.max() < text.tokenizer.vocabulary_size
    assert isinstance(text.train, np.memmap)
    assert text.source == str(file)
    again = tokenizer_of(text.tokenizer.get_config())
    np.testing.assert_array_equal(again.encode(TEXT), text.tokenizer.encode(TEXT))


def test_python_s_own_topics_are_the_default():
    text = load_text()
    assert text.source == "Python's help topics"
    assert len(text.train) + len(text.validation) > 400_000
    assert "Python" in text.tokenizer.decode(text.train)
    assert text.fingerprint == load_text().fingerprint != load_text(tokenizer="bytes").fingerprint


@pytest.mark.parametrize("chunk", [1, 2, 3, 7, 1000])
def test_pieces_of_a_file_do_not_show(file, chunk, monkeypatch):
    expected = load_text(file, "bytes")
    monkeypatch.setattr(sys.modules["kerasblocks.data.load_text"], "_CHUNK", chunk)
    for tokenizer, text in (("bytes", expected), ("characters", load_text(file))):
        found = load_text(file, tokenizer)
        assert found.tokenizer.decode(np.concatenate([found.train, found.validation])) == TEXT
        np.testing.assert_array_equal(found.train, text.train)


def test_several_files_are_joined(file, tmp_path):
    other = tmp_path / "other.txt"
    other.write_text("the end", encoding="utf-8")
    text = load_text([file, other], "bytes")
    assert text.tokenizer.decode(np.concatenate([text.train, text.validation])) == TEXT + "the end"


def test_a_tokenizer_of_ones_own_is_used_as_it_is(file):
    tokenizer = CharacterTokenizer("".join(sorted(set(TEXT))) + "ξ")
    assert load_text(file, tokenizer).tokenizer is tokenizer
    with pytest.raises(ValueError, match="The character 'G', number 0 of the text, is none of the 3"):
        load_text(file, CharacterTokenizer("abc"))


def test_byte_pairs_are_fewer_than_bytes(file):
    text = load_text(file, "bpe", vocabulary_size=280)
    assert text.tokenizer.vocabulary_size == 280
    assert len(text.train) < len(load_text(file, "bytes").train) * 0.7
    assert text.tokenizer.decode(text.tokenizer.encode("ξ, 中 and more")) == "ξ, 中 and more"
    assert text.tokenizer.count_characters(text.tokenizer.encode("ξ, 中 and more")) == 13


@pytest.mark.parametrize("where", [0, 5, 3000])
@pytest.mark.parametrize("chunk", [3, 1 << 20])
def test_bytes_that_are_no_utf8_are_named(tmp_path, where, chunk, monkeypatch):
    monkeypatch.setattr(sys.modules["kerasblocks.data.load_text"], "_CHUNK", chunk)
    path = tmp_path / "bad.txt"
    path.write_bytes(b"a" * where + b"\xff" + b"b" * 10)
    with pytest.raises(ValueError, match=rf"bad.txt: no UTF-8 text at byte {where}: "):
        load_text(path)
    path.write_bytes(b"a" * where + "ü".encode()[:1])
    with pytest.raises(ValueError, match=rf"bad.txt: no UTF-8 text at byte {where}: it ends in a character"):
        load_text(path)


def test_files_that_cannot_be_read_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none.txt: no such file"):
        load_text(tmp_path / "none.txt")
    with pytest.raises(ValueError, match="not a file of text"):
        load_text(tmp_path)
    (tmp_path / "empty.txt").touch()
    with pytest.raises(ValueError, match=r"empty.txt: the file is empty"):
        load_text(tmp_path / "empty.txt")
    (tmp_path / "short.txt").write_text("abc")
    with pytest.raises(ValueError, match=r"short.txt: 3 tokens are too few for a training and a validation part"):
        load_text(tmp_path / "short.txt")
    with pytest.raises(ValueError, match="There must be at least one file; got none"):
        load_text([])


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (("topics", "words"), {}, "tokenizer must be one of 'characters', 'bytes', 'bpe', or a tokenizer; got 'words'"),
        (
            ("topics", 3),
            {},
            r"tokenizer must be the name of one, or have a method encode\(text\) and a vocabulary_size",
        ),
        (("topics",), {"vocabulary_size": 300}, "vocabulary_size is that of 'bpe'; got 300 with 'characters'"),
        (("topics", "bpe"), {"vocabulary_size": 100}, "vocabulary_size must be an integer of at least 257; got 100"),
        (("topics",), {"validation_split": 1.0}, "validation_split must lie in 0 < validation_split < 1; got 1.0"),
    ],
    ids=range(5),
)
def test_bad_arguments_are_refused(arguments, options, message):
    with pytest.raises(ValueError, match=message):
        load_text(*arguments, **options)


def test_tokenizers_refuse_what_they_cannot_be_made_of():
    with pytest.raises(ValueError, match="characters must be a text of at least one; got ''"):
        CharacterTokenizer("")
    with pytest.raises(ValueError, match="Each of the characters must come once"):
        CharacterTokenizer("aba")
    with pytest.raises(ValueError, match="content must be the JSON text of a tokenizer"):
        BytePairTokenizer("no JSON")
    with pytest.raises(
        ValueError, match=r"config must be what a tokenizer's get_config\(\) returned; got .'kind': 'x'."
    ):
        tokenizer_of({"kind": "x"})


def test_tokens_that_cut_a_character_apart_are_replaced():
    assert ByteTokenizer().decode([195]) == "\ufffd"


def test_a_missing_tokenizers_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(ModuleNotFoundError, match="needs the package tokenizers: pip install tokenizers"):
        load_text(tokenizer="bpe")
