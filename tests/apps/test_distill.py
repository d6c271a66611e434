import csv
import functools
import json
import os

import keras
import pytest
from app_runs import run_app

QUICK = ("--epochs", "2", "--teacher-epochs", "2", "--limit", "200", "--labelled", "40", "--seeds", "2")


distill = functools.partial(run_app, "distill")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    cwd = tmp_path_factory.mktemp("finished")
    result = distill(*QUICK, cwd=cwd)
    assert result.returncode == 0, result.stderr
    (folder,) = (cwd / "runs").iterdir()
    return folder, result


def test_leaves_a_whole_run_directory(finished):
    folder, result = finished
    students = [f"{kind}-{seed}" for kind in ("distilled", "plain") for seed in (0, 1)]
    files = ["comparison.png", "config.json", "metrics.json", "student.keras", "table.csv", "teacher.keras"]
    assert sorted(entry.name for entry in folder.iterdir()) == sorted([*students, "teacher", "teacher-outputs", *files])
    assert f"see {folder.relative_to(folder.parents[1])}" in result.stdout
    config = json.loads((folder / "config.json").read_text())
    assert config["options"]["labelled"] == 40
    assert config["environment"]["backend"] == os.environ["KERAS_BACKEND"]


def test_the_table_is_that_of_the_metrics(finished):
    folder, result = finished
    metrics = json.loads((folder / "metrics.json").read_text())
    with (folder / "table.csv").open() as file:
        table = {row["model"]: row for row in csv.DictReader(file)}
    assert list(table) == ["teacher", "plain", "distilled"]
    assert metrics["models"]["teacher"][0]["agreement"] == 1
    for name, row in table.items():
        values = [each["accuracy"] for each in metrics["models"][name]]
        assert len(values) == (1 if name == "teacher" else 2)
        assert float(row["accuracy"].split(" ± ")[0]) == pytest.approx(sum(values) / len(values), abs=1e-4)
        assert float(row["images_per_second"]) > 0
    assert int(table["plain"]["parameters"]) == int(table["distilled"]["parameters"]) < 10_000
    gains = [
        one["accuracy"] - other["accuracy"]
        for one, other in zip(metrics["models"]["distilled"], metrics["models"]["plain"], strict=True)
    ]
    assert metrics["gain"]["mean"] == pytest.approx(sum(gains) / 2)
    assert f"distilled against plain: {metrics['gain']['mean']:+.4f}" in result.stdout


def test_all_students_take_as_many_steps(finished):
    folder, _ = finished
    steps = {}
    for name in ("distilled-0", "plain-0"):
        newest = max((folder / name / "checkpoints").glob("checkpoint-*.json"))
        steps[name] = int(newest.stem.removeprefix("checkpoint-"))
    assert (
        steps["plain-0"]
        >= steps["distilled-0"]
        == json.loads((folder / "metrics.json").read_text())["steps_of_a_student"]
    )
    assert steps["plain-0"] < steps["distilled-0"] + 2


def test_goes_on_and_refuses_other_options(finished):
    folder, _ = finished
    before = json.loads((folder / "metrics.json").read_text())
    assert distill(*QUICK, "--run-directory", folder).returncode == 0
    again = json.loads((folder / "metrics.json").read_text())
    assert again["models"] == before["models"]
    result = distill(*QUICK, "--alpha", "0.5", "--run-directory", folder)
    assert result.returncode == 1
    assert "options.alpha: 0.1 there, 0.5 here" in result.stderr
    assert "Traceback" not in result.stderr


def last_rate(folder):
    with (folder / "history.csv").open() as file:
        return float(list(csv.DictReader(file))[-1]["learning_rate"])


@pytest.mark.once
def test_a_teacher_is_loaded_and_the_students_have_a_rate_of_their_own(finished, tmp_path):
    folder, _ = finished
    options = ("--teacher", folder / "teacher.keras", "--seeds", "1", "--run-directory", tmp_path / "run")
    result = distill(*QUICK, *options, "--student-learning-rate", "0.01")
    assert result.returncode == 0, result.stderr
    for name in ("plain-0", "distilled-0"):  # twice the rate that they have by default
        assert last_rate(tmp_path / "run" / name) == pytest.approx(2 * last_rate(folder / name), rel=1e-5)
    assert not (tmp_path / "run" / "teacher").exists()
    loaded = keras.saving.load_model(tmp_path / "run" / "student.keras")
    assert loaded.count_params() < 10_000


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--alpha", "2"), "alpha must lie in 0..1; got 2.0"),
        (("--temperature", "0"), "temperature must be positive and finite"),
        (("--student-learning-rate", "0"), "student_learning_rate must be positive and finite"),
        (("--labelled", "-1"), "labelled must be 0 (all) or more"),
        (("--labelled", "500", "--limit", "200"), "labelled must be 200 at most"),
        (("--data", "nowhere"), "nowhere"),
    ],
    ids=["alpha", "temperature", "rate", "labelled", "too many", "data"],
)
def test_bad_options_end_in_one_line(options, message, tmp_path):
    result = distill(*options, cwd=tmp_path)
    assert result.returncode != 0
    assert message in result.stderr
    assert "Traceback" not in result.stderr
    assert not list(tmp_path.iterdir())
