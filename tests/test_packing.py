"""tools/corpora/packing.py: a packed set is whole or not there, and what was there before is safe."""

import os
import resource
from pathlib import Path

import numpy as np
import pytest

from tools.common.errors import UserError
from tools.common.files import exclusive
from tools.corpora.packing import create, new_folder


def write(target, value, **arguments):
    with new_folder(target, **arguments) as folder:
        create(folder / "train.npy", (3, 2, 100), "int16")[:] = value
        (folder / "dataset.json").write_text("{}")


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, RuntimeError])
def test_an_interrupted_run_leaves_nothing_and_the_old_set_as_it_was(interruption, tmp_path):
    def write_half(**arguments):
        with new_folder(tmp_path / "set", **arguments) as folder:
            create(folder / "train.npy", (3, 2, 100), "int16")
            raise interruption

    with pytest.raises(interruption):
        write_half()
    assert names(tmp_path) == []
    write(tmp_path / "set", 1)
    with pytest.raises(interruption):
        write_half(overwrite=True)
    assert names(tmp_path) == ["set"]
    assert np.all(np.load(tmp_path / "set" / "train.npy") == 1)


def test_what_a_killed_run_left_does_not_fill_the_disk_but_that_of_a_running_one_stays(tmp_path):
    (tmp_path / ".set.partial-1").mkdir()
    (tmp_path / ".set.partial-1" / "train.npy").write_bytes(bytes(100))
    with exclusive(tmp_path / ".set.partial-2"):
        write(tmp_path / "set", 1)
        assert names(tmp_path) == [".set.partial-2", "set"]


def test_a_set_is_replaced_only_when_asked_to(tmp_path):
    write(tmp_path / "set", 1)
    with pytest.raises(UserError, match="exists already"):
        write(tmp_path / "set", 2)
    assert np.all(np.load(tmp_path / "set" / "train.npy") == 1)
    write(tmp_path / "set", 2, overwrite=True)
    assert np.all(np.load(tmp_path / "set" / "train.npy") == 2)
    assert names(tmp_path) == ["set"]


def test_overwriting_never_deletes_a_folder_that_is_no_packed_set(tmp_path):
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "thesis.tex").write_text("years of work")
    with pytest.raises(UserError, match="no packed set"):
        write(tmp_path / "home", 1, overwrite=True)
    assert (tmp_path / "home" / "thesis.tex").exists()


def test_a_set_made_meanwhile_by_another_run_is_kept(tmp_path):
    write(tmp_path / "other", 1)

    def write_while_another_finishes():
        with new_folder(tmp_path / "set"):
            (tmp_path / "other").rename(tmp_path / "set")

    with pytest.raises(UserError, match="exists already"):
        write_while_another_finishes()
    assert np.all(np.load(tmp_path / "set" / "train.npy") == 1)
    assert names(tmp_path) == ["set"]


def test_a_full_disk_is_one_error_that_names_the_file(tmp_path):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (500, hard))
    try:
        with pytest.raises(OSError, match="File too large") as caught:
            write(tmp_path / "set", 1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert caught.value.filename.endswith("train.npy")
    assert names(tmp_path) == []


def test_a_full_disk_names_the_set_where_the_system_names_no_file(tmp_path):
    with pytest.raises(OSError, match="No space") as caught, new_folder(tmp_path / "set"):
        raise OSError(28, "No space left on device")
    assert caught.value.filename == str(tmp_path / "set")


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="the system cannot reserve disk space")
def test_disk_space_is_taken_before_the_work(tmp_path):
    """Hours of mixing are not lost to a disk that turns out too small at the end."""
    with new_folder(tmp_path / "set") as folder:
        create(folder / "train.npy", (3, 2, 100_000), "int16")
        file = next(tmp_path.rglob("train.npy")).stat()
    assert file.st_blocks * 512 >= 3 * 2 * 100_000 * 2
