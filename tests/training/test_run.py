import os
import resource
import signal
import time

import keras
import numpy as np
import pytest

from benchmarks import _killed_run
from benchmarks._resumed_runs import IMAGES, LABELS, end_state, start
from kerasblocks.callbacks import GradientNormLogger, TerminateOnNaN, WarmupCosine
from kerasblocks.data import ArrayBatches
from kerasblocks.training import Run
from kerasblocks.training._directory_lock import locked

not_on_torch = pytest.mark.skipif(keras.backend.backend() == "torch", reason="Keras has one step an execution there.")


class Crash(keras.callbacks.Callback):
    """Ends the fit as a kill would, before a step or at the end of an epoch."""

    def __init__(self, epoch, batch):
        super().__init__()
        self.place = epoch, batch
        self.epoch = 0

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_begin(self, batch, logs=None):
        if (self.epoch, batch) == self.place:
            raise ZeroDivisionError

    def on_epoch_end(self, epoch, logs=None):
        if (epoch, "end") == self.place:
            raise ZeroDivisionError

    def state_dict(self):
        return {}

    def load_state_dict(self, state):
        self.place = None


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    model, callbacks, history = start(folder, extra=[Crash(None, None)])
    return folder, end_state(model), callbacks, history.history


def assert_same(one, other):
    for first, second in zip(one, other, strict=True):
        np.testing.assert_array_equal(first, second)


def by_place(history):
    norms = history["per_variable"]
    return history | {"per_variable": [each if name == "step" else [*each.values()] for name, each in norms.items()]}


@pytest.mark.parametrize("place", [(0, 7), (2, "end")], ids=str)
def test_a_run_that_is_cut_off_ends_as_one_that_is_not(tmp_path, whole, place):
    folder, expected, callbacks, history = whole
    with pytest.raises(ZeroDivisionError):
        start(tmp_path, extra=[Crash(*place)])
    model, again, resumed = start(tmp_path, extra=[Crash(*place)])
    assert_same(end_state(model), expected)
    assert (tmp_path / "history.csv").read_bytes() == (folder / "history.csv").read_bytes()
    assert resumed.history == history
    np.testing.assert_equal(by_place(again[1].history), by_place(callbacks[1].history))
    assert again[2].bad_steps == callbacks[2].bad_steps
    assert again[3].wait == callbacks[3].wait


class Signal(keras.callbacks.Callback):
    """Sends this process a signal once, in the middle of an epoch."""

    def __init__(self, number):
        super().__init__()
        self.number = number

    def on_train_batch_begin(self, batch, logs=None):
        if batch == 4 and self.number is not None:
            os.kill(os.getpid(), self.number)

    def state_dict(self):
        return {}

    def load_state_dict(self, state):
        self.number = None


@pytest.mark.once
def test_a_run_that_is_killed_while_it_writes_ends_as_one_that_is_not(tmp_path, whole):
    newest = _killed_run.kill(tmp_path / "run", tmp_path / "end.npz", step=9, writing=True)
    assert _killed_run.finish(tmp_path / "run", tmp_path / "end.npz") >= newest >= 3
    with np.load(tmp_path / "end.npz") as found:
        assert_same([found[name] for name in found][:-1], whole[1])


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)], ids=["TERM", "INT"])
def test_a_signal_is_left_on_with_all_saved(tmp_path, number, code, capsys):
    handlers = [signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT)]
    with pytest.raises(SystemExit) as left:
        fit(tmp_path / "cut", callbacks=[Signal(number)])
    assert left.value.code == code
    assert f"{number.name}: saved after step 5 in {tmp_path / 'cut'}" in capsys.readouterr().err
    assert [signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT)] == handlers
    assert steps_in(tmp_path / "cut") == [5, 0]
    model, _ = fit(tmp_path / "cut", callbacks=[Signal(number)])
    assert_same(end_state(model), end_state(fit(tmp_path / "whole")[0]))


