import json
import math
import shutil

import pytest

from kerasblocks.training import RunDirectory, read_run_config


def files(folder):
    return sorted(entry.name for entry in folder.iterdir())


def finished_run(folder):
    run = RunDirectory(folder)
    run.start({"epochs": 1})
    run.write_json("metrics.json", {"loss": 1.0})
    (folder / "events").mkdir()
    return run


def test_looking_makes_nothing(tmp_path):
    RunDirectory(tmp_path / "a" / "b")
    assert files(tmp_path) == []


@pytest.mark.parametrize("folder", [".", "a/b"], ids=["empty", "missing"])
def test_start_claims_a_folder(tmp_path, folder):
    RunDirectory(tmp_path / folder).start({"epochs": 3})
    assert read_run_config(tmp_path / folder)["epochs"] == 3


def test_an_earlier_run_is_refused(tmp_path):
    finished_run(tmp_path)
    with pytest.raises(FileExistsError, match=rf"{tmp_path}: holds an earlier run"):
        RunDirectory(tmp_path)
    assert files(tmp_path) == ["config.json", "events", "metrics.json"]


def test_a_folder_taken_meanwhile_is_refused_at_the_start(tmp_path):
    late = RunDirectory(tmp_path)
    finished_run(tmp_path)
    with pytest.raises(FileExistsError, match="holds an earlier run"):
        late.start({})


def test_overwriting_removes_the_earlier_run_when_the_new_one_starts(tmp_path):
    finished_run(tmp_path)
    run = RunDirectory(tmp_path, overwrite=True)
    assert files(tmp_path) == ["config.json", "events", "metrics.json"]
    run.start({"epochs": 2})
    assert files(tmp_path) == ["config.json"]
    assert read_run_config(tmp_path)["epochs"] == 2


@pytest.mark.parametrize("config", [None, "{}", '{"run_format": 2}', "[]", "not json"], ids=str)
def test_a_folder_of_other_files_is_refused_even_to_overwrite(tmp_path, config):
    (tmp_path / "thesis.txt").write_text("years of work")
    if config is not None:
        (tmp_path / "config.json").write_text(config)
    with pytest.raises(FileExistsError, match=r"not empty and holds no run; it has .*thesis\.txt"):
        RunDirectory(tmp_path, overwrite=True)
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


def test_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(FileExistsError, match=r"must be a folder; .*file is a file"):
        RunDirectory(tmp_path / "file")


def test_a_folder_below_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(FileExistsError, match=r"must be a folder; .*file is a file"):
        RunDirectory(tmp_path / "file" / "run")


def test_a_configuration_that_json_has_not_removes_nothing(tmp_path):
    finished_run(tmp_path)
    with pytest.raises(TypeError, match="object is not JSON serializable"):
        RunDirectory(tmp_path, overwrite=True).start({"model": object()})
    assert files(tmp_path) == ["config.json", "events", "metrics.json"]


def test_the_configuration_cannot_take_the_mark(tmp_path):
    RunDirectory(tmp_path).start({"run_format": 7})
    assert read_run_config(tmp_path)["run_format"] == 1


def test_the_faster_of_two_processes_has_the_folder(tmp_path, monkeypatch):
    late = RunDirectory(tmp_path)
    monkeypatch.setattr(RunDirectory, "_check", lambda self: None)
    finished_run(tmp_path)
    before = (tmp_path / "config.json").read_text()
    with pytest.raises(FileExistsError, match="another process has just started a run here"):
        late.start({"late": True})
    assert (tmp_path / "config.json").read_text() == before
    assert files(tmp_path) == ["config.json", "events", "metrics.json"]


def test_a_relative_path_stays_where_it_was(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = RunDirectory("run")
    run.start({})
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path / "other")
    run.write_json("metrics.json", {})
    assert files(tmp_path / "run") == ["config.json", "metrics.json"]


@pytest.mark.parametrize("name", ["../x", "/x", "sub/x", "", "."], ids=str)
def test_names_with_folders_are_refused(tmp_path, name):
    with pytest.raises(ValueError, match="must have a plain name, without folders"):
        finished_run(tmp_path).write_json(name, {})


def test_writing_before_the_start_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="the run was not started"):
        RunDirectory(tmp_path / "run").write_json("metrics.json", {})


@pytest.mark.parametrize("write", [lambda path: None, lambda path: path.mkdir()], ids=["nothing", "a folder"])
def test_writing_no_file_is_refused_and_leaves_nothing(tmp_path, write):
    run = finished_run(tmp_path)
    with pytest.raises(ValueError, match="x: a file must be written"), run.writing("x") as path:
        write(path)
    assert files(tmp_path) == ["config.json", "events", "metrics.json"]


def test_two_writers_of_one_name_do_not_meet(tmp_path):
    run = finished_run(tmp_path)
    with run.writing("x") as outer:
        outer.write_text("outer")
        with run.writing("x") as inner:
            inner.write_text("inner")
        assert (tmp_path / "x").read_text() == "inner"
    assert (tmp_path / "x").read_text() == "outer"


def test_overwriting_keeps_the_mark_to_the_last(tmp_path, monkeypatch):
    finished_run(tmp_path)
    (tmp_path / "a-folder").mkdir()
    run = RunDirectory(tmp_path, overwrite=True)

    def fail(path):
        raise KeyboardInterrupt

    monkeypatch.setattr(shutil, "rmtree", fail)
    with pytest.raises(KeyboardInterrupt):
        run.start({})
    assert "config.json" in files(tmp_path)
    monkeypatch.undo()
    RunDirectory(tmp_path, overwrite=True).start({"epochs": 4})
    assert files(tmp_path) == ["config.json"]


def test_numbers_that_json_has_not_become_null(tmp_path):
    run = finished_run(tmp_path)
    run.write_json("metrics.json", {"loss": math.nan, "curve": [1.0, math.inf], "n": 1})
    assert json.loads((tmp_path / "metrics.json").read_text()) == {"loss": None, "curve": [1.0, None], "n": 1}


def test_a_failed_write_keeps_the_earlier_file(tmp_path):
    run = finished_run(tmp_path)

    def fail():
        with run.writing("metrics.json") as path:
            path.write_text("half")
            raise KeyboardInterrupt

    before = (tmp_path / "metrics.json").read_text()
    with pytest.raises(KeyboardInterrupt):
        fail()
    assert (tmp_path / "metrics.json").read_text() == before
    assert files(tmp_path) == ["config.json", "events", "metrics.json"]


def test_the_temporary_path_keeps_the_suffix(tmp_path):
    with finished_run(tmp_path).writing("model.keras") as path:
        assert path.suffix == ".keras"
        assert path.parent == tmp_path
        path.write_bytes(b"")


@pytest.mark.parametrize(
    ("content", "error", "message"),
    [
        (None, FileNotFoundError, "not a run directory, it has no config.json"),
        ("{", ValueError, "not valid JSON"),
        ("[]", ValueError, "not the configuration of a run"),
    ],
    ids=["none", "damaged", "list"],
)
def test_reading_a_bad_configuration_says_why(tmp_path, content, error, message):
    if content is not None:
        (tmp_path / "config.json").write_text(content)
    with pytest.raises(error, match=message):
        read_run_config(tmp_path)
