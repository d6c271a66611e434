import keras
import numpy as np
import pytest

from kerasblocks.models import alexnet, cost

SHAPES = {
    "2012": [(55, 96), (27, 256), (13, 384), (13, 384), (13, 256)],
    "single": [(56, 64), (27, 192), (13, 384), (13, 256), (13, 256)],
}


@pytest.mark.once
@pytest.mark.parametrize(("variant", "parameters"), [("2012", 60_965_224), ("single", 61_100_840)])
def test_parameters_and_shapes_are_the_published_ones(variant, parameters):
    model = alexnet(variant=variant)
    assert model.count_params() == parameters
    maps = [model.get_layer(f"conv{number}").output.shape[1:] for number in range(1, 6)]
    assert maps == [(side, side, filters) for side, filters in SHAPES[variant]]
    assert model.get_layer("pool5").output.shape == (None, 6, 6, 256)
    assert model.get_layer("flatten").output.shape == (None, 9216)
    if variant == "2012":
        assert cost(model).multiply_adds == 724_406_816
        assert alexnet(num_classes=10).count_params() == 56_909_194


@pytest.mark.once
def test_starting_weights_are_the_papers():
    model = alexnet((67, 67, 3), 10, seed=0)
    ones = {"conv2", "conv4", "conv5", "dense6", "dense7"}
    for layer in model.layers:
        if layer.weights:
            kernel, bias = layer.get_weights()
            assert kernel.std() == pytest.approx(0.01, rel=0.05)
            assert (bias == (layer.name in ones)).all()


def test_starting_weights_of_the_single_tower_keep_the_variance():
    model = alexnet((63, 63, 3), 10, "single", seed=0)
    for layer in model.layers:
        if layer.weights:
            kernel, bias = layer.get_weights()
            assert kernel.std() == pytest.approx((2 / np.prod(kernel.shape[:-1])) ** 0.5, rel=0.05)
            assert (bias == 0).all()


def test_a_seed_gives_the_same_weights_and_none_others():
    first, again, other = (alexnet((63, 63, 3), 2, width=0.1, seed=seed).get_weights() for seed in (1, 1, 2))
    assert all(np.array_equal(one, two) for one, two in zip(first, again, strict=True))
    assert not np.array_equal(first[0], other[0])


