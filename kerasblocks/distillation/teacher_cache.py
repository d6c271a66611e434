"""A teacher's outputs on disk, computed once and joined to batches in whatever order these come; Keras has none."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np

from kerasblocks._progress import progress
from kerasblocks._whole_file import temporary_file, whole_file
from kerasblocks.data import ArrayBatches
from kerasblocks.data._digest import digest_of
from kerasblocks.distillation._teacher_hash import function_hash, teacher_hash
from kerasblocks.ops._floating import accumulation_dtype
from kerasblocks.ops.distillation_loss import check_choice

_FORMAT = 1
_DTYPES = ("float16", "float32", "float64")
_INPUTS, _OUTPUTS = "inputs", "kerasblocks_teacher_"
_SHOWN = 16  # hexadecimal digits of a teacher's hash that travel with its outputs


class TeacherCache:
    """The outputs of a teacher for every sample of some data, memory-mapped.

    Training from them equals training from the teacher within the precision of the stored dtype, and runs no teacher.

    Args:
        path: the folder that `TeacherCache.write` has written.

    Attributes:
        path: the folder.
        num_samples: how many samples there are.
        outputs: arrays of shape `(samples, ...)`, nested as the teacher's outputs are; read from the disk when used.
        teacher: hash of the teacher: of a model's class, configuration and weights; of a function's name and code, and
            of the models that it names.

    Raises:
        FileNotFoundError: there is no cache.
        ValueError: what is there is not a cache, or not whole.

    Example:

    >>> import os, tempfile
    >>> import keras, numpy as np
    >>> from kerasblocks.data import ArrayBatches
    >>> from kerasblocks.distillation import Distiller, TeacherCache
    >>> student, teacher = (keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)]) for _ in range(2))
    >>> batches = ArrayBatches(np.random.rand(20, 4), np.arange(20) % 3, batch_size=8, seed=0)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     cache = TeacherCache.write(teacher, batches, os.path.join(folder, "cache"))
    ...     distiller = Distiller(student=student, teacher=cache)
    ...     distiller.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    ...     history = distiller.fit(cache.join(batches), verbose=0)
    >>> cache.num_samples, sorted(history.history)
    (20, ['distillation_loss', 'loss', 'student_loss'])
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path).absolute()
        file = self.path / "cache.json"
        if not file.is_file():
            raise FileNotFoundError(f"{self.path}: there is no cache of a teacher; TeacherCache.write makes one.")
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
            if content["format"] != _FORMAT:
                raise ValueError(f"format {content['format']!r} instead of {_FORMAT}")
            self.teacher, self._data = str(content["teacher"]), str(content["data"])
            self.num_samples = int(content["samples"])
            self._inputs = str(content.get("inputs", ""))
            arrays = [self._opened(index, each) for index, each in enumerate(content["arrays"])]
            self.outputs = _packed(content["structure"], iter(arrays))
        except (ValueError, KeyError, TypeError, OSError) as error:
            raise ValueError(f"{self.path}: not a whole cache of a teacher: {error}") from error

    def _opened(self, index: int, described: dict[str, Any]) -> np.ndarray:
        check_choice("dtype", described["dtype"], _DTYPES)
        shape = tuple(int(size) for size in described["shape"])
        if not shape or shape[0] != self.num_samples or min(shape) < 0:
            raise ValueError(f"shape {shape} for {self.num_samples} samples")
        file = self.path / f"outputs-{index}.bin"
        wanted = int(np.prod(shape)) * np.dtype(described["dtype"]).itemsize
        if file.stat().st_size != wanted:
            raise ValueError(f"{file.name} has {file.stat().st_size} bytes instead of {wanted}")
        return np.memmap(file, described["dtype"], "r", shape=shape)

    @staticmethod
    def write(
        teacher: Any,
        batches: ArrayBatches,
        path: str | os.PathLike[str],
        dtype: str = "float16",
        *,
        teacher_inputs: Callable[[Any], Any] | None = None,
    ) -> "TeacherCache":
        """Runs the teacher over all samples once, in inference mode, and writes its outputs.

        Where the folder has those of the same teacher for the same samples in the same dtype, they are kept.

        Args:
            teacher: a Keras model, or a function on tensors.
            batches: the data; order and labels do not matter, and of the size of a batch only the memory does.
            path: the folder.
            dtype: `"float16"`, `"float32"` or `"float64"`, of what is written.
            teacher_inputs: function that makes the teacher's inputs from those of a batch.

        Returns:
            The cache.

        Raises:
            TypeError: batches that are no `ArrayBatches`, or draw other inputs every time.
            ValueError: another cache in the folder; outputs that are not finite, or too large for the dtype.
            FileExistsError: the folder is there and is no cache.
        """
        folder = Path(path).absolute()
        check_choice("dtype", dtype, _DTYPES)
        _check_batches(batches)
        _build(teacher, batches, teacher_inputs)
        known = {"teacher": teacher_hash(teacher), "data": _data_hash(batches), "dtype": dtype}
        known["inputs"] = "" if teacher_inputs is None else function_hash(teacher_inputs)
        if folder.exists():
            return _kept(folder, known)
        folder.parent.mkdir(parents=True, exist_ok=True)
        with temporary_file(folder) as temporary:
            temporary.mkdir()
            described, structure = _write_arrays(temporary, teacher, batches, dtype, teacher_inputs)
            content = {
                "format": _FORMAT,
                "samples": batches.num_samples,
                "structure": structure,
                "arrays": described,
                **known,
            }
            with whole_file(temporary / "cache.json") as file:
                file.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
            try:
                temporary.rename(folder)
            except OSError:
                if not folder.exists():
                    raise
                return _kept(folder, known)  # Another process was faster.
        return TeacherCache(folder)

    def join(self, batches: ArrayBatches) -> ArrayBatches:
        """Returns batches of the same samples in the same order that carry the teacher's outputs for `Distiller.fit`.

        Raises:
            TypeError: batches that are no `ArrayBatches`, or draw other inputs every time.
            ValueError: they are of other data.
        """
        _check_batches(batches)
        if batches.num_samples != self.num_samples or _data_hash(batches) != self._data:
            raise ValueError(
                f"{self.path}: the outputs are those of other data ({self.num_samples} samples there, "
                f"{batches.num_samples} here): write a cache of these."
            )
        x, *others = batches.arrays
        return ArrayBatches(
            {_INPUTS: x, _OUTPUTS + self.teacher[:_SHOWN]: self.outputs},
            *others,
            batch_size=batches.batch_size,
            shuffle=batches.shuffle,
            seed=batches.seed,
            drop_remainder=batches.drop_remainder,
        )