def steps_in(folder):
    names = sorted(file.stem for file in (folder / "checkpoints").glob("checkpoint-*.json"))
    return [int(name.split("-")[1]) for name in reversed(names)]


def dense(units=3, optimizer="sgd", **options):
    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.Input((36,)), keras.layers.Dense(units)])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer, loss, metrics=["accuracy"], **options)
    return model


def flat(seed=0, **options):
    return ArrayBatches(IMAGES.reshape(44, 36), LABELS, **{"batch_size": 4, "seed": seed} | options)


def fit(folder, model=None, data=None, epochs=2, callbacks=(), validation_data=None, **options):
    model = dense() if model is None else model
    data = flat() if data is None else data
    history = Run(folder, **options).fit(
        model, data, epochs=epochs, callbacks=callbacks, validation_data=validation_data, verbose=0
    )
    return model, history


def test_a_run_that_is_over_is_there_again(tmp_path):
    model, history = fit(tmp_path, best="loss")
    again, same = fit(tmp_path, best="loss")
    assert_same(end_state(again), end_state(model))
    assert same.history == history.history
    assert same.epoch == [0, 1]


def test_a_run_goes_on_when_it_is_given_more_epochs(tmp_path):
    fit(tmp_path / "parts", epochs=1)
    model, history = fit(tmp_path / "parts", epochs=3)
    other, expected = fit(tmp_path / "whole", epochs=3)
    assert_same(end_state(model), end_state(other))
    assert history.history == expected.history
    fit(tmp_path / "cosine", epochs=1, callbacks=[WarmupCosine()])
    with pytest.raises(ValueError, match=r"The run has the schedule .*'total_steps': 11.*; WarmupCosine would"):
        fit(tmp_path / "cosine", epochs=2, callbacks=[WarmupCosine()])


