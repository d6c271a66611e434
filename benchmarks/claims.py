"""The claims, each with its target, and what was measured of it; one command measures all of them again."""

import dataclasses
import subprocess
import sys
from pathlib import Path
from typing import Any

import keras

from benchmarks._results import RESULTS, markdown, rows


@dataclasses.dataclass(frozen=True)
class Claim:
    """What is claimed of rows of one benchmark.

    Attributes:
        command: the benchmark's name on the command line.
        text: the claim.
        measured: the column with the number.
        target: the column with the target, or the target, of each backend; None where the claim is the number itself.
        at_most: whether the number should be at most the target.
        spread: the columns with its lower and upper end.
        cases: the columns that tell the cases apart.
        only: values of columns, of the rows that count.
        option: the option that names data which are not part of the project.
        needs_it: whether the benchmark measures nothing without.
    """

    command: str
    text: str
    measured: str
    target: str | float | dict[str, float] | None = None
    at_most: bool = True
    spread: tuple[str, str] | None = None
    cases: tuple[str, ...] = ()
    only: dict[str, str] = dataclasses.field(default_factory=dict)
    option: str | None = None
    needs_it: bool = True

    def newest(self) -> list[dict[str, str]]:
        """Returns the newest row of each backend, device and case."""
        file = self.command.replace("-", "_")
        found = rows(file) if (RESULTS / f"{file}.csv").exists() else []
        kept = [row for row in found if all(row[name] == value for name, value in self.only.items())]
        return list({tuple(row[name] for name in ("backend", "device", *self.cases)): row for row in kept}.values())

    def line(self, row: dict[str, str]) -> list[str]:
        """Returns claim, case, target, measured, spread and whether it is met, of a row."""
        wanted = self.target[row["backend"]] if isinstance(self.target, dict) else self.target
        target = row[wanted] if isinstance(wanted, str) else "" if wanted is None else str(wanted)
        number = float(row[self.measured])
        met = row.get("met") or ""
        if target and not met:
            met = str(number <= float(target) if self.at_most else number >= float(target))
        spread = "" if self.spread is None else f"{row[self.spread[0]]} to {row[self.spread[1]]}"
        case = ", ".join(row[name] for name in self.cases)
        bound = f"{'≤' if self.at_most else '≥'} {target}" if target else ""
        return [self.text, case, bound, f"{number:g}", spread, met]


_P = ("ratio_p10", "ratio_p90")
CLAIMS = (
    Claim(
        "lenet-accuracy",
        "LeNet app, test accuracy",
        "test_accuracy",
        "target",
        at_most=False,
        spread=("lowest", "highest"),
        cases=("case",),
        option="fashion",
        needs_it=False,
    ),
    Claim(
        "alexnet-accuracy",
        "AlexNet app, test accuracy on small photographs",
        "test_accuracy",
        "target",
        at_most=False,
        spread=("lowest", "highest"),
        option="data",
    ),
    Claim("transformer-loss", "transformer app, loss", "loss", "bar", spread=("lowest", "highest"), option="text"),
    Claim("distillation-labels", "distilled student, gain in accuracy", "gain", 0.02, False, option="fashion"),
    Claim("faults", "check-up, right about a fault or a healthy model", "right", cases=("kind", "case")),
    Claim("suggested-rate", "suggested rate, loss beside the best of a grid", "ratio", "bar", cases=("task",)),
    Claim(
        "fit-overhead",
        "step with three callbacks, by a plain one",
        "ratio",
        {"jax": 1.03, "tensorflow": 1.03, "torch": 1.05},
        spread=_P,
        cases=("case",),
        only={"callbacks": "all three"},
    ),
    Claim(
        "hand-written-loop",
        "steps a second of an app's fit, by those of a loop written by hand",
        "rate",
        "bar",
        at_most=False,
        spread=("rate_p10", "rate_p90"),
        cases=("case", "batch_size"),
        only={"fit": "app"},
    ),
    Claim("checkpoint-overhead", "step of a run that saves, by one that does not", "ratio", spread=_P, cases=("case",)),
    Claim("kill-and-resume", "killed runs that end otherwise", "different", 0, cases=("case",), only={"way": "ours"}),
    Claim("distillation-steps", "step of the Distiller, by the other", "ratio", "bar", True, _P, ("case",)),
    Claim("distillation-memory", "memory of the loss in chunks, by that of whole logits", "ratio", "bar"),
    Claim("transformer-steps", "step of the transformer, by nanoGPT's", "ratio", "bar", True, _P, option="nanogpt"),
    Claim("transformer-writing", "writing with a cache, speed by that without", "speed", "bar", False),
    Claim("alexnet-rate", "AlexNet of 2012 at 227 pixels, memory in GB", "peak_gb", "limit_gb", cases=("policy",)),
    Claim(
        "layers",
        "RMSNorm of a large tensor, forward and backward, by Keras's",
        "ratio",
        1.0,
        spread=_P,
        cases=("shape", "dtype"),
        only={
            "against": "keras.layers.RMSNormalization",
            "mode": "forward+backward",
            "dtype": "float32",
            "shape": "8x512x1024",
        },
    ),
)


