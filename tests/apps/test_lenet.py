import csv
import functools
import json
import os
import subprocess
import time

import keras
import numpy as np
import pytest
from app_runs import command, run_app
from PIL import Image

from kerasblocks.data import ArrayBatches, load_images
from kerasblocks.schedules import warmup_cosine
from kerasblocks.training import RunDirectory

FILES = [
    "checkpoints",
    "config.json",
    "confusion.png",
    "curves.png",
    "events",
    "history.csv",
    "metrics.json",
    "model.keras",
]
QUICK = ("--epochs", "2", "--limit", "200", "--batch-size", "20")


lenet = functools.partial(run_app, "lenet")


def losses(folder):
    with (folder / "history.csv").open() as file:
        return [(row["loss"], row["val_loss"]) for row in csv.DictReader(file)]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    cwd = tmp_path_factory.mktemp("finished")
    result = lenet(*QUICK, cwd=cwd)
    assert result.returncode == 0, result.stderr
    (model,) = (cwd / "runs").glob("lenet-*/model.keras")
    assert f"see {model.parent}" in result.stdout
    return model.parent, result


def test_leaves_a_whole_run_directory_of_its_own_choice(finished):
    folder, _ = finished
    assert sorted(entry.name for entry in folder.iterdir()) == FILES


def test_records_options_versions_and_data(finished):
    folder, _ = finished
    config = json.loads((folder / "config.json").read_text())
    assert config["options"]["epochs"] == 2
    assert config["options"]["weight_decay"] == 0.3
    assert config["environment"]["backend"] == os.environ["KERAS_BACKEND"]
    assert len(config["data"]["fingerprint"]) == 64
    assert config["data"]["class_names"] == list("0123456789")
    assert config["parameters"] == 61_706