def test_a_run_that_was_stopped_early_stays_so(tmp_path):
    class Stop(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            self.model.stop_training = epoch == 1

    model, history = fit(tmp_path, epochs=5, callbacks=[Stop()])
    again, same = fit(tmp_path, epochs=5, callbacks=[Stop()])
    assert history.epoch == same.epoch == [0, 1]
    assert_same(end_state(again), end_state(model))


def test_keras_s_callbacks_go_on_where_they_were(tmp_path):
    def callbacks(folder):
        folder.mkdir(exist_ok=True)
        return [
            keras.callbacks.ReduceLROnPlateau(monitor="loss", factor=0.5, patience=0, min_delta=1.0),
            keras.callbacks.ModelCheckpoint(folder / "best.keras", "loss", save_best_only=True),
            keras.callbacks.CSVLogger(folder / "log.csv"),
            keras.callbacks.LambdaCallback(),
        ]

    parts, whole = tmp_path / "parts", tmp_path / "whole"
    with pytest.raises(ZeroDivisionError):
        fit(parts, epochs=4, callbacks=(first := [*callbacks(tmp_path / "a"), Crash(2, 5)]))
    first[2].csv_file.close()
    model, _ = fit(parts, epochs=4, callbacks=(resumed := [*callbacks(tmp_path / "a"), Crash(2, 5)]))
    other, _ = fit(whole, epochs=4, callbacks=(expected := [*callbacks(tmp_path / "b"), Crash(None, None)]))
    assert_same(end_state(model), end_state(other))
    assert (parts / "history.csv").read_bytes() == (whole / "history.csv").read_bytes()
    assert (tmp_path / "a" / "log.csv").read_bytes() == (tmp_path / "b" / "log.csv").read_bytes()
    assert resumed[0].wait == expected[0].wait
    assert resumed[1].best == expected[1].best


def test_the_best_model_and_the_newest_checkpoints_are_kept(tmp_path):
    model, history = fit(tmp_path, epochs=3, best="loss", keep=2, every_steps=4)
    assert len(kept := steps_in(tmp_path)) == 2
    assert kept[0] == 33
    best = keras.saving.load_model(tmp_path / "best.keras")
    assert np.argmin(history.history["loss"]) == 2
    assert_same(best.get_weights(), model.get_weights())
    with pytest.raises(ValueError, match=r"best='val_loss' is no log entry of an epoch; there are accuracy, loss"):
        fit(tmp_path / "other", best="val_loss")


def test_a_broken_checkpoint_is_named_and_passed_over(tmp_path):
    model, _ = fit(tmp_path / "whole", epochs=2)
    with pytest.raises(ZeroDivisionError):
        fit(tmp_path / "run", every_steps=4, callbacks=[Crash(1, 9)])
    newest = sorted((tmp_path / "run" / "checkpoints").glob("*.safetensors"))[-1]
    newest.write_bytes(newest.read_bytes()[:-100])
    with pytest.warns(UserWarning, match=rf"A broken checkpoint is passed over: {newest}: has \d+ bytes instead of"):
        again, _ = fit(tmp_path / "run", every_steps=4, callbacks=[Crash(1, 9)])
    assert_same(end_state(again), end_state(model))


def test_a_run_without_a_whole_checkpoint_is_not_begun_anew(tmp_path):
    fit(tmp_path, keep=1)
    for file in (tmp_path / "checkpoints").glob("*.json"):
        file.write_text("{")
    with pytest.warns(UserWarning, match="not the JSON"), pytest.raises(ValueError, match="no checkpoint is whole"):
        fit(tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": lambda: dense(4)}, r"model\.config\.layers\[1\]\.config\.units: 3 there, 4 here"),
        ({"model": lambda: dense(optimizer="adam")}, r"optimizer\.class: 'SGD' there, 'Adam' here"),
        ({"model": lambda: dense(optimizer=keras.optimizers.SGD(0.5))}, r"learning_rate: 0.0\d* there, 0.5 here"),
        ({"data": lambda: flat(seed=1)}, r"data\.seed: 0 there, 1 here"),
        ({"data": lambda: flat(batch_size=2)}, r"data\.batch_size: 4 there, 2 here"),
        ({"data": lambda: ArrayBatches(IMAGES[:, :, :, 0].reshape(44, 36) + 1, LABELS, batch_size=4)}, r"data\.arrays"),
        (
            {"callbacks": lambda: [keras.callbacks.TerminateOnNaN()]},
            r"callbacks: \[\] there, \['TerminateOnNaN'\] here",
        ),
        ({"config": lambda: {"smoothing": 0.2}}, r"config\.smoothing: 0\.1 there, 0\.2 here"),
    ],
)
def test_a_run_of_something_else_is_refused(tmp_path, changes, message):
    fit(tmp_path, config={"smoothing": 0.1})
    before = sorted(file.name for file in tmp_path.rglob("*"))
    with pytest.raises(ValueError, match=f"holds a run of something else: .*{message}"):
        fit(tmp_path, **{"config": {"smoothing": 0.1}} | {name: make() for name, make in changes.items()})
    assert sorted(file.name for file in tmp_path.rglob("*")) == before


def test_a_checkpoint_of_another_run_is_refused(tmp_path):
    fit(tmp_path / "a")
    with pytest.raises(ZeroDivisionError):
        fit(tmp_path / "b", dense(4), callbacks=[Crash(0, 1)])
    for file in (tmp_path / "b" / "checkpoints").iterdir():
        file.unlink()
    for file in (tmp_path / "a" / "checkpoints").iterdir():
        file.rename(tmp_path / "b" / "checkpoints" / file.name)
    with pytest.raises(ValueError, match=r"checkpoints: holds a run of something else: model\.config"):
        fit(tmp_path / "b", dense(4), callbacks=[Crash(0, 1)])


class Own:
    """Batches of a class of one's own, without a fingerprint."""

    def __init__(self, shift=0.0):
        self.shift = shift

    def __len__(self):
        return 5

    def batch(self, epoch, index):
        return IMAGES[index : index + 4].reshape(4, 36) + np.float32(self.shift), LABELS[index : index + 4]


