import keras
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from kerasblocks.data import ArrayBatches

SAMPLES, BATCH_SIZE, SEED = 23, 2, 5
CLASS_WEIGHT = {0: 1.0, 1: 0.5, 2: 4.0}


def order(samples, seed, epoch):
    generator = np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, epoch])))
    keys = generator.integers(0, 2**64, size=samples, dtype="uint64").tolist()
    return sorted(range(samples), key=keys.__getitem__)


def batches_of_epochs(*epochs, seed=SEED, samples=SAMPLES, batch_size=BATCH_SIZE):
    return [
        order(samples, seed, epoch)[start : start + batch_size]
        for epoch in epochs
        for start in range(0, samples, batch_size)
    ]


def numbered(samples=SAMPLES, seed=SEED, **kwargs):
    ids = np.arange(samples)
    return ArrayBatches(ids[:, None].astype("float32"), ids % 3, batch_size=BATCH_SIZE, seed=seed, **kwargs)


def recording_model():
    """A model and the list of (kind, sample ids, weights) that its steps consumed."""
    consumed = []

    def record(kind, data):
        x, _, weights = keras.utils.unpack_x_y_sample_weight(data)
        ids = keras.ops.convert_to_numpy(x)[:, 0].astype(int).tolist()
        consumed.append((kind, ids, None if weights is None else keras.ops.convert_to_numpy(weights).tolist()))

    # On JAX a step takes (state, data), elsewhere (data).
    class Recorder(keras.Sequential):
        def train_step(self, *args):
            record("train", args[-1])
            return super().train_step(*args)

        def test_step(self, *args):
            record("test", args[-1])
            return super().test_step(*args)

    model = Recorder([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile(optimizer=keras.optimizers.SGD(1e-6), loss="mse", run_eagerly=True)
    return model, consumed


def ids_of(consumed, kind):
    return [ids for recorded, ids, _ in consumed if recorded == kind]


def assert_nested_equal(actual, expected):
    # TensorFlow takes no lists inside a batch, so they may come back as tuples.
    actual, expected = keras.tree.lists_to_tuples(actual), keras.tree.lists_to_tuples(expected)
    keras.tree.assert_same_structure(actual, expected)
    keras.tree.map_structure(np.testing.assert_array_equal, actual, expected)


def concatenated(batches, epoch):
    return np.concatenate([batches.batch(epoch, index)[0] for index in range(len(batches))])


@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    samples=st.integers(1, 60),
    batch_size=st.integers(1, 20),
    drop_remainder=st.booleans(),
    shuffle=st.booleans(),
    seed=st.integers(0, 2**70),
    epoch=st.integers(0, 2**40),
)
def test_an_epoch_visits_every_sample_exactly_once(samples, batch_size, drop_remainder, shuffle, seed, epoch):
    assume(samples >= batch_size or not drop_remainder)
    batches = ArrayBatches(
        np.arange(samples), batch_size=batch_size, drop_remainder=drop_remainder, shuffle=shuffle, seed=seed
    )
    visited = concatenated(batches, epoch)
    left_out = samples % batch_size if drop_remainder else 0
    assert len(np.unique(visited)) == len(visited) == samples - left_out
    assert set(visited.tolist()) <= set(range(samples))


@pytest.mark.parametrize("seed", [0, 1, 2**40], ids=lambda seed: f"seed={seed}")
@pytest.mark.parametrize("epoch", [0, 1, 1000], ids=lambda epoch: f"epoch={epoch}")
def test_the_order_is_that_of_the_sorted_raw_outputs(seed, epoch):
    batches = ArrayBatches(np.arange(53), batch_size=7, seed=seed)
    assert concatenated(batches, epoch).tolist() == order(53, seed, epoch)


def test_the_order_never_changes_between_releases():
    batches = ArrayBatches(np.arange(8), batch_size=8, seed=3)
    assert [batches.batch(epoch, 0)[0].tolist() for epoch in (0, 1)] == [
        [0, 4, 7, 1, 5, 6, 3, 2],
        [0, 6, 2, 1, 3, 7, 4, 5],
    ]


def test_a_batch_does_not_depend_on_what_was_asked_before():
    fresh = numbered().batch(3, 4)[0]
    used = numbered()
    used.epoch = 9
    list(used.iterate(7))
    used.batch(0, -1)
    np.testing.assert_array_equal(used.batch(3, 4)[0], fresh)


def test_a_changed_batch_does_not_change_the_next():
    batches = ArrayBatches(np.arange(4.0), np.arange(4), np.ones(4), batch_size=2, shuffle=False)
    for part in batches.batch(0, 0):
        part[:] = -1
    assert [part.tolist() for part in batches.batch(0, 0)] == [[0, 1], [0, 1], [1, 1]]


def test_unshuffled_batches_keep_the_arrays_order_in_every_epoch():
    batches = numbered(shuffle=False)
    assert concatenated(batches, 6)[:, 0].tolist() == list(range(SAMPLES))


def test_indexing_gives_the_batch_of_the_set_epoch():
    batches = numbered()
    batches.epoch = 4
    assert batches[3][0][:, 0].tolist() == batches_of_epochs(4)[3]


def test_a_negative_index_counts_from_the_end():
    assert numbered().batch(1, -1)[0][:, 0].tolist() == batches_of_epochs(1)[-1]


def test_the_last_batch_is_partial():
    batches = ArrayBatches(np.arange(10), batch_size=4)
    assert [len(batch) for (batch,) in batches.iterate()] == [4, 4, 2]


def test_a_dropped_remainder_leaves_whole_batches():
    batches = ArrayBatches(np.arange(10), batch_size=4, drop_remainder=True)
    assert [len(batch) for (batch,) in batches.iterate()] == [4, 4]


@pytest.mark.parametrize("drop_remainder", [False, True], ids=["keep", "drop"])
def test_an_even_division_has_no_remainder(drop_remainder):
    assert len(ArrayBatches(np.arange(12), batch_size=4, drop_remainder=drop_remainder)) == 3


def test_the_loop_runs_through_the_epoch_once():
    batches = numbered()
    assert [x[:, 0].tolist() for x, _ in batches] == batches_of_epochs(0)


@pytest.mark.parametrize("start", [0, 1, 11, 12], ids=lambda start: f"start={start}")
def test_iterate_begins_anywhere(start):
    assert [x[:, 0].tolist() for x, _ in numbered().iterate(2, start)] == batches_of_epochs(2)[start:]


@pytest.mark.parametrize("shape", [(4, 8, 8), (4, 4, 8, 2)], ids=str)
def test_images_of_bytes_become_floats_from_0_to_1(shape):
    x = np.arange(256, dtype="uint8").reshape(shape)
    (batch,) = ArrayBatches(x, batch_size=4, shuffle=False).batch(0, 0)
    assert batch.dtype == np.float32
    np.testing.assert_array_equal(batch, x.astype("float32") / np.float32(255))


@pytest.mark.parametrize("shape", [(256,), (4, 64)], ids=str)
def test_bytes_that_are_no_images_stay_unchanged(shape):
    x = np.arange(256, dtype="uint8").reshape(shape)
    (batch,) = ArrayBatches(x, batch_size=256, shuffle=False).batch(0, 0)
    assert batch.dtype == np.uint8
    np.testing.assert_array_equal(batch, x)


def test_predict_refuses_shuffled_batches():
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    with pytest.raises(ValueError, match="these are shuffled: make the ArrayBatches with shuffle=False"):
        model.predict(ArrayBatches(np.ones((4, 1)), batch_size=2), verbose=0)


@pytest.mark.parametrize("dtype", ["int8", "uint16", "int64", "float16", "float32", "float64", "bool"])
def test_inputs_of_other_types_stay_unchanged(dtype):
    x = np.array([[0, 1], [1, 1], [2, 0]]).astype(dtype)
    (batch,) = ArrayBatches(x, batch_size=3, shuffle=False).batch(0, 0)
    assert batch.dtype == x.dtype
    np.testing.assert_array_equal(batch, x)


def test_byte_targets_and_weights_stay_bytes():
    ones = np.full(3, 200, "uint8")
    _, y, weights = ArrayBatches(np.zeros(3), ones, ones, batch_size=3).batch(0, 0)
    assert (y.dtype, weights.dtype, y[0], weights[0]) == ("uint8", "uint8", 200, 200)


@pytest.mark.parametrize(("y", "weights", "parts"), [(None, None, 1), (1, None, 2), (1, 1, 3)], ids=["x", "xy", "xyw"])
def test_a_batch_has_the_parts_that_were_given(y, weights, parts):
    arrays = [None if part is None else np.arange(4) for part in (0, y, weights)]
    batch = ArrayBatches(*arrays, batch_size=3).batch(0, 0)
    assert isinstance(batch, tuple)
    assert [part.tolist() for part in batch] == [order(4, 0, 0)[:3]] * parts


@pytest.mark.parametrize(
    "nest",
    [
        lambda a, b: {"b": b, "a": a},
        lambda a, b: (a, b),
        lambda a, b: [a, b],
        lambda a, b: {"pair": (a, [b])},
    ],
    ids=["dict", "tuple", "list", "nested"],
)
def test_nested_arrays_keep_their_structure(nest):
    a, b = np.arange(5), np.arange(5, dtype="uint8").reshape(5, 1, 1)
    x, y, weights = ArrayBatches(nest(a, b), nest(b, a), nest(a, a), batch_size=3, seed=1).batch(2, 0)
    rows = order(5, 1, 2)[:3]
    spread = (b[rows] / np.float32(255)).astype("float32")
    assert_nested_equal(x, nest(a[rows], spread))
    assert_nested_equal(y, nest(b[rows], a[rows]))
    assert_nested_equal(weights, nest(a[rows], a[rows]))


def test_tensors_of_the_backend_are_taken():
    x = keras.ops.reshape(keras.ops.arange(6, dtype="float32"), (3, 2))
    (batch,) = ArrayBatches(x, batch_size=2, shuffle=False).batch(0, 1)
    assert isinstance(batch, np.ndarray)
    assert batch.tolist() == [[4, 5]]


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"batch_size": 0}, r"batch_size must be an integer of at least 1; got 0\."),
        ({"batch_size": 2.0}, r"batch_size must be an integer of at least 1; got 2\.0\."),
        ({"batch_size": True}, r"batch_size must be an integer of at least 1; got True\."),
        ({"batch_size": np.array([2, 3])}, r"batch_size must be an integer of at least 1; got array\(\[2, 3\]\)\."),
        ({"seed": -1}, r"seed must be an integer of at least 0; got -1\."),
        ({"seed": None}, r"seed must be an integer of at least 0; got None\."),
        ({"sample_weight": np.ones(4)}, r"sample_weight needs y"),
        ({"y": np.ones(3)}, r"x, y and sample_weight must have equally many samples; got \[3, 4\]\."),
        ({"y": np.ones(4), "sample_weight": np.ones(5)}, r"equally many samples; got \[4, 5\]\."),
        ({"y": np.array(1.0)}, r"y must have a first axis of samples; got a scalar\."),
        ({"x": np.array(["a", "b"])}, r"x must hold numbers; got dtype <U1\."),
        ({"x": np.array([object()])}, r"x must hold numbers; got dtype object\."),
        ({"x": np.empty((0, 3))}, r"There must be at least one sample; got none\."),
        ({"batch_size": 5, "drop_remainder": True}, r"leaves no batch: 4 samples are fewer than batch_size=5\."),
    ],
    ids=[
        "no_batch",
        "float_batch",
        "bool_batch",
        "array_batch",
        "negative_seed",
        "no_seed",
        "weight_without_y",
        "short_y",
        "long_weight",
        "scalar",
        "strings",
        "objects",
        "no_samples",
        "nothing_left",
    ],
)
def test_bad_arguments_are_refused(kwargs, message):
    with pytest.raises(ValueError, match=message):
        ArrayBatches(**{"x": np.zeros(4), "batch_size": 2, **kwargs})


