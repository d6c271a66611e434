"""Training that a kill, a crash or a full disk cannot undo: Keras's BackupAndRestore forgets batch, seeds and order."""

import concurrent.futures
import contextlib
import json
import os
import signal
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np

from kerasblocks._arguments import as_flag, as_integer
from kerasblocks._backend_module import backend_module
from kerasblocks.training import _callback_states, _training_state
from kerasblocks.training._best_model import BestModel
from kerasblocks.training._build import as_built, build
from kerasblocks.training._checkpoint_files import BrokenCheckpointError, CheckpointFolder, Read
from kerasblocks.training._directory_lock import locked
from kerasblocks.training._fingerprint import difference, fingerprint
from kerasblocks.training._history_file import HistoryFile
from kerasblocks.training._resumable_batches import ResumableBatches, checked_batches, checked_shares
from kerasblocks.training._signals import Leaving, noted
from kerasblocks.training._step_program import check_replicas, replicas_of, scope_of
from kerasblocks.training.data_parallel import Replicas, current_replicas
from kerasblocks.training.environment import environment
from kerasblocks.training.instrumentation import running_instrumentation, step_instrumentation
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
            course = _Course(self, model, batches, callbacks, epochs, verbose, identity, leaving)
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
                        _newest(self._checkpoints)  # names and renames what is broken, once for all
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
            _refuse_another(identity, read_run_config(path).get("fit"), path)
            yield


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
        self._replicas = current_replicas()
        self._alone = self._replicas.processes == 1
        self._agreement = None if self._alone else _engine.Agreement()
        self._signal: signal.Signals | None = None
        self.verbose = verbose if self._replicas.is_first else 0
        self.batches = ResumableBatches(batches, self._replicas)
        self.writer = _Writer(run._checkpoints)
        self._arrays: dict[str, np.ndarray] = {}
        self._content, self._read = _newest(run._checkpoints)
        self._resumed = self._content is not None
        if self._content is not None:
            _refuse_another(identity, self._content["identity"], run._checkpoints.path)
            if 0 < self._replicas.process < self._content["processes"]:
                self._read = _of_process(self._replicas.process, self._content["own"], self._read)
        self._saved = -1 if self._content is None else self._content["step"]
        if not self._alone and len({int(step) for step in _engine.of_all(np.array(self._saved))}) > 1:
            raise ValueError(f"{run._checkpoints.path}: not all processes see the same checkpoints in this folder.")
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
        is_first = self._replicas.is_first
        super().__init__(
            [each for each in self._remembering if is_first or not _callback_states.only_writes(each)],
            add_history=True,
            add_progbar=self.verbose != 0,
            model=model,
            verbose=self.verbose,
            epochs=epochs,
            steps=self._length,
        )

    def seconds(self) -> float:
        """Returns how long the run has trained."""
        return self._before + time.perf_counter() - self._begin

    def end(self) -> None:
        """Raises where the last checkpoint could not be written, and leaves where a signal has come since."""
        self._wait_for_first()
        mine = self._leaving.signal  # read once: what comes later is known to nobody else
        if self._agreement is None:
            self._signal = mine
        elif self._agreement.close(mine is not None):
            self._signal = mine or signal.SIGTERM
        self._leave_if_asked()

    def _wait_for_first(self) -> None:
        """Returns when all is written, in all processes: what has started them ends all when one leaves."""
        self.writer.close()
        self.writer.check()
        if not self._alone:
            _engine.wait_for_all()

    def on_train_begin(self, logs: Any = None) -> None:
        if self._resumed:
            for callback in self.callbacks:
                if isinstance(callback, keras.callbacks.CSVLogger):
                    _callback_states.continue_csv(callback, self._epoch)
        if replicas_of(self._fitted) > 1:  # Gradients are averaged by it, also where no callback asks.
            step_instrumentation(self._fitted)
        super().on_train_begin(logs)
        if self._resumed:
            self._restore()
            return
        if not self._alone:
            _training_state.take_from_first(self._fitted, _engine.from_first)
            self._part_ways()
        self._save(0, 0)

    def _part_ways(self) -> None:
        if self._replicas.process:
            _training_state.part_seeds(self._fitted, self._replicas.process)
            _training_state.part_generators(self._replicas.process)

    def on_train_end(self, logs: Any = None) -> None:
        super().on_train_end(logs)
        instrumentation = running_instrumentation(self._fitted)
        if instrumentation is not None:
            instrumentation.end()

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
        self._notice()
        due = every is not None and step // every > self._saved // every
        due = due and not (self._alone and self.writer.is_busy())  # Processes save together.
        if (due and self._batch) or (self._signal and step > self._saved):
            self._save(self._epoch, self._batch)
        self._leave_if_asked()
        self.writer.check()
        if self._content is not None:
            if self._batch:  # PyTorch's loader has drawn a number when the epoch began.
                self._restore_generators()
            self._content = None
        super().on_train_batch_begin(self._batch, logs)

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        super().on_train_batch_end(self.batches.start + batch, logs)

    def _notice(self) -> None:
        """Takes note of a signal, that of any process when all know of it."""
        if self._agreement is None:
            self._signal = self._leaving.signal
        elif self._agreement.ask(self._leaving.signal is not None):
            self._signal = self._leaving.signal or signal.SIGTERM

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        if logs and not self._alone:  # So that no process decides otherwise by a last bit.
            logs.update(keras.tree.map_structure(_of_first, logs))
        super().on_epoch_end(epoch, logs)
        if not self._alone:
            self._fitted.stop_training = bool(_engine.from_first(np.array(self._fitted.stop_training)))
        self._notice()
        every = self._run.every_epochs
        is_last = epoch + 1 == self.params["epochs"] or self._fitted.stop_training
        if is_last or self._signal or (every is not None and (epoch + 1) % every == 0):
            self._save(epoch + 1, 0)
        self._leave_if_asked()

    def _leave_if_asked(self) -> None:
        """Leaves the process where a signal has come, when all is written."""
        if self._signal is None:
            return
        self._wait_for_first()
        if self._replicas.is_first:
            where = f"saved after step {self._saved} in {self._run.directory.path}"
            print(f"{self._signal.name}: {where}; a run with this directory goes on.", file=sys.stderr)  # noqa: T201
        raise SystemExit(128 + self._signal)

    def _save(self, epoch: int, batch: int) -> None:
        if self._async_train:
            self._flush_futures()
        self.writer.wait()
        self._arrays = arrays = _training_state.gathered(self._fitted, self._arrays)
        generators = [name for name in arrays if name.startswith("generator/")]
        step = epoch * self._length + batch
        content: dict[str, Any] = {
            "step": step,
            "epoch": epoch,
            "batch": batch,
            "seconds": self.seconds(),
            "stopped": bool(self._fitted.stop_training),
            "identity": self._identity,
            "variables": _training_state.described(self._fitted),
            "generators": generators,
            "shares": [name for name in arrays if name.startswith(_training_state.SHARE)],
            "processes": self._replicas.processes,
        }
        if not self._alone:
            content["own"] = _training_state.own_names(self._fitted, arrays)
            arrays |= self._of_others(content["own"], arrays)
        instrumentation = running_instrumentation(self._fitted)
        # In every process, for what it finds may end the fit; and first, for it hands on to the callbacks.
        measured = None if instrumentation is None else instrumentation.state_dict()
        if self._replicas.is_first:
            remembered = [_callback_states.state_of(callback) for callback in self._remembering]
            states = {"instrumentation": measured, "callbacks": remembered}
            content["states"] = _callback_states.split(states, arrays)
            self.writer.write(step, content, arrays)
        self._saved = step

    def _of_others(self, names: list[str], arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Returns what the other processes have for themselves."""
        return {
            _own_name(process, name): each
            for name in names
            for process, each in enumerate(_engine.of_all(arrays[name]))
            if process
        }

    def _restore(self) -> None:
        content, read = self._content, self._read
        _training_state.restore(self._fitted, read, content["variables"])
        _training_state.restore_shares(self._fitted, content.get("shares", ()), read)
        if self._is_new:
            _training_state.part_seeds(self._fitted, self._replicas.process)
        self._metrics = _training_state.metrics_only(self._fitted)
        names = _callback_states.names_in(content["states"])
        states = _callback_states.joined(content["states"], dict(zip(names, read(names), strict=True)))
        instrumentation = running_instrumentation(self._fitted)
        if instrumentation is not None and states["instrumentation"] is not None:
            instrumentation.load_state_dict(states["instrumentation"])
        for callback, state in zip(self._remembering, states["callbacks"], strict=True):
            if callback in self.callbacks:  # the others only write, in the first process
                _callback_states.restore(callback, state)
        self._restore_generators()

    @property
    def _is_new(self) -> bool:
        """Whether the run has had fewer processes than this one needs to have been there."""
        return bool(self._replicas.process >= self._content["processes"])

    def _restore_generators(self) -> None:
        _training_state.restore_generators(self._content["generators"], self._read)
        if self._is_new:
            _training_state.part_generators(self._replicas.process)


def _of_first(value: Any) -> Any:
    """Returns the first process's number or array."""
    found = _engine.from_first(np.asarray(value))
    return found if found.ndim else found.item()


def _own_name(process: int, name: str) -> str:
    return f"process/{process}/{name}"


def _of_process(process: int, own: list[str], read: Read) -> Read:
    """Returns `read` for one process of several, which has some arrays for itself."""
    return lambda names: read([_own_name(process, name) if name in own else name for name in names])


class _Writer:
    """Writes one checkpoint at a time beside the training."""

    def __init__(self, checkpoints: CheckpointFolder) -> None:
        self._checkpoints = checkpoints
        self._thread = concurrent.futures.ThreadPoolExecutor(1, initializer=_step_back)
        self._writing: concurrent.futures.Future[None] | None = None
        self._step = 0

    def is_busy(self) -> bool:
        return self._writing is not None and not self._writing.done()

    def wait(self) -> None:
        """Waits for the checkpoint that is being written, and raises where it could not be."""
        if self._writing is not None:
            concurrent.futures.wait([self._writing])
        self.check()

    def write(self, step: int, content: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
        """Begins to write; the last checkpoint must have been written."""
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


def _step_back() -> None:
    """Lets this thread run when no step wants the processor, where the system can do so for a thread."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 10)


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


def _refuse_another(identity: dict[str, Any], written: Any, where: Path) -> None:
    found = difference(written, identity)
    if found is not None:
        raise ValueError(
            f"{where}: holds a run of something else: {found}. Start it as it was, or choose another folder."
        )


def _newest(checkpoints: CheckpointFolder) -> tuple[Any, Any]:
    """Returns content and arrays of the newest whole checkpoint; None, None where there has never been one."""
    steps = checkpoints.steps()
    for step in steps:
        try:
            content, read = checkpoints.read(step)
        except BrokenCheckpointError as error:
            warnings.warn(f"A broken checkpoint is passed over: {error}", stacklevel=4)
            checkpoints.pass_over(step)
            continue
        return content, read
    if steps:
        raise ValueError(f"{checkpoints.path}: no checkpoint is whole. Choose another folder to begin anew.")
    return None, None
