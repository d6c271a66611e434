import functools
import json
import shutil
import subprocess
import sys

import pytest
from app_runs import APPS, run_app
from PIL import Image

from kerasblocks.models import alexnet, cost

pytestmark = pytest.mark.once  # What it compares is tested on every backend by the apps' own tests.

compare = functools.partial(run_app, "compare")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("compare") / "both"
    result = compare("--limit", 96, "--seed", 1, "--run-directory", folder)
    assert result.returncode == 0, result.stderr
    return folder, result


def test_lenet_and_alexnet_are_trained_on_the_same_data_and_compared(trained):
    folder, result = trained
    files = ["alexnet", "comparison.json", "comparison.png", "config.json", "lenet"]
    assert sorted(each.name for each in folder.iterdir()) == files
    lenet, small, full = json.loads((folder / "comparison.json").read_text()).values()
    assert (lenet["parameters"], full["parameters"]) == (60_000, 60_965_224)
    assert (lenet["activation"], small["activation"]) == ("scaled_tanh", "relu")
    assert (lenet["regularization"], small["regularization"]) == ("none", "Dropout 0.5")
    assert "AdamW, weight decay 0.05, label smoothing 0.1, augmentation none, epochs 15" in small["training"]
    assert full["normalization"] == "LocalResponseNormalization"
    counted = cost(alexnet((63, 63, 3), 10, "single", width=0.25))
    assert (small["parameters"], small["multiply_adds"]) == (counted.parameters, counted.multiply_adds)
    for name, column in (("lenet", lenet), ("alexnet", small)):
        config, metrics = (json.loads((folder / name / file).read_text()) for file in ("config.json", "metrics.json"))
        assert config["options"]["seed"] == 1
        assert config["options"]["limit"] == 96
        assert column["test_accuracy"] == metrics["test_accuracy"]
        assert column["images_per_second"] == metrics["images_per_second"]
        assert column["peak memory, process, MB"] > 100
    assert "test accuracy" in result.stdout
    with Image.open(folder / "comparison.png") as picture:
        assert picture.width > 1000


def test_runs_that_are_there_are_compared(trained, tmp_path):
    folder, _ = trained
    before = {file: file.stat().st_mtime_ns for file in folder.rglob("*")}
    result = compare(folder / "lenet", folder / "alexnet", "--run-directory", tmp_path)
    assert result.returncode == 0, result.stderr
    columns = json.loads((tmp_path / "comparison.json").read_text())
    assert list(columns) == [str(folder / "lenet"), str(folder / "alexnet")]
    assert "different data" not in result.stdout
    assert {file: file.stat().st_mtime_ns for file in folder.rglob("*")} == before


def test_an_interrupted_comparison_goes_on_with_what_is_there(trained, tmp_path):
    folder = tmp_path / "both"
    shutil.copytree(trained[0], folder)
    (folder / "comparison.json").unlink()
    before = {file: file.stat().st_mtime_ns for file in (folder / "lenet").rglob("*")}
    result = compare("--limit", 96, "--seed", 1, "--run-directory", folder)
    assert result.returncode == 0, result.stderr
    assert json.loads((folder / "comparison.json").read_text()) == json.loads(
        (trained[0] / "comparison.json").read_text()
    )
    assert {file: file.stat().st_mtime_ns for file in (folder / "lenet").rglob("*")} == before


TOLD_TO_END = """
import sys
sys.path.insert(0, {apps!r})
from compare import status_of
print("begun", flush=True)
child = (
    "import signal, sys, time; signal.signal(signal.SIGTERM, lambda *_: sys.exit(7)); "
    "print('ready', flush=True); time.sleep(60)"
)
print(status_of([sys.executable, "-c", child]))
"""


def test_a_training_is_told_to_end_where_the_comparison_is():
    code = TOLD_TO_END.format(apps=str(APPS))
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        assert [process.stdout.readline() for _ in range(2)] == ["begun\n", "ready\n"]
        process.terminate()
        assert process.stdout.read() == "7\n"
    assert process.returncode == 0


@pytest.mark.parametrize(("key", "value"), [("source", "elsewhere"), ("train_images", 95)])
def test_other_data_is_said(trained, tmp_path, key, value):
    other = tmp_path / "other"
    shutil.copytree(trained[0] / "lenet", other)
    facts = json.loads((other / "config.json").read_text())
    facts["data"][key] = value
    (other / "config.json").write_text(json.dumps(facts))
    result = compare(trained[0] / "lenet", other, "--run-directory", tmp_path / "compared")
    assert "The runs had different data: their accuracies and losses do not compare." in result.stdout


def test_a_language_model_is_compared_by_what_it_has(trained, tmp_path):
    quick = ("--steps", "8", "--evaluate-every", "4", "--limit", "3000", "--context", "16", "--length", "20")
    assert run_app("transformer", *quick, "--run-directory", tmp_path / "text").returncode == 0
    result = compare(trained[0] / "lenet", tmp_path / "text", "--run-directory", tmp_path / "compared")
    assert result.returncode == 0, result.stderr
    _, text = json.loads((tmp_path / "compared" / "comparison.json").read_text()).values()
    assert text["parameters"] > 0
    assert text["perplexity"] > 1
    assert text["normalization"] == "RMSNorm"
    assert "multiply_adds" not in text  # its input has no fixed length


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("LENET",), "runs must be two or more, each named once"),
        (("LENET", "LENET"), "runs must be two or more, each named once"),
        (("LENET", "ALEXNET", "--seed", "2"), "seed has no effect on runs that are there"),
        (("LENET", "UNFINISHED"), "no finished run: it has no metrics.json and model.keras"),
        (("LENET", "DAMAGED"), "history.csv: no history of a run: could not convert string to float: 'much'"),
        (("LENET", "nowhere"), "nowhere"),
        (("--data", "nowhere"), "LeNet-5 could not be trained"),
        (("LENET", "ALEXNET", "--run-directory", "BOTH"), "run_directory must hold none of the runs that are compared"),
        (("LENET", "ALEXNET", "--run-directory", "LENET", "--overwrite"), "must hold none of the runs"),
        (("--run-directory", "LENET", "--overwrite"), "holds a run that is no comparison"),
        (("--run-directory", "BOTH", "--seed", "2"), "holds a comparison of something else: seed is 1 there, 2 here"),
        (("--run-directory", "BOTH", "--seed", "1"), "limit is 96 there, None here"),
    ],
    ids=str,
)
def test_what_cannot_be_compared_is_refused(arguments, message, trained, tmp_path):
    both, unfinished, target = trained[0], tmp_path / "unfinished", tmp_path / "compared"
    shutil.copytree(both / "lenet", unfinished)
    (unfinished / "metrics.json").unlink()
    shutil.copytree(both / "lenet", tmp_path / "damaged")
    (tmp_path / "damaged" / "history.csv").write_text("epoch,loss\n1,much\n")
    places = {
        "DAMAGED": tmp_path / "damaged",
        "LENET": both / "lenet",
        "ALEXNET": both / "alexnet",
        "UNFINISHED": unfinished,
        "BOTH": both,
    }
    given = [str(places.get(each, each)) for each in arguments]
    result = compare(*given, *([] if "--run-directory" in given else ["--run-directory", target]))
    assert result.returncode != 0
    assert message in " ".join((result.stderr + result.stdout).replace("│", " ").split())
    assert "Traceback" not in result.stderr
    assert not (target / "comparison.json").exists()
    assert (both / "lenet" / "model.keras").is_file()
    assert target.exists() == ("--data" in arguments)  # nothing is begun before the runs are known to be whole
