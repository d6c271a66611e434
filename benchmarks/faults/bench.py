"""Claim: of training bugs as users make them the right check fails, among the first two findings, in nine of ten.

The checks were tuned on the faults of the first and of the second half, and on the healthy twins. The unseen faults and
healthy models were written by somebody who did not know the checks; some checks were mended after their first run. On a
healthy model no check may fail, and one may warn.
"""

import warnings

from benchmarks._results import append_row, markdown, rows
from benchmarks.faults._first_half import FIRST
from benchmarks.faults._healthy import HEALTHY
from benchmarks.faults._models import Trial
from benchmarks.faults._second_half import SECOND
from benchmarks.faults._unseen import UNSEEN
from benchmarks.faults._unseen_healthy import UNSEEN_HEALTHY
from kerasblocks.diagnostics import CheckupReport, checkup
from kerasblocks.training import environment

UNSEEN_FAULT, TWIN, UNSEEN_TWIN = "unseen", "healthy twin", "unseen healthy model"


def main(only: tuple[str, ...] = ()) -> None:
    """Checks models with faults, and healthy ones, and keeps a row of each.

    Args:
        only: names of faults and twins, of which no rows are kept; all if none.
    """
    warnings.simplefilter("ignore")  # Keras says some of it too.
    for half, faults in {"first half": FIRST, "second half": SECOND, UNSEEN_FAULT: UNSEEN}.items():
        for name, (make, right) in faults.items():
            if not only or name in only:
                report = _checked(make())
                named = any(each.verdict == "fail" and each.check in right for each in report.findings[:2])
                _tell(half, name, named, report, kept=not only)
    for kind, models in {TWIN: HEALTHY, UNSEEN_TWIN: UNSEEN_HEALTHY}.items():
        for name, make in models.items():
            if not only or name in only:
                report = _checked(make())
                _tell(kind, name, not report.failed and len(report.warned) <= 1, report, kept=not only)


def summary() -> str:
    """Returns, as a Markdown table, how many faults were named, twins were well, and verdicts alike on all backends."""
    newest = {(row["backend"], row["case"]): row for row in rows("faults")}
    backends = sorted({backend for backend, _ in newest})
    lines = [["", *backends]]
    for kind in ("first half", "second half", UNSEEN_FAULT, TWIN, UNSEEN_TWIN):
        of_kind = [
            [row for row in newest.values() if row["kind"] == kind and row["backend"] == each] for each in backends
        ]
        lines.append([kind, *(f"{sum(row['right'] == 'True' for row in each)} of {len(each)}" for each in of_kind)])
    cases = sorted({case for _, case in newest})
    verdicts = ("right", "failed")
    alike, judged = (
        sum(
            len({newest[backend, case][name] for backend in backends if (backend, case) in newest}) == 1
            for case in cases
        )
        for name in verdicts
    )
    table = markdown(lines)
    return f"{table}\nRight or wrong on all alike: {alike} of {len(cases)}; the same checks failed: {judged}.\n"


def _checked(trial: Trial) -> CheckupReport:
    return checkup(trial.model, trial.x, trial.y, validation_data=trial.validation, verbose=0, **trial.options)


def _tell(kind: str, name: str, right: bool, report: CheckupReport, *, kept: bool) -> None:
    row = {
        "kind": kind,
        "case": name,
        "right": right,
        "failed": " ".join(each.check for each in report.failed),
        "warned": " ".join(each.check for each in report.warned),
        "seconds": round(report.seconds, 1),
    }
    if kept:
        append_row("faults", environment(), row)
        return
    print(row)
    for each in (*report.failed, *report.warned):
        print(f"  {each.verdict} {each.check}: {each.message}", flush=True)
