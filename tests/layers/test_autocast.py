"""The layers where `torch.autocast` chooses the dtypes."""

import keras
import pytest
from arrays import random, to_numpy
from gradients import assert_close

from kerasblocks.layers import RMSNorm, SwiGLU

if keras.backend.backend() != "torch":
    pytest.skip("Only PyTorch has autocast.", allow_module_level=True)
import torch

CASES = {
    "SwiGLU": (SwiGLU, (4, 8)),
    "small RMSNorm": (RMSNorm, (4, 8)),
    "RMSNorm": (RMSNorm, (100, 800)),
    "large RMSNorm": (RMSNorm, (1400, 800)),
}


@pytest.mark.parametrize("case", CASES)
def test_outputs_and_gradients_are_those_of_float32_up_to_the_rounding_of_bfloat16(case):
    make, shape = CASES[case]
    layer, upstream = make(), torch.from_numpy(random(shape, seed=1))
    found = []
    for autocast in (False, True):
        x = torch.from_numpy(random(shape)).requires_grad_()
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            output = layer(x)
        (gradient,) = torch.autograd.grad(output, x, upstream.to(output.dtype))
        found.append([to_numpy(output), to_numpy(gradient)])
    for one, other in zip(*found, strict=True):
        assert_close(other, one, 0.02)


@pytest.mark.parametrize("case", CASES)
def test_outputs_without_a_gradient(case):
    make, shape = CASES[case]
    layer, x = make(), torch.from_numpy(random(shape))
    with torch.no_grad():
        wanted = to_numpy(layer(x))
        with torch.autocast("cpu", torch.bfloat16):
            assert_close(to_numpy(layer(x)), wanted, 0.02)