@pytest.mark.parametrize("x", [None, {}, ()], ids=["none", "dict", "tuple"])
def test_no_arrays_are_refused_with_the_rule(x):
    with pytest.raises(ValueError, match=r"x must (have|hold) at least one array; got"):
        ArrayBatches(x, batch_size=2)


@pytest.mark.parametrize("index", [3, -4, 100], ids=lambda index: f"index={index}")
def test_an_index_outside_the_epoch_is_refused(index):
    batches = ArrayBatches(np.arange(10), batch_size=4)
    with pytest.raises(IndexError, match=rf"index must lie in 0\.\.2, the batches of an epoch; got {index}\."):
        batches.batch(0, index)


@pytest.mark.parametrize("epoch", [-1, 1.0, True], ids=["negative", "float", "bool"])
def test_a_bad_epoch_is_refused(epoch):
    batches = ArrayBatches(np.arange(10), batch_size=4)
    with pytest.raises(ValueError, match=rf"epoch must be an integer of at least 0; got {epoch}\."):
        batches.batch(epoch, 0)
    with pytest.raises(ValueError, match=rf"epoch must be an integer of at least 0; got {epoch}\."):
        batches.epoch = epoch


@pytest.mark.parametrize("start", [-1, 4], ids=["negative", "past_the_end"])
def test_iterate_refuses_a_start_outside_the_epoch_at_once(start):
    batches = ArrayBatches(np.arange(10), batch_size=4)
    with pytest.raises(ValueError, match=rf"start must .*; got {start}\."):
        batches.iterate(0, start)


