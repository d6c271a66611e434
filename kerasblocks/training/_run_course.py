"""The course of a run's fit: what is saved, restored, agreed between processes and left between two steps."""

import signal
import sys
import time
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from kerasblocks._backend_module import backend_module
from kerasblocks.training import _callback_states, _training_state
from kerasblocks.training._best_model import BestModel
from kerasblocks.training._checkpoint_files import CheckpointFolder, Read
from kerasblocks.training._checkpoint_writer import CheckpointWriter
from kerasblocks.training._fingerprint import refuse_another
from kerasblocks.training._history_file import HistoryFile
from kerasblocks.training._resumable_batches import ResumableBatches
from kerasblocks.training._signals import Leaving
from kerasblocks.training._step_program import replicas_of
from kerasblocks.training.data_parallel import current_replicas
from kerasblocks.training.instrumentation import running_instrumentation, step_instrumentation

if TYPE_CHECKING:
    from kerasblocks.training.run import Run

_engine = backend_module("kerasblocks.training._replicas")


class RunCourse(keras.callbacks.CallbackList):
    """The callbacks of a run's fit, with the run itself at their head: all of it happens between two steps."""

    def __init__(
        self,
        run: "Run",
        checkpoints: CheckpointFolder,
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
        self.writer = CheckpointWriter(checkpoints)
        self._arrays: dict[str, np.ndarray] = {}
        self._content: Any
        self._read: Any
        self._content, self._read = checkpoints.newest()
        self._resumed = self._content is not None
        if self._content is not None:
            refuse_another(self._content["identity"], identity, checkpoints.path)
            if 0 < self._replicas.process < self._content["processes"]:
                self._read = _of_process(self._replicas.process, self._content["own"], self._read)
        self._saved = -1 if self._content is None else self._content["step"]
        if not self._alone and len({int(step) for step in _engine.of_all(np.array(self._saved))}) > 1:
            raise ValueError(f"{checkpoints.path}: not all processes see the same checkpoints in this folder.")
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
