"""Training that a kill, a crash or a full disk cannot undo: Keras's BackupAndRestore forgets batch, seeds and order."""

import concurrent.futures
import json
import os
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import keras
import numpy as np

from kerasblocks._arguments import as_flag, as_integer
from kerasblocks.training import _callback_states, _training_state
from kerasblocks.training._best_model import BestModel
from kerasblocks.training._build import build
from kerasblocks.training._checkpoint_files import BrokenCheckpointError, CheckpointFolder
from kerasblocks.training._directory_lock import locked
from kerasblocks.training._fingerprint import difference, fingerprint
from kerasblocks.training._history_file import HistoryFile
from kerasblocks.training._resumable_batches import ResumableBatches, checked_batches
from kerasblocks.training._signals import Leaving, noted
from kerasblocks.training.environment import environment
from kerasblocks.training.instrumentation import running_instrumentation
from kerasblocks.training.run_directory import RunDirectory, read_run_config


class Run:
    """One training run in a folder: `fit` starts it, or goes on with it as if it had never been interrupted.

    A checkpoint holds everything that the next step depends on: weights, optimizer slots and counts, the loss scale,
    every seed generator and the global random states, the metrics of the running epoch, epoch and batch, the state of
    the callbacks that have one, and what the run is of. On a CPU a run that was killed at any moment and started again
    by the same command ends with the same bits as one that was not. On another backend the run goes on from the same
    numbers, with other random ones.

    In the folder: `config.json`, `history.csv` (one row an epoch), `checkpoints/`, and `best.keras` with `best`. A
    checkpoint is an HDF5 file of arrays and a JSON file with checksums of both, written under other names, flushed and
    renamed: it is whole or not there. `fit` takes the newest whole one; a broken one is named in a warning and renamed.
    The numbers are copied between two steps, which waits for the device, and written by a thread beside the next ones;
    a checkpoint that is due while the last one is still being written comes after it. So saving takes the memory of two
    copies of the state on the host, and large models are saved less often than asked rather than stalled.

    Callbacks: Keras's `EarlyStopping`, `ReduceLROnPlateau`, `ModelCheckpoint`, `CSVLogger` and `History`, those of this
    package, and any other that has `state_dict()` and `load_state_dict(state)`, of numbers, strings, arrays, lists and
    dicts, go on where they were; `load_state_dict` is called after `on_train_begin`. Callbacks that remember nothing
    need nothing.

    On SIGTERM and SIGINT the step at hand is finished and saved; then `SystemExit` is raised with the code 128 + the
    signal's number, 143 or 130. The second signal does what it does without a run.

    Args:
        directory: the run's folder; made if it is missing.
        every_steps: a checkpoint after so many batches, counted over all epochs; None for none within an epoch.
        every_epochs: a checkpoint after so many epochs; None for none but the last. There is one more before the first
            step.
        keep: how many of the newest checkpoints are kept.
        best: the name of an epoch's log entry, as `"val_loss"`: the model of the epoch in which it was best so far is
            kept as `best.keras`. Keras tells whether more or less of it is better.
        save_on_signal: whether signals are minded, which needs the main thread.
        config: what else the run is of, ready for JSON: kept in `config.json`, and another one is refused when the run
            goes on.
        overwrite: whether an earlier run in the folder is removed by `fit`.

    Attributes:
        directory: the `RunDirectory`, for files of one's own.
        seconds: how long `fit` has trained, in all processes up to their last checkpoints and in this one.

    Raises:
        ValueError: bad arguments.
        FileExistsError: the folder holds something that is not a run.

    Example:

    >>> import tempfile
    >>> import keras, numpy as np
    >>> from kerasblocks.data import ArrayBatches
    >>> from kerasblocks.training import Run
    >>> batches = ArrayBatches(np.ones((8, 2)), np.ones(8), batch_size=2)
    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    >>> model.compile("sgd", "mse")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     run = Run(folder, every_steps=3)
    ...     history = run.fit(model, batches, epochs=2, verbose=0)  # The same command goes on with it.
    ...     sorted(file.name for file in run.directory.path.iterdir())
    ['checkpoints', 'config.json', 'history.csv']
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        *,
        every_steps: int | None = None,
        every_epochs: int | None = 1,
        keep: int = 3,
        best: str | None = None,
        save_on_signal: bool = True,
        config: dict[str, Any] | None = None,
        overwrite: bool = False,
    ) -> None:
        self.every_steps = None if every_steps is None else as_integer("every_steps", every_steps, least=1)
        self.every_epochs = None if every_epochs is None else as_integer("every_epochs", every_epochs, least=1)
        self.keep = as_integer("keep", keep, least=1)
        if best is not None and (not isinstance(best, str) or not best):
            raise ValueError(f"best must be the name of a log entry, as 'val_loss'; got {best!r}.")
        self.best = best
        self.save_on_signal = as_flag("save_on_signal", save_on_signal)
        self._config = _as_json({} if config is None else config)
        self._overwrite = as_flag("overwrite", overwrite)
        self.directory = RunDirectory(directory, overwrite=self._overwrite, resume=True)
        self.seconds = 0.0
        self._checkpoints = CheckpointFolder(self.directory.path / "checkpoints", self.keep)

    def fit(
        self,
        model: Any,
        batches: Any,
        *,
        epochs: int,
        callbacks: Any = (),
        validation_data: Any = None,
        verbose: int | str = "auto",
    ) -> Any:
        """Trains the model to the end of the last epoch, from the start or from the newest whole checkpoint.

        Args:
            model: compiled with an optimizer of Keras.
            batches: a `kerasblocks.data.ArrayBatches`, or anything with a length, the batches of an epoch, and a
                method `batch(epoch, index)` that gives the same batch whenever it is asked.
            epochs: how many epochs there are in all; a run that is over goes on when it is given more.
            callbacks: one or a sequence; the same ones, in the same order, each time.
            validation_data: as in `Model.fit`.
            verbose: as in `Model.fit`.

        Returns:
            Keras's `History`, of all epochs since the run began.

        Raises:
            TypeError: `batches` cannot be resumed exactly, or what is among the callbacks is none.
            ValueError: the run is of another model, optimizer, data set or configuration; the message names the first
                difference. Or no checkpoint is whole.
            FileExistsError: another process is at this run.
            OSError: a checkpoint could not be written.
            SystemExit: a signal has come.
        """
        epochs = as_integer("epochs", epochs, least=1)
        batches = checked_batches(batches)
        callbacks = _checked_callbacks(callbacks)
        optimizer = getattr(model, "optimizer", None)
        if not isinstance(model, keras.Model) or not isinstance(optimizer, keras.optimizers.Optimizer):
            raise ValueError(
                f"A run needs a Keras model, compiled with a Keras optimizer; got {model!r}, {optimizer!r}."
            )
        build(model, batches.batch(0, 0))
        identity = {"config": self._config, "best": self.best, **fingerprint(model, batches, callbacks)}
        identity = json.loads(json.dumps(identity))
        self.directory.path.mkdir(parents=True, exist_ok=True)
        with locked(self.directory.path), noted(self.save_on_signal) as leaving:
            self.directory.start(self._config | {"environment": environment(), "fit": identity})
            self._overwrite = False
            written = read_run_config(self.directory.path).get("fit")
            _refuse_another(identity, written, self.directory.path)
            self._checkpoints.tidy()
            course = _Course(self, model, batches, callbacks, epochs, verbose, identity, leaving)
            try:
                history = model.fit(
                    course.batches,
                    initial_epoch=course.first_epoch,
                    epochs=epochs,
                    callbacks=course,
                    validation_data=validation_data,
                    shuffle=False,
                    verbose=verbose,
                )
            finally:
                course.writer.close()
                self.seconds = course.seconds()
            course.writer.check()
            course.leave_if_asked()
        return history


class _Course(keras.callbacks.CallbackList):
    """The callbacks of a run's fit, with the run itself at their head: all of it happens between two steps."""

    def __init__(
        self,
        run: Run,
        model: Any,
        batches: Any,
        callbacks: list[Any],
        epochs: int,
        verbose: int | str,
        identity: dict[str, Any],
        leaving: Leaving,
    ) -> None:
        self._run, self._fitted, self._identity, self._leaving = run, model, identity, leaving
        self._length = len(batches)
        self.batches = ResumableBatches(batches)
        self.writer = _Writer(run._checkpoints)
        self._content, self._read = _newest(run._checkpoints, identity)
        self._resumed = self._content is not None
        self._saved = -1 if self._content is None else self._content["step"]
        self._epoch: int = self._content["epoch"] if self._resumed else 0
        self._batch: int = self._content["batch"] if self._resumed else 0
        self._metrics: Any = None
        self._before: float = self._content["seconds"] if self._resumed else 0.0
        self._begin = time.perf_counter()
        stopped = self._content is not None and self._content["stopped"]
        self.first_epoch = epochs if stopped else self._epoch
        history = [keras.callbacks.History()] * all(not isinstance(each, keras.callbacks.History) for each in callbacks)
        best = [] if run.best is None else [BestModel(run.directory, run.best)]
        self._remembering = [*callbacks, *best, HistoryFile(run.directory), *history]
        super().__init__(
            self._remembering,
            add_history=True,
            add_progbar=verbose != 0,
            model=model,
            verbose=verbose,
            epochs=epochs,
            steps=self._length,
        )

    def seconds(self) -> float:
        """Returns how long the run has trained."""
        return self._before + time.perf_counter() - self._begin

    def on_train_begin(self, logs: Any = None) -> None:
        if self._resumed:
            for callback in self.callbacks:
                if isinstance(callback, keras.callbacks.CSVLogger):
                    _callback_states.continue_csv(callback, self._epoch)
        super().on_train_begin(logs)
        if self._resumed:
            self._restore()
        else:
            self._save(0, 0)

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._epoch = epoch
        if self._resumed and epoch == self.first_epoch:
            self.batches.start = self._batch
        else:
            self.batches.start = self._batch = 0
        self.batches.epoch = epoch
        super().on_epoch_begin(epoch, logs)
        if self.batches.start:
            _training_state.restore_metrics(self._fitted, self._metrics)

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        self._batch = self.batches.start + batch
        step = self._epoch * self._length + self._batch
        every = self._run.every_steps
        due = every is not None and step // every > self._saved // every and not self.writer.is_busy()
        if (due and self._batch) or (self._leaving.signal and step > self._saved):
            self._save(self._epoch, self._batch)
        self.leave_if_asked()
        self.writer.check()
        if self._content is not None:
            if self._batch:  # PyTorch's loader has drawn a number when the epoch began.
                _training_state.restore_generators(self._content["generators"], self._read)
            self._content = None
        super().on_train_batch_begin(self._batch, logs)

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        super().on_train_batch_end(self.batches.start + batch, logs)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        super().on_epoch_end(epoch, logs)
        every = self._run.every_epochs
        is_last = epoch + 1 == self.params["epochs"] or self._fitted.stop_training
        if is_last or self._leaving.signal or (every is not None and (epoch + 1) % every == 0):
            self._save(epoch + 1, 0)
        self.leave_if_asked()

    def leave_if_asked(self) -> None:
        """Leaves the process where a signal has come, when all is written."""
        if self._leaving.signal is None:
            return
        self.writer.close()
        self.writer.check()
        where = f"saved after step {self._saved} in {self._run.directory.path}"
        print(f"{self._leaving.signal.name}: {where}; the same command goes on.", file=sys.stderr)  # noqa: T201
        raise SystemExit(128 + self._leaving.signal)

    def _save(self, epoch: int, batch: int) -> None:
        if self._async_train:
            self._flush_futures()
        arrays = _training_state.gathered(self._fitted)
        generators = [name for name in arrays if name.startswith("generator/")]
        instrumentation = running_instrumentation(self._fitted)
        states = {
            # First, for it hands on to the callbacks what they remember.
            "instrumentation": None if instrumentation is None else instrumentation.state_dict(),
            "callbacks": [_callback_states.state_of(callback) for callback in self._remembering],
        }
        step = epoch * self._length + batch
        content = {
            "step": step,
            "epoch": epoch,
            "batch": batch,
            "seconds": self.seconds(),
            "stopped": bool(self._fitted.stop_training),
            "identity": self._identity,
            "variables": _training_state.described(self._fitted),
            "generators": generators,
            "states": _callback_states.split(states, arrays),
        }
        self.writer.write(step, content, arrays)
        self._saved = step

    def _restore(self) -> None:
        content, read = self._content, self._read
        _training_state.restore(self._fitted, read, content["variables"])
        self._metrics = _training_state.metrics_only(self._fitted)
        names = _callback_states.names_in(content["states"])
        states = _callback_states.joined(content["states"], dict(zip(names, read(names), strict=True)))
        instrumentation = running_instrumentation(self._fitted)
        if instrumentation is not None:
            instrumentation.load_state_dict(states["instrumentation"])
        for callback, state in zip(self._remembering, states["callbacks"], strict=True):
            _callback_states.restore(callback, state)
        _training_state.restore_generators(content["generators"], read)


