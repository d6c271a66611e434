import gc
import threading
import weakref

import keras
import numpy as np
import pytest
from arrays import to_numpy

from kerasblocks.layers import CausalSelfAttention
from kerasblocks.models import generate, transformer_lm
from kerasblocks.models._next_token import Sampling, sampling_of
from kerasblocks.models._writing import _programs, _WritingWithCache

VOCABULARY = 11
PROMPT = np.array([3, 1, 4, 1, 5])


def model_of(**options):
    """Returns a model whose weights are so large that it has something to say."""
    sizes = {"vocabulary_size": VOCABULARY, "num_layers": 1, "num_heads": 2, "width": 8}
    model = transformer_lm(**sizes | options, seed=0)
    model.set_weights([each * (20 if each.ndim > 1 else 1) for each in model.get_weights()])
    return model


def greedy_by_hand(model, prompt, new):
    text = list(prompt)
    for _ in range(new):
        text.append(int(next_logits(model, text).argmax()))
    return text


def next_logits(model, text):
    """Returns the logits of the next token; what stands behind the text changes nothing, and one shape is compiled."""
    tokens = np.zeros((1, 32), "int32")
    tokens[0, : len(text)] = text
    return to_numpy(model(tokens))[0, len(text) - 1]


@pytest.fixture(scope="module")
def model():
    return model_of()


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"num_layers": 2, "num_key_value_heads": 1, "window": 4},
        {"rotary_base": None, "segments": True},
        {"dropout": 0.5},
    ],
    ids=str,
)
def test_with_and_without_a_cache_it_writes_what_full_calls_say(options):
    model = model_of(**options)
    text = generate(model, PROMPT, 20, temperature=0)
    np.testing.assert_array_equal(text, generate(model, PROMPT, 20, temperature=0, cache=False))
    if "segments" not in options:
        assert text.tolist() == greedy_by_hand(model, PROMPT, 20)
    assert text.dtype == np.int32


def test_logits_of_cached_steps_equal_full_ones(model):
    tokens = np.zeros((1, 16), "int32")
    tokens[0, -5:], present = PROMPT, np.array([[False] * 11 + [True] * 5])
    writing = _WritingWithCache(model, (), Sampling(True, None, False), 16)
    logits, state = writing.first(keras.ops.convert_to_tensor(tokens), keras.ops.convert_to_tensor(present))
    text = PROMPT.tolist()
    for count in range(6):
        wanted = next_logits(model, text)
        np.testing.assert_allclose(to_numpy(logits)[0], wanted, rtol=1e-4, atol=1e-4)
        text.append(int(wanted.argmax()))
        token = keras.ops.convert_to_tensor(np.array(text[-1:], "int32"))
        logits, state = writing.next(
            token, keras.ops.convert_to_tensor(count), keras.ops.convert_to_tensor(present), state
        )


def test_prompts_of_unequal_lengths(model):
    prompts = [[2], PROMPT, [7, 7, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 0, 1, 2, 3, 9, 9]]
    together = generate(model, prompts, 9, temperature=0)
    assert isinstance(together, list)
    for prompt, text in zip(prompts, together, strict=True):
        assert text[: len(prompt)].tolist() == list(prompt)
        np.testing.assert_array_equal(text, generate(model, prompt, 9, temperature=0))
    whole = generate(model, prompts, 9, temperature=0, cache=False)
    assert [each.tolist() for each in whole] == [each.tolist() for each in together]