def in_pytorch(model, images, published):
    """Computes the network by PyTorch's own functions, from the model's weights and the paper's settings."""
    import torch
    from torch.nn import functional

    x = torch.tensor(images).permute(0, 3, 1, 2)
    weights = {layer.name: [torch.tensor(each) for each in layer.get_weights()] for layer in model.layers}
    groups = {2: 2, 4: 2, 5: 2} if published else {}
    if not published:
        x = functional.pad(x, (2, 2, 2, 2))
    for number in range(1, 6):
        kernel, bias = weights[f"conv{number}"]
        stride, padding = (4, 0) if number == 1 else (1, kernel.shape[0] // 2)
        x = functional.conv2d(x, kernel.permute(3, 2, 0, 1), bias, stride, padding, groups=groups.get(number, 1)).relu()
        if published and number in (1, 2):
            x = functional.local_response_norm(x, 5, alpha=5e-4, beta=0.75, k=2.0)
        if number in (1, 2, 5):
            x = functional.max_pool2d(x, 3, 2)
    x = x.permute(0, 2, 3, 1).flatten(1)
    for name in ("dense6", "dense7"):
        kernel, bias = weights[name]
        x = (x @ kernel + bias).relu()
    kernel, bias = weights["logits"]
    return (x @ kernel + bias).numpy()


@pytest.mark.parametrize("variant", ["2012", "single"])
@pytest.mark.parametrize("shape", [(227, 227, 3), (99, 131, 1)], ids=str)
def test_logits_equal_those_of_a_pytorch_build(variant, shape):
    model = alexnet(shape, 7, variant, width=0.25, seed=3)
    model.set_weights([each * (4 if each.ndim > 1 and variant == "2012" else 1) for each in model.get_weights()])
    images = np.random.default_rng(0).normal(size=(2, *shape)).astype("float32")
    ours = keras.ops.convert_to_numpy(model(images))
    wanted = in_pytorch(model, images, variant == "2012")
    assert np.abs(wanted).max() > 1e-3
    np.testing.assert_allclose(ours, wanted, atol=1e-4 * np.abs(wanted).max())


@pytest.mark.parametrize(
    ("variant", "sides"),
    [("2012", {63: 1, 67: 1, 98: 1, 99: 2, 226: 5, 227: 6}), ("single", {63: 1, 94: 1, 95: 2, 222: 5, 223: 6})],
)
def test_the_last_map_is_as_large_as_the_docstring_says(variant, sides):
    for side, places in sides.items():
        model = alexnet((side, side, 3), 2, variant, width=0.01)
        assert model.get_layer("pool5").output.shape[1:3] == (places, places)
        assert places == max(1, (side - (35 if variant == "2012" else 31)) // 32)


@pytest.mark.parametrize("variant", ["2012", "single"])
def test_it_trains_and_a_saved_one_gives_the_same_logits(variant, tmp_path):
    model = alexnet((63, 67, 3), 3, variant, width=0.1, seed=0)
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    images = np.random.default_rng(0).random((6, 63, 67, 3), "float32")
    before = model.get_weights()
    model.fit(images, np.arange(6) % 3, epochs=1, verbose=0)
    assert all((new != old).any() for new, old in zip(model.get_weights(), before, strict=True))
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded.predict(images, verbose=0), model.predict(images, verbose=0))


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_it_trains_in_half_precision_to_float32_logits(policy):
    keras.config.set_dtype_policy(policy)
    try:
        model = alexnet((63, 63, 3), 3, width=0.1, seed=0)
    finally:
        keras.config.set_dtype_policy("float32")
    assert model.get_layer("norm1").compute_dtype == policy.removeprefix("mixed_")
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    images = np.random.default_rng(0).random((4, 63, 63, 3), "float32")
    logits = model(images)
    assert keras.backend.standardize_dtype(logits.dtype) == "float32"
    history = model.fit(images, np.arange(4) % 3, epochs=2, verbose=0)
    assert np.isfinite(history.history["loss"]).all()


def test_weight_decay_is_a_gradient_of_the_kernels():
    model = alexnet((63, 63, 3), 2, width=0.05, weight_decay=0.1, seed=0)
    kernels = [weight for weight in model.weights if len(weight.shape) > 1]
    assert len(kernels) == 8
    wanted = sum(0.05 * (keras.ops.convert_to_numpy(kernel.value) ** 2).sum() for kernel in kernels)
    model(np.zeros((1, 63, 63, 3), "float32"))
    assert float(keras.ops.convert_to_numpy(sum(model.losses))) == pytest.approx(wanted, rel=1e-5)
    assert not alexnet((63, 63, 3), 2, width=0.05).losses


@pytest.mark.parametrize(
    ("variant", "names"),
    [
        ("2012", ["flatten", "dense6", "dropout6", "dense7", "dropout7", "logits"]),
        ("single", ["flatten", "dropout6", "dense6", "dropout7", "dense7", "logits"]),
    ],
)
def test_dropout_stands_where_the_papers_have_it(variant, names):
    model = alexnet((63, 63, 3), 3, variant, dropout=0.3, width=0.1)
    assert [layer.name for layer in model.layers][-6:] == names
    assert model.get_layer("dropout7").rate == 0.3
    without = alexnet((63, 63, 3), 3, variant, dropout=0.0, width=0.1)
    assert [layer.name for layer in without.layers][-4:] == ["flatten", "dense6", "dense7", "logits"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"variant": "2014"}, "variant must be one of '2012', 'single'; got '2014'"),
        ({"input_shape": (62, 227, 3)}, r"input_shape must be at least 63 high and wide, .*; got \(62, 227, 3\)"),
        ({"input_shape": (227, 227)}, r"input_shape must be \(height, width, channels\); got \(227, 227\)"),
        ({"input_shape": (None, 227, 3)}, "every entry of input_shape must be an integer of at least 1; got None"),
        ({"num_classes": 1}, "num_classes must be an integer of at least 2; got 1"),
        ({"dropout": 1.0}, "dropout must lie in 0 <= dropout < 1; got 1.0"),
        ({"width": 0}, "width must be above 0; got 0"),
        ({"weight_decay": -1}, "weight_decay must be 0 or more; got -1"),
        ({"seed": -1}, "seed must be an integer of at least 0; got -1"),
    ],
    ids=str,
)
def test_bad_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        alexnet(**arguments)
