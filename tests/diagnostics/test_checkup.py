import json
import time

import keras
import numpy as np
import pytest
from PIL import Image

from benchmarks.faults._first_half import FIRST
from benchmarks.faults._healthy import HEALTHY
from benchmarks.faults._models import convolutional, dense
from kerasblocks.diagnostics import CHECKS, checkup
from kerasblocks.training import batch_gradients

KINDS = ("dense", "convolutional", "recurrent", "transformer")
STATIC = [name for name in CHECKS if name not in ("learning_rate", "overfit_tiny_subset", "gradient_noise")]


# These look at numbers alone, which NumPy makes of the data.
OF_DATA = {"finite_data", "input_values", "label_range", "leakage", "label_signal", "conflicting_labels", "duplicates"}
OF_DATA |= {"missing_classes", "class_imbalance", "sample_order", "distribution_shift"}


def each_check_once():
    """Returns the faults without those of the rate; only the first of each check of models runs on every backend."""
    seen, found = set(OF_DATA), []
    for name, (_, right) in FIRST.items():
        if right != ("learning_rate",):
            found.append(name if right[0] not in seen else pytest.param(name, marks=pytest.mark.once))
            seen.add(right[0])
    return found


def checked(trial, **options):
    return checkup(
        trial.model, trial.x, trial.y, validation_data=trial.validation, verbose=0, **trial.options | options
    )


@pytest.mark.parametrize("name", each_check_once())
def test_a_fault_fails_the_right_check(name):
    make, right = FIRST[name]
    found = checked(make(), checks=right).findings[0]
    assert found.verdict == "fail", found
    assert found.message
    assert found.remedy


@pytest.mark.once
@pytest.mark.parametrize("name", ["softmax_twice_dense", "pixels_of_255", "all_weights_zero", "labels_from_one"])
def test_a_fault_stands_before_what_it_explains(name):
    make, right = FIRST[name]
    found = checked(make(), checks=STATIC).findings[:2]
    assert any(each.verdict == "fail" and each.check in right for each in found), [each.check for each in found]


@pytest.mark.parametrize(
    "name", [name if name in KINDS else pytest.param(name, marks=pytest.mark.once) for name in HEALTHY]
)
def test_nothing_fails_on_a_healthy_twin(name):
    report = checked(HEALTHY[name](), checks=STATIC)
    assert report.failed == []
    assert len(report.warned) <= 1


@pytest.mark.parametrize("name", ["dense", pytest.param("transformer", marks=pytest.mark.once)])
def test_a_whole_check_up_of_a_healthy_model(name):
    report = checked(HEALTHY[name]())
    assert report.failed == []
    assert len(report.warned) <= 1
    assert {each.check for each in report.findings} == set(CHECKS)
    assert report["overfit_tiny_subset"].verdict == "pass"
    assert report["gradient_noise"].figures["scale"] > 0
    assert 1e-4 < report["learning_rate"].figures["suggestion"] < 1


@pytest.mark.parametrize("name", ["rate_too_high_dense", "rate_too_low_convolutional"])
def test_a_bad_rate_is_named(name):
    (found,) = checked(FIRST[name][0](), checks="learning_rate").findings
    assert found.verdict == "fail"


@pytest.mark.parametrize(
    ("optimizer", "told"),
    [
        (lambda: keras.optimizers.Adam(10.0), "too much"),
        (lambda: keras.optimizers.SGD(1e-6), "hardly move"),
        (
            lambda: keras.optimizers.SGD(
                keras.optimizers.schedules.CosineDecay(0.0, 9, warmup_target=1e-6, warmup_steps=5)
            ),
            "hardly move",
        ),
        (lambda: keras.optimizers.SGD(0.1, global_clipnorm=1e-7), "hardly move"),
    ],
    ids=["large", "small", "schedule", "clipped"],
)
def test_steps_of_a_wrong_size_are_named(optimizer, told):
    (found,) = checked(dense(optimizer=optimizer()), checks="update_ratio").findings
    assert found.verdict == "fail"
    assert told in found.message


def test_the_update_ratio_is_that_of_a_step():
    trial = dense(optimizer=keras.optimizers.SGD(1e-3, gradient_accumulation_steps=50))
    kernel = trial.model.layers[-1].kernel
    (found,) = checked(trial, checks="update_ratio", batch_size=len(trial.y)).findings
    start = keras.ops.convert_to_numpy(kernel)
    _, gradients = batch_gradients(trial.model, trial.x, trial.y)
    expected = 1e-3 * np.linalg.norm(gradients[kernel.path]) / np.linalg.norm(start)
    assert found.verdict == "pass"
    assert found.figures["ratios"][kernel.path] == pytest.approx(expected, rel=0.05)  # mean of five steps
    assert np.median(list(found.figures["ratios"].values())) == found.figures["median"]


