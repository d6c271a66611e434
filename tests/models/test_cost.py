import keras
import numpy as np
import pytest

from kerasblocks.layers import CausalSelfAttention, ResidualBlock
from kerasblocks.models import cost, lenet5, transformer_lm


def of(layer, shape, dtype="float32"):
    """Returns the only row of a model of one layer."""
    inputs = keras.Input(shape, dtype=dtype)
    (row,) = cost(keras.Model(inputs, layer(inputs))).layers
    return row


layers = keras.layers


@pytest.mark.parametrize(
    ("layer", "shape", "products"),
    [
        (layers.Dense(5), (3,), 15),
        (layers.Dense(5), (7, 3), 7 * 15),
        (layers.EinsumDense("abc,cde->abde", (None, 4, 5)), (7, 3), 7 * 3 * 20),
        (layers.EinsumDense("...c,cd->...d", (6,)), (3,), 18),
        (layers.Conv1D(4, 3), (9, 2), 7 * 4 * 6),
        (layers.Conv2D(4, 3, strides=2, padding="same", groups=2), (9, 9, 6), 25 * 4 * 9 * 3),
        (layers.Conv3D(2, 2), (3, 3, 3, 2), 8 * 2 * 16),
        (layers.Conv2DTranspose(4, 3, strides=2), (5, 5, 2), 25 * 9 * 8),
        (layers.DepthwiseConv2D(3, depth_multiplier=2), (5, 5, 4), 9 * 8 * 9),
        (layers.SeparableConv2D(7, 3, depth_multiplier=2), (5, 5, 4), 9 * 8 * (9 + 7)),
        (layers.LSTM(5, return_sequences=True), (6, 3), 6 * 4 * 5 * (3 + 5)),
        (layers.GRU(5), (6, 3), 6 * 3 * 5 * (3 + 5)),
        (layers.SimpleRNN(5), (6, 3), 6 * 5 * (3 + 5)),
        (layers.BatchNormalization(), (6,), 0),
        (layers.MaxPooling2D(2), (6, 6, 2), 0),
        (CausalSelfAttention(4, 2), (6, 8), 6 * 8 * (8 + 2 * 4 + 8) + 2 * 36 * 8),
    ],
    ids=lambda value: value.__class__.__name__ if isinstance(value, keras.layers.Layer) else str(value),
)
def test_multiply_adds(layer, shape, products):
    assert of(layer, shape).multiply_adds == products


@pytest.mark.parametrize(
    "attention",
    [layers.MultiHeadAttention(2, 5), layers.GroupQueryAttention(4, 4, 2)],
    ids=["multi-head", "grouped"],
)
def test_attention_to_another_text(attention):
    query, value = keras.Input((7, 6)), keras.Input((9, 6))
    counted = cost(keras.Model([query, value], attention(query, value=value)))
    if isinstance(attention, layers.MultiHeadAttention):
        wanted = 7 * 6 * 10 + 9 * 6 * (10 + 10) + 7 * 9 * (10 + 10) + 7 * 10 * 6
    else:
        wanted = 7 * 6 * 16 + 9 * 6 * 2 * 8 + 7 * 9 * 2 * 16 + 7 * 16 * 6
    assert counted.multiply_adds == wanted
    assert counted.parameters == attention.count_params()


def test_a_transformer_costs_a_sixth_of_the_usual_formula_of_a_step():
    model = transformer_lm(vocabulary_size=50, num_layers=2, num_heads=2, width=16, hidden_dim=24)
    counted = cost(model, (10,))
    matrices = sum(np.prod(each.shape) for each in model.weights if len(each.shape) > 1)
    assert counted.multiply_adds == 10 * (matrices + 2 * 2 * 16 * 10)  # (6N + 12 · layers · width · context) / 6
    assert counted.parameters == model.count_params()


@pytest.mark.parametrize("variant", ["modern", "1998"])
def test_parameters_are_those_of_the_model(variant):
    model = lenet5(variant=variant)
    counted = cost(model)
    assert counted.parameters == model.count_params()
    assert [each.name.rpartition("/")[2] for each in counted.layers] == [layer.name for layer in model.layers]


def test_activations_are_in_their_own_dtype():
    assert of(layers.Dense(5, dtype="mixed_bfloat16"), (3, 2)).activation_bytes == 3 * 5 * 2
    assert of(layers.Dense(5), (3, 2)).activation_bytes == 3 * 5 * 4
    assert of(layers.Dense(5), (3, 2)).output_shape == (3, 5)


def test_shared_layers_have_a_row_for_each_call_and_their_weights_once():
    dense, inputs = layers.Dense(4), keras.Input((4,))
    counted = cost(keras.Model(inputs, dense(dense(inputs))))
    assert [row.parameters for row in counted.layers] == [20, 0]
    assert counted.multiply_adds == 32


class Scaled(keras.layers.Layer):
    """A layer of a user's own, with layers inside."""

    def build(self, shape):
        self.scale = self.add_weight(shape=(shape[-1],))
        self.dense = layers.Dense(shape[-1])
        self.dense.build(shape)

    def call(self, x):
        return self.scale * self.dense(x)


class Own(keras.layers.Layer):
    """A layer of a user's own."""

    def build(self, shape):
        self.kernel = self.add_weight(shape=(shape[-1], 2))

    def call(self, x):
        return x @ self.kernel


class Scores(keras.layers.Layer):
    """Calls a layer by keyword."""

    def __init__(self):
        super().__init__()
        self.dense = layers.Dense(4)

    def build(self, shape):
        self.dense.build(shape)

    def call(self, x):
        return self.dense(inputs=x)