class _Writer:
    """Writes one checkpoint at a time beside the training."""

    def __init__(self, checkpoints: CheckpointFolder) -> None:
        self._checkpoints = checkpoints
        self._thread = concurrent.futures.ThreadPoolExecutor(1)
        self._writing: concurrent.futures.Future[None] | None = None
        self._step = 0

    def is_busy(self) -> bool:
        return self._writing is not None and not self._writing.done()

    def write(self, step: int, content: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
        """Begins to write, when the last checkpoint has been written."""
        if self._writing is not None:
            concurrent.futures.wait([self._writing])
        self.check()
        self._step = step
        self._writing = self._thread.submit(self._checkpoints.write, step, content, arrays)

    def check(self) -> None:
        """Raises where the last checkpoint could not be written."""
        if self._writing is None or not self._writing.done():
            return
        error = self._writing.exception()
        if error is not None:
            self._writing = None
            raise OSError(
                f"{self._checkpoints.path}: the checkpoint after step {self._step} could not be written: {error}. "
                "The training has stopped, earlier checkpoints are whole: make room, then start it again."
            ) from error

    def close(self) -> None:
        """Waits for what is being written."""
        self._thread.shutdown()


def _checked_callbacks(callbacks: Any) -> list[Any]:
    """Returns the callbacks as a list.

    Raises:
        TypeError: one is no callback, or could not be given back what it remembers.
        ValueError: one would restore what the run restores.
    """
    found: list[Any] = keras.tree.flatten(() if callbacks is None else callbacks)
    for callback in found:
        if not isinstance(callback, keras.callbacks.Callback):
            raise TypeError(f"callbacks must be Keras callbacks; got {callback!r}.")
        if hasattr(callback, "state_dict") != hasattr(callback, "load_state_dict"):
            raise TypeError(f"{type(callback).__name__} must have both state_dict and load_state_dict, or neither.")
        if isinstance(callback, keras.callbacks.BackupAndRestore):
            raise ValueError("BackupAndRestore would restore a second time: leave it out, the run does its work.")
    return found


def _as_json(config: Any) -> dict[str, Any]:
    try:
        found = json.loads(json.dumps(config))
    except (TypeError, ValueError) as error:
        raise ValueError(f"config must be a dict that JSON can hold; got {config!r} ({error}).") from error
    if not isinstance(found, dict):
        raise ValueError(f"config must be a dict that JSON can hold; got {config!r}.")
    return found


def _refuse_another(identity: dict[str, Any], written: Any, where: Path) -> None:
    found = difference(written, identity)
    if found is not None:
        raise ValueError(
            f"{where}: holds a run of something else: {found}. Start it as it was, or choose another folder."
        )


def _newest(checkpoints: CheckpointFolder, identity: dict[str, Any]) -> tuple[Any, Any]:
    """Returns content and arrays of the newest whole checkpoint; None, None where there has never been one."""
    steps = checkpoints.steps()
    for step in steps:
        try:
            content, arrays = checkpoints.read(step)
        except BrokenCheckpointError as error:
            warnings.warn(f"A broken checkpoint is passed over: {error}", stacklevel=4)
            checkpoints.pass_over(step)
            continue
        _refuse_another(identity, content["identity"], checkpoints.path)
        return content, arrays.read
    if steps:
        raise ValueError(f"{checkpoints.path}: no checkpoint is whole. Choose another folder to begin anew.")
    return None, None