def test_updates_lost_in_rounding_are_named():
    keras.config.set_dtype_policy("bfloat16")
    try:
        trial = dense(
            keras.layers.Dense(4, kernel_initializer=keras.initializers.RandomUniform(0.5, 1.0)),
            optimizer=keras.optimizers.SGD(1e-4),
        )
    finally:
        keras.config.set_dtype_policy("float32")
    (found,) = checked(trial, checks="update_ratio").findings
    assert found.verdict == "fail"
    assert "stays the same to the last bit" in found.message


def test_averages_of_batch_normalization_that_lag_behind_are_named():
    normalization = keras.layers.BatchNormalization(momentum=0.999)
    trial = dense(hidden=lambda: [keras.layers.Dense(32), normalization, keras.layers.ReLU()])
    trial.x = 5 + 3 * trial.x
    assert checked(trial, checks="train_inference_gap").failed == []
    trial.model.fit(trial.x, trial.y, epochs=12, verbose=0)
    (found,) = checked(trial, checks="train_inference_gap").findings
    assert found.verdict == "fail"
    assert "in inference" in found.message
    normalization.momentum = 0.9
    trial.model.compile(keras.optimizers.Adam(3e-3), trial.model.loss)
    trial.model.fit(trial.x, trial.y, epochs=8, verbose=0)
    (found,) = checked(trial, checks="train_inference_gap").findings
    assert found.verdict == "pass"


def test_the_effect_of_the_batch_size_is_told():
    (found,) = checked(dense(), checks="gradient_noise").findings
    scale, steps = found.figures["scale"], found.figures["steps"]
    assert list(steps) == ["8", "16", "32", "64", "128"]
    assert steps["64"] == pytest.approx((1 + scale / 64) / (1 + scale / 32))
    assert steps["8"] > steps["32"] == 1 > steps["128"]


def test_a_trained_model_is_looked_at_by_what_came_out():
    trial = convolutional()
    trial.model.fit(trial.x, trial.y, epochs=4, verbose=0)
    names = ["generalization", "calibration", "confusion", "worst_slices", "initial_loss", "learning_rate"]
    report = checked(trial, checks=names)
    assert {each.check for each in report.findings if each.verdict == "not applicable"} == {
        "initial_loss",
        "learning_rate",
    }
    assert report.failed == []
    figures = report["confusion"].figures
    x, y = trial.validation
    right = keras.ops.convert_to_numpy(trial.model.predict(x, verbose=0)).argmax(1) == y
    assert figures["accuracy"] == pytest.approx(right.mean())
    assert figures["false_negative_rate"][3] == pytest.approx(1 - right[y == 3].mean())
    assert sum(row["share"] for row in report["calibration"].figures["diagram"]) == pytest.approx(1)


def test_a_model_that_learned_noise_overfits():
    trial = dense(optimizer=keras.optimizers.Adam(0.02), hidden=lambda: [keras.layers.Dense(256, "relu")])
    trial.x, trial.y = trial.x[:60], np.random.default_rng(0).integers(0, 4, 60)
    trial.model.fit(trial.x, trial.y, epochs=60, verbose=0)
    (found,) = checked(trial, checks="generalization").findings
    assert found.verdict == "fail"
    assert "it overfits" in found.message


@pytest.mark.parametrize("fitted", [pytest.param(False, marks=pytest.mark.once), True])
def test_the_model_is_afterwards_what_it_was(fitted):
    found = []
    for looked_at in (False, True):
        trial = HEALTHY["convolutional_with_batch_normalization_and_dropout"]()
        if fitted:
            trial.model.fit(trial.x[:96], trial.y[:96], verbose=0)
        if looked_at:
            checked(trial, budget_seconds=120)
        history = trial.model.fit(trial.x[:96], trial.y[:96], epochs=2, verbose=0).history
        found.append((history["loss"], [weight.tolist() for weight in trial.model.get_weights()]))
    assert found[0] == found[1]