@pytest.mark.parametrize("workers", [0, 2], ids=lambda workers: f"workers={workers}")
def test_other_than_one_worker_is_refused(workers):
    batches = numbered()
    with pytest.raises(ValueError, match=rf"in one worker; got workers={workers}\."):
        batches.workers = workers


def test_the_constructor_takes_no_workers():
    with pytest.raises(TypeError, match="unexpected keyword argument 'workers'"):
        ArrayBatches(np.arange(4), batch_size=2, workers=2)


def test_other_processes_are_refused():
    batches = numbered()
    with pytest.raises(ValueError, match="use_multiprocessing=True"):
        batches.use_multiprocessing = True


@pytest.mark.parametrize(("initial_epoch", "epochs"), [(0, 3), (1, 4)], ids=lambda epoch: str(epoch))
def test_fit_consumes_the_batches_of_the_epochs_it_counts(initial_epoch, epochs):
    model, consumed = recording_model()
    model.fit(numbered(), initial_epoch=initial_epoch, epochs=epochs, verbose=0)
    assert ids_of(consumed, "train") == batches_of_epochs(*range(initial_epoch, epochs))


def test_compiled_fit_consumes_the_batches_of_the_epochs_it_counts():
    rng = np.random.default_rng(6)
    x, y = rng.normal(size=(13, 2)).astype("float32"), rng.normal(size=(13, 1)).astype("float32")
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1, use_bias=False)])
    model.set_weights([np.array([[1.0], [-2.0]])])
    model.compile(optimizer=keras.optimizers.SGD(0.2), loss="mse")
    model.fit(ArrayBatches(x, y, batch_size=3, seed=8), initial_epoch=1, epochs=4, verbose=0)
    kernel = np.array([[1.0], [-2.0]])
    for rows in batches_of_epochs(1, 2, 3, seed=8, samples=13, batch_size=3):
        kernel -= 0.2 * 2 / len(rows) * x[rows].T @ (x[rows] @ kernel - y[rows])
    np.testing.assert_allclose(model.get_weights()[0], kernel, rtol=1e-4)