def split_inputs(x: Any) -> tuple[Any, Any, str | None]:
    """Returns a batch's inputs, the teacher's outputs that they carry, and the hash of that teacher, or None twice."""
    if isinstance(x, dict) and len(x) == 2 and _INPUTS in x:
        (key,) = set(x) - {_INPUTS}
        if isinstance(key, str) and key.startswith(_OUTPUTS):
            return x[_INPUTS], x[key], key.removeprefix(_OUTPUTS)
    return x, None, None


def is_of(teacher: str, shown: str) -> bool:
    """Returns whether outputs that carry `shown` are of the teacher with this hash."""
    return teacher[:_SHOWN] == shown


def _check_batches(batches: Any) -> None:
    if not isinstance(batches, ArrayBatches):
        raise TypeError(
            f"Stored outputs are joined to kerasblocks.data.ArrayBatches, which know their samples; got "
            f"{type(batches)}. Wrap arrays as ArrayBatches(x, y, batch_size=32)."
        )
    kind = type(batches)
    if kind.batch is not ArrayBatches.batch or kind.__getitem__ is not ArrayBatches.__getitem__:
        raise TypeError(
            f"{kind.__qualname__} makes batches of its own, by random augmentation for instance: stored outputs would "
            "be those of other inputs. Augment in layers of the student, or let the teacher run beside it."
        )


def _data_hash(batches: ArrayBatches) -> str:
    x = batches.arrays[0]
    return digest_of(x, *map(str, keras.tree.flatten(_structure(x, []))))


