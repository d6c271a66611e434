import keras
import numpy as np
import pytest
from arrays import random, to_numpy
from gradients import assert_close, numeric_gradients, output_and_gradients
from layer_contract import check_layer_contract, check_models

from kerasblocks.layers import DropPath, ResidualBlock, RMSNorm, SwiGLU

layers = keras.layers


def convolutions(filters=8, strides=2):
    first = layers.Conv2D(filters, 3, strides=strides, padding="same", activation="relu")
    return [first, layers.Conv2D(filters, 3, padding="same")]


CASES = {
    "dense": (lambda: layers.Dense(4), {}, (3, 4)),
    "rms, rezero": (lambda: SwiGLU(), {"normalization": "rms", "scale": "rezero"}, (2, 5, 4)),
    "post, layer": (lambda: [layers.Dense(7), layers.Dense(4)], {"normalization": "layer", "order": "post"}, (2, 5, 4)),
    "layerscale": (lambda: layers.Dense(4), {"scale": "layerscale", "drop_path": 0.3}, (3, 4)),
    "number, own norm": (lambda: layers.Dense(4), {"scale": 0.5, "normalization": RMSNorm(epsilon=1e-3)}, (3, 4)),
    "projected": (lambda: layers.Dense(9), {"normalization": "rms"}, (2, 5, 4)),
    "strided images": (convolutions, {"normalization": "layer"}, (2, 7, 6, 4)),
}


@pytest.mark.parametrize("case", CASES)
def test_keeps_the_layer_contract(case, tmp_path):
    make_body, options, shape = CASES[case]
    if isinstance(options.get("normalization"), keras.layers.Layer):
        options = {**options, "normalization": type(options["normalization"])(epsilon=1e-3)}

    def make(**kwargs):
        return ResidualBlock(make_body(), **options, **kwargs)

    body = make_body()
    check_layer_contract(
        make, random(shape), tmp_path, init_kwargs={"body": body, **options}, seeds=int("drop_path" in options)
    )


def test_batch_normalization_in_the_block(tmp_path):
    model = keras.Sequential([keras.Input((6, 6, 3)), ResidualBlock(convolutions(), normalization="batch")])
    x = random((4, 6, 6, 3)) * 2 + 1
    model.compile("sgd", "mse")
    model.fit(x, np.zeros((4, 3, 3, 8)), verbose=0)
    assert (to_numpy(model.layers[0]._norm.moving_mean) != 0).all()
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(to_numpy(loaded(x)), to_numpy(model(x)))


def test_in_models_of_every_kind(tmp_path):
    check_models(
        lambda: ResidualBlock(SwiGLU(), normalization="rms", scale="layerscale"),
        random((4, 5, 3)),
        tmp_path,
        to_the_end=True,
    )


def test_a_strided_block_in_models_of_every_kind(tmp_path):
    check_models(lambda: ResidualBlock(convolutions(), normalization="layer"), random((4, 7, 6, 3)), tmp_path)


@pytest.mark.parametrize(
    "make_body", [lambda: SwiGLU(), lambda: [layers.Dense(3), layers.Dense(4)]], ids=["one", "two"]
)
@pytest.mark.parametrize("drop_path", [0.0, 0.5])
def test_rezero_starts_as_the_identity(make_body, drop_path):
    x = random((2, 5, 4))
    block = ResidualBlock(make_body(), normalization="rms", scale="rezero", drop_path=drop_path)
    np.testing.assert_array_equal(to_numpy(block(x, training=True)), x)


@pytest.mark.parametrize("order", ["pre", "post"])
def test_is_the_sum_that_the_docstring_tells(order):
    x, body, norm = random((3, 4)), layers.Dense(4), RMSNorm()
    block = ResidualBlock(body, normalization=norm, order=order, scale=0.5)
    output = to_numpy(block(x))
    wanted = x + 0.5 * to_numpy(body(norm(x))) if order == "pre" else to_numpy(norm(x + 0.5 * to_numpy(body(x))))
    assert_close(output, wanted, 1e-6)


def oracle(names, x, *weights, order="pre"):
    weight = dict(zip(names, weights, strict=True))

    def norm(h):
        return h / np.sqrt((h**2).mean(-1, keepdims=True) + 1e-6) * weight["scale"]

    branch = (norm(x) if order == "pre" else x) @ weight["dense/kernel"] * weight["layerscale"]
    outputs = x @ weight.get("projection/kernel", np.eye(x.shape[-1])) + branch
    return outputs if order == "pre" else norm(outputs)