def test_the_same_seed_gives_the_same_text(model):
    first, again, other = (generate(model, PROMPT, 30, temperature=3.0, seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert first.tolist() != other.tolist()
    keras.utils.set_random_seed(5)
    one = generate(model, PROMPT, 30, temperature=3.0)
    keras.utils.set_random_seed(5)
    np.testing.assert_array_equal(one, generate(model, PROMPT, 30, temperature=3.0))


def test_a_text_ends_after_a_stop_token(model):
    text = generate(model, PROMPT, 20, temperature=0)
    stop = int(text[9])
    first = len(PROMPT) + text[len(PROMPT) :].tolist().index(stop)
    stopped, other = generate(model, [PROMPT, [2]], 20, temperature=0, stop_ids=[stop])
    np.testing.assert_array_equal(stopped, text[: first + 1])
    alone = generate(model, [2], 20, temperature=0, stop_ids=[stop])
    np.testing.assert_array_equal(other, alone)
    assert stop not in other[1:-1]


def test_a_context_forgets_the_older_half(model):
    text = generate(model, PROMPT, 12, temperature=0, context=8)
    assert len(text) == 17
    by_hand = greedy_by_hand(model, PROMPT, 4)
    while len(by_hand) < 17:
        by_hand = by_hand[:-4] + greedy_by_hand(model, by_hand[-4:], min(5, 17 - len(by_hand)))
    assert text.tolist() == by_hand
    long = np.arange(9) % VOCABULARY
    beside = generate(model, [PROMPT, long], 1, temperature=0, context=8)
    assert beside[0].tolist() == greedy_by_hand(model, PROMPT, 1)
    assert beside[1].tolist() == [*long[:5], *greedy_by_hand(model, long[5:], 1)]
    assert generate(model, long[:8], 1, temperature=0, context=8).tolist() == greedy_by_hand(model, long[:8], 1)


def test_no_tokens_are_added_where_none_are_asked_for(model):
    np.testing.assert_array_equal(generate(model, PROMPT, 0), PROMPT)


def test_other_models_are_called_on_the_whole_text():
    inputs = keras.Input((None,), dtype="int32")
    h = keras.layers.Embedding(VOCABULARY, 8)(inputs)
    h = keras.layers.LSTM(8, return_sequences=True)(h)
    recurrent = keras.Model(inputs, keras.layers.Dense(VOCABULARY, kernel_initializer="he_normal")(h))
    text = generate(recurrent, [PROMPT, [1, 2]], 8, temperature=0)
    assert text[1].tolist() == greedy_by_hand(recurrent, [1, 2], 8)
    with pytest.raises(ValueError, match="cache=True needs a model with CausalSelfAttention layers"):
        generate(recurrent, PROMPT, 1, cache=True)
    mixed = keras.Model(inputs, keras.layers.Dense(VOCABULARY)(CausalSelfAttention(2)(h)))
    assert generate(mixed, PROMPT, 8, temperature=0).tolist() == greedy_by_hand(mixed, PROMPT, 8)


class Places(keras.layers.Layer):
    """Adds an embedding of the position."""

    def build(self, shape):
        self.table = self.add_weight(shape=(200, shape[-1]), initializer="uniform")

    def call(self, x):
        return x + self.table[: keras.ops.shape(x)[1]]

    def compute_output_shape(self, shape):
        return shape


def test_models_with_embeddings_of_positions_are_called_on_the_whole_text():
    inputs = keras.Input((None,), dtype="int32")
    h = Places()(keras.layers.Embedding(VOCABULARY, 8)(inputs))
    h = CausalSelfAttention(2, rotary_base=None, kernel_initializer="he_normal")(h)
    placed = keras.Model(inputs, keras.layers.Dense(VOCABULARY, kernel_initializer="he_normal")(h))
    assert generate(placed, PROMPT, 8, temperature=0).tolist() == greedy_by_hand(placed, PROMPT, 8)


def test_masks_are_refused_where_keys_are_kept():
    inputs = keras.Input((None,), dtype="int32")
    h = keras.layers.Embedding(VOCABULARY, 8, mask_zero=True)(inputs)
    masked = keras.Model(inputs, keras.layers.Dense(VOCABULARY)(CausalSelfAttention(2)(h)))
    assert generate(masked, PROMPT, 4, temperature=0).tolist() == greedy_by_hand(masked, PROMPT, 4)
    with pytest.raises(ValueError, match="was given a mask or positions, which are not known of single tokens"):
        generate(masked, PROMPT, 4, cache=True)


def test_models_with_other_inputs_are_refused():
    tokens, mask = (keras.Input((None,), dtype="int32", name=name) for name in ("tokens", "padding_mask"))
    h = keras.layers.Embedding(VOCABULARY, 8)(tokens) + keras.ops.cast(mask, "float32")[:, :, None]
    model = keras.Model({"tokens": tokens, "padding_mask": mask}, keras.layers.Dense(VOCABULARY)(h))
    with pytest.raises(ValueError, match=r"model must take tokens, or .*; its inputs are .'padding_mask', 'tokens'"):
        generate(model, PROMPT, 1)


def test_weights_are_those_of_the_call(model):
    one = model_of()
    before = generate(one, PROMPT, 10, temperature=0)
    one.set_weights([np.roll(each, 1, axis=0) for each in one.get_weights()])
    after = generate(one, PROMPT, 10, temperature=0)
    assert before.tolist() != after.tolist()
    assert after.tolist() == greedy_by_hand(one, PROMPT, 10)


def test_few_programs_are_kept(monkeypatch):
    monkeypatch.setattr("kerasblocks.models._writing._MOST_PROGRAMS", 2)
    model = model_of()
    for stop in (1, 2, 3):
        generate(model, PROMPT, 1, stop_ids=[stop])
    assert [key[3] for key in _programs[model][1]] == [(2,), (3,)]


def test_what_is_compiled_goes_with_its_model():
    model = model_of()
    generate(model, PROMPT, 2)
    known = weakref.ref(model)
    del model
    keras.backend.clear_session()
    gc.collect()
    assert known() is None


@pytest.mark.skipif(keras.backend.backend() != "torch", reason="Elsewhere the loop is always compiled.")
class TestRecordedSteps:
    """On PyTorch a step's operations are recorded when it has been taken often."""

    @pytest.fixture(autouse=True)
    def recorded(self, monkeypatch):
        """Collects what is recorded, which is the third step."""
        from kerasblocks.ops import _decoding_torch

        found, record = [], _decoding_torch._operations_of

        def kept(*arguments):
            found.append(record(*arguments))
            return found[-1]

        monkeypatch.setattr(_decoding_torch, "_operations_of", kept)
        monkeypatch.setattr(_decoding_torch, "EAGER_STEPS", 2)
        return found

    @pytest.mark.parametrize("cache", [True, False])
    @pytest.mark.parametrize("sampling", [{"temperature": 0}, {"temperature": 2.0, "top_k": 9, "top_p": 0.9}], ids=str)
    def test_the_text_is_that_of_eager_steps(self, recorded, monkeypatch, sampling, cache):
        from kerasblocks.ops import _decoding_torch

        options = {"num_layers": 2, "num_key_value_heads": 1, "window": 6}
        texts = generate(model_of(**options), [PROMPT, [2]], 20, seed=3, cache=cache, stop_ids=[9], **sampling)
        assert len(recorded) == 1
        monkeypatch.setattr(_decoding_torch, "EAGER_STEPS", 100)
        eager = generate(model_of(**options), [PROMPT, [2]], 20, seed=3, cache=cache, stop_ids=[9], **sampling)
        assert [each.tolist() for each in texts] == [each.tolist() for each in eager]

    def test_weights_are_those_of_the_call(self, recorded):
        one = model_of()
        before = generate(one, PROMPT, 12, temperature=0)
        one.set_weights([np.roll(each, 1, axis=0) for each in one.get_weights()])
        after = generate(one, PROMPT, 12, temperature=0)
        assert len(recorded) == 1
        assert before.tolist() != after.tolist()
        assert after.tolist() == greedy_by_hand(one, PROMPT, 12)

    @pytest.mark.parametrize("kind", ["looks at values", "assigns", "counts", "keeps", "appends"])
    def test_layers_that_cannot_be_recorded_are_called_on(self, kind, recorded, monkeypatch):
        from kerasblocks.ops import _decoding_torch

        def text():
            keras.utils.set_random_seed(0)
            inputs = keras.Input((None,), dtype="int32")
            h = keras.layers.Embedding(VOCABULARY, 8, embeddings_initializer="normal")(inputs)
            own = Own(kind)
            model = keras.Model(inputs, keras.layers.Dense(VOCABULARY, kernel_initializer="he_normal")(own(h)))
            written = generate(model, PROMPT, 12, temperature=0).tolist()
            assert own.kept is None or to_numpy(own.kept).size
            assert all(to_numpy(each).size for each in own.log)
            return written, int(to_numpy(own.calls.value)), own.count, len(own.log)

        found = text()
        monkeypatch.setattr(_decoding_torch, "EAGER_STEPS", 100)
        assert found == text()

    def test_other_layers_are_called_when_there_are_others(self, recorded):
        layers = keras.layers
        model = keras.Sequential(
            [
                keras.Input((None,), dtype="int32"),
                layers.Embedding(VOCABULARY, 8, embeddings_initializer="normal"),
                CausalSelfAttention(2),
                layers.Dense(VOCABULARY, kernel_initializer="he_normal"),
                layers.Rescaling(1.0),
            ]
        )
        first = generate(model, PROMPT, 12, temperature=0).tolist()
        assert first == greedy_by_hand(model, PROMPT, 12)
        model.pop()
        model.add(layers.Rescaling(-1.0))
        second = generate(model, PROMPT, 12, temperature=0).tolist()
        assert second == greedy_by_hand(model, PROMPT, 12) != first

    @pytest.mark.parametrize("first", [True, False])
    def test_autocast_is_that_of_the_call(self, first, recorded):
        import torch

        model = model_of()
        for within in (first, not first):
            with torch.autocast("cpu", torch.bfloat16, enabled=within):
                text = generate(model, PROMPT, 12, temperature=0)
                assert text.tolist() == generate(model_of(), PROMPT, 12, temperature=0).tolist()

    def test_threads_record_beside_each_other(self, recorded):
        import torch

        models = [model_of() for _ in range(4)]
        call, texts = torch.nn.Module.__call__, {}
        threads = [
            threading.Thread(target=lambda each=each: texts.update({id(each): generate(each, PROMPT, 12)}))
            for each in models
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(texts) == len(recorded) == 4
        assert torch.nn.Module.__call__ is call

    def test_quantized_weights_let_the_old_ones_go(self, recorded):
        model = model_of()
        generate(model, PROMPT, 12)
        attention = next(layer for layer in model._flatten_layers() if isinstance(layer, CausalSelfAttention))
        kernel = weakref.ref(attention.query_key_value.kernel)
        attention.query_key_value.quantize("int8")
        generate(model, PROMPT, 2)
        gc.collect()
        assert kernel() is None


class Own(keras.layers.Layer):
    """Doubles, and does what no graph can."""

    def __init__(self, kind):
        super().__init__()
        self.kind, self.count, self.kept, self.log = kind, 0, None, []

    def build(self, shape):
        self.calls = self.add_weight(shape=(), initializer="zeros", trainable=False)

    def call(self, x):
        if self.kind == "looks at values" and not isinstance(x, keras.KerasTensor):
            x = -x if keras.ops.convert_to_numpy(x)[0, 0, 0] < 0 else x
        if self.kind == "assigns":
            self.calls.assign(self.calls + 1)
            x = x * keras.ops.sin(2 * self.calls)
        if self.kind == "counts":
            self.count += 1
        if self.kind == "appends":
            self.log.append(x)
        if self.kind == "keeps":
            self.kept = x * 2
        return x * 2

    def compute_output_shape(self, shape):
        return shape


@pytest.mark.skipif(keras.backend.backend() != "torch", reason="Elsewhere the loop is always compiled.")
def test_the_step_is_compiled_where_the_model_is(monkeypatch):
    import torch

    compiled = []
    monkeypatch.setattr(torch, "compile", lambda function, **_: compiled.append(function) or function)
    model = model_of()
    expected = generate(model, PROMPT, 5, temperature=0)
    assert not compiled
    model.compile("sgd", "mse", jit_compile=True)
    np.testing.assert_array_equal(generate(model, PROMPT, 5, temperature=0), expected)
    assert len(compiled) == 1


def drawn(logits, count=4000, temperature=1.0, top_k=None, top_p=None):
    """Returns how often each token is drawn."""
    uniforms = (np.arange(count, dtype="float32") + 0.5) / count
    sampling, numbers = sampling_of(temperature, top_k, top_p, len(logits))
    tokens = sampling.token(
        keras.ops.tile(np.array([logits], "float32"), (count, 1)), keras.ops.convert_to_tensor(uniforms), numbers
    )
    return np.bincount(to_numpy(tokens).astype(int), minlength=len(logits)) / count


P = np.array([0.1, 0.4, 0.05, 0.25, 0.2])


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ({}, P),
        ({"temperature": 0.5}, P**2 / (P**2).sum()),
        ({"temperature": 0.0}, [0, 1, 0, 0, 0]),
        ({"top_k": 1}, [0, 1, 0, 0, 0]),
        ({"top_k": 2}, [0, 0.4 / 0.65, 0, 0.25 / 0.65, 0]),
        ({"top_k": 9}, P),
        ({"top_p": 0.5}, [0, 0.4 / 0.65, 0, 0.25 / 0.65, 0]),
        ({"top_p": 0.39}, [0, 1, 0, 0, 0]),
        ({"top_p": 1.0}, P),
        ({"top_k": 4, "top_p": 0.6}, [0, 0.4 / 0.65, 0, 0.25 / 0.65, 0]),
        ({"top_k": 2, "top_p": 0.61}, [0, 0.4 / 0.65, 0, 0.25 / 0.65, 0]),
        ({"temperature": 1e-30}, [0, 1, 0, 0, 0]),
    ],
    ids=str,
)
def test_tokens_are_drawn_by_their_probabilities(options, wanted):
    np.testing.assert_allclose(drawn(np.log(P), **options), wanted, atol=1e-3)


def test_impossible_tokens_are_never_drawn():
    logits = np.array([-np.inf, 0.0, -np.inf, 0.0, -np.inf])
    assert drawn(logits)[[0, 2, 4]].sum() == 0


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (([], 1), {}, "A prompt must be at least one token"),
        (([[1], []], 1), {}, "A prompt must be at least one token"),
        (([1.5], 1), {}, "A prompt must be at least one token, whole numbers in a row"),
        (("text", 1), {}, "prompt_ids must be the tokens of a prompt, or a list of such; got 'text'"),
        (([1, 11], 1), {}, r"Tokens must lie in 0..10, the vocabulary; got 1..11"),
        (([-1], 1), {}, r"Tokens must lie in 0..10"),
        (([1], -1), {}, "max_new_tokens must be an integer of at least 0; got -1"),
        (([1], 1), {"temperature": -1}, "temperature must be 0 or more; got -1"),
        (([1], 1), {"top_k": 0}, "top_k must be an integer of at least 1; got 0"),
        (([1], 1), {"top_p": 0}, "top_p must lie in 0 < top_p <= 1; got 0"),
        (([1], 1), {"seed": -1}, "seed must be an integer of at least 0; got -1"),
        (([1], 1), {"stop_ids": 3}, "stop_ids must be tokens in a list or the like; got 3"),
        (([1], 1), {"stop_ids": [11]}, "stop_ids must be below 11"),
        (([1], 1), {"context": 1}, "context must be an integer of at least 2; got 1"),
        (([1], 1), {"cache": 1}, "cache must be True or False; got 1"),
    ],
    ids=range(15),
)
def test_bad_arguments_are_refused(arguments, options, message, model):
    with pytest.raises(ValueError, match=message):
        generate(model, *arguments, **options)


def test_models_of_another_shape_are_refused():
    with pytest.raises(ValueError, match="model must be a Keras model; got 3"):
        generate(3, [1], 1)
    flat = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    with pytest.raises(ValueError, match=r"logits of shape \(batch, length, vocabulary\); its output is \(None, 3\)"):
        generate(flat, [1], 1)


def test_other_temperatures_compile_nothing_anew(model):
    generate(model, PROMPT, 3, temperature=0.7, top_p=0.5, seed=0)
    before = {key: id(program) for key, program in _programs[model][1].items()}
    generate(model, PROMPT, 5, temperature=0.9, top_p=0.6, seed=1)
    assert {key: id(program) for key, program in _programs[model][1].items()} == before
