import numpy as np
import pytest
from arrays import random, to_numpy
from layer_contract import check_layer_contract, check_models

from kerasblocks.layers import DropPath


@pytest.mark.parametrize("rate", [0.0, 0.4])
def test_keeps_the_layer_contract(rate, tmp_path):
    check_layer_contract(
        lambda **kwargs: DropPath(rate, seed=3, **kwargs), random((4, 5, 3)), tmp_path, seeds=int(rate > 0)
    )


def test_in_models_of_every_kind(tmp_path):
    check_models(lambda: DropPath(0.5, seed=0), random((4, 5, 3)), tmp_path)


def test_whole_samples_are_dropped_and_the_others_grow():
    x = random((4000, 2, 3)) + 5
    ratio = to_numpy(DropPath(0.3, seed=1)(x, training=True)) / x
    np.testing.assert_allclose(ratio, np.broadcast_to(ratio[:, :1, :1], ratio.shape), rtol=1e-6)
    kept = ratio[:, 0, 0] > 0
    np.testing.assert_allclose(ratio[kept], 1 / 0.7, rtol=1e-6)
    assert abs(kept.mean() - 0.7) < 5 * (0.3 * 0.7 / 4000) ** 0.5


def test_calls_draw_anew_and_seeds_repeat():
    x = np.ones((64, 1), "float32")
    first, other = DropPath(0.5, seed=7), DropPath(0.5, seed=7)
    one, two = to_numpy(first(x, training=True)), to_numpy(first(x, training=True))
    assert (one != two).any()
    np.testing.assert_array_equal(to_numpy(other(x, training=True)), one)


@pytest.mark.parametrize("training", [False, None])
def test_nothing_is_dropped_outside_training(training):
    x = random((5, 3))
    np.testing.assert_array_equal(to_numpy(DropPath(0.9)(x, training=training)), x)


@pytest.mark.parametrize("rate", [-0.1, 1.0, 2, "0.5", None, float("nan"), True])
def test_a_bad_rate_is_refused(rate):
    with pytest.raises(ValueError, match="rate must"):
        DropPath(rate)


@pytest.mark.parametrize("seed", [-1, 1.0, "1", True])
@pytest.mark.parametrize("rate", [0.0, 0.5])
def test_a_bad_seed_is_refused(rate, seed):
    with pytest.raises(ValueError, match="seed must be an integer of at least 0; got"):
        DropPath(rate, seed=seed)
