"""The folder of one training run: claimed once, never overwritten by accident, every file whole or absent."""

import contextlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kerasblocks._json_values import json_values
from kerasblocks._whole_file import flush, is_temporary, temporary_file, whole_file

_CONFIG = "config.json"
# Marks a config.json as ours, so that no other folder that has a file of that name is ever emptied.
_MARK = ("run_format", 1)


class RunDirectory:
    """A folder that holds the files of one training run.

    Making the object only looks: a folder in use is refused before any work is done. `start` claims
    the folder by writing `config.json`, by which a run directory is known.

    Args:
        path: the folder; it and its parents are made by `start`.
        overwrite: whether an earlier run there is removed, with everything in its folder, by
            `start`. Only a folder whose `config.json` was written by `start` counts as an earlier
            run; any other folder with files in it is refused.
        resume: whether an earlier run there is gone on with: `start` leaves it as it is.

    Raises:
        FileExistsError: the path holds an earlier run and neither `overwrite` nor `resume` is True, or holds something
            that is not a run directory.

    Attributes:
        begun: whether there is an earlier run, which `resume` goes on with.

    Example:

    >>> import tempfile
    >>> from kerasblocks.training import RunDirectory
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     run = RunDirectory(folder)
    ...     run.start({"epochs": 3})
    ...     run.write_json("metrics.json", {"loss": 0.5})
    ...     sorted(file.name for file in run.path.iterdir())
    ['config.json', 'metrics.json']
    """

    def __init__(self, path: str | os.PathLike[str], *, overwrite: bool = False, resume: bool = False) -> None:
        self.path = Path(path).absolute()
        self._overwrite, self._resume = overwrite, resume
        self._check()

    @property
    def begun(self) -> bool:
        return (self.path / _CONFIG).is_file()

    def start(self, config: dict[str, Any]) -> None:
        """Claims the folder: removes an earlier run if that was asked for, then writes `config.json`.

        Raises:
            FileExistsError: the folder has been taken since this object was made.
            TypeError: `config` holds something that JSON has not; nothing is removed then.
        """
        text = _as_json(config | dict([_MARK]))
        self._check()
        if self._resume and self.begun and not self._overwrite:
            return
        if self._overwrite and self.path.exists():
            # config.json goes last: until then the folder is known as a run.
            for entry in sorted(self.path.iterdir(), key=lambda entry: entry.name == _CONFIG):
                shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()
        self.path.mkdir(parents=True, exist_ok=True)
        with temporary_file(self.path / _CONFIG) as temporary:
            temporary.write_text(text, encoding="utf-8")
            flush(temporary)
            try:
                os.link(temporary, self.path / _CONFIG)  # Unlike a rename, fails if another process was faster.
            except FileExistsError:
                raise FileExistsError(f"{self.path}: another process has just started a run here.") from None

    def write_json(self, name: str, content: dict[str, Any]) -> None:
        """Writes `content` as indented JSON to the file `name`; NaN and infinite numbers become null."""
        with self.writing(name) as temporary:
            temporary.write_text(_as_json(content), encoding="utf-8")

    @contextlib.contextmanager
    def writing(self, name: str) -> Iterator[Path]:
        """Gives a temporary path to write a file to; on success it is flushed and becomes the file `name`.

        On error the temporary file is removed and an earlier file of that name stays as it was. The
        temporary path keeps the suffix of `name`, for writers that choose the format by it.

        Raises:
            ValueError: `name` is not a plain file name, or no file was written.
            FileNotFoundError: the run was not started.
        """
        if not name or Path(name).name != name:
            raise ValueError(f"A run's file must have a plain name, without folders; got {name!r}.")
        if not self.path.is_dir():
            raise FileNotFoundError(f"{self.path}: the run was not started; call start() first.")
        with whole_file(self.path / name) as temporary:
            yield temporary

    def _check(self) -> None:
        parent = next(folder for folder in (self.path, *self.path.parents) if os.path.lexists(folder))
        if not parent.is_dir():
            raise FileExistsError(
                f"{self.path}: a run directory must be a folder; {parent} is a file or a broken link."
            )
        if not self.path.exists():
            return
        entries = sorted(entry.name for entry in self.path.iterdir() if not is_temporary(entry))
        if not entries:
            return
        try:
            read_run_config(self.path)
        except (FileNotFoundError, ValueError) as error:
            raise FileExistsError(
                f"{self.path}: this folder is not empty and holds no run; it has {', '.join(entries[:5])} ({error}) "
                "Choose another folder."
            ) from error
        if not self._overwrite and not self._resume:
            raise FileExistsError(
                f"{self.path}: holds an earlier run. Choose another folder, or overwrite it "
                "(overwrite=True, --overwrite)."
            )


def _as_json(content: dict[str, Any]) -> str:
    return json.dumps(json_values(content), indent=2, allow_nan=False) + "\n"


def read_run_config(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Returns what `RunDirectory.start` wrote to the `config.json` of the run directory `path`.

    Raises:
        FileNotFoundError: the folder holds no run.
        ValueError: its `config.json` is damaged or was not written by `RunDirectory.start`.

    Example:

    >>> import tempfile
    >>> from kerasblocks.training import RunDirectory, read_run_config
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     RunDirectory(folder).start({"epochs": 3})
    ...     read_run_config(folder)["epochs"]
    3
    """
    file = Path(path) / _CONFIG
    if not file.is_file():
        raise FileNotFoundError(f"{path}: not a run directory, it has no {_CONFIG}.")
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{file}: not valid JSON ({error}).") from error
    if not isinstance(config, dict) or config.get(_MARK[0]) != _MARK[1]:
        raise ValueError(f"{file}: not the configuration of a run: {_MARK[0]!r} must be {_MARK[1]}.")
    return config
