"""Two tempered distributions and the logarithm of their ratio, with the digits that differences of logarithms lose."""

from typing import Any, NamedTuple

from kerasblocks.ops._plain import plain

_COEFFICIENTS = [1 / 40320, 1 / 5040, 1 / 720, 1 / 120, 1 / 24, 1 / 6, 1 / 2]


class LogRatio(NamedTuple):
    """Of p = softmax(a / T) and q = softmax(b / T), over the last axis.

    Attributes:
        p: p.
        centred: d = (b − a) / T less its mean under p, which differs from log q − log p by a constant.
        divergence: KL(p ‖ q) = log Σ p·exp(d), with the last axis kept.
    """

    p: Any
    centred: Any
    divergence: Any


def log_ratio(a: Any, b: Any, temperature: Any) -> LogRatio:
    """Returns p, d and the divergence of two tensors of logits in float32 or better.

    With Σ p·d = 0 the divergence is log(1 + Σ p·(exp(d) − 1 − d)), a sum of terms that are not negative: it keeps
    its digits where p and q nearly agree, as they do at a high temperature. Where it is large, the sum would
    overflow, and log Σ exp(log p + d) is as good.
    """
    of = plain(a, b)
    log_p = of.log_softmax(a / temperature)
    p = of.exp(log_p)
    difference = (b - a) / temperature  # in this order: the difference of like numbers is exact, quotients are not
    centred = difference - of.sum(p * difference)
    exponents = log_p + centred
    large = of.logsumexp(exponents)
    # Where a branch is not taken it must be finite all the same, for its gradient is multiplied by zero.
    direct = of.exp(of.clip(exponents, -1e4, 2.0)) - p * (1 + centred)
    terms = of.where(of.abs(centred) < 1, p * _excess(of.clip(centred, -1.0, 1.0)), direct)
    small = of.log1p(of.sum(of.where(large < 1, terms, 0.0)))
    return LogRatio(p, centred, of.where(large < 1, small, large))


def gradient_by_b(ratio: LogRatio, b: Any, temperature: Any) -> Any:
    """Computes T · (q − p), the gradient of T² · KL(p ‖ q) by b, with the digits of q − p where they nearly agree."""
    of = plain(b)
    log_ratios = ratio.centred - ratio.divergence
    near = ratio.p * of.expm1(of.clip(log_ratios, -1.0, 1.0))
    far = of.exp(of.log_softmax(b / temperature)) - ratio.p
    return temperature * of.where(of.abs(log_ratios) < 1, near, far)


def gradient_by_a(ratio: LogRatio, temperature: Any) -> Any:
    """Computes −T · p·d, the gradient of T² · KL(p ‖ q) by a."""
    return -temperature * (ratio.p * ratio.centred)


def _excess(d: Any) -> Any:
    """Computes exp(d) − 1 − d for |d| ≤ 1 by its Taylor series, d²·(1/2 + d/6 + d²/24 + …)."""
    total = d * (1 / 362880) + _COEFFICIENTS[0]
    for coefficient in _COEFFICIENTS[1:]:
        total = total * d + coefficient
    return d * d * total
