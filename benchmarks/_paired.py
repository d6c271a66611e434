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
    ratios = [a / b for a, b in zip(times["ours"], times["other"], strict=True)]
    same = [a / b for a, b in zip(times["again"], times["other"], strict=True)]
    deciles, same_deciles = (statistics.quantiles(each, n=10, method="inclusive") for each in (ratios, same))
    return {
        "ours_ms": round(1e3 * statistics.median(times["ours"]), 4),
        "other_ms": round(1e3 * statistics.median(times["other"]), 4),
        "ratio": round(statistics.median(ratios), 3),
        "ratio_p10": round(deciles[0], 3),
        "ratio_p90": round(deciles[-1], 3),
        "same_ratio": round(statistics.median(same), 3),
        "same_p10": round(same_deciles[0], 3),
        "same_p90": round(same_deciles[-1], 3),
        "blocks": blocks,
        "calls_a_block": calls,
    }


def _block(function: Callable[[], Any], calls: int) -> float:
    function()
    function()
    start = time.perf_counter()
    for _ in range(calls):
        function()
    return (time.perf_counter() - start) / calls
