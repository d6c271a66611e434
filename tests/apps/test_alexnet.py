import csv
import functools
import json
import signal
import subprocess
import time

import keras
import numpy as np
import pytest
from app_runs import command, run_app
from PIL import Image

from kerasblocks.data import ImageBatches, load_images

QUICK = ("--width", "0.05", "--batch-size", "20")
FILES = ["checkpoints", "config.json", "confusion.png", "costs.txt", "curves.png", "events", "history.csv"]
FILES += ["metrics.json", "model.keras"]


alexnet = functools.partial(run_app, "alexnet")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished") / "run"
    result = alexnet(*QUICK, "--epochs", 3, "--ten-crops", "--run-directory", folder)
    assert result.returncode == 0, result.stderr
    return folder, result


def test_leaves_a_whole_run_directory(finished):
    folder, result = finished
    assert sorted(entry.name for entry in folder.iterdir()) == FILES
    config, metrics = (json.loads((folder / name).read_text()) for name in ("config.json", "metrics.json"))
    assert config["data"]["class_names"] == ["china", "flower"]
    assert [config["data"][name] for name in ("train_images", "test_images")] == [400, 100]
    assert f"test accuracy {metrics['test_accuracy']:.4f}" in result.stdout
    assert metrics["corrupt_files"] == 0
    assert (folder / "costs.txt").read_text().splitlines()[-1].split()[2] == f"{config['parameters']:,}"


def test_the_accuracy_is_that_of_ten_crops_by_the_saved_model(finished):
    folder, _ = finished
    data = load_images("photos", image_size=72)
    model = keras.saving.load_model(folder / "model.keras")
    batches = ImageBatches(data.x_test, data.y_test, image_size=72, shorter_side=72, batch_size=100, shuffle=False)
    x, labels = batches.batch(0, 0)
    probabilities = 0
    for top, left in ((0, 0), (0, 9), (9, 0), (9, 9), (4, 4)):
        crop = x[:, top : top + 63, left : left + 63]
        for each in (crop, crop[:, :, ::-1]):
            logits = model.predict(np.ascontiguousarray(each), verbose=0)
            probabilities = probabilities + np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    accuracy = (probabilities.argmax(-1) == labels).mean()
    assert json.loads((folder / "metrics.json").read_text())["test_accuracy"] == pytest.approx(accuracy, abs=0.011)


def losses(folder):
    with (folder / "history.csv").open() as file:
        return [(row["loss"], row["val_loss"]) for row in csv.DictReader(file)]


@pytest.mark.once
def test_a_killed_run_goes_on_to_the_same_losses(finished, tmp_path):
    options = (*QUICK, "--epochs", "3", "--ten-crops", "--run-directory", tmp_path)
    with subprocess.Popen(
        command("alexnet", *options), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        end = time.monotonic() + 120
        while not [*(tmp_path / "checkpoints").glob("checkpoint-*20.json")] and time.monotonic() < end:
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    result = alexnet(*options)
    assert result.returncode == 0, result.stderr
    assert "Epoch 1/3" not in result.stdout  # it goes on behind the first
    assert losses(tmp_path) == losses(finished[0])


@pytest.fixture
def tree(tmp_path):
    rng = np.random.default_rng(0)
    for split, count in (("train", 6), ("val", 3)):
        for label, name in enumerate("abcdefg"):
            folder = tmp_path / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                pixels = rng.integers(0, 200, (40 + number, 50, 3), "uint8") + 8 * label
                Image.fromarray(pixels.astype("uint8")).save(folder / f"{number}.png")
    return tmp_path


@pytest.mark.once
def test_a_folder_with_corrupt_files_by_the_papers_recipe(tree):
    (tree / "train" / "b" / "2.png").write_bytes(b"no image")
    (tree / "val" / "c" / "1.png").write_bytes(b"no image")
    options = (*QUICK, "--data", tree, "--recipe", "paper", "--variant", "2012", "--epochs", 4)
    options += ("--run-directory", tree.parent / "of_the_tree")
    refused = alexnet(*options)
    assert refused.returncode == 1
    assert "2.png: not a whole image file" in refused.stderr or "1.png: not a whole image file" in refused.stderr
    assert "Traceback" not in refused.stderr
    result = alexnet(*options, "--skip-corrupt", "--overwrite")
    assert result.returncode == 0, result.stderr
    assert "2 corrupt files passed over" in result.stdout
    metrics = json.loads((tree.parent / "of_the_tree" / "metrics.json").read_text())
    assert metrics["corrupt_files"] == 2
    assert metrics["test_top_5"] >= metrics["test_accuracy"]
    with (tree.parent / "of_the_tree" / "history.csv").open() as file:
        rates = [float(row["learning_rate"]) for row in csv.DictReader(file)]
    np.testing.assert_allclose(rates, [1e-3, 1e-4, 1e-5, 1e-6], rtol=1e-4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--image-size", "40"), "input_shape must be at least 63 high and wide"),
        (("--recipe", "paper", "--warmup", "0.2"), "warmup has no effect with recipe paper"),
        (("--recipe", "paper", "--epochs", "3"), "epochs must be at least 4 with recipe paper"),
        (("--data", "nowhere"), "nowhere: no such folder or file"),
    ],
    ids=str,
)
def test_bad_options_are_refused(options, message, tmp_path):
    result = alexnet(*options, "--run-directory", tmp_path / "run")
    assert result.returncode != 0
    assert message in " ".join((result.stderr + result.stdout).replace("│", " ").split())
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "run").exists()