def _kept(folder: Path, known: dict[str, str]) -> TeacherCache:
    if not (folder / "cache.json").is_file():
        raise FileExistsError(f"{folder}: is there and is no cache of a teacher; choose another folder.")
    cache = TeacherCache(folder)
    dtype = str(keras.tree.flatten(cache.outputs)[0].dtype)
    found = {"teacher": cache.teacher, "data": cache._data, "dtype": dtype, "inputs": cache._inputs}
    differences = [name for name, value in known.items() if found[name] != value]
    if differences:
        raise ValueError(
            f"{folder}: has the outputs of another {' and another '.join(differences)}; choose another folder, or "
            "remove this one."
        )
    return cache


def _write_arrays(
    folder: Path, teacher: Any, batches: ArrayBatches, dtype: str, teacher_inputs: Callable[[Any], Any] | None
) -> tuple[list[dict[str, Any]], Any]:
    """Writes the outputs batch by batch; returns what describes them and their structure."""
    files: list[Any] = []
    described: list[dict[str, Any]] = []
    structure: Any = None
    ordered = _in_order(batches)
    try:
        with progress(len(ordered), "batch") as advance:
            for (x,) in ordered.iterate():
                outputs = _outputs_of(teacher, x if teacher_inputs is None else teacher_inputs(x))
                leaves: list[Any] = []
                structure = _structure(outputs, leaves)
                arrays = [np.asarray(keras.ops.convert_to_numpy(_wide(leaf))) for leaf in leaves]
                if not files:
                    files = [(folder / f"outputs-{index}.bin").open("wb") for index in range(len(arrays))]
                    described = [{"dtype": dtype, "shape": [batches.num_samples, *each.shape[1:]]} for each in arrays]
                for file, array in zip(files, arrays, strict=True):
                    if len(array) != len(keras.tree.flatten(x)[0]):
                        raise ValueError(f"The teacher must return a row for each sample; got the shape {array.shape}.")
                    file.write(_as_stored(array, dtype).tobytes())
                advance()
        for file in files:
            file.flush()
            os.fsync(file.fileno())
    finally:
        for file in files:
            file.close()
    return described, structure


def _in_order(batches: ArrayBatches) -> ArrayBatches:
    return ArrayBatches(batches.arrays[0], batch_size=batches.batch_size, shuffle=False)


def _build(teacher: Any, batches: ArrayBatches, teacher_inputs: Callable[[Any], Any] | None) -> None:
    """Makes a model's variables where it has none yet, for its hash."""
    if isinstance(teacher, keras.layers.Layer) and not teacher.built:
        (x,) = _in_order(batches).batch(0, 0)
        teacher(
            keras.tree.map_structure(keras.ops.convert_to_tensor, x if teacher_inputs is None else teacher_inputs(x))
        )


def _outputs_of(teacher: Any, x: Any) -> Any:
    if not isinstance(teacher, keras.layers.Layer):
        return teacher(keras.tree.map_structure(keras.ops.convert_to_tensor, x))
    # What a prediction changes, such as the states of seeds, is put back.
    before = [np.array(keras.ops.convert_to_numpy(variable)) for variable in teacher.non_trainable_variables]
    try:
        return teacher.predict_on_batch(x)
    finally:
        for variable, value in zip(teacher.non_trainable_variables, before, strict=False):
            variable.assign(value)


def _wide(output: Any) -> Any:
    return keras.ops.cast(output, accumulation_dtype(output.dtype))


def _as_stored(array: np.ndarray, dtype: str) -> np.ndarray:
    if not np.isfinite(array).all():
        raise ValueError("The teacher's outputs are not all finite.")
    with np.errstate(over="ignore"):
        stored = array.astype(dtype)
    if not np.isfinite(stored).all():
        raise ValueError(
            f"The teacher's outputs reach {abs(array).max():.4g}, too large for {dtype}: use dtype='float32'."
        )
    return stored


def _structure(outputs: Any, leaves: list[Any]) -> Any:
    """Returns how tensors are nested, as JSON has it, and appends them to `leaves`."""
    if isinstance(outputs, dict):
        return {str(name): _structure(outputs[name], leaves) for name in sorted(outputs)}
    if isinstance(outputs, list | tuple):
        return [_structure(each, leaves) for each in outputs]
    leaves.append(outputs)
    return None


def _packed(structure: Any, arrays: Any) -> Any:
    if isinstance(structure, dict):
        return {name: _packed(part, arrays) for name, part in structure.items()}
    if isinstance(structure, list):
        return tuple(_packed(part, arrays) for part in structure)
    return next(arrays)
