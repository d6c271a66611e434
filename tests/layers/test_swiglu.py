import keras
import numpy as np
import pytest
from arrays import random, to_numpy
from gradients import assert_close, function_and_gradients, numeric_gradients, output_and_gradients, second_derivatives
from layer_contract import check_layer_contract, check_models

from kerasblocks.layers import SwiGLU
from kerasblocks.ops import use_fast_paths


def oracle(x, kernel, down, beta=1.0):
    return oracle_with_biases(x, kernel, 0.0, down, 0.0, beta)


def oracle_with_biases(x, kernel, bias, down, down_bias, beta=1.0):
    gate, up = np.split(x @ kernel + bias, 2, axis=-1)
    return (gate / (1 + np.exp(-beta * gate)) * up) @ down + down_bias


def set_random_weights(layer):
    layer.set_weights([random(weight.shape, seed=10 + n) / 2 for n, weight in enumerate(layer.get_weights())])


@pytest.fixture(params=["reference", "fast"])
def path(request):
    with use_fast_paths(request.param == "fast"):
        yield


@pytest.mark.parametrize(
    ("options", "seeds"),
    [
        ({}, 0),
        ({"use_bias": True, "beta": 1.7, "dropout": 0.2}, 1),
        ({"hidden_dim": 5, "output_dim": 2}, 0),
    ],
    ids=str,
)
def test_keeps_the_layer_contract(options, seeds, tmp_path):
    check_layer_contract(lambda **kwargs: SwiGLU(**options, **kwargs), random((2, 5, 3)), tmp_path, seeds=seeds)


def test_in_models_of_every_kind(tmp_path):
    check_models(lambda: SwiGLU(use_bias=True), random((4, 5, 3)), tmp_path)


@pytest.mark.parametrize("beta", [1.0, 1.7])
@pytest.mark.parametrize("shape", [(1, 1), (3, 7), (0, 5), (2, 1, 3), (2, 3, 2, 2, 3)], ids=str)
def test_output_and_gradients_equal_the_oracle(shape, beta, path):
    layer = SwiGLU(hidden_dim=5, output_dim=3, beta=beta)
    layer.build(shape)
    set_random_weights(layer)
    x, weights = random(shape), layer.get_weights()
    upstream = random((*shape[:-1], 3), seed=1)
    output, *gradients = output_and_gradients(layer, x, upstream)
    assert_close(output, oracle(x.astype("float64"), *weights, beta), 1e-5)
    wanted = numeric_gradients(lambda *each: oracle(*each, beta), [x, *weights], upstream)
    for gradient, right in zip([gradients[0], *gradients[1]], wanted, strict=True):
        assert_close(gradient, right, 1e-5)


def test_biases(path):
    layer = SwiGLU(hidden_dim=5, output_dim=3, use_bias=True)
    layer.build((4, 7))
    set_random_weights(layer)
    x, weights = random((4, 7)), layer.get_weights()
    upstream = random((4, 3), seed=1)
    output, *gradients = output_and_gradients(layer, x, upstream)
    assert_close(output, oracle_with_biases(x.astype("float64"), *weights), 1e-5)
    wanted = numeric_gradients(oracle_with_biases, [x, *weights], upstream)
    for gradient, right in zip([gradients[0], *gradients[1]], wanted, strict=True):
        assert_close(gradient, right, 1e-5)


@pytest.mark.parametrize("beta", [1.0, 0.5])
def test_second_derivatives(beta, path):
    layer = SwiGLU(hidden_dim=5, beta=beta)
    layer.build((2, 3))
    set_random_weights(layer)
    x, upstream = random((2, 3)), random((2, 3), seed=1)
    weights = [weight.astype("float64") for weight in layer.get_weights()]

    def squares(x):
        (gradient,) = numeric_gradients(lambda x: oracle(x, *weights, beta), [x], upstream, step=1e-4)
        return (gradient**2).sum()

    (wanted,) = numeric_gradients(squares, [x], np.ones(()), step=1e-4)
    assert_close(second_derivatives(layer, x, upstream), wanted, 1e-4)


@pytest.mark.parametrize("value", [0.0, 1e-20, 1e6])
def test_any_size_gives_finite_results_and_gradients(value, path):
    layer = SwiGLU()
    x = np.full((2, 4), value, "float32")
    for result in function_and_gradients(layer, (x,), np.ones_like(x)):
        assert np.isfinite(result).all()


def test_equals_a_llama_mlp():
    width, hidden = 6, 10
    gate, up, down = (
        keras.layers.Dense(units, use_bias=False, kernel_initializer="random_normal")
        for units in (hidden, hidden, width)
    )
    x = random((2, 3, width))
    wanted = down(keras.ops.silu(gate(x)) * up(x))
    layer = SwiGLU(hidden)
    layer.build(x.shape)
    layer.set_weights([np.concatenate([gate.get_weights()[0], up.get_weights()[0]], 1), *down.get_weights()])
    assert_close(to_numpy(layer(x)), to_numpy(wanted), 1e-6)


