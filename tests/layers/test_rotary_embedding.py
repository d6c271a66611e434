import numpy as np
import pytest
from arrays import random, to_numpy
from layer_contract import check_layer_contract

from kerasblocks.layers import RotaryEmbedding
from kerasblocks.ops import rotary_embedding


def test_keeps_the_layer_contract(tmp_path):
    check_layer_contract(lambda **kwargs: RotaryEmbedding(base=100.0, **kwargs), random((2, 5, 3, 4)), tmp_path)


def test_is_the_operation():
    x, positions = random((2, 3, 4)), np.array([2, 0, 9])
    np.testing.assert_allclose(
        to_numpy(RotaryEmbedding(50.0)(x, positions=positions)),
        to_numpy(rotary_embedding(x, positions, base=50.0)),
        rtol=1e-6,
    )


def test_bad_arguments_are_refused():
    with pytest.raises(ValueError, match=r"base must be above 1; got 0.5"):
        RotaryEmbedding(0.5)
    with pytest.raises(ValueError, match="The number of features must be even"):
        RotaryEmbedding()(random((2, 3, 5)))