def test_two_fits_in_a_row_each_count_their_epochs():
    model, consumed = recording_model()
    batches = numbered()
    model.fit(batches, epochs=2, verbose=0)
    model.fit(batches, epochs=1, verbose=0)
    model.fit(batches, initial_epoch=2, epochs=3, verbose=0)
    assert ids_of(consumed, "train") == batches_of_epochs(0, 1, 0, 2)


def test_a_model_that_fit_must_build_consumes_the_same_batches():
    model, consumed = recording_model()
    unbuilt = type(model)([keras.layers.Dense(1)])
    unbuilt.compile(optimizer=keras.optimizers.SGD(1e-6), loss="mse", run_eagerly=True)
    unbuilt.fit(numbered(), epochs=2, verbose=0)
    assert ids_of(consumed, "train") == batches_of_epochs(0, 1)


def test_validation_with_other_batches_leaves_the_order_alone():
    model, consumed = recording_model()
    model.fit(numbered(), validation_data=numbered(7, shuffle=False), epochs=3, verbose=0)
    assert ids_of(consumed, "train") == batches_of_epochs(0, 1, 2)
    assert ids_of(consumed, "test") == [[0, 1], [2, 3], [4, 5], [6]] * 3


def test_validation_with_the_same_batches_leaves_the_order_alone():
    model, consumed = recording_model()
    batches = numbered()
    model.fit(batches, validation_data=batches, epochs=3, verbose=0)
    assert ids_of(consumed, "train") == batches_of_epochs(0, 1, 2)
    assert sorted(sample for ids in ids_of(consumed, "test") for sample in ids) == sorted(list(range(SAMPLES)) * 3)


