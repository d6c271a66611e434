"""A run in a process of its own, which is killed and started again; as a script, that process."""

import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

_CHECKPOINT = re.compile(r"checkpoint-(\d+)\.json")
_WRITING = re.compile(r"\.writing-.*")
PATIENCE = 300.0  # seconds


def newest(folder: Path) -> int:
    """Returns the step of the newest checkpoint, -1 if there is none."""
    return max((int(match[1]) for match in map(_CHECKPOINT.fullmatch, _names(folder)) if match), default=-1)


def _names(folder: Path) -> list[str]:
    return [file.name for file in folder.iterdir()] if folder.is_dir() else []


def command(folder: Path, target: Path, *options: str) -> list[str]:
    return [sys.executable, __file__, str(folder), str(target), *options]


def kill(folder: Path, target: Path, *options: str, after: int, writing: bool) -> int:
    """Starts the run and kills it when there is a checkpoint of step `after`, or inside the next write after that.

    Returns:
        The step of the newest checkpoint that is left.
    """
    checkpoints, end = folder / "checkpoints", time.monotonic() + PATIENCE
    process = subprocess.Popen(command(folder, target, *options), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        while newest(checkpoints) < after or (writing and not any(map(_WRITING.fullmatch, _names(checkpoints)))):
            if process.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"The run was over before it could be killed: {process.communicate()[1]!r}")
            time.sleep(0 if newest(checkpoints) >= after else 0.001)
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()
    return newest(checkpoints)


def finish(folder: Path, target: Path, *options: str) -> int:
    """Starts the run again and waits for its end; returns the number of the first step that it took."""
    result = subprocess.run(
        command(folder, target, *options), capture_output=True, text=True, check=False, timeout=PATIENCE
    )
    if result.returncode:
        raise RuntimeError(result.stderr[-2000:])
    first: int = json.loads(result.stdout.splitlines()[-1])["first_step"]
    return first


def main(folder: str, target: str) -> None:
    """Runs to the end, slowly, and leaves the end state."""
    sys.path.insert(0, str(Path(__file__).parents[2]))
    import keras
    import numpy as np
    from resumed_runs import end_state, start

    class Slow(keras.callbacks.Callback):
        first: Any = None
        epoch = 0

        def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
            self.epoch = epoch

        def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
            self.first = self.epoch * self.params["steps"] + batch if self.first is None else self.first
            time.sleep(0.02)

    slow = Slow()
    model, _, _ = start(Path(folder), extra=[slow])
    np.savez(target, *end_state(model))
    print(json.dumps({"first_step": slow.first}))


if __name__ == "__main__":
    main(*sys.argv[1:])
