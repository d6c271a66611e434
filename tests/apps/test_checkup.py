import functools
import json

import keras
import numpy as np
import pytest
from app_runs import run_app

checkup = functools.partial(run_app, "checkup")
RNG = np.random.default_rng(0)
X = RNG.normal(size=(200, 6)).astype("float32")
Y = X[:, :3].argmax(1)
MODULE = """
import keras, numpy as np
x = np.random.default_rng(0).normal(size=(200, 6)).astype("float32")

def model(activation=None):
    found = keras.Sequential([keras.Input((6,)), keras.layers.Dense(8, "relu"), keras.layers.Dense(3, activation)])
    found.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return found

def healthy():
    return model(), x, x[:, :3].argmax(1)

def squashed_twice():
    return {"model": model("softmax"), "x": x, "y": x[:, :3].argmax(1), "validation_data": (x[:9], x[:9, :3].argmax(1))}

def nothing():
    return 3
"""
QUICK = ("--checks", "output_activation", "gradients", "finite_data")


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "trial_of_mine.py").write_text(MODULE)
    return tmp_path


def test_a_function_of_ones_own_is_checked(folder):
    well = checkup("trial_of_mine:healthy", *QUICK, cwd=folder)
    assert well.returncode == 0, well.stderr
    assert "0 fail, 0 warn, 3 pass" in well.stdout
    ill = checkup("trial_of_mine:squashed_twice", *QUICK, "--json", "found.json", "--html", "found.html", cwd=folder)
    assert ill.returncode == 1
    assert "Traceback" not in ill.stderr
    first = json.loads((folder / "found.json").read_text())["findings"][0]
    assert (first["check"], first["verdict"]) == ("output_activation", "fail")
    assert "squashed twice" in (folder / "found.html").read_text()


def test_a_saved_model_and_arrays_are_checked(folder):
    model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(3)])
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.save(folder / "model.keras")
    np.savez(folder / "data.npz", x=X, y=Y, x_validation=X[:20], y_validation=Y[:20])
    result = checkup("--model", "model.keras", "--data", "data.npz", "--checks", "leakage", "label_range", cwd=folder)
    assert result.returncode == 1, result.stderr
    assert "20 of 20 validation samples are in the" in result.stdout
    assert "1 fail, 0 warn, 1 pass" in result.stdout


@pytest.mark.once
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "give either MODULE:FUNCTION, or --model and --data"),
        (("--model", "model.keras"), "--model and --data go together"),
        (("trial_of_mine",), "the function must be named MODULE:FUNCTION; got 'trial_of_mine'"),
        (("no_such_module:make",), "there is no module no_such_module in the working directory"),
        (("trial_of_mine:absent",), "the module trial_of_mine has no absent"),
        (("trial_of_mine:nothing",), "trial_of_mine:nothing must return (model, x, y) or a dict; got a int"),
        (("trial_of_mine:healthy", "--checks", "spelling"), "checks must be 'all' or of"),
        (("trial_of_mine:healthy", "--budget-seconds", "0"), "budget_seconds must be positive; got 0.0"),
        (("trial_of_mine:healthy", "--html", "no/where.html"), "there is no such folder"),
        (("--model", "model.keras", "--data", "data.npz"), "data.npz"),
    ],
    ids=range(10),
)
def test_bad_options_end_in_one_line(arguments, message, folder):
    result = checkup(*arguments, cwd=folder)
    assert result.returncode != 0
    assert message in " ".join((result.stderr + result.stdout).replace("│", " ").split())
    assert "Traceback" not in result.stderr
