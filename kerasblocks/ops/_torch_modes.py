"""When PyTorch is doing more than computing and differentiating, so that hand-written gradients stand in its way."""

from collections.abc import Callable
from typing import Any

import torch
from torch.autograd import forward_ad


def by_autograd(function: Callable[..., Any], upstream: Any, *tensors: Any) -> tuple[Any, ...]:
    """Returns the gradients of a function by its tensors, gradients that can themselves be differentiated.

    They are None for a tensor that is None or asks for none.
    """
    wanted = [each for each in tensors if each is not None and each.requires_grad]
    found = iter(torch.autograd.grad(function(*tensors), wanted, upstream, create_graph=True))
    return tuple(None if each is None or not each.requires_grad else next(found) for each in tensors)


def _is_traced() -> bool:
    return torch.compiler.is_compiling() or torch._C._is_tracing()


def forbid_own_gradient(*tensors: Any) -> bool:
    """Tells whether an exporter, `torch.autocast`, a `torch.func` transform or a forward-mode derivative is at work.

    Or a mode that sees every operation, of which some have tensors without values, that may be kept for no other call.
    """
    first = tensors[0]
    if _is_traced() or first.device.type == "meta" or torch.is_autocast_enabled(first.device.type):
        return True
    if torch._C._are_functorch_transforms_active() or torch._C._len_torch_dispatch_stack():
        return True
    unpack: Any = forward_ad.unpack_dual
    return any(unpack(each).tangent is not None for each in tensors if each is not None)
