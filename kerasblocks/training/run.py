"""Training that a kill, a crash or a full disk cannot undo: Keras's BackupAndRestore forgets batch, seeds and order."""

import contextlib
import json
import os
from collections.abc import Iterator
from typing import Any

import keras

from kerasblocks._arguments import as_flag, as_integer
from kerasblocks._backend_module import backend_module
from kerasblocks.training._build import as_built, build
from kerasblocks.training._checkpoint_files import CheckpointFolder
from kerasblocks.training._directory_lock import locked
from kerasblocks.training._fingerprint import fingerprint, refuse_another
from kerasblocks.training._resumable_batches import checked_batches, checked_shares
from kerasblocks.training._run_course import RunCourse
from kerasblocks.training._signals import noted
from kerasblocks.training._step_program import check_replicas, replicas_of, scope_of
from kerasblocks.training.data_parallel import Replicas, current_replicas
from kerasblocks.training.environment import environment
from kerasblocks.training.run_directory import RunDirectory, read_run_config

_engine = backend_module("kerasblocks.training._replicas")


class Run:
    """One training run in a folder: `fit` starts it, or goes on with it as if it had never been interrupted.

    A checkpoint holds everything that the next step depends on: weights, optimizer slots and counts, the loss scale,
    every seed generator and the global random states, the metrics of the running epoch, epoch and batch, the state of
    the callbacks that have one, and what the run is of. On a CPU a run that was killed at any moment and started again
    by the same command ends with the same bits as one that was not. On another backend the run goes on from the same
    numbers, with other random ones.

    In the folder: `config.json`, `history.csv` (one row an epoch), `checkpoints/`, and `best.keras` with `best`. A
    checkpoint is a safetensors file of arrays and a JSON file with checksums of both, written under other names,
    flushed and renamed: it is whole or not there. `fit` takes the newest whole one; a broken one is named in a warning
    and renamed. The numbers are copied between two steps, which waits for the device, and written by a thread beside
    the next ones; a checkpoint that is due while the last one is still being written comes after it. So a run takes the
    memory of one copy of the state on the host, and large models are saved less often than asked rather than stalled;
    processes that train together save when it is due, and wait.

    Callbacks: Keras's `EarlyStopping`, `ReduceLROnPlateau`, `ModelCheckpoint`, `CSVLogger` and `History`, those of this
    package, and any other that has `state_dict()` and `load_state_dict(state)`, of numbers, strings, arrays, lists and
    dicts, go on where they were; `load_state_dict` is called after `on_train_begin`. Callbacks that remember nothing
    need nothing.

    Under `data_parallel` with several processes, each gets its part of every batch, of `directory` the first one's
    counts, and the first one alone writes and calls the callbacks that do nothing but write: Keras's, and those with an
    attribute `only_writes` that is true; the others must do the same in each. The number of devices is not part of
    what a run is of.

    On SIGTERM and SIGINT the step at hand is finished and saved; then `SystemExit` is raised with the code 128 + the
    signal's number, 143 or 130. The second signal does what it does without a run, unless several processes train.

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
        if current_replicas().processes > 1:
            directory = _engine.text_from_first(os.fspath(directory))
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
                difference. Or no checkpoint is whole. Or a batch has fewer samples than there are devices.
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
        replicas = current_replicas()
        check_replicas(model)
        devices = max(replicas.count, replicas_of(model))
        if devices > 1:
            checked_shares(batches, devices)
        if replicas_of(model) > 1:
            _check_losses(model.loss)
        with scope_of(model):
            return self._fit(model, batches, epochs, callbacks, validation_data, verbose, replicas)

    def _fit(
        self,
        model: Any,
        batches: Any,
        epochs: int,
        callbacks: list[Any],
        validation_data: Any,
        verbose: int | str,
        replicas: Replicas,
    ) -> Any:
        build(model, batches.batch(0, 0))
        identity = {"config": self._config, "best": self.best, **fingerprint(model, batches, callbacks)}
        identity = json.loads(json.dumps(identity))
        with self._begun(identity, replicas), noted(self.save_on_signal, alone=replicas.processes == 1) as leaving:
            course = RunCourse(self, self._checkpoints, model, batches, callbacks, epochs, verbose, identity, leaving)
            try:
                with as_built(model):
                    history = model.fit(
                        course.batches,
                        initial_epoch=course.first_epoch,
                        epochs=epochs,
                        callbacks=course,
                        validation_data=validation_data,
                        shuffle=False,
                        verbose=course.verbose,
                    )
            finally:
                course.writer.close()
                self.seconds = course.seconds()
            course.end()
        return history

    @contextlib.contextmanager
    def _begun(self, identity: dict[str, Any], replicas: Replicas) -> Iterator[None]:
        """Holds the folder, which is that of this run; of several processes one has made it so before the others."""
        path = self.directory.path
        error: Exception | None = None
        with contextlib.ExitStack() as held:
            if replicas.is_first:
                try:
                    path.mkdir(parents=True, exist_ok=True)
                    held.enter_context(locked(path))
                    self.directory.start(self._config | {"environment": environment(), "fit": identity})
                    self._checkpoints.tidy()
                    if replicas.processes > 1:
                        self._checkpoints.newest()  # names and renames what is broken, once for all
                except (OSError, ValueError) as raised:
                    error = raised
            self._overwrite = False
            said = "" if error is None else str(error)
            if replicas.processes > 1:
                said = _engine.text_from_first(said)  # None may wait for one that has given up.
            if error is not None:
                raise error
            if said:
                raise ValueError(said)
            refuse_another(read_run_config(path).get("fit"), identity, path)
            yield


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


def _check_losses(loss: Any) -> None:
    """Refuses losses that are not a mean over samples, of which the parts of a batch would have other shares.

    Raises:
        ValueError: there is one.
    """
    for each in keras.tree.flatten(loss):
        reduction = getattr(each, "reduction", "sum_over_batch_size")
        if reduction not in ("sum_over_batch_size", "mean"):
            raise ValueError(
                f"On several devices a loss must be a mean over samples there; {type(each).__name__} has "
                f"reduction={reduction!r}. Use 'sum_over_batch_size', or JAX."
            )


def _as_json(config: Any) -> dict[str, Any]:
    try:
        found = json.loads(json.dumps(config))
    except (TypeError, ValueError) as error:
        raise ValueError(f"config must be a dict that JSON can hold; got {config!r} ({error}).") from error
    if not isinstance(found, dict):
        raise ValueError(f"config must be a dict that JSON can hold; got {config!r}.")
    return found