@pytest.mark.parametrize(
    ("width", "multiple_of", "hidden"), [(12, 8, 32), (768, 8, 2048), (512, 256, 1536), (1, 1, 3), (7, 64, 64)]
)
def test_the_default_hidden_dimension_is_two_thirds_of_four_widths_rounded_up(width, multiple_of, hidden):
    layer = SwiGLU(multiple_of=multiple_of)
    layer.build((None, width))
    assert layer.down.kernel.shape == (hidden, width)
    assert layer.gate_up.kernel.shape == (width, 2 * hidden)


@pytest.mark.parametrize("seed", [None, 3])
def test_the_three_matrices_are_drawn_as_matrices_of_their_own(seed):
    layer = SwiGLU(1000, kernel_initializer=keras.initializers.GlorotNormal(seed=seed))
    layer.build((None, 1000))
    kernel, down = layer.get_weights()
    parts = [kernel[:, :1000], kernel[:, 1000:], down]
    for part in parts:
        assert part.std() == pytest.approx((2 / 2000) ** 0.5, rel=0.01)
    for one, other in [(0, 1), (0, 2), (1, 2)]:
        assert abs(np.corrcoef(parts[one].ravel(), parts[other].ravel())[0, 1]) < 0.01


def test_constraints_and_regularizers_see_each_matrix():
    layer = SwiGLU(
        4, kernel_constraint=keras.constraints.UnitNorm(axis=None), kernel_regularizer=keras.regularizers.L2(0.5)
    )
    layer.build((None, 3))
    set_random_weights(layer)
    kernel, down = layer.get_weights()
    assert float(keras.ops.convert_to_numpy(sum(layer.losses))) == pytest.approx(
        0.5 * ((kernel**2).sum() + (down**2).sum()), rel=1e-5
    )
    constrained = to_numpy(layer.gate_up.kernel_constraint(kernel))
    assert np.linalg.norm(constrained[:, :4]) == pytest.approx(1, rel=1e-4)
    assert np.linalg.norm(constrained[:, 4:]) == pytest.approx(1, rel=1e-4)


def test_the_small_matrices_of_an_adaptation_are_regularized_whole():
    layer = SwiGLU(4, kernel_regularizer=keras.regularizers.OrthogonalRegularizer(1.0, mode="columns"))
    layer.build((None, 6))
    layer.enable_lora(2)
    a = np.zeros((6, 2), "float32")
    a[0] = 1.0  # two equal columns: halves of one column each would find nothing to punish
    layer.gate_up.lora_kernel_a.assign(a)
    assert float(
        keras.ops.convert_to_numpy(layer.gate_up.kernel_regularizer(keras.ops.convert_to_tensor(a)))
    ) == pytest.approx(1.0, rel=1e-4)


def test_dropout_is_before_the_down_projection():
    layer = SwiGLU(1000, 1000, dropout=0.5, kernel_initializer="identity")
    x = np.full((1, 1000), 3.0, "float32")
    silu = 3 / (1 + np.exp(-3.0))
    dropped = to_numpy(layer(x, training=True)).ravel() / (3 * silu)
    assert set(dropped.round(4).tolist()) == {0.0, 2.0}
    assert abs((dropped > 0).mean() - 0.5) < 0.1
    assert_close(to_numpy(layer(x)).ravel(), np.full(1000, 3 * silu), 1e-6)


def adapted(alpha):
    model = keras.Sequential([keras.Input((3, 8)), SwiGLU(use_bias=True)])
    model.layers[0].enable_lora(4, lora_alpha=alpha)
    for projection in (model.layers[0].gate_up, model.layers[0].down):
        projection.lora_kernel_b.assign(random(projection.lora_kernel_b.shape, seed=5))
    return model


def test_lora_adds_the_scaled_product_and_trains_it_only():
    model, x = adapted(16), random((2, 3, 8))
    layer = model.layers[0]
    plain = SwiGLU(use_bias=True)
    plain.build(x.shape)
    weights = []
    for projection in (layer.gate_up, layer.down):
        product = to_numpy(projection.lora_kernel_a) @ to_numpy(projection.lora_kernel_b)
        weights += [to_numpy(projection._kernel) + 16 / 4 * product, to_numpy(projection.bias)]
    plain.set_weights(weights)
    assert_close(to_numpy(model(x)), to_numpy(plain(x)), 1e-5)
    before = {weight.path: to_numpy(weight) for weight in layer.weights}
    model.compile(keras.optimizers.SGD(0.1), "mse")
    model.fit(x, np.zeros_like(x), verbose=0)
    changed = {
        "/".join(weight.path.split("/")[-2:])
        for weight in layer.weights
        if (to_numpy(weight) != before[weight.path]).any()
    }
    names = ("bias", "lora_kernel_a", "lora_kernel_b")
    assert changed == {f"{projection}/{name}" for projection in ("gate_up", "down") for name in names}