def test_the_model_is_what_it_was_where_a_check_raises(monkeypatch):
    def broken(case):
        case.model.set_weights([0 * weight for weight in case.model.get_weights()])
        raise RuntimeError("a check that fails itself")

    monkeypatch.setitem(CHECKS, "gradients", broken)
    trial = dense()
    before = trial.model.get_weights()
    report = checked(trial, checks=["finite_data", "gradients"])
    assert report["gradients"].verdict == "warn"
    assert "a check that fails itself" in report["gradients"].message
    for one, other in zip(before, trial.model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_the_budget_is_kept():
    trial = convolutional()
    checked(trial, checks="finite_data")  # so that what is imported and compiled once is there
    start = time.monotonic()
    report = checked(trial, budget_seconds=1e-3)
    assert time.monotonic() - start < 10
    assert {each.message for each in report.findings} == {"There was no time left."}


def test_many_samples_in_the_order_of_their_classes_have_all_classes():
    trial = dense()
    order = np.argsort(trial.y, kind="stable")
    x, y = np.repeat(trial.x[order], 50, 0), np.repeat(trial.y[order], 50)
    assert len(y) > 20_000
    (found,) = checkup(trial.model, x, y, checks="missing_classes", verbose=0).findings
    assert found.verdict == "pass"


def test_a_layer_may_have_the_name_of_an_argument():
    trial = dense(hidden=lambda: [keras.layers.Dense(32, "relu", name=name) for name in ("message", "remedy", "fails")])
    names = ["activations", "dead_units"]
    report = checked(trial, checks=names)
    assert {each.verdict for each in report.findings} == {"pass"}


def batches():
    trial = dense()
    for start in range(0, 480, 32):
        yield trial.x[start : start + 32], trial.y[start : start + 32]


def sorted_batches():
    trial = dense()
    order = np.argsort(trial.y, kind="stable")
    for start in range(0, 480, 32):
        yield trial.x[order[start : start + 32]], trial.y[order[start : start + 32]]


def test_batches_are_looked_at_like_arrays_and_in_their_order():
    model = dense().model
    names = ["finite_data", "sample_order", "initial_loss", "label_signal"]
    assert checkup(model, batches, checks=names, verbose=0).failed == []
    report = checkup(model, sorted_batches, checks=names, verbose=0)
    assert [each.check for each in report.failed] == ["sample_order"]


class Dataset(keras.utils.PyDataset):
    def __init__(self, found):
        super().__init__()
        self.found = list(found)

    def __len__(self):
        return len(self.found)

    def __getitem__(self, index):
        return self.found[index]


def as_tf_data():
    import tensorflow as tf

    trial = dense()
    return tf.data.Dataset.from_tensor_slices((trial.x, trial.y)).batch(32)


def as_data_loader():
    import torch

    trial = dense()
    return torch.utils.data.DataLoader(
        torch.utils.data.TensorDataset(torch.from_numpy(trial.x), torch.from_numpy(trial.y)), 32
    )


@pytest.mark.once
@pytest.mark.parametrize("make", [as_tf_data, as_data_loader, lambda: Dataset(batches())], ids=["tf", "torch", "keras"])
def test_data_sets_are_looked_at_like_arrays(make):
    trial = dense()
    names = ["finite_data", "label_range", "initial_loss", "gradients", "learning_rate", "update_ratio"]
    report = checkup(trial.model, make(), validation_data=make(), checks=[*names, "leakage"], verbose=0)
    assert [each.check for each in report.failed] == ["leakage"]
    assert report["leakage"].figures["share"] == 1
    assert {report[name].verdict for name in names} == {"pass"}


def test_the_report_is_printed_and_written(tmp_path, capsys):
    trial = FIRST["softmax_twice_dense"][0]()
    report = checkup(trial.model, trial.x, trial.y, checks=["output_activation", "activations", "gradient_flow"])
    printed = capsys.readouterr().out
    assert "output activation" in printed
    assert "1 fail, 0 warn, 2 pass, 0 not applicable" in printed
    assert str(report).splitlines()[0].startswith("fail")
    report.to_json(tmp_path / "report.json")
    told = json.loads((tmp_path / "report.json").read_text())
    assert [each["check"] for each in told["findings"]] == ["output_activation", "activations", "gradient_flow"]
    report.to_html(tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert page.count("<article") == 3
    assert page.count("<svg") == 2
    assert "src=" not in page
    report.plot(tmp_path / "report.png")
    with Image.open(tmp_path / "report.png") as image:
        assert np.asarray(image.convert("L")).std() > 5
    with pytest.raises(ValueError, match="There is nothing to draw"):
        checkup(trial.model, trial.x, trial.y, checks="finite_data", verbose=0).plot(tmp_path / "none.png")
    with pytest.raises(KeyError):
        report["gradients"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"checks": "spelling"}, "checks must be 'all' or of finite_data, .*; got 'spelling'"),
        ({"checks": []}, r"checks must be 'all' or of finite_data"),
        ({"budget_seconds": 0}, "budget_seconds must be positive; got 0"),
        ({"budget_seconds": "long"}, "budget_seconds must be a finite number; got 'long'"),
        ({"batch_size": 0}, "batch_size must be an integer of at least 1"),
        ({"seed": -1}, "seed must be an integer of at least 0"),
        ({"verbose": 2}, "verbose must be 0 or 1; got 2"),
        ({"x": batches(), "y": None}, "pass a function that makes one"),
        ({"validation_data": (dense().x[:, :3], dense().y)}, "must have equal shapes"),
        ({"y": [1]}, "equally many samples"),
    ],
    ids=["name", "none", "budget", "text", "batch size", "seed", "verbose", "generator", "validation", "lengths"],
)
def test_bad_input_is_refused(options, message):
    trial = dense()
    with pytest.raises(ValueError, match=message):
        checkup(**{"model": trial.model, "x": trial.x, "y": trial.y, "verbose": 0, **options})


def test_a_model_that_is_not_compiled_is_refused():
    model = keras.Sequential([keras.Input((10,)), keras.layers.Dense(4)])
    with pytest.raises(ValueError, match=r"must be compiled with a Keras optimizer: call model\.compile first"):
        checkup(model, np.zeros((8, 10)), np.zeros(8))