def test_batches_of_one_s_own(tmp_path):
    with pytest.raises(ZeroDivisionError):
        fit(tmp_path / "run", data=Own(), every_steps=2, callbacks=[Crash(1, 3)])
    model, _ = fit(tmp_path / "run", data=Own(), every_steps=2, callbacks=[Crash(1, 3)])
    assert_same(end_state(model), end_state(fit(tmp_path / "whole", data=Own())[0]))
    with pytest.raises(ValueError, match=r"data\.first and last: "):
        fit(tmp_path / "run", data=Own(0.5), callbacks=[Crash(1, 3)])


def test_batches_that_are_not_a_function_of_epoch_and_index_are_refused(tmp_path):
    class Random(Own):
        def batch(self, epoch, index):
            return np.random.default_rng().random((4, 36)), LABELS[:4]

    with pytest.raises(TypeError, match=r"batch\(0, 0\) of .*Random is another batch the second time"):
        fit(tmp_path / "run", data=Random())


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({"steps_per_execution": 2}, marks=not_on_torch, id="several steps an execution"),
        pytest.param({"run_eagerly": True}, id="eager"),
        pytest.param({"policy": "mixed_float16"}, id="mixed_float16"),
        pytest.param({"policy": "mixed_bfloat16", "use_ema": True}, id="mixed_bfloat16 and EMA"),
    ],
)
def test_each_way_to_train_goes_on_with_the_same_bits(tmp_path, options):
    options = dict(options)
    policy, use_ema = options.pop("policy", "float32"), options.pop("use_ema", False)
    keras.config.set_dtype_policy(policy)
    try:

        def cut(folder, crash):
            model = dense(optimizer=keras.optimizers.Adam(0.01, use_ema=use_ema), **options)
            callbacks = [WarmupCosine(), GradientNormLogger(), TerminateOnNaN(), crash]
            return fit(folder, model, callbacks=callbacks, every_steps=2)

        expected, _ = cut(tmp_path / "whole", Crash(None, None))
        with pytest.raises(ZeroDivisionError):
            cut(tmp_path / "cut", Crash(1, 6))
        model, _ = cut(tmp_path / "cut", Crash(None, None))
    finally:
        keras.config.set_dtype_policy("float32")
    assert_same(end_state(model), end_state(expected))
    assert (tmp_path / "cut" / "history.csv").read_bytes() == (tmp_path / "whole" / "history.csv").read_bytes()


@pytest.mark.parametrize(
    "data",
    [IMAGES, (IMAGES, LABELS), iter([(IMAGES, LABELS)]), keras.utils.PyDataset(), None, "path"],
    ids=["array", "arrays", "generator", "PyDataset", "none", "text"],
)
def test_data_that_cannot_be_resumed_is_refused(tmp_path, data):
    with pytest.raises(TypeError, match=r"cannot be resumed exactly\. Wrap arrays as kerasblocks\.data\.ArrayBatches"):
        Run(tmp_path / "run").fit(dense(), data, epochs=1)
    assert not (tmp_path / "run").exists()


def test_what_cannot_be_written_stops_the_training(tmp_path):
    class Full(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            if batch == 2:
                while not steps_in(tmp_path):  # The first checkpoint is written beside the steps.
                    time.sleep(0.01)
                resource.setrlimit(resource.RLIMIT_FSIZE, (2000, limits[1]))

    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        with pytest.raises(OSError, match=r"after step \d+ could not be written: .*File too large.*earlier"):
            fit(tmp_path, every_steps=4, callbacks=[Full()])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)
    assert steps_in(tmp_path) == [0]
    model, _ = fit(tmp_path, every_steps=4, callbacks=[type("Full", (keras.callbacks.Callback,), {})()])
    assert_same(end_state(model), end_state(fit(tmp_path / "whole")[0]))