def test_evaluation_in_the_middle_of_an_epoch_leaves_the_order_alone():
    model, consumed = recording_model()
    other, _ = recording_model()
    batches = numbered()
    callback = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: other.evaluate(batches, verbose=0) if batch == 4 else None
    )
    model.fit(batches, epochs=2, callbacks=[callback], verbose=0)
    assert ids_of(consumed, "train") == batches_of_epochs(0, 1)


def test_a_stopped_epoch_leaves_the_next_fit_alone():
    model, consumed = recording_model()
    batches = numbered()

    def stop(batch, logs):
        model.stop_training = batch == 3

    model.fit(batches, epochs=2, callbacks=[keras.callbacks.LambdaCallback(on_train_batch_end=stop)], verbose=0)
    model.fit(batches, epochs=2, verbose=0)
    assert ids_of(consumed, "train") == batches_of_epochs(0)[:4] + batches_of_epochs(0, 1)


def test_class_weights_arrive_with_their_samples():
    model, consumed = recording_model()
    model.fit(numbered(), epochs=2, class_weight=CLASS_WEIGHT, verbose=0)
    assert [(ids, weights) for _, ids, weights in consumed] == [
        (ids, [CLASS_WEIGHT[sample % 3] for sample in ids]) for ids in batches_of_epochs(0, 1)
    ]


def test_sample_weights_arrive_with_their_samples():
    model, consumed = recording_model()
    ids = np.arange(SAMPLES)
    batches = ArrayBatches(ids[:, None], ids % 3, ids / 2, batch_size=BATCH_SIZE, seed=SEED)
    model.fit(batches, epochs=1, verbose=0)
    assert [(ids, weights) for _, ids, weights in consumed] == [
        (ids, [sample / 2 for sample in ids]) for ids in batches_of_epochs(0)
    ]


@pytest.mark.skipif(keras.backend.backend() == "torch", reason="Keras refuses steps_per_execution on PyTorch.")
def test_several_steps_per_execution_consume_the_same_batches():
    model, consumed = recording_model()
    model.compile(optimizer="sgd", loss="mse", run_eagerly=True, steps_per_execution=3)
    model.fit(numbered(), epochs=2, verbose=0)
    assert ids_of(consumed, "train") == batches_of_epochs(0, 1)


def test_a_subclass_with_its_own_on_epoch_begin_keeps_the_order():
    class Counting(ArrayBatches):
        begun = 0

        def on_epoch_begin(self):
            self.begun += 1
            super().on_epoch_begin()

    model, consumed = recording_model()
    ids = np.arange(SAMPLES)
    batches = Counting(ids[:, None].astype("float32"), ids, batch_size=BATCH_SIZE, seed=SEED)
    model.fit(batches, epochs=2, verbose=0)
    assert batches.begun >= 2
    assert ids_of(consumed, "train") == batches_of_epochs(0, 1)


def test_evaluate_consumes_every_sample_once():
    model, consumed = recording_model()
    model.evaluate(numbered(), verbose=0)
    assert ids_of(consumed, "test") == batches_of_epochs(0)


def test_evaluate_equals_the_loss_over_the_arrays():
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.set_weights([np.array([[0.5]]), np.array([1.0])])
    model.compile(loss="mse")
    ids = np.arange(SAMPLES)
    expected = np.mean((0.5 * ids + 1 - ids % 3) ** 2)
    assert model.evaluate(numbered(), verbose=0) == pytest.approx(expected, rel=1e-5)