@pytest.mark.parametrize("units", [4, 9], ids=["identity", "projection"])
@pytest.mark.parametrize("order", ["pre", "post"])
def test_output_and_gradients_equal_the_oracle(order, units):
    body = layers.Dense(units, use_bias=False, name="dense")
    block = ResidualBlock(body, normalization="rms", scale="layerscale", order=order)
    x, upstream = random((3, 4)), random((3, units), seed=1)
    block.build(x.shape)
    block.set_weights([random(weight.shape, seed=9 + n) for n, weight in enumerate(block.get_weights())])
    output, by_x, by_weights = output_and_gradients(block, x, upstream)
    names = [variable.path.split("/", 1)[1].removeprefix("normalization/") for variable in block.trainable_variables]

    def function(*arrays):
        return oracle(names, *arrays, order=order)

    arrays = [x, *block.get_weights()]
    assert_close(output, function(*arrays), 1e-5)
    for gradient, wanted in zip([by_x, *by_weights], numeric_gradients(function, arrays, upstream), strict=True):
        assert_close(gradient, wanted, 1e-5)


@pytest.mark.parametrize(
    ("make_body", "shape", "wanted", "projection"),
    [
        (lambda: layers.Dense(9), (2, 4), (2, 9), layers.Dense),
        (lambda: layers.Dense(9), (2, 5, 4), (2, 5, 9), layers.Dense),
        (lambda: convolutions(), (2, 8, 7, 4), (2, 4, 4, 8), layers.Conv2D),
        (lambda: convolutions(4), (2, 8, 8, 4), (2, 4, 4, 4), layers.Conv2D),
        (lambda: convolutions(9, 1), (2, 8, 8, 4), (2, 8, 8, 9), layers.Conv2D),
        (lambda: convolutions(9, (1, 3)), (2, 8, 8, 4), (2, 8, 3, 9), layers.Conv2D),
        (lambda: convolutions(4, 4), (2, 2, 3, 4), (2, 1, 1, 4), layers.Conv2D),
        (lambda: layers.Conv1D(4, 3, strides=2, padding="same"), (2, 9, 4), (2, 5, 4), layers.Conv1D),
        (lambda: layers.MaxPooling2D(2, padding="same"), (2, 8, 7, 4), (2, 4, 4, 4), layers.Conv2D),
        (lambda: keras.Sequential(convolutions()), (2, 8, 8, 4), (2, 4, 4, 8), layers.Conv2D),
        (lambda: convolutions(4, 1), (2, 8, 8, 4), (2, 8, 8, 4), type(None)),
    ],
)
@pytest.mark.parametrize("known", [True, False])
def test_shortcuts_are_projected_where_the_shape_changes(make_body, shape, wanted, projection, known):
    block = ResidualBlock(make_body())
    if not known:
        unknown = (None,) * (len(shape) - 1)
        assert block(keras.KerasTensor((*unknown, shape[-1]))).shape == (*unknown, wanted[-1])
    assert tuple(block(random(shape)).shape) == block.compute_output_shape(shape) == wanted
    assert type(block._shortcut) is projection


@pytest.mark.parametrize(
    ("convolution", "sizes", "strides"),
    [
        (layers.Conv1D, (9,), (2,)),
        (layers.Conv2D, (6, 6), (2, 2)),
        (layers.Conv2D, (7, 9), (1, 3)),
        (layers.Conv3D, (4, 3, 5), (2, 1, 3)),
    ],
)
@pytest.mark.parametrize("channels", [1, 3, 8])
def test_a_projection_takes_every_so_many_th_place(convolution, sizes, strides, channels):
    body = convolution(5, 3, strides=strides, padding="same", kernel_initializer="zeros")
    block = ResidualBlock(body)
    x = random((4, *sizes, channels))
    block.build(x.shape)
    taken = x[(slice(None), *(slice(None, None, stride) for stride in strides))].reshape(-1, channels)
    upstream = random(block.compute_output_shape(x.shape), seed=1)
    output, _, by_weights = output_and_gradients(block, x, upstream)
    projection = next(n for n, weight in enumerate(block.trainable_variables) if "projection" in weight.path)
    kernel = to_numpy(block.trainable_variables[projection]).reshape(channels, 5)
    assert_close(output.reshape(-1, 5), taken @ kernel, 1e-5)
    assert_close(by_weights[projection].reshape(channels, 5), taken.T @ upstream.reshape(-1, 5), 1e-5)


