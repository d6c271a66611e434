"""A run in a process of its own, which is killed and started again; as a script, that process."""

import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

_CHECKPOINT = re.compile(r"checkpoint-(\d+)\.json")
_PATIENCE = 300.0  # seconds


class RunIsOverError(RuntimeError):
    """The process has ended before it could be killed."""


def newest(folder: Path) -> int:
    """Returns the step of the newest checkpoint of a run, -1 if there is none."""
    return max((int(match[1]) for match in map(_CHECKPOINT.fullmatch, _names(folder)) if match), default=-1)


def is_writing(folder: Path) -> bool:
    """Returns whether a checkpoint is being written, or was when the process was killed."""
    return any(name.startswith(".writing-") for name in _names(folder))


def kill(folder: Path, target: Path, *options: str, step: int, writing: bool = False, delay: float = 0.0) -> int:
    """Starts the run and kills it so many seconds after this step has begun, or inside the next write after that.

    Returns:
        The step of the newest checkpoint that is left, -1 for Keras's own, which tell none.

    Raises:
        RunIsOverError: it was over before.
    """
    process = subprocess.Popen(_command(folder, target, *options), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    try:
        for line in process.stdout or ():
            if int(line) >= step and _names(folder):
                break
        time.sleep(delay)
        while writing and not is_writing(folder) and process.poll() is None:
            pass
        if process.poll() is not None:
            raise RunIsOverError(f"The run was over before it could be killed at step {step}.")
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()
    return newest(folder)


def finish(folder: Path, target: Path, *options: str) -> int:
    """Starts the run and waits for its end; returns the number of the first step that it took."""
    command = _command(folder, target, *options)
    result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_PATIENCE)
    if result.returncode:
        raise RuntimeError(result.stderr[-2000:])
    return int(result.stdout.splitlines()[0])


def _command(folder: Path, target: Path, *options: str) -> list[str]:
    return [sys.executable, __file__, str(folder), str(target), *options]


def _names(folder: Path) -> list[str]:
    checkpoints = folder / "checkpoints"
    return [file.name for file in checkpoints.iterdir()] if checkpoints.is_dir() else []


def main(folder: str, target: str, case: Any = "everything", way: str = "ours") -> None:
    """Runs to the end, slowly, and leaves the end state and the losses."""
    sys.path.insert(0, str(Path(__file__).parents[1]))
    import keras
    import numpy as np

    from benchmarks import _resumed_runs

    class Slow(keras.callbacks.Callback):
        """Tells each step as it begins."""

        epoch = 0

        def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
            self.epoch = epoch

        def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
            print(self.epoch * self.params["steps"] + batch, flush=True)
            time.sleep(0.02)

    start = _resumed_runs.start if way == "ours" else _resumed_runs.start_with_keras_alone
    model, _, history = start(Path(folder), case, extra=[Slow()])
    np.savez(target, *_resumed_runs.end_state(model), np.array(history.history["loss"][-1:]))


if __name__ == "__main__":
    main(*sys.argv[1:])