def test_predict_gives_unshuffled_outputs_in_the_arrays_order():
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.set_weights([np.array([[0.5]]), np.array([1.0])])
    outputs = model.predict(numbered(shuffle=False), verbose=0)
    np.testing.assert_allclose(outputs, 0.5 * np.arange(SAMPLES)[:, None] + 1)


@pytest.mark.parametrize(
    "nest", [lambda a, b: {"a": a, "b": b}, lambda a, b: (a, b), lambda a, b: [a, b]], ids=["dict", "tuple", "list"]
)
def test_nested_inputs_reach_the_model(nest):
    a, b = keras.Input((1,), name="a"), keras.Input((1,), name="b")
    model = keras.Model(nest(a, b), keras.layers.Subtract()([a, b]))
    ids = np.arange(7.0, dtype="float32")[:, None]
    outputs = model.predict(ArrayBatches(nest(3 * ids, ids), batch_size=3, shuffle=False), verbose=0)
    np.testing.assert_allclose(outputs, 2 * ids)


@pytest.mark.parametrize("steps", [5, 13], ids=["fewer", "more"])
def test_steps_that_cut_epochs_apart_are_refused_before_any_step(steps):
    model, consumed = recording_model()
    with pytest.raises(ValueError, match=rf"steps_per_epoch={steps} cuts epochs apart that have 12 batches"):
        model.fit(numbered(), epochs=3, steps_per_epoch=steps, verbose=0)
    assert consumed == []


def test_keras_limit_of_steps_that_cuts_epochs_apart_is_refused():
    model, _ = recording_model()
    keras.config.set_max_steps_per_epoch(5)
    try:
        with (
            pytest.warns(UserWarning, match="Limiting steps_per_epoch to 5"),
            pytest.raises(ValueError, match=r"steps_per_epoch=5 cuts epochs apart that have 12 batches"),
        ):
            model.fit(numbered(), epochs=2, verbose=0)
    finally:
        keras.config.set_max_steps_per_epoch(None)


def test_fewer_steps_are_the_beginning_of_a_single_epoch():
    model, consumed = recording_model()
    model.fit(numbered(), initial_epoch=3, epochs=4, steps_per_epoch=5, verbose=0)
    assert ids_of(consumed, "train") == batches_of_epochs(3)[:5]


def test_steps_that_equal_the_batches_are_taken():
    model, consumed = recording_model()
    model.fit(numbered(), epochs=3, steps_per_epoch=12, verbose=0)
    assert ids_of(consumed, "train") == batches_of_epochs(0, 1, 2)


def test_a_loop_of_ones_own_keeps_the_epoch_that_it_set():
    batches = numbered()
    batches.epoch = 2
    batches.on_epoch_begin()
    assert batches.epoch == 2


class Adapter:
    def __init__(self, py_dataset, **attributes):
        self.py_dataset = py_dataset
        vars(self).update(attributes)

    def on_epoch_begin(self):
        self.py_dataset.on_epoch_begin()


@pytest.mark.parametrize("attributes", [{}, {"shuffle": True}], ids=["no_shuffle_to_hold", "no_fit_above"])
def test_an_unknown_keras_is_refused(attributes):
    adapter = Adapter(numbered(), **attributes)
    with pytest.raises(RuntimeError, match=rf"does not know, .*\(keras {keras.__version__}\)\. Loop over batch"):
        adapter.on_epoch_begin()


@pytest.mark.parametrize("missing", ["epoch", "epochs", "initial_epoch"])
def test_a_keras_whose_fit_names_its_variables_otherwise_is_refused(missing):
    names = {"epoch": "epoch", "epochs": "epochs", "initial_epoch": "initial_epoch"} | {missing: "renamed"}
    assignment = f"epoch_iterator, {', '.join(names.values())} = None, 0, 1, 0"
    scope = {}
    exec(f"def fit(adapter):\n    {assignment}\n    adapter.on_epoch_begin()", scope)  # noqa: S102 A stand-in for another version of Keras.
    with pytest.raises(RuntimeError, match="This version of Keras drives a PyDataset in a way that"):
        scope["fit"](Adapter(numbered(), shuffle=True))