def test_channels_first():
    if keras.backend.backend() == "tensorflow":
        pytest.skip("TensorFlow convolves channels_first images on a GPU only.")
    body = layers.Conv2D(8, 3, strides=2, padding="same", data_format="channels_first")
    block = ResidualBlock(body, normalization="rms", scale="layerscale")
    x = random((2, 4, 7, 6))
    output = to_numpy(block(x))
    assert output.shape == (2, 8, 4, 3)
    projected = np.einsum("bchw,cd->bdhw", x[:, :, ::2, ::2], to_numpy(block._shortcut.kernel)[0, 0])
    assert_close(output, projected, 1e-3)  # The body counts for 1e-5 at the start.
    assert block._norm.axis == 1
    assert block.trained_scale.shape == (8, 1, 1)


def test_an_own_projection_is_used():
    projection = layers.Dense(9)
    block = ResidualBlock(layers.Dense(9), projection=projection)
    x = random((2, 4))
    assert_close(to_numpy(block(x)), to_numpy(projection(x)) + to_numpy(block.body(x)), 1e-6)


@pytest.mark.parametrize(
    ("make_body", "options", "shape", "message"),
    [
        (lambda: layers.Dense(9), {"projection": False}, (2, 4), r"projection=False .* \(2, 4\) into \(2, 9\)"),
        (lambda: layers.Conv2D(4, 3), {}, (2, 8, 8, 4), r"\(2, 8, 8, 4\) into \(2, 6, 6, 4\)"),
        (lambda: layers.Conv2D(4, 3), {}, (None, None, None, 4), r"None, 4\) .* not those of a stride"),
        (lambda: layers.Conv2D(4, 3), {}, (2, 3, 3, 4), r"\(2, 3, 3, 4\) into \(2, 1, 1, 4\)"),
        (lambda: layers.MaxPooling1D(2), {}, (2, 7, 4), r"\(2, 7, 4\) into \(2, 3, 4\)"),
        (lambda: layers.Flatten(), {}, (2, 8, 4), r"keep the rank .* \(2, 8, 4\) into \(2, 32\)"),
        (lambda: layers.UpSampling1D(2), {}, (2, 8, 4), r"\(2, 8, 4\) into \(2, 16, 4\)"),
        (lambda: layers.Dense(9), {"projection": layers.Dense(5)}, (2, 4), r"gives the shape \(2, 5\), but the body"),
        (lambda: layers.Dense(4), {"normalization": "rms"}, (None, None), "must be known"),
    ],
    ids=[
        "refused",
        "valid",
        "valid, unknown",
        "valid, to one",
        "valid pooling",
        "rank",
        "upsampling",
        "own",
        "unknown width",
    ],
)
def test_bodies_whose_output_cannot_be_added_are_refused_with_both_shapes(make_body, options, shape, message):
    with pytest.raises(ValueError, match=message):
        ResidualBlock(make_body(), **options).build(shape)


