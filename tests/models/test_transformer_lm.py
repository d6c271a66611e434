import json
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from arrays import to_numpy

from kerasblocks.layers import RMSNorm
from kerasblocks.models import CONFIGURATIONS, TransformerConfig, transformer_lm
from kerasblocks.ops import use_fast_paths

SMALL = {"vocabulary_size": 11, "num_layers": 2, "num_heads": 2, "width": 8}
TOKENS = np.random.default_rng(0).integers(0, 11, (2, 9))


@pytest.fixture(params=["reference", "fast"])
def path(request):
    with use_fast_paths(request.param == "fast"):
        yield


def large_weights(model):
    """Gives the model weights with which every path matters."""
    model.set_weights([each * (20 if each.ndim > 1 else 1) for each in model.get_weights()])
    return model


@pytest.mark.once
def test_the_configurations_have_the_sizes_of_their_models():
    assert transformer_lm("tiny", vocabulary_size=65).count_params() == 648_704
    assert transformer_lm("small", vocabulary_size=65).count_params() == 10_647_552
    count = transformer_lm("gpt2", num_layers=1).count_params()
    block = 4 * 768**2 + 3 * 768 * 2048 + 2 * 768 + 2 * 64
    assert count == 50_304 * 768 + block + 768
    assert CONFIGURATIONS["gpt2"].num_layers * block + 50_304 * 768 + 768 == 123_588_864


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"num_key_value_heads": 1, "tie_embeddings": False},
        {"window": 3, "normalize_query_key": False},
        {"rotary_base": None, "dropout": 0.3},
    ],
    ids=str,
)
def test_no_logits_depend_on_what_comes_later(options, path):
    model = large_weights(transformer_lm(**SMALL, **options, seed=0))
    changed = TOKENS.copy()
    changed[:, 5] = (changed[:, 5] + 1) % 11
    before, after = to_numpy(model(TOKENS)), to_numpy(model(changed))
    np.testing.assert_array_equal(before[:, :5], after[:, :5])
    assert (abs(before[:, 5] - after[:, 5]).max(-1) > 1e-3).all()


def oracle(model, tokens, layers=2, heads=2):
    """In float64, from the weights by their paths."""
    weights = {each.path: np.asarray(to_numpy(each), "float64") for each in model.weights}

    def normalized(x, scale):
        return x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-6) * scale

    table = next(value for name, value in weights.items() if name.startswith("embedding"))
    x = table[tokens]
    length, features = tokens.shape[1], x.shape[-1] // heads
    n = features // 2
    turn = np.exp(1j * np.arange(length)[:, None] * 10_000.0 ** (-np.arange(n) / n))[None, :, None]
    for number in range(layers):
        of = {k.split("/", 1)[1]: v for k, v in weights.items() if k.startswith(f"attention_block_{number}/")}
        h = normalized(x, of[f"attention_block_{number}_norm/scale"])
        q, k, v = np.split(h @ of[f"attention_{number}/query_key_value/kernel"], 3, -1)
        q, k, v = (each.reshape(*each.shape[:2], heads, features) for each in (q, k, v))
        q = normalized(q, of[f"attention_{number}/query_norm/scale"])
        k = normalized(k, of[f"attention_{number}/key_norm/scale"])
        q, k = ((each[..., :n] + 1j * each[..., n:]) * turn for each in (q, k))
        q, k = (np.concatenate([each.real, each.imag], -1) for each in (q, k))
        logits = np.einsum("bihd,bjhd->bhij", q, k) / np.sqrt(features)
        logits[..., np.triu(np.ones((length, length), bool), 1)] = -np.inf
        p = np.exp(logits - logits.max(-1, keepdims=True))
        mixed = np.einsum("bhij,bjhd->bihd", p / p.sum(-1, keepdims=True), v).reshape(x.shape)
        x = x + mixed @ of[f"attention_{number}/output/kernel"]
        of = {k.split("/", 1)[1]: v for k, v in weights.items() if k.startswith(f"feed_forward_block_{number}/")}
        h = normalized(x, of[f"feed_forward_block_{number}_norm/scale"])
        gate, up = np.split(h @ of[f"feed_forward_{number}/gate_up/kernel"], 2, -1)
        x = x + (gate / (1 + np.exp(-gate)) * up) @ of[f"feed_forward_{number}/down/kernel"]
    return normalized(x, weights["final_norm/scale"]) @ table.T


