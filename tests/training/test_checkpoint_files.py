import json

import ml_dtypes
import numpy as np
import pytest

from kerasblocks.training import _checkpoint_files
from kerasblocks.training._checkpoint_files import BrokenCheckpointError, CheckpointFolder

ARRAYS = {
    "model/0": np.arange(12.0, dtype="float32").reshape(3, 4),
    "model/1": np.array(7, "int64"),
    "model/2": np.zeros((0, 3), "float16"),
    "state/3": np.array([1.5, -2.0, np.nan], ml_dtypes.bfloat16),
    "flags": np.array([True, False]),
}
CONTENT = {"step": 5, "losses": [0.1, 1e-300, float("nan")], "name": "ümlaut"}


def written(folder, step=5):
    checkpoints = CheckpointFolder(folder / "checkpoints", keep=2)
    checkpoints.write(step, CONTENT | {"step": step}, ARRAYS)
    return checkpoints


def test_what_is_written_is_read(tmp_path):
    content, read = written(tmp_path).read(5)
    assert content["losses"][:2] == CONTENT["losses"][:2]
    assert content["name"] == CONTENT["name"]
    for (name, expected), found in zip(ARRAYS.items(), read(list(ARRAYS)), strict=True):
        assert (found.dtype, found.shape) == (expected.dtype, expected.shape), name
        assert found.tobytes() == expected.tobytes()


def test_the_newest_are_kept(tmp_path):
    checkpoints = written(tmp_path, 1)
    for step in (20, 3):
        checkpoints.write(step, CONTENT, ARRAYS)
    assert checkpoints.steps() == [20, 3]
    assert len(list(checkpoints.path.iterdir())) == 4


def test_no_damage_is_loaded_in_silence(tmp_path):
    checkpoints = written(tmp_path)
    files = sorted(checkpoints.path.iterdir())
    originals = [file.read_bytes() for file in files]
    rng = np.random.default_rng(0)
    silent = unnamed = 0
    for case in range(240):
        file, original = files[case % 2], originals[case % 2]
        place = int(rng.integers(len(original)))
        damaged = bytearray(original)
        if case % 3 == 0:
            damaged[place] ^= 1 << int(rng.integers(8))
        elif case % 3 == 1:
            damaged = damaged[:place]
        else:
            damaged[place:] = rng.bytes(len(original) - place)
        file.write_bytes(damaged)
        try:
            content, read = checkpoints.read(5)
            values = [array.tobytes() for array in read(list(ARRAYS))]
        except BrokenCheckpointError as error:
            unnamed += str(checkpoints.path) not in str(error)
        else:  # A flip may leave the same content, as another sign of the same space between two words.
            assert values == [array.tobytes() for array in ARRAYS.values()]
            silent += json.dumps(content["losses"]) != json.dumps(CONTENT["losses"])
        file.write_bytes(original)
    assert (silent, unnamed) == (0, 0)


@pytest.mark.parametrize("missing", [".json", ".safetensors"])
def test_half_a_checkpoint(tmp_path, missing):
    checkpoints = written(tmp_path)
    next(file for file in checkpoints.path.iterdir() if file.suffix == missing).unlink()
    if missing == ".safetensors":
        with pytest.raises(BrokenCheckpointError, match="the file is missing"):
            checkpoints.read(5)
    else:
        assert checkpoints.steps() == []
        checkpoints.tidy()
        assert list(checkpoints.path.iterdir()) == []


def forged(checkpoints, header, data=b""):
    """Replaces the arrays, and vouches for them as one who means harm can."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    image = len(text).to_bytes(8, "little") + text + data
    (checkpoints.path / "checkpoint-000000000005.safetensors").write_bytes(image)
    file = checkpoints.path / "checkpoint-000000000005.json"
    whole = json.loads(file.read_text())["content"]
    whole |= {"bytes": len(image), "sha256": _checkpoint_files._hash(image)}
    file.write_text(
        json.dumps({"checksum": _checkpoint_files._hash(_checkpoint_files._canonical(whole)), "content": whole})
    )


def array(**changes):
    return {"model/0": {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]} | changes}


@pytest.mark.parametrize(
    "header",
    [
        array(shape=[2**40, 2], data_offsets=[0, 2**43]),
        array(shape=[2**62, 4]),
        array(shape=[-1, -4]),
        array(shape=[[2], 2]),
        array(shape=[2.0, 2.0]),
        array(data_offsets=[8, 24]),
        array(data_offsets=[-16, 0]),
        array(data_offsets=[16, 0]),
        array(dtype="object"),
        array(dtype=["F32"]),
        {"model/0": 5},
        {},
        [],
        b"{" * 100_000,
        b"\xff",
    ],
    ids=lambda header: str(header)[:80],
)
def test_a_forged_file_takes_no_memory_and_reads_nothing_else(tmp_path, header):
    checkpoints = written(tmp_path)
    forged(checkpoints, header, bytes(16))
    _, read = checkpoints.read(5)
    with pytest.raises(BrokenCheckpointError, match=r"has no arrays model/0"):
        read(["model/0"])
    forged(checkpoints, array(), bytes(16))
    assert read(["model/0"])[0].tolist() == [[0, 0], [0, 0]]


def test_a_header_longer_than_the_file(tmp_path):
    checkpoints = written(tmp_path)
    forged(checkpoints, b"")
    file = checkpoints.path / "checkpoint-000000000005.safetensors"
    _, read = checkpoints.read(5)
    file.write_bytes((2**60).to_bytes(8, "little"))
    with pytest.raises(BrokenCheckpointError, match="is shorter than its header says"):
        read(["model/0"])