@keras.saving.register_keras_serializable(package="tests")
class Attention(keras.layers.Layer):
    """Takes what a body may be given, the mask of the attention without a default."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.attention = layers.MultiHeadAttention(2, 3)
        self.supports_masking = True

    def call(self, x, attention_mask, use_causal_mask=False, training=None, mask=None):
        self.seen = (use_causal_mask, training, mask is not None)
        return self.attention(x, x, attention_mask=attention_mask, use_causal_mask=use_causal_mask)


def test_training_masks_and_extra_arguments_reach_the_body():
    x, lower = random((2, 5, 6)), np.tril(np.ones((2, 5, 5), bool))
    block = ResidualBlock([layers.Dense(6), Attention()], normalization="rms")
    output = block(x, attention_mask=lower, use_causal_mask=True, training=True, mask=np.ones((2, 5), bool))
    assert block.body[1].seen == (True, True, True)
    whole = block(x, attention_mask=np.ones((2, 5, 5), bool))
    assert block.body[1].seen == (False, None, False)
    assert (to_numpy(output) != to_numpy(whole))[:, :-1].all()
    masked = keras.ops.convert_to_tensor(x)
    block(layers.Masking()(masked), attention_mask=lower)
    assert block.body[1].seen == (False, None, True)


def test_extra_arguments_in_a_saved_functional_model(tmp_path):
    x, lower = random((2, 5, 6)), np.tril(np.ones((2, 5, 5), bool))
    inputs, mask = keras.Input((5, 6)), keras.Input((5, 5), dtype="bool")
    block = ResidualBlock(Attention(), scale="layerscale")
    model = keras.Model([inputs, mask], block(inputs, attention_mask=mask, use_causal_mask=True))
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(to_numpy(loaded([x, lower])), to_numpy(model([x, lower])))


@keras.saving.register_keras_serializable(package="tests")
class Added(keras.layers.Layer):
    def call(self, x, others):
        return x + others[0] * others[1]


def test_a_list_of_tensors_in_a_saved_functional_model(tmp_path):
    inputs = [keras.Input((5, 6)) for _ in range(3)]
    block = ResidualBlock(Added(), scale="layerscale")
    model = keras.Model(inputs, block(inputs[0], others=inputs[1:]))
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    arrays = [random((2, 5, 6), seed) for seed in range(3)]
    np.testing.assert_array_equal(to_numpy(loaded(arrays)), to_numpy(model(arrays)))
    assert_close(to_numpy(model(arrays)), arrays[0] + 1e-5 * (arrays[0] + arrays[1] * arrays[2]), 1e-6)


@pytest.mark.parametrize("masked", [False, True])
def test_attention_in_the_body_attends_to_its_normalized_input(masked, tmp_path):
    attention, x = layers.MultiHeadAttention(2, 3), 9 * random((2, 5, 6))
    block = ResidualBlock(attention, normalization="rms")
    mask = np.array([[True] * 5, [True, True, False, False, False]]) if masked else None
    output = block(x, mask=mask)
    normal = block._norm(x)
    wanted = x + to_numpy(attention(normal, normal, query_mask=mask, value_mask=mask))
    assert_close(to_numpy(output), wanted, 1e-6)
    model = keras.Sequential([keras.Input((5, 6)), ResidualBlock(layers.MultiHeadAttention(2, 3), normalization="rms")])
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(to_numpy(loaded(x)), to_numpy(model(x)))


def test_a_list_of_inputs_is_refused():
    with pytest.raises(ValueError, match="ResidualBlock takes one tensor; got 2"):
        ResidualBlock(layers.Dense(4))([random((2, 4)), random((2, 4))])


def test_the_layer_scale_is_a_vector_where_the_channels_are_last():
    block = ResidualBlock(layers.Dense(4), scale="layerscale")
    block(random((2, 5, 4)))
    assert block.trained_scale.shape == (4,)


def test_unknown_arguments_are_refused():
    with pytest.raises(TypeError, match="unexpected keyword argument 'colour'"):
        ResidualBlock(layers.Dense(4))(random((2, 4)), colour=1)


class Halved(keras.layers.Layer):
    """Leaves every other step out."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.supports_masking = True

    def call(self, inputs):
        return inputs[:, ::2]


def test_masks_pass_while_the_length_stays():
    masked = layers.Masking()(random((2, 4, 3)))
    assert ResidualBlock(layers.Dense(3))(masked)._keras_mask is not None
    strided = ResidualBlock(Halved())
    assert getattr(strided(masked), "_keras_mask", None) is None


@pytest.mark.parametrize(("strides", "stays"), [((1, 2), True), ((2, 1), False)])
def test_a_mask_stays_where_only_other_axes_than_that_of_time_have_strides(strides, stays):
    block = ResidualBlock(layers.Conv2D(5, 3, strides=strides, padding="same"))
    block.build((2, 4, 6, 3))
    mask = keras.ops.ones((2, 4), "bool")
    assert (block.compute_mask(random((2, 4, 6, 3)), mask) is not None) == stays


@keras.saving.register_keras_serializable(package="tests")
class Opaque(keras.layers.Layer):
    """Does not say that masks hold after it."""

    def call(self, inputs):
        return inputs


@pytest.mark.filterwarnings("ignore:Layer 'opaque.*does not support mask")  # Keras's own word on it
@pytest.mark.parametrize(("make_first", "reaches"), [(Opaque, False), (lambda: layers.Dense(6), True)])
def test_masks_reach_as_far_as_layers_support_them(make_first, reaches):
    x, whole = random((2, 5, 6)), np.ones((2, 5, 5), bool)
    block = ResidualBlock([make_first(), Attention()])
    block(x, mask=np.ones((2, 5), bool), attention_mask=whole)
    assert block.body[1].seen == (False, None, reaches)


def test_samples_of_the_branch_are_dropped():
    block = ResidualBlock(layers.Dense(3, kernel_initializer="identity"), drop_path=0.5)
    ratio = to_numpy(block(np.ones((64, 3), "float32"), training=True))
    assert {tuple(row) for row in ratio.tolist()} == {(1.0,) * 3, (3.0,) * 3}
    assert isinstance(block._drop, DropPath)