def test_one_process_at_a_time(tmp_path):
    with locked(tmp_path), pytest.raises(FileExistsError, match="another process is at this run"):
        fit(tmp_path)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"every_steps": 0}, "every_steps must be an integer of at least 1"),
        ({"every_epochs": 1.5}, "every_epochs must be an integer"),
        ({"keep": 0}, "keep must be an integer of at least 1"),
        ({"best": ""}, "best must be the name of a log entry"),
        ({"save_on_signal": 1}, "save_on_signal must be True or False"),
        ({"overwrite": None}, "overwrite must be True or False"),
        ({"config": {"of": object()}}, "config must be a dict that JSON can hold"),
        ({"config": [1]}, "config must be a dict that JSON can hold"),
    ],
)
def test_bad_arguments_are_refused(tmp_path, arguments, message):
    with pytest.raises(ValueError, match=message):
        Run(tmp_path, **arguments)


def test_a_second_restorer_is_refused(tmp_path):
    backup = keras.callbacks.BackupAndRestore(tmp_path / "backup")
    with pytest.raises(ValueError, match="BackupAndRestore would restore a second time"):
        fit(tmp_path / "run", callbacks=[backup])


class Opaque(keras.callbacks.Callback):
    def state_dict(self):
        return {"thing": object()}

    def load_state_dict(self, state):
        pass


class Half(keras.callbacks.Callback):
    def state_dict(self):
        return {}


@pytest.mark.parametrize(
    ("callbacks", "message"),
    [
        ([5], "callbacks must be Keras callbacks; got 5"),
        (Half(), "Half must have both state_dict and load_state_dict, or neither"),
        (Opaque(), r"What Opaque\.state_dict\(\) returns must be made of numbers, .*; got <object"),
    ],
)
def test_callbacks_that_could_not_be_resumed_are_refused(tmp_path, callbacks, message):
    with pytest.raises(TypeError, match=message):
        fit(tmp_path / "run", callbacks=callbacks)


@pytest.mark.parametrize("model", ["model", keras.Sequential([keras.layers.Dense(1)])], ids=["text", "not compiled"])
def test_what_cannot_be_trained_is_refused(tmp_path, model):
    with pytest.raises(ValueError, match="A run needs a Keras model, compiled with a Keras optimizer"):
        fit(tmp_path / "run", model)
    assert not (tmp_path / "run").exists()


@pytest.fixture
def interrupts():
    """Interrupts are Python's to answer, which they are not in a process that a shell has put into the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interrupts")
@pytest.mark.parametrize("in_a_run", [False, True], ids=["fit", "run"])
def test_after_an_interrupt_the_model_is_whole_and_can_be_used(in_a_run, tmp_path):
    class Interrupt(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            if batch == 3:
                os.kill(os.getpid(), signal.SIGINT)

    model = keras.Sequential([keras.Input((5,)), keras.layers.BatchNormalization(), keras.layers.Dense(1)])
    model.compile("adam", "mse")
    x = np.random.default_rng(0).normal(size=(96, 5)).astype("float32")
    batches, callbacks = ArrayBatches(x, x[:, :1], batch_size=16), [GradientNormLogger(), TerminateOnNaN()]
    fit, end = (Run(tmp_path / "run").fit, SystemExit) if in_a_run else (keras.Model.fit, KeyboardInterrupt)
    with pytest.raises(end):
        fit(model, batches, epochs=2, verbose=0, callbacks=[Interrupt(), WarmupCosine(), *callbacks])
    assert int(keras.ops.convert_to_numpy(model.optimizer.iterations)) in (3, 4)
    assert np.isfinite(model.predict(x, verbose=0)).all()
    before = [np.copy(each) for each in end_state(model)]
    assert set(model.fit(x, x[:, :1], verbose=0).history) == {"loss"}  # by Keras's own step
    assert not all(np.array_equal(one, other) for one, other in zip(before, end_state(model), strict=True))
