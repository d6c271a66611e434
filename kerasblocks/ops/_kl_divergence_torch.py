"""The divergence for PyTorch: one node of autograd that keeps its gradients, where the reference path keeps twenty."""

from typing import Any

import torch

from kerasblocks.ops._kl_divergence_reference import kl_divergence as reference
from kerasblocks.ops._log_ratio import gradient_by_a, gradient_by_b, log_ratio
from kerasblocks.ops._torch_modes import by_autograd, forbid_own_gradient


def kl_divergence(a: Any, b: Any, temperature: Any) -> Any:
    """Returns the divergence, or None where only the reference path will do."""
    if forbid_own_gradient(a, b) or (torch.is_tensor(temperature) and temperature.requires_grad):
        return None
    if not torch.is_grad_enabled() or not (a.requires_grad or b.requires_grad):
        return None
    function: Any = _Divergence.apply
    return function(a, b, temperature)


class _Divergence(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, a: Any, b: Any, temperature: Any) -> Any:
        ratio = log_ratio(a, b, temperature)
        by_a = gradient_by_a(ratio, temperature) if a.requires_grad else None
        ctx.save_for_backward(a, b, by_a, gradient_by_b(ratio, temperature) if b.requires_grad else None)
        ctx.temperature = temperature
        return ratio.divergence[..., 0] * (temperature * temperature)

    @staticmethod
    def backward(ctx: Any, upstream: Any) -> Any:
        a, b, *kept = ctx.saved_tensors
        if torch.is_grad_enabled():
            return *by_autograd(lambda *both: reference(both[0], both[1], ctx.temperature), upstream, a, b), None
        return *(None if each is None else each * upstream[..., None] for each in kept), None