def test_reports_metrics_that_the_saved_model_confirms(finished):
    folder, result = finished
    metrics = json.loads((folder / "metrics.json").read_text())
    assert set(metrics) == {
        *(
            "train_loss",
            "train_accuracy",
            "test_loss",
            "test_accuracy",
            "seconds",
            "images_per_second",
            "peak_memory_bytes",
        )
    }
    assert f"test accuracy {metrics['test_accuracy']:.4f}" in result.stdout
    with (folder / "history.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["0", "1"]
    assert float(rows[-1]["val_accuracy"]) == pytest.approx(metrics["test_accuracy"])
    rates = [warmup_cosine(step, peak_learning_rate=0.005, warmup_steps=1, total_steps=20) for step in (9, 19)]
    np.testing.assert_allclose([float(row["learning_rate"]) for row in rows], rates, rtol=1e-4)

    data = load_images("digits", image_size=32, limit=200)
    model = keras.saving.load_model(folder / "model.keras")
    loss, accuracy = model.evaluate(ArrayBatches(data.x_test, data.y_test, batch_size=50, shuffle=False), verbose=0)
    assert loss == pytest.approx(metrics["test_loss"], rel=1e-4)
    assert accuracy == pytest.approx(metrics["test_accuracy"])


def test_pictures_are_pictures(finished):
    folder, _ = finished
    for name in ("curves.png", "confusion.png"):
        with Image.open(folder / name) as image:
            assert min(image.size) > 300
            assert np.asarray(image.convert("L")).std() > 5


def test_a_run_that_is_over_is_reported_again_and_one_of_other_options_is_refused(finished):
    folder, _ = finished
    before = json.loads((folder / "metrics.json").read_text())
    assert lenet(*QUICK, "--run-directory", folder).returncode == 0
    again = json.loads((folder / "metrics.json").read_text())
    of_this_process = ("seconds", "images_per_second", "peak_memory_bytes")
    assert {name: again[name] for name in again if name not in of_this_process}.items() <= before.items()
    result = lenet(*QUICK, "--run-directory", folder, "--seed", "1")
    assert result.returncode == 1
    assert "holds a run of something else" in result.stderr
    assert "options.seed: 0 there, 1 here" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.once
def test_the_same_command_gives_the_same_losses_also_where_the_run_is_killed(finished, tmp_path):
    folder, _ = finished
    options = (*QUICK, "--run-directory", tmp_path / "run", "--checkpoint-steps", "3")
    process = subprocess.Popen(command("lenet", *options), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    checkpoints = tmp_path / "run" / "checkpoints"
    while process.poll() is None and not [
        *checkpoints.glob("checkpoint-*3.json"),
        *checkpoints.glob("checkpoint-*6.json"),
    ]:
        time.sleep(0.001)
    process.kill()
    process.wait()
    assert not (tmp_path / "run" / "metrics.json").exists()
    assert lenet(*options).returncode == 0
    assert losses(tmp_path / "run") == losses(folder)


def test_overwrites_with_the_1998_variant_in_half_precision(tmp_path):
    folder = tmp_path / "run"
    RunDirectory(folder).start({"note": "an earlier run"})
    options = ("--epochs", "1", "--limit", "40", "--variant", "1998", "--precision", "mixed_bfloat16", "--overwrite")
    result = lenet(*options, "--run-directory", folder)
    assert result.returncode == 0, result.stderr
    assert json.loads((folder / "config.json").read_text())["parameters"] == 60_000
    assert np.isfinite(json.loads((folder / "metrics.json").read_text())["test_loss"])


@pytest.mark.once
def test_predicts_the_class_of_an_image_file(finished, tmp_path):
    folder, _ = finished
    digit = load_images("digits", image_size=32).x_test[0, ..., 0]
    Image.fromarray(digit).save(tmp_path / "digit.png")
    Image.fromarray(255 - digit).save(tmp_path / "inverted.png")
    plain = lenet("--predict", tmp_path / "digit.png", "--run-directory", folder)
    inverted = lenet("--predict", tmp_path / "inverted.png", "--run-directory", folder, "--invert")
    rows = [line.split() for line in plain.stdout.splitlines()[1:]]
    assert sorted(name for name, _ in rows) == list("0123456789")
    probabilities = [float(value) for _, value in rows]
    assert probabilities == sorted(probabilities, reverse=True)
    assert sum(probabilities) == pytest.approx(1.0, abs=1e-3)
    assert inverted.stdout.splitlines()[1:] == plain.stdout.splitlines()[1:]
    model = keras.saving.load_model(folder / "model.keras")
    logits = keras.ops.convert_to_numpy(model(digit[None, ..., None].astype("float32") / 255))[0]
    expected = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()
    assert {name: float(value) for name, value in rows} == {
        str(label): pytest.approx(value, abs=1e-3) for label, value in enumerate(expected)
    }


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--learning-rte", "1"), "--learning-rte"),
        (("--epochs", "0"), "epochs must be positive and finite; got 0"),
        (("--peak-learning-rate", "nan"), "peak_learning_rate must be positive and finite; got nan"),
        (("--warmup", "2"), "warmup must lie in 0..1"),
        (("--seed", "-1"), "seed must lie in 0..4294967295; got -1"),
        (("--variant", "1989"), "1989"),
        (("--invert",), "invert has no effect without predict"),
        (("--predict", "image.png", "--epochs", "3"), "epochs has no effect with predict"),
        (("--data", "no-such-folder"), "no-such-folder: no such folder or file"),
        (("--predict", "no-such-image.png", "--run-directory", "no-such-run"), "not a run directory"),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_bad_options_end_with_a_clear_error(arguments, message, tmp_path):
    result = lenet(*arguments, cwd=tmp_path)
    assert result.returncode != 0
    assert message in " ".join((result.stderr + result.stdout).replace("│", " ").split())
    assert "Traceback" not in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_an_unfinished_run_cannot_predict(tmp_path):
    RunDirectory(tmp_path / "run").start({"data": {"image_shape": [32, 32, 1], "class_names": ["a", "b"]}})
    result = lenet("--predict", "image.png", "--run-directory", tmp_path / "run")
    assert result.returncode == 1
    assert "no finished run of this app" in result.stderr


def test_numbers_that_are_not_finite_end_the_run_with_an_error_and_a_report(tmp_path):
    quick = ("--epochs", "2", "--limit", "100", "--run-directory", tmp_path / "run")
    result = lenet(*quick, "--peak-learning-rate", "1e30")
    assert result.returncode == 1
    assert "not finite" in result.stderr
    assert "lower the learning rate" in result.stderr
    assert "Traceback" not in result.stderr
    assert json.loads((tmp_path / "run" / "nonfinite.json").read_text())["found"]
    assert not (tmp_path / "run" / "model.keras").exists()
