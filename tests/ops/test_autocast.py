import keras
import numpy as np
import pytest

from kerasblocks.layers import RMSNorm, SwiGLU

if keras.backend.backend() != "torch":
    pytest.skip("Only PyTorch has autocast.", allow_module_level=True)
import torch


@pytest.mark.parametrize("gradient", [True, False])
@pytest.mark.parametrize(
    ("layer", "shape"),
    [(SwiGLU(), (4, 8)), (RMSNorm(), (4, 8)), (RMSNorm(), (100, 800)), (RMSNorm(), (1400, 800))],
    ids=str,
)
def test_layers_work_where_autocast_chooses_the_dtypes(layer, shape, gradient):
    x = torch.from_numpy(np.random.default_rng(0).normal(size=shape).astype("float32"))
    wanted = layer(x)
    x.requires_grad_(gradient)
    with torch.set_grad_enabled(gradient), torch.autocast("cpu", torch.bfloat16):
        output = layer(x)
    assert torch.allclose(output.float(), wanted, atol=0.02, rtol=0.02)
    if gradient:
        output.float().sum().backward()
        assert torch.isfinite(x.grad).all()