def test_equals_the_oracle(path):
    model = large_weights(transformer_lm(**SMALL, seed=0))
    np.testing.assert_allclose(to_numpy(model(TOKENS)), oracle(model, TOKENS), rtol=1e-4, atol=1e-4)


def test_equals_the_llama_of_kerashub(path):
    models = pytest.importorskip("keras_hub").models
    sizes = {"vocabulary_size": 11, "num_layers": 2, "num_query_heads": 4, "num_key_value_heads": 2}
    backbone = models.LlamaBackbone(
        **sizes, hidden_dim=16, intermediate_dim=24, tie_word_embeddings=True, layer_norm_epsilon=1e-6
    )
    rng = np.random.default_rng(1)
    backbone.set_weights([rng.normal(size=each.shape) / 2 for each in backbone.get_weights()])
    ours = transformer_lm(
        vocabulary_size=11,
        num_layers=2,
        num_heads=4,
        num_key_value_heads=2,
        width=16,
        hidden_dim=24,
        normalize_query_key=False,
    )
    theirs = {each.path: np.asarray(to_numpy(each)) for each in backbone.weights}

    def of(layer, part):
        (found,) = [v for name, v in theirs.items() if f"layer_{layer}" in name and f"/{part}/" in name]
        return found.reshape(-1, 16) if part == "attention_output" else found.reshape(found.shape[0], -1)

    (table,) = [value for name, value in theirs.items() if "embeddings" in name]
    weights = [table]
    for layer in range(2):
        names = ("self_attention_layernorm", "query", "key", "value", "attention_output")
        norm, query, key, value, output = (of(layer, name) for name in names)
        weights += [norm.ravel(), np.concatenate([query, key, value], 1), output]
        names = ("feedforward_layernorm", "feedforward_gate_dense", "feedforward_intermediate_dense")
        norm, gate, up = (of(layer, name) for name in names)
        weights += [norm.ravel(), np.concatenate([gate, up], 1), of(layer, "feedforward_output_dense")]
    (final,) = [value for name, value in theirs.items() if "sequence_output_layernorm" in name]
    by_name = dict(zip([each.path for each in ours.weights], ours.weights, strict=True))
    order = [name for name in by_name if "norm" in name or "kernel" in name or "embeddings" in name]
    for name, value in zip(sorted(order, key=_place), [*weights, final], strict=True):
        by_name[name].assign(value)
    hidden = keras.Model(ours.input, ours.get_layer("final_norm").output)
    given = {"token_ids": TOKENS, "padding_mask": np.ones_like(TOKENS)}
    expected = to_numpy(backbone(given))
    np.testing.assert_allclose(to_numpy(hidden(TOKENS)), expected, rtol=1e-4, atol=1e-4)
    logits = to_numpy(backbone.token_embedding(backbone(given), reverse=True))
    np.testing.assert_allclose(to_numpy(ours(TOKENS)), logits, rtol=1e-4, atol=1e-4)


def _place(name):
    """Returns where a weight stands in the network."""
    parts = ("norm/", "query_key_value", "output/", "gate_up", "down")
    if "block_" not in name:
        return (-1,) if "embedding" in name else (99,)
    number = int(name.split("/")[0].rsplit("_", 1)[1])
    return (number, "feed_forward_block" in name, next(i for i, part in enumerate(parts) if part in name))


