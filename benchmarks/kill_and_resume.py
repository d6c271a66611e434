"""Claim: a run that is killed at any moment and started again ends with the same bits as one that is not.

Each kill is SIGKILL to a process that trains, after its first checkpoint, at a moment drawn at random; some fall while
a checkpoint is being written, which a half-written file that is left behind shows. The same is done with Keras's own
BackupAndRestore, which is told to save as often.
"""

import shutil
import tempfile
from pathlib import Path
from typing import Literal

import numpy as np

from benchmarks import _killed_run
from benchmarks._results import append_row
from benchmarks._resumed_runs import STEPS, Case
from kerasblocks.training import environment

Way = Literal["ours", "BackupAndRestore"]
_STEP_SECONDS = 0.025


def main(
    cases: tuple[Case, ...] = ("everything", "lenet5", "transformer", "photos"),
    ways: tuple[Way, ...] = ("ours", "BackupAndRestore"),
    kills: int = 20,
    in_writes: int = 5,
    seed: int = 0,
) -> None:
    """Kills runs, resumes them and compares the ends.

    Args:
        cases: a model with augmentation, BatchNorm, dropout and accumulated gradients; LeNet-5; a small transformer; a
            small AlexNet on photographs that are mixed.
        ways: this package's `Run`; Keras's BackupAndRestore.
        kills: runs that are killed, of each case and way.
        in_writes: how many of them inside a write.
        seed: of the moments.
    """
    rng = np.random.default_rng(seed)
    for case in cases:
        for way in ways:
            moments = rng.uniform(0, STEPS - 12, kills)
            with tempfile.TemporaryDirectory() as folder:
                found = _compare(Path(folder), case, way, moments, in_writes if way == "ours" else 0)
            append_row("kill_and_resume", environment(), {"case": case, "way": way, **found})


def _compare(folder: Path, case: Case, way: Way, moments: np.ndarray, in_writes: int) -> dict[str, int]:
    """Returns the counts of one case."""
    options = (case, way)
    _killed_run.finish(folder / "whole", folder / "whole.npz", *options)
    counts = dict.fromkeys(["kills", "in_writes", "lost", "started_before_checkpoint", "different"], 0)
    for number, moment in enumerate(moments):
        run, end = folder / "run", folder / "run.npz"
        shutil.rmtree(run, ignore_errors=True)
        newest = _kill(run, end, options, float(moment), number < in_writes)
        counts["kills"] += 1
        counts["in_writes"] += _killed_run.is_writing(run)
        try:
            first = _killed_run.finish(run, end, *options)
        except RuntimeError as error:
            print(error)
            counts["lost"] += 1
            continue
        counts["started_before_checkpoint"] += first < newest
        counts["different"] += not _same(folder / "whole.npz", end)
    return counts


def _kill(run: Path, end: Path, options: tuple[str, ...], moment: float, writing: bool) -> int:
    """Kills a run, again and again until it was where it should be; returns the step of its newest checkpoint."""
    while True:
        newest = _killed_run.kill(
            run, end, *options, step=int(moment), delay=_STEP_SECONDS * (moment % 1), writing=writing
        )
        if not writing or _killed_run.is_writing(run):
            return newest
        shutil.rmtree(run)


def _same(one: Path, other: Path) -> bool:
    with np.load(one) as first, np.load(other) as second:
        return first.files == second.files and all(np.array_equal(first[name], second[name]) for name in first.files)