def table() -> str:
    """Returns claim, case, target, measured, spread and whether it is met, of the backend in use, as Markdown."""
    header = ["claim", "case", "target", "measured", "spread", "met"]
    lines = []
    for claim in CLAIMS:
        found = [row for row in claim.newest() if row["backend"] == keras.backend.backend()]
        if claim.command == "faults":
            lines += _of_faults(claim, found)
            continue
        lines += [claim.line(row) for row in found] or [[claim.text, "", "", "not measured", "", ""]]
    return markdown([header, *lines])


def _of_faults(claim: Claim, found: list[dict[str, str]]) -> list[list[str]]:
    lines = []
    for kind in dict.fromkeys(row["kind"] for row in found):
        of_kind = [row["right"] == "True" for row in found if row["kind"] == kind]
        share, bar = sum(of_kind) / len(of_kind), 1.0 if "healthy" in kind else 0.9
        lines.append([claim.text, kind, f"≥ {bar}", f"{sum(of_kind)} of {len(of_kind)}", "", str(share >= bar)])
    return lines or [[claim.text, "", "", "not measured", "", ""]]


def results() -> str:
    """Returns task, backend, device, time, metric, n and command of what the apps reach, as Markdown."""
    header = ["task", "backend", "device", "seconds", "metric", "n", "command"]
    lines = []
    for command, task, seconds, metric, n in (
        ("lenet-accuracy", "LeNet-5, {case}", "training_seconds", "test accuracy {test_accuracy}", "{n}"),
        ("alexnet-accuracy", "AlexNet, small photographs", "longest_seconds", "test accuracy {test_accuracy}", "{n}"),
        ("transformer-loss", "transformer, {steps} steps", "seconds", "validation loss {loss}", "{n}"),
        ("distillation-labels", "distilled student, {labelled} labels", "", "test accuracy {distilled}", "{seeds}"),
    ):
        claim = next(each for each in CLAIMS if each.command == command)
        option = f" --{claim.option} ..." if claim.option and claim.needs_it else ""
        for row in claim.newest():
            told = [task.format(**row), row["backend"], row["device"], row.get(seconds, ""), metric.format(**row)]
            lines.append([*told, n.format(**row), f"`make bench BACKEND={row['backend']} ARGS='{command}{option}'`"])
    return markdown([header, *lines])


def run_all(
    fashion: Path | None = None, text: Path | None = None, data: Path | None = None, nanogpt: Path | None = None
) -> None:
    """Measures every claim again on the backend in use, which takes hours, and prints the table.

    Args:
        fashion: folder with Fashion-MNIST's four IDX files.
        text: tinyshakespeare, a file of text.
        data: folder with train and test, of 12,000 photographs of CIFAR-10 in class folders.
        nanogpt: a checkout of nanoGPT.
    """
    given: dict[str, Any] = {"fashion": fashion, "text": text, "data": data, "nanogpt": nanogpt}
    failed = []
    for claim in CLAIMS:
        path = given[claim.option] if claim.option else None
        if claim.option and claim.needs_it and path is None:
            print(f"{claim.command}: left out, for it needs --{claim.option}", flush=True)
            continue
        option = [] if path is None else [f"--{claim.option}", str(path)]
        if subprocess.run([sys.executable, "-m", "benchmarks", claim.command, *option], check=False).returncode:
            failed.append(claim.command)
    print(table(), end="")
    if failed:
        sys.exit(f"error: {', '.join(failed)} failed; their lines above are of earlier rows.")
