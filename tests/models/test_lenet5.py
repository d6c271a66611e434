import keras
import numpy as np
import pytest

from kerasblocks.layers import CodeDistance, ConnectionTableConv2D
from kerasblocks.models import lenet5


@pytest.mark.parametrize(
    ("variant", "layers"),
    [
        ("modern", {"c1": 156, "s2": 0, "c3": 2416, "s4": 0, "c5": 48120, "f6": 10164, "logits": 850}),
        ("1998", {"c1": 156, "s2": 12, "c3": 1516, "s4": 32, "c5": 48120, "f6": 10164, "logits": 0}),
    ],
    ids=["modern", "1998"],
)
def test_parameters_of_every_layer_are_the_published_ones(variant, layers):
    model = lenet5(variant=variant)
    assert {name: model.get_layer(name).count_params() for name in layers} == layers
    assert model.count_params() == sum(layers.values()) == {"modern": 61_706, "1998": 60_000}[variant]
    assert len(model.non_trainable_variables) == 0


def test_the_connection_table_of_1998_is_the_papers():
    table = lenet5(variant="1998").get_layer("c3").connections
    assert [len(inputs) for inputs in table] == [3] * 6 + [4] * 9 + [6]
    assert table[:6] == tuple(tuple(sorted((i + k) % 6 for k in range(3))) for i in range(6))
    assert table[6:12] == tuple(tuple(sorted((i + k) % 6 for k in range(4))) for i in range(6))
    assert table[12:15] == tuple(tuple(sorted({i, i + 1, (i + 3) % 6, (i + 4) % 6})) for i in range(3))


def test_connections_of_1998_are_the_papers():
    model = lenet5(variant="1998")
    connections = 0
    for name, patch in (("c1", 25), ("s2", 4), ("c3", 25), ("s4", 4), ("c5", 400), ("f6", 120)):
        layer = model.get_layer(name)
        shape = layer.compute_output_shape((1, *layer.input.shape[1:]))[1:]
        places = int(np.prod(shape[:2])) if len(shape) == 3 else 1
        inputs = sum(map(len, layer.connections)) if isinstance(layer, ConnectionTableConv2D) else shape[-1]
        connections += places * (inputs * patch + shape[-1])
    connections += 10 * 84  # of the output units, whose weights are fixed
    assert connections == 340_908


def test_codes_are_fixed_and_well_apart():
    layer = lenet5(variant="1998").get_layer("logits")
    assert isinstance(layer, CodeDistance)
    signs = np.array([[bit == "#" for bit in code] for code in layer.codes])
    assert signs.shape == (10, 84)
    differing = (signs[:, None] != signs[None]).sum(-1)
    assert differing[~np.eye(10, dtype=bool)].min() >= 4


def test_more_classes_than_digits_get_seeded_codes():
    codes = lenet5(num_classes=62, variant="1998").get_layer("logits").codes
    assert codes == lenet5(num_classes=62, variant="1998").get_layer("logits").codes
    assert len(set(codes)) == 62
    assert {len(code) for code in codes} == {84}


@pytest.mark.parametrize("variant", ["modern", "1998"])
@pytest.mark.parametrize("shape", [(16, 16, 1), (33, 29, 3)], ids=str)
def test_other_shapes_and_class_counts_build_and_run(variant, shape):
    logits = lenet5(shape, 3, variant)(np.zeros((2, *shape), "float32"))
    assert tuple(logits.shape) == (2, 3)
    assert np.isfinite(keras.ops.convert_to_numpy(logits)).all()


@pytest.mark.parametrize("variant", ["modern", "1998"])
def test_a_saved_model_gives_the_same_logits(variant, tmp_path):
    model = lenet5(variant=variant, seed=1)
    x = np.random.default_rng(0).random((3, 32, 32, 1), "float32")
    expected = keras.ops.convert_to_numpy(model(x))
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(loaded(x)), expected)


@pytest.mark.parametrize("variant", ["modern", "1998"])
@pytest.mark.parametrize("precision", ["mixed_bfloat16", "mixed_float16"])
def test_trains_in_half_precision_with_logits_in_float32(variant, precision):
    rng = np.random.default_rng(0)
    x, y = rng.random((32, 32, 32, 1), "float32"), rng.integers(0, 10, 32)
    before = keras.config.dtype_policy()
    try:
        keras.config.set_dtype_policy(precision)
        model = lenet5(variant=variant, seed=0)
        model.compile(keras.optimizers.AdamW(3e-3), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    finally:
        keras.config.set_dtype_policy(before)
    assert keras.backend.standardize_dtype(model(x).dtype) == "float32"
    losses = model.fit(x, y, batch_size=32, epochs=40, verbose=0).history["loss"]
    assert np.isfinite(losses).all()
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("variant", ["modern", "1998"])
def test_one_seed_gives_one_set_of_weights(variant):
    first, second = lenet5(variant=variant, seed=5).get_weights(), lenet5(variant=variant, seed=5).get_weights()
    other = lenet5(variant=variant, seed=6).get_weights()
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))
    assert not np.array_equal(first[0], other[0])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"variant": "1989"}, "variant must be one of 'modern', '1998'; got '1989'"),
        ({"input_shape": (32, 32)}, r"input_shape must be \(height, width, channels\)"),
        ({"input_shape": (None, 32, 1)}, "every entry of input_shape must be an integer of at least 1; got None"),
        ({"input_shape": (15, 32, 1)}, "at least 16 high and wide"),
        ({"num_classes": 1}, "num_classes must be an integer of at least 2; got 1"),
        ({"num_classes": 2.0}, "num_classes must be an integer of at least 2; got 2.0"),
        ({"seed": -1}, "seed must be an integer of at least 0; got -1"),
        ({"seed": 0.5}, "seed must be an integer of at least 0; got 0.5"),
    ],
    ids=str,
)
def test_bad_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        lenet5(**arguments)
