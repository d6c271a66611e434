"""Compares the times of two functions in one process: interleaved blocks, medians of paired ratios, A against A."""

import statistics
import time
from collections.abc import Callable
from typing import Any

_SECONDS_OF_A_BLOCK = 0.05


def paired(ours: Callable[[], Any], other: Callable[[], Any], blocks: int) -> dict[str, float]:
    """Times `blocks` triples of blocks, ours, other and other again; each function waits for the device itself.

    Both have been called before, and the first two calls of every block are not timed. The order within a triple
    turns around from one to the next. Ratios are ours to other; those of the other to itself show the noise.
    """
    calls = max(1, round(_SECONDS_OF_A_BLOCK / min(_block(ours, 1), _block(other, 1))))
    times: dict[str, list[float]] = {"ours": [], "other": [], "again": []}
    order = [("ours", ours), ("other", other), ("again", other)]
    for number in range(blocks):
        for name, function in order if number % 2 else reversed(order):
            times[name].append(_block(function, calls))
    return {**ratios(times), "calls_a_block": calls}


def ratios(times: dict[str, list[float]]) -> dict[str, float]:
    """Returns the medians of the seconds of ours and other, and of the paired ratios of ours and again to other."""
    found: dict[str, float] = {
        "ours_ms": round(1e3 * statistics.median(times["ours"]), 4),
        "other_ms": round(1e3 * statistics.median(times["other"]), 4),
    }
    for name, prefix, each in (("ratio", "ratio", times["ours"]), ("same_ratio", "same", times["again"])):
        quotients = [a / b for a, b in zip(each, times["other"], strict=True)]
        deciles = statistics.quantiles(quotients, n=10, method="inclusive")
        found[name] = round(statistics.median(quotients), 3)
        found |= {f"{prefix}_p10": round(deciles[0], 3), f"{prefix}_p90": round(deciles[-1], 3)}
    return found | {"blocks": len(times["ours"])}


def _block(function: Callable[[], Any], calls: int) -> float:
    function()
    function()
    start = time.perf_counter()
    for _ in range(calls):
        function()
    return (time.perf_counter() - start) / calls
