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

from kerasblocks.data import TokenWindows, load_text

FILES = ["checkpoints", "config.json", "curves.png", "events", "history.csv", "metrics.json", "model.keras"]
FILES += ["samples.txt", "tokenizer.json"]
QUICK = ("--steps", "8", "--evaluate-every", "4", "--limit", "3000", "--context", "16", "--length", "20")


transformer = functools.partial(run_app, "transformer")


def rows(folder):
    with (folder / "history.csv").open() as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    cwd = tmp_path_factory.mktemp("finished")
    result = transformer(*QUICK, cwd=cwd)
    assert result.returncode == 0, result.stderr
    (model,) = (cwd / "runs").glob("transformer-*/model.keras")
    assert f"see {model.parent}" in result.stdout
    return model.parent, result


def test_leaves_a_whole_run_directory_of_its_own_choice(finished):
    folder, _ = finished
    assert sorted(entry.name for entry in folder.iterdir()) == FILES
    config = json.loads((folder / "config.json").read_text())
    assert config["options"]["steps"] == 8
    assert config["environment"]["backend"] == os.environ["KERAS_BACKEND"]
    assert config["data"]["source"] == "Python's help topics"
    assert [row["epoch"] for row in rows(folder)] == ["0", "1"]


def test_reports_the_loss_of_the_whole_validation_text(finished):
    folder, result = finished
    metrics = json.loads((folder / "metrics.json").read_text())
    model = keras.saving.load_model(folder / "model.keras")
    validation = load_text().validation[:3000]
    loss = model.evaluate(TokenWindows(validation, context=16, batch_size=32), verbose=0)
    assert metrics["validation_loss"] == pytest.approx(loss, rel=1e-4)
    assert float(rows(folder)[-1]["val_loss"]) == pytest.approx(loss, rel=1e-4)
    assert metrics["perplexity"] == pytest.approx(np.exp(loss), rel=1e-4)
    assert metrics["bits_per_character"] == pytest.approx(loss / np.log(2), rel=1e-4)
    assert f"validation loss {metrics['validation_loss']:.4f}" in result.stdout


def test_writes_a_sample_at_each_evaluation(finished):
    folder, result = finished
    samples = (folder / "samples.txt").read_text()
    assert [line for line in samples.splitlines() if line.startswith("---")] == [
        "--- after 4 steps",
        "--- after 8 steps",
    ]
    assert samples.splitlines()[1] in result.stdout


def test_goes_on_with_a_text(finished):
    folder, _ = finished
    one = transformer("--generate", "The ", "--length", 12, "--run-directory", folder)
    assert one.returncode == 0, one.stderr
    assert one.stdout.startswith("The ")
    assert len(one.stdout) == len("The ") + 12 + 1
    refused = transformer("--generate", "ξ", "--run-directory", folder)
    assert refused.returncode == 1
    assert "The character 'ξ', number 0 of the text, is none of the" in refused.stderr
    assert "Traceback" not in refused.stderr


@pytest.mark.once
def test_the_same_command_goes_on_where_the_run_was_killed(finished, tmp_path):
    folder, _ = finished
    options = (*QUICK, "--run-directory", tmp_path / "run", "--checkpoint-steps", "1")
    process = subprocess.Popen(command("transformer", *options), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    checkpoints = tmp_path / "run" / "checkpoints"
    while process.poll() is None and not [*checkpoints.glob("checkpoint-*.json")]:
        time.sleep(0.001)
    process.kill()
    process.wait()
    assert not (tmp_path / "run" / "metrics.json").exists()
    assert transformer(*options).returncode == 0
    assert [row["val_loss"] for row in rows(tmp_path / "run")] == [row["val_loss"] for row in rows(folder)]
    assert (tmp_path / "run" / "samples.txt").read_text() == (folder / "samples.txt").read_text()


@pytest.mark.once
def test_byte_pairs_of_ones_own_files_in_half_precision(tmp_path):
    files = [tmp_path / "one.txt", tmp_path / "two.txt"]
    files[0].write_text("The cat sat on the mat. " * 60, encoding="utf-8")
    files[1].write_text("Grüße! " * 60, encoding="utf-8")
    options = ("--tokenizer", "bpe", "--vocabulary-size", "270", "--precision", "mixed_bfloat16", "--remat")
    quick = ("--steps", "2", "--evaluate-every", "2", "--context", "8", "--length", "5", "--dropout", "0.1")
    result = transformer("--data", *files, *options, *quick, "--run-directory", tmp_path / "run")
    assert result.returncode == 0, result.stderr
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics["bits_per_character"] < metrics["validation_loss"] / np.log(2)
    assert json.loads((tmp_path / "run" / "config.json").read_text())["vocabulary_size"] == 270
    written = transformer("--generate", "ξ cat", "--length", 3, "--run-directory", tmp_path / "run")
    assert written.stdout.startswith("ξ cat"), written.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--steps", "5", "--evaluate-every", "2"), "steps must be a multiple of evaluate_every; got 5 and 2"),
        (("--warmup", "2"), "warmup must lie in 0..1; got 2.0"),
        (("--vocabulary-size", "300"), "vocabulary_size has no effect with tokenizer characters"),
        (("--generate", ""), "generate needs a text to go on with; got an empty one"),
        (("--generate", "a", "--steps", "500"), "steps has no effect with generate"),
        (("--data", "no-such-file"), "no-such-file: no such file"),
        (("--generate", "a", "--run-directory", "no-such-run"), "not a run directory"),
        (("--generate", "a"), "runs: no trained model here"),
    ],
    ids=range(8),
)
def test_bad_options_end_with_a_clear_error(arguments, message, tmp_path):
    result = transformer(*arguments, cwd=tmp_path)
    assert result.returncode != 0
    assert message in " ".join((result.stderr + result.stdout).replace("│", " ").split())
    assert "Traceback" not in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_text_that_is_too_short_is_refused(tmp_path):
    (tmp_path / "short.txt").write_text("too short for a context of 64", encoding="utf-8")
    result = transformer("--data", "short.txt", cwd=tmp_path)
    assert result.returncode == 1
    assert "There must be at least 65 tokens, a context of 64 and the token after it; got 26" in result.stderr
    assert "Traceback" not in result.stderr
