"""RandAugment, MixUp and CutMix of batches that stay a function of seed and epoch, which the layers alone are not."""

import contextlib
import functools
import importlib.util
import os
import subprocess
import sys
import tempfile
import weakref
from collections.abc import Iterator
from typing import IO, Any, cast

import keras
import numpy as np

from kerasblocks._arguments import as_integer
from kerasblocks.data import _augmenting_process
from kerasblocks.data._ahead import Ahead
from kerasblocks.data._epoch_batches import EpochBatches

_KINDS = ("randaugment", "mixup", "cutmix")
_LIBRARIES = ("keras-cv", "keras")


class AugmentedBatches(EpochBatches):
    """Batches whose images are augmented by keras-cv's layers or by Keras's own, ahead of the one that asks.

    - `"randaugment"` changes images by two operations of magnitude 0.5 out of a list (brightness, contrast, shear and
      so on); they are clipped to 0..1 before and after. keras-cv draws the operations for each image, Keras for a
      batch.
    - `"mixup"` gives λx + (1 − λ)x′ and λy + (1 − λ)y′ for each image x and its partner x′, an image of the batch (by
      chance itself), with λ ~ Beta(0.2, 0.2).
    - `"cutmix"` puts a rectangle of the partner into the image, whose area is about 1 − λ, λ ~ Beta(1, 1), and weighs
      the labels by the areas, but for the rounding to whole pixels with Keras; keras-cv's can differ by more.

    The layers run in a process of their own, which serves all batches and ends with the program: with keras-cv on
    TensorFlow, which it needs, whatever the backend of the training is, so that the numbers are the same on every
    backend; with Keras on the CPU by the backend in use, which has its own numbers. Each batch is drawn anew from
    `SeedSequence([seed, epoch, index])`: it is a pure function of seed, epoch and index, and can be resumed. The first
    takes the seconds in which that process begins.

    Args:
        batches: `ImageBatches`, `ArrayBatches` or others with `batch(epoch, index)`, of NumPy float images of shape
            `(batch, height, width, channels)`, for RandAugment RGB from 0 to 1. To mix, labels are one-hot vectors
            (`num_classes` of `ImageBatches`), without sample weights.
        kind: `"randaugment"`, `"mixup"` or `"cutmix"`.
        seed: non-negative integer.
        library: `"keras-cv"` (the extra `cv`) or `"keras"`; None for keras-cv if it is installed.
        processes: how many work side by side.
        ahead: how many batches are made ahead.

    Attributes:
        library: the one that is used.
        epoch: the epoch whose batches `batches[index]` gives; `fit` sets it.
        shuffle: that of `batches`.

    Raises:
        ValueError: an unknown kind or library, one that is not installed; batches that cannot be augmented so.
        RuntimeError: the process cannot work; the message is its own.

    Source: Cubuk et al., "RandAugment", NeurIPS 2020; Zhang et al., "mixup: beyond empirical risk minimization", ICLR
    2018; Yun et al., "CutMix", ICCV 2019.

    Example:

    >>> import numpy as np
    >>> from kerasblocks.data import ArrayBatches, AugmentedBatches
    >>> images, labels = np.zeros((8, 6, 6, 3), "uint8"), np.eye(4, dtype="float32")[[0, 1, 2, 3] * 2]
    >>> batches = AugmentedBatches(ArrayBatches(images, labels, batch_size=4), "mixup", library="keras")
    >>> x, y = batches.batch(epoch=0, index=1)
    >>> x.shape, y.sum(axis=-1).round(5).tolist()
    ((4, 6, 6, 3), [1.0, 1.0, 1.0, 1.0])
    """

    in_order = "augment those of the training only"

    def __init__(
        self,
        batches: Any,
        kind: str,
        *,
        seed: int = 0,
        library: str | None = None,
        processes: int = 1,
        ahead: int = 2,
    ) -> None:
        super().__init__()
        if kind not in _KINDS:
            raise ValueError(f"kind must be one of {', '.join(map(repr, _KINDS))}; got {kind!r}.")
        if library not in (None, *_LIBRARIES):
            raise ValueError(f"library must be one of {', '.join(map(repr, _LIBRARIES))} or None; got {library!r}.")
        found = importlib.util.find_spec("keras_cv") is not None
        if library == "keras-cv" and not found:
            raise ValueError("library 'keras-cv' is not installed: pip install 'kerasblocks[cv]', or take 'keras'.")
        if not callable(getattr(batches, "batch", None)) or not hasattr(batches, "__len__"):
            raise ValueError(
                f"batches must have batch(epoch, index), as ImageBatches and ArrayBatches have; got {batches!r}."
            )
        self.kind, self.seed = kind, as_integer("seed", seed, least=0)
        self.library = library or ("keras-cv" if found else "keras")
        self.shuffle = getattr(batches, "shuffle", True)
        self._batches = batches
        self._check(0, 0, batches.batch(0, 0))
        self._ahead = Ahead(
            self._made,
            length=len(batches),
            changing=True,
            threads=as_integer("processes", processes, least=1),
            ahead=as_integer("ahead", ahead, least=0),
        )

    def __len__(self) -> int:
        return len(self._batches)

    @property
    def num_samples(self) -> int:
        """Number of images."""
        return int(self._batches.num_samples)

    def batch(self, epoch: int, index: int) -> tuple[Any, ...]:
        """Returns batch `index` of epoch `epoch`: float32 images, and labels that are float32 where they are mixed.

        Raises:
            IndexError: there is no such batch in an epoch.
            RuntimeError: the process that augments has failed or ended.
        """
        return self._ahead(as_integer("epoch", epoch, least=0), self._place(index))

    @functools.cached_property
    def fingerprint(self) -> dict[str, Any]:
        """What the batches are made of: those that are augmented, the kind, the library and the seed."""
        return {"kind": self.kind, "library": self.library, "seed": self.seed, "of": self._batches.fingerprint}

    def _made(self, epoch: int, index: int) -> tuple[Any, ...]:
        batch = self._batches.batch(epoch, index)
        self._check(epoch, index, batch)
        images, *rest = batch
        seed = int(np.random.SeedSequence([self.seed, epoch, index]).generate_state(1)[0]) >> 1  # for int32
        with _augmenter(self.library) as augmenter:
            if self.kind != "randaugment":
                return tuple(augmenter(self.kind, seed, [images, *rest]))
            # Colour jitter goes beyond 0..1, which keras-cv refuses; so does the brightness of Keras.
            (x,) = augmenter(self.kind, seed, [np.clip(images, 0, 1)])
        return (np.clip(x, 0, 1), *rest)

    def _check(self, epoch: int, index: int, batch: Any) -> None:
        images, name = batch[0], f"batch {index} of epoch {epoch}"
        if not isinstance(images, np.ndarray) or images.ndim != 4 or images.dtype.kind != "f":
            raise ValueError(
                f"{name} must have NumPy images of floats, of shape (batch, height, width, channels); got "
                f"{_kind_of(images)}."
            )
        if not np.isfinite(images).all():
            raise ValueError(f"{name} must have finite images; got NaN or infinity.")
        if self.kind == "randaugment":
            if images.shape[-1] != 3:
                raise ValueError(f"randaugment needs images of 3 channels; {name} has {images.shape[-1]}.")
            if images.min() < -0.5 or images.max() > 1.5:  # colour jitter goes beyond 0..1
                raise ValueError(
                    f"randaugment needs images from 0 to 1; {name} has values from {images.min():.4g} to "
                    f"{images.max():.4g}."
                )
            return
        if len(batch) == 1 or not isinstance(batch[1], np.ndarray) or batch[1].ndim != 2:
            got = "none" if len(batch) == 1 else _kind_of(batch[1])
            raise ValueError(
                f"{self.kind} needs one-hot labels of shape (batch, classes): give num_classes to ImageBatches, or "
                f"one-hot vectors to ArrayBatches; {name} has {got}."
            )
        if not np.isfinite(batch[1]).all():
            raise ValueError(f"{self.kind} needs labels that are finite; {name} has NaN or infinity.")
        if len(batch) > 2:
            raise ValueError(f"{self.kind} mixes samples, whose weights would lose their meaning; leave them out.")