def test_a_layer_called_by_keyword():
    assert of(Scores(), (7, 3)).multiply_adds == 7 * 12


@pytest.mark.parametrize(
    ("attend", "products"),
    [
        (lambda a, b: layers.Attention()([a, b]), 5 * 7 * (6 + 6)),
        (lambda a, b: layers.AdditiveAttention()([a, b]), 5 * 7 * (6 + 6)),
        (lambda a, b: layers.Dot(axes=2)([a, b]), 5 * 7 * 6),
        (lambda a, b: keras.ops.matmul(a, keras.ops.transpose(b, (0, 2, 1))), 5 * 7 * 6),
    ],
    ids=["Attention", "AdditiveAttention", "Dot", "matmul"],
)
def test_products_of_activations(attend, products):
    a, b = keras.Input((5, 6)), keras.Input((7, 6))
    assert cost(keras.Model([a, b], attend(a, b))).multiply_adds == products


def test_attention_over_some_axes():
    inputs = keras.Input((4, 3, 6))
    attention = layers.MultiHeadAttention(2, 5, attention_axes=(1,))
    counted = cost(keras.Model(inputs, attention(inputs, inputs)))
    assert counted.multiply_adds == 12 * (6 * 10 * 3 + 10 * 6) + 12 * 4 * 20


def test_recurrent_layers_of_ones_own_cells_are_not_known():
    cells = layers.RNN([layers.LSTMCell(2), layers.LSTMCell(3)])
    counted = of(cells, (6, 4))
    assert counted.multiply_adds is None
    assert counted.parameters == cells.count_params()


@pytest.mark.parametrize("layer", [layers.PReLU(), layers.LayerNormalization(axis=(1, 2))], ids=["PReLU", "norm"])
def test_what_works_number_by_number_has_no_products(layer):
    assert of(layer, (3, 4)).multiply_adds == 0


def test_layers_of_ones_own():
    inputs = keras.Input((3,))
    counted = cost(keras.Model(inputs, Own(name="own")(ResidualBlock(Scaled())(inputs))))
    assert [row.kind for row in counted.layers] == ["Dense", "Scaled", "Own"]
    assert [row.multiply_adds for row in counted.layers] == [9, 0, None]
    assert [row.parameters for row in counted.layers] == [12, 3, 6]
    assert counted.unknown == ("own",)
    assert str(counted).endswith("not known, and not in the sum: the multiply-adds of own")


def test_a_subclassed_model_takes_the_shape_of_a_sample():
    class Model(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = layers.Dense(2)

        def call(self, inputs):
            return self.dense(inputs["a"]) + inputs["b"]

    model = Model()
    with pytest.raises(ValueError, match="model must be a Keras model that has been built; got"):
        cost(model)
    model({"a": np.ones((5, 3)), "b": np.ones((5, 2))})
    with pytest.raises(ValueError, match=r"The inputs of .* are not known: pass input_shape"):
        cost(model)
    assert cost(model, {"a": (3,), "b": (2,)}).multiply_adds == 6


@pytest.mark.parametrize("shapes", [{"a": (3,)}, {"a": (3,), "b": (2,), "c": (2,)}], ids=["too few", "too many"])
def test_other_inputs_than_the_models_are_refused(shapes):
    inputs = {"a": keras.Input((3,), name="a"), "b": keras.Input((2,), name="b")}
    model = keras.Model(inputs, layers.Dense(2)(inputs["a"]) + inputs["b"])
    assert cost(model, {"a": (3,), "b": (2,)}).multiply_adds == 6
    with pytest.raises(ValueError, match=r"input_shape must name the inputs of .*, \['a', 'b'\]; got \['a'"):
        cost(model, shapes)


def test_the_model_is_left_as_it_was():
    model = lenet5(seed=0)
    before = [dict(vars(layer)) for layer in model.layers]
    weights = model.get_weights()
    cost(model)
    assert [dict(vars(layer)).keys() for layer in model.layers] == [each.keys() for each in before]
    assert all(np.array_equal(one, two) for one, two in zip(model.get_weights(), weights, strict=True))


def test_a_table_and_rows():
    counted = cost(lenet5())
    lines = str(counted).splitlines()
    assert lines[0].split() == ["layer", "kind", "output", "parameters", "multiply-adds", "activation", "bytes"]
    assert lines[1].split() == ["lenet5/c1", "Conv2D", "28", "x", "28", "x", "6", "156", "117,600", "18,816"]
    assert lines[-1].split() == ["in", "all", "61,706", "416,520", f"{counted.activation_bytes:,}"]
    assert counted.to_dicts()[0] == {
        "name": "lenet5/c1",
        "kind": "Conv2D",
        "output_shape": (28, 28, 6),
        "parameters": 156,
        "multiply_adds": 117_600,
        "activation_bytes": 18_816,
    }


@pytest.mark.parametrize("shape", [None, (None,), (0,), "ten", (2.5,)], ids=str)
def test_unknown_sizes_are_refused(shape):
    with pytest.raises(ValueError, match="The sizes of a sample must be known and whole numbers above 0; got"):
        cost(transformer_lm(vocabulary_size=5, num_layers=1, num_heads=1, width=8), shape)


def test_what_is_no_model_is_refused():
    with pytest.raises(ValueError, match="model must be a Keras model that has been built; got <Dense"):
        cost(layers.Dense(2))
