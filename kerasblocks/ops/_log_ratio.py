"""Two tempered distributions and the logarithm of their ratio, with the digits that differences of logarithms lose."""

import math
from typing import Any, NamedTuple

from kerasblocks.ops._plain import plain

_LEAST = -1e30
_COEFFICIENTS = [1 / 40320, 1 / 5040, 1 / 720, 1 / 120, 1 / 24, 1 / 6, 1 / 2]


class LogRatio(NamedTuple):
    """Of p = softmax(a / T) and q = softmax(b / T), over the last axis.

    Attributes:
        p: p.
        q: q.
        centred: d = (b − a) / T less its mean under p, which differs from log q − log p by a constant.
        log_ratios: log q − log p.
        divergence: KL(p ‖ q) = log Σ p·exp(d), with the last axis kept.
    """

    p: Any
    q: Any
    centred: Any
    log_ratios: Any
    divergence: Any


def log_ratio(a: Any, b: Any, temperature: Any) -> LogRatio:
    """Returns p, q, d, log q − log p and the divergence of two tensors of logits in float32 or better.

    With Σ p·d = 0 the divergence is log(1 + Σ p·(exp(d) − 1 − d)), a sum of terms that are not negative: it keeps
    its digits where p and q nearly agree, as they do at a high temperature. Where it is large, Σ p·(log p − log q)
    is as good. For a class that only one of the two masks, with −1e9 or −∞, d has no digits left, and p·exp(d) is
    q times the exponential of the divergence.
    """
    of = plain(a, b)
    a, b = of.clip(a, _LEAST, math.inf), of.clip(b, _LEAST, math.inf)  # the difference of two masks is none
    log_p, log_q = of.log_softmax(a / temperature), of.log_softmax(b / temperature)
    p, q = of.exp(log_p), of.exp(log_q)
    difference = (b - a) / temperature  # in this order: the difference of like numbers is exact, quotients are not
    centred = difference - of.sum(p * difference)
    large = of.sum(p * (log_p - log_q))
    # Where a branch is not taken it must be finite all the same, for its gradient is multiplied by zero.
    direct = q * of.exp(of.clip(large, -1.0, 2.0)) - p * (1 + centred)
    terms = of.where(of.abs(centred) < 1, p * _excess(of.clip(centred, -1.0, 1.0)), direct)
    small = of.log1p(of.sum(of.where(large < 1, terms, 0.0)))
    divergence = of.where(large < 1, small, large)
    log_ratios = of.where(of.abs(centred) < 1, centred - divergence, log_q - log_p)
    return LogRatio(p, q, centred, log_ratios, divergence)


def gradient_by_b(ratio: LogRatio, temperature: Any) -> Any:
    """Computes T · (q − p), the gradient of T² · KL(p ‖ q) by b, with the digits of q − p where they nearly agree."""
    of = plain(ratio.p)
    near = ratio.p * of.expm1(of.clip(ratio.log_ratios, -1.0, 1.0))
    far = ratio.q - ratio.p
    return temperature * of.where(of.abs(ratio.log_ratios) < 1, near, far)


def gradient_by_a(ratio: LogRatio, temperature: Any) -> Any:
    """Computes −T · p·d, the gradient of T² · KL(p ‖ q) by a."""
    return -temperature * (ratio.p * ratio.centred)


def _excess(d: Any) -> Any:
    """Computes exp(d) − 1 − d for |d| ≤ 1 by its Taylor series, d²·(1/2 + d/6 + d²/24 + …)."""
    total = d * (1 / 362880) + _COEFFICIENTS[0]
    for coefficient in _COEFFICIENTS[1:]:
        total = total * d + coefficient
    return d * d * total