@pytest.mark.parametrize("alpha", [None, 16])
def test_lora_is_saved_with_its_alpha(alpha, tmp_path):
    model, x = adapted(alpha), random((2, 3, 8))
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(to_numpy(loaded(x)), to_numpy(model(x)))
    layer = loaded.layers[0]
    assert (layer.lora_rank, layer.lora_alpha) == (4, alpha or 4)
    assert layer.gate_up.lora_alpha == layer.down.lora_alpha == (alpha or 4)
    assert layer.get_config() == model.layers[0].get_config()


@pytest.mark.parametrize("options", [{"lora_rank": 2}, {"lora_rank": 2, "lora_alpha": 16}], ids=str)
def test_an_adaptation_that_the_constructor_asks_for(options):
    layer = SwiGLU(**options)
    before = layer.get_config()
    layer.build((None, 3))
    assert layer.get_config() == before
    assert SwiGLU.from_config(before).get_config() == before
    assert (layer.gate_up.lora_rank, layer.gate_up.lora_alpha) == (2, options.get("lora_alpha", 2))


def built(**options):
    layer = SwiGLU(**options)
    layer.build((None, 3))
    return layer


@pytest.mark.parametrize(
    ("make", "rank", "message"),
    [
        (SwiGLU, 2, "not built yet"),
        (lambda: built(kernel_constraint="non_neg"), 2, "does not go with a kernel_constraint"),
        (lambda: built(lora_rank=2), 2, "enabled already"),
        (built, 0, "rank must be an integer of at least 1; got 0"),
    ],
    ids=["unbuilt", "constrained", "twice", "rank"],
)
def test_lora_is_refused_where_it_cannot_be(make, rank, message):
    layer = make()
    with pytest.raises(ValueError, match=message):
        layer.enable_lora(rank)


@pytest.mark.parametrize("by", ["model", "layer"])
def test_quantized_layers_compute_nearly_the_same_and_are_saved(by, tmp_path):
    model, x = keras.Sequential([keras.Input((3, 32)), SwiGLU(use_bias=True)]), random((8, 3, 32))
    before = to_numpy(model(x))
    if by == "model":
        model.quantize("int8", filters="swi_glu|gate_up|down")
    else:
        model.layers[0].quantize("int8")
    after = to_numpy(model(x))
    assert 0 < np.abs(after - before).max() < 0.05 * np.abs(before).max()
    assert keras.backend.standardize_dtype(model.layers[0].down._kernel.dtype) == "int8"
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(to_numpy(loaded(x)), after)


def test_masks_pass_through():
    x = random((2, 3, 4))
    masked = keras.layers.Masking()(x)
    assert keras.ops.convert_to_numpy(SwiGLU()(masked)._keras_mask).tolist() == [[True] * 3] * 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hidden_dim": 0}, "hidden_dim must be an integer of at least 1; got 0"),
        ({"hidden_dim": -3}, "hidden_dim must be an integer of at least 1; got -3"),
        ({"hidden_dim": 2.0}, "hidden_dim must be an integer"),
        ({"output_dim": 0}, "output_dim must be an integer of at least 1"),
        ({"multiple_of": 0}, "multiple_of must be an integer of at least 1"),
        ({"beta": "1"}, "beta must be a finite number"),
        ({"dropout": 1.0}, "dropout must lie in 0 <= dropout < 1; got 1.0"),
        ({"dropout": -0.1}, "dropout must lie in"),
        ({"use_bias": 1}, "use_bias must be True or False; got 1"),
        ({"lora_rank": 0}, "lora_rank must be an integer of at least 1; got 0"),
        ({"lora_alpha": 16}, "lora_alpha needs a lora_rank; got lora_alpha=16 without one"),
        ({"kernel_initializer": "nonsense"}, "nonsense"),
    ],
    ids=str,
)
def test_bad_arguments_are_refused_at_construction(options, message):
    with pytest.raises(ValueError, match=message):
        SwiGLU(**options)


def test_bad_inputs_are_refused():
    with pytest.raises(ValueError, match="last dimension of the input must be known"):
        SwiGLU().build((None, 3, None))
    with pytest.raises(ValueError, match="expected min_ndim=2, found ndim=1"):
        SwiGLU()(np.ones(3, "float32"))