def test_packed_texts_do_not_see_each_other(path):
    model = large_weights(transformer_lm(**SMALL, segments=True, seed=0))
    alone = large_weights(transformer_lm(**SMALL, seed=0))
    segment_ids = np.array([[0, 0, 0, 0, 1, 1, 1, 1, 1]] * 2)
    packed = to_numpy(model({"tokens": TOKENS, "segment_ids": segment_ids}))
    np.testing.assert_allclose(packed[:, :4], to_numpy(alone(TOKENS[:, :4])), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(packed[:, 4:], to_numpy(alone(TOKENS[:, 4:])), rtol=1e-4, atol=1e-5)


def test_weights_are_scaled_with_the_depth():
    model = transformer_lm(vocabulary_size=300, num_layers=8, num_heads=2, width=64, seed=0)
    spreads = {each.path: float(each.std()) for each in map(_Named, model.weights) if each.ndim > 1}
    for path, spread in spreads.items():
        wanted = 0.02 / 4 if "/output/" in path or "/down/" in path else 0.02
        assert spread == pytest.approx(wanted, rel=0.05), path


class _Named(np.ndarray):
    def __new__(cls, variable):
        found = np.asarray(to_numpy(variable)).view(cls)
        found.path = variable.path
        return found

    def std(self, *args, **kwargs):
        return np.asarray(self).std(*args, **kwargs)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_logits_are_float32_in_half_precision(policy):
    model = transformer_lm(**SMALL, seed=0)
    expected = to_numpy(model(TOKENS))
    keras.config.set_dtype_policy(policy)
    try:
        half = transformer_lm(**SMALL, seed=0)
    finally:
        keras.config.set_dtype_policy("float32")
    logits = half(TOKENS)
    assert keras.backend.standardize_dtype(logits.dtype) == "float32"
    assert half.get_layer("attention_block_0").compute_dtype == policy.removeprefix("mixed_")
    np.testing.assert_allclose(to_numpy(logits), expected, atol=2e-3)


@pytest.mark.parametrize("dropout", [0.0, 0.2])
def test_recomputed_activations_give_the_same_training(dropout):
    trained = []
    for remat in (False, True):
        keras.utils.set_random_seed(3)
        model = transformer_lm(**SMALL, dropout=dropout, remat=remat, seed=0)
        model.compile(keras.optimizers.SGD(0.5), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        model.fit(TOKENS[:, :-1], TOKENS[:, 1:], epochs=3, verbose=0, shuffle=False)
        trained.append(model)
    for one, other in zip(trained[0].get_weights(), trained[1].get_weights(), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)


def test_overfits_two_batches():
    model = transformer_lm(vocabulary_size=11, num_layers=2, num_heads=2, width=32, seed=0)
    model.compile(keras.optimizers.AdamW(1e-2), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    tokens = np.random.default_rng(1).integers(0, 11, (8, 13))
    tokens[:, 0] = np.arange(8)  # Texts that begin alike could not be told apart at first.
    assert model.evaluate(tokens[:, :-1], tokens[:, 1:], verbose=0) > 1
    often = np.tile(tokens, (150, 1))
    model.fit(often[:, :-1], often[:, 1:], batch_size=4, shuffle=False, verbose=0)
    assert model.evaluate(tokens[:, :-1], tokens[:, 1:], verbose=0) < 0.05


def test_saved_and_loaded(tmp_path):
    model = transformer_lm(**SMALL, num_key_value_heads=1, dropout=0.1, remat=True, seed=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(to_numpy(loaded(TOKENS)), to_numpy(model(TOKENS)))
    assert isinstance(loaded.get_layer("final_norm"), RMSNorm)


def test_a_configuration_of_ones_own():
    own = TransformerConfig(30, num_layers=1, num_heads=2, width=4, context=8)
    assert transformer_lm(own).output_shape == (None, None, 30)
    assert transformer_lm(own, num_layers=3).count_params() > transformer_lm(own).count_params()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"configuration": "huge"}, "configuration must be one of 'tiny', 'small', 'gpt2', or a TransformerConfig"),
        ({"configuration": 3}, "configuration must be the name of one or a TransformerConfig; got 3"),
        ({"num_heads": 3}, "width must be a multiple of num_heads; got 128 and 3"),
        ({"num_layers": 0}, "num_layers must be an integer of at least 1; got 0"),
        ({"vocabulary_size": 1.5}, "vocabulary_size must be an integer of at least 1; got 1.5"),
        ({"dropout": 1.0}, "dropout must lie in 0 <= dropout < 1; got 1.0"),
        ({"initial_stddev": 0}, "initial_stddev must be above 0; got 0"),
        ({"seed": -1}, "seed must be an integer of at least 0; got -1"),
        ({"segments": "yes"}, "segments must be True or False; got 'yes'"),
    ],
    ids=range(9),
)
def test_bad_arguments_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        transformer_lm(**options)


@pytest.mark.skipif(keras.backend.backend() != "jax", reason="Keras splits weights among devices on JAX only.")
def test_split_over_two_devices_it_trains_as_on_one():
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=2"
    environment = os.environ | {"XLA_FLAGS": flags}
    script = Path(__file__).with_name("model_parallel.py")
    result = subprocess.run([sys.executable, str(script)], env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr[-2000:]
    found = json.loads(result.stdout.splitlines()[-1])
    (alone, whole, text), (split, shard, split_text) = found["alone"], found["split"]
    assert shard == [whole[0], whole[1] // 2]
    np.testing.assert_allclose(split, alone, rtol=1e-5)
    assert text == split_text