class _Augmenter:
    """A process that augments, begun at the first request."""

    def __init__(self, library: str) -> None:
        self._library = library
        self._end: weakref.finalize[..., Any] | None = None

    def __call__(self, kind: str, seed: int, arrays: list[np.ndarray]) -> list[np.ndarray]:
        if self._end is None:
            self._start()
        answer = None
        try:
            with contextlib.suppress(BrokenPipeError):
                _augmenting_process.write(self._requests, {"kind": kind, "seed": seed}, arrays)
                answer = _augmenting_process.read(self._answers)
        except BaseException:  # An interrupt: the answer that nobody has read would be taken for that of the next one.
            self._stop()
            raise
        if answer is None:
            raise RuntimeError(f"The process that augments by {self._library} has ended. {self._last_words()}")
        head, arrays = answer
        if "error" in head:
            raise RuntimeError(f"{kind} by {self._library} has failed: {head['error']}")
        return arrays

    def _start(self) -> None:
        backend = "tensorflow" if self._library == "keras-cv" else keras.backend.backend()
        quiet = {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "", "JAX_PLATFORMS": "cpu"}
        quiet["KERAS_TORCH_DEVICE"] = "cpu"
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - open as long as the process
        process = subprocess.Popen(  # noqa: S603
            [sys.executable, "-P", _augmenting_process.__file__, self._library],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env=os.environ | quiet | {"KERAS_BACKEND": backend},
            start_new_session=True,  # an interrupt of the training is the training's to answer
        )
        self._requests, self._answers = cast(IO[bytes], process.stdin), cast(IO[bytes], process.stdout)
        self._end = weakref.finalize(self, _end, process, self._errors)

    def _last_words(self) -> str:
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        self._stop()
        return f"Its last words: {lines[-1]}" if lines else "It said nothing."

    def _stop(self) -> None:
        if self._end is not None:
            self._end()
        self._end = None


_idle: dict[tuple[int, str], list[_Augmenter]] = {}  # by process, for one that forks must not use its parent's


@contextlib.contextmanager
def _augmenter(library: str) -> Iterator[_Augmenter]:
    """Lends a process that nobody uses now; it serves all batches and ends with this one."""
    idle = _idle.setdefault((os.getpid(), library), [])
    try:
        augmenter = idle.pop()
    except IndexError:
        augmenter = _Augmenter(library)
    try:
        yield augmenter
    finally:
        idle.append(augmenter)


def _end(process: "subprocess.Popen[bytes]", errors: IO[bytes]) -> None:
    process.kill()
    with contextlib.suppress(BrokenPipeError):  # of a request that was not read
        process.communicate()
    errors.close()


def _kind_of(value: Any) -> str:
    return f"{value.dtype} {value.shape}" if isinstance(value, np.ndarray) else type(value).__name__
