import keras
import numpy as np
import pytest
from arrays import to_numpy

from kerasblocks.data import TokenBatches, TokenWindows

TOKENS = np.arange(1000) % 97


def test_a_batch_is_a_function_of_seed_epoch_and_index():
    batches = TokenBatches(TOKENS, context=7, batch_size=5, steps=4, seed=3)
    x, y = batches.batch(2, 1)
    assert x.shape == y.shape == (5, 7)
    assert x.dtype == y.dtype == np.int32
    np.testing.assert_array_equal(x[:, 1:], y[:, :-1])
    bits = np.random.PCG64(np.random.SeedSequence([3, 2, 1])).random_raw(5)
    np.testing.assert_array_equal(x[:, 0], TOKENS[(bits % np.uint64(993)).astype(int)])
    np.testing.assert_array_equal(y[:, -1], TOKENS[(bits % np.uint64(993)).astype(int) + 7])
    again = TokenBatches(TOKENS, context=7, batch_size=5, steps=4, seed=3)
    np.testing.assert_array_equal(again.batch(2, -3)[0], x)
    for other in ((3, 1), (2, 2)):
        assert (again.batch(*other)[0] != x).any()
    assert (TokenBatches(TOKENS, context=7, batch_size=5, steps=4, seed=4).batch(2, 1)[0] != x).any()


def test_every_place_may_be_drawn():
    batches = TokenBatches(np.arange(6), context=3, batch_size=50, steps=1)
    x, y = batches.batch(0, 0)
    assert set(x[:, 0]) == {0, 1, 2}
    assert set(y[:, -1]) == {3, 4, 5}


def test_fit_counts_the_epochs():
    seen = []

    class Noted(TokenBatches):
        def batch(self, epoch, index):
            seen.append((epoch, index))
            return super().batch(epoch, index)

    model = keras.Sequential([keras.Input((4,)), keras.layers.Embedding(97, 3), keras.layers.Dense(97)])
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(Noted(TOKENS, context=4, batch_size=2, steps=3), epochs=2, verbose=0)
    assert set(seen) == {(epoch, index) for epoch in range(2) for index in range(3)}


@pytest.mark.parametrize("count", [2, 7, 12, 13, 14, 100])
def test_the_mean_over_windows_is_that_of_all_tokens(count):
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((None,)), keras.layers.Embedding(97, 97, name="table")])
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    tokens = np.random.default_rng(1).integers(0, 97, count)
    windows = TokenWindows(tokens, context=4, batch_size=3)
    logits = to_numpy(model.get_layer("table").embeddings).astype("float64")[tokens[:-1]]
    wanted = np.log(np.exp(logits).sum(-1)) - logits[np.arange(count - 1), tokens[1:]]
    assert model.evaluate(windows, verbose=0) == pytest.approx(wanted.mean(), rel=1e-5)
    assert windows.num_predicted == count - 1


def test_windows_are_in_order_and_each_token_is_predicted_once():
    windows = TokenWindows(TOKENS, context=9, batch_size=4)
    parts = [windows.batch(0, index) for index in range(len(windows))]
    predicted = np.concatenate([y[weight > 0] for _, y, weight in parts])
    np.testing.assert_array_equal(predicted, TOKENS[1:])
    assert {x.shape for x, _, _ in parts} == {(4, 9)}


def test_fingerprints_tell_data_and_settings_apart():
    options = {"context": 4, "batch_size": 2, "steps": 3}
    prints = [TokenBatches(TOKENS, **options).fingerprint, TokenBatches(TOKENS[:-1], **options).fingerprint]
    prints.append(TokenBatches(TOKENS, **options | {"steps": 4}).fingerprint)
    prints += [TokenWindows(each, context=4, batch_size=2).fingerprint for each in (TOKENS, TOKENS[1:])]
    assert len({str(each) for each in prints}) == 5
    assert TokenBatches(TOKENS.copy(), **options).fingerprint == prints[0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tokens": np.arange(4)}, "at least 5 tokens, a context of 4 and the token after it; got 4"),
        ({"tokens": np.ones(9)}, r"whole numbers in a row; got an array of shape \(9,\) and dtype float64"),
        ({"tokens": np.ones((9, 1), int)}, r"whole numbers in a row; got an array of shape \(9, 1\)"),
        ({"context": 0}, "context must be an integer of at least 1; got 0"),
        ({"batch_size": 1.5}, "batch_size must be an integer of at least 1; got 1.5"),
        ({"steps": 0}, "steps must be an integer of at least 1; got 0"),
        ({"seed": -1}, "seed must be an integer of at least 0; got -1"),
    ],
    ids=range(7),
)
def test_bad_arguments_are_refused(change, message):
    options = {"tokens": TOKENS, "context": 4, "batch_size": 2, "steps": 3} | change
    with pytest.raises(ValueError, match=message):
        TokenBatches(options.pop("tokens"), **options)


def test_too_few_tokens_and_places_that_are_not_there_are_refused():
    with pytest.raises(ValueError, match="at least 2 tokens, one to predict and one before it; got 1"):
        TokenWindows([1], context=4, batch_size=2)
    with pytest.raises(IndexError, match=r"index must lie in 0..2, the batches of an epoch; got 3"):
        TokenBatches(TOKENS, context=4, batch_size=2, steps=3).batch(0, 3)