@pytest.mark.parametrize(
    "make_body",
    [
        lambda: keras.Sequential([layers.Dense(5), layers.Dense(4)]),
        lambda: keras.Sequential([keras.Sequential([layers.Dense(4)]), layers.Dense(4)]),
        lambda: layers.TimeDistributed(keras.Sequential([layers.Dense(4)])),
        lambda: keras.Sequential([keras.Input((2, 4)), layers.Dense(4)]),
        lambda: SwiGLU(),
    ],
    ids=["model", "model in a model", "model in a wrapper", "model with an input", "layer"],
)
def test_a_body_that_is_built_does_not_show_in_the_config(make_body):
    block = ResidualBlock(make_body())
    before = block.get_config()
    block(random((3, 2, 4)))
    assert block.get_config() == before
    block(random((5, 2, 4)))
    again = ResidualBlock.from_config(before)
    again(random((3, 2, 4)))
    assert again.get_config() == before


def test_a_layer_that_is_called_twice_stays_one_layer(tmp_path):
    shared, x = layers.Dense(4), random((2, 4))
    model = keras.Sequential([keras.Input((4,)), ResidualBlock([shared, layers.ReLU(), shared], scale=0.5)])
    again = ResidualBlock.from_config(model.layers[0].get_config())
    again(x)
    assert again.body[0] is again.body[2]
    again.set_weights(model.get_weights())
    np.testing.assert_array_equal(to_numpy(again(x)), to_numpy(model(x)))
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.count_params() == shared.count_params()
    np.testing.assert_array_equal(to_numpy(loaded(x)), to_numpy(model(x)))


@pytest.mark.parametrize(
    ("body", "options", "message"),
    [
        (3, {}, "body must be a layer or a list of layers; got 3"),
        ([], {}, r"body must be a layer or a list of layers; got \[\]"),
        (["x"], {}, "body must be a layer or a list of layers"),
        (None, {"normalization": "group"}, "normalization must be one of None, 'rms', 'layer', 'batch', or a layer"),
        (None, {"order": "mid"}, "order must be 'pre' or 'post'; got 'mid'"),
        (None, {"projection": True}, "projection must be one of False, 'auto', or a layer; got True"),
        (None, {"scale": "zero"}, "scale must be None, a number, 'rezero' or 'layerscale'; got 'zero'"),
        (None, {"scale": float("nan")}, "scale must be a finite number; got nan"),
        (None, {"drop_path": 1.0}, "drop_path must lie in 0 <= drop_path < 1; got 1.0"),
    ],
)
def test_bad_arguments_are_refused(body, options, message):
    with pytest.raises(ValueError, match=message):
        ResidualBlock(layers.Dense(3) if body is None else body, **options)


def test_a_mask_ends_where_a_stride_shortens_an_unknown_length():
    inputs = keras.Input((None, 8))
    assert getattr(ResidualBlock(Halved())(layers.Masking()(inputs)), "_keras_mask", None) is None


def test_a_block_that_drops_paths_can_be_quantized():
    model = keras.Sequential([keras.Input((6, 8)), ResidualBlock(SwiGLU(6, dropout=0.5), drop_path=0.1)])
    model.quantize("int8", filters="gate_up|down")
    again = ResidualBlock.from_config(model.layers[0].get_config())
    assert tuple(again(random((2, 6, 8)), training=True).shape) == (2, 6, 8)


def test_zero_is_no_projection():
    with pytest.raises(ValueError, match="projection must be one of False, 'auto', or a layer; got 0"):
        ResidualBlock(layers.Dense(3), projection=0)


@keras.saving.register_keras_serializable("tests")
class Counted(keras.layers.Dense):
    calls = 0

    def call(self, inputs):
        self.calls += 1
        return super().call(inputs)


def test_a_branch_that_is_computed_anew_trains_alike_and_assigns_once():
    x, y = random((12, 5)), random((12, 5), seed=1)
    trained, calls = [], []
    for remat in (False, True):
        keras.utils.set_random_seed(0)
        layers = [
            Counted(5, "tanh", activity_regularizer="l2"),
            keras.layers.BatchNormalization(),
            keras.layers.Dropout(0.3, seed=4),
            keras.layers.Dropout(0.2),
        ]
        block = ResidualBlock(layers, normalization="rms", remat=remat)
        model = keras.Sequential([keras.Input((5,)), block])
        model.compile(keras.optimizers.SGD(0.1), "mse")
        history = model.fit(x, y, batch_size=4, epochs=2, shuffle=False, verbose=0)
        calls.append(layers[0].calls)
        trained.append([*history.history["loss"], *model.get_weights()])
        assert ResidualBlock.from_config(block.get_config()).remat is remat
    for one, other in zip(*trained, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-7)
    if keras.backend.backend() != "jax":  # JAX recomputes what it has traced, without a call.
        assert calls[1] > calls[0]
    assert np.any(to_numpy(layers[1].moving_mean) != 0)
