"""Write: arrays on disk, in a folder that appears only when it is complete."""

import contextlib
import errno
import glob
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from dataloader.files import DESCRIPTION
from tools.common.errors import UserError
from tools.common.files import exclusive, put_folder

SUFFIXES = (".npy", ".json", ".jsonl", ".png")  # of the files in a set's folder


@contextlib.contextmanager
def new_folder(target: Path, overwrite: bool = False) -> Iterator[Path]:
    """Yield a hidden folder beside the target, which is renamed to it at the end.

    If the block ends with an exception, Ctrl-C included, the hidden folder is removed and the target is unchanged.
    That of a killed process, `.<target>.partial-<process id>`, is removed by the next one for this target.

    Raises UserError if the target exists and may not be replaced.
    """
    target = Path(target)
    check_target(target, overwrite)
    folder = target.resolve()  # the target of a link, so that renames stay on one disk
    for abandoned in folder.parent.glob(f".{glob.escape(folder.name)}.partial-*"):
        with contextlib.suppress(UserError), exclusive(abandoned):  # not that of a running process
            shutil.rmtree(abandoned, ignore_errors=True)
    partial = folder.with_name(f".{folder.name}.partial-{os.getpid()}")
    try:
        with exclusive(partial):
            yield partial
        check_target(target, overwrite)
        put_folder(partial, folder)
    except OSError as error:  # of a full disk, for example, lacks the name
        error.filename = error.filename or str(target)
        raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def check_target(target: Path, overwrite: bool) -> None:
    """Raise UserError if a folder exists and is not to be replaced, or holds anything but a packed set."""
    if not target.exists():
        return
    if not overwrite:
        raise UserError(f"{target} exists already; add --overwrite to replace it, or name another folder")
    files = [path for path in target.rglob("[!.]*") if path.is_file()]
    other = [path for path in files if path.suffix not in SUFFIXES]
    if other or target / DESCRIPTION not in files:
        found = f"holds {other[0]}" if other else f"has no {DESCRIPTION}"
        raise UserError(f"{target}: {found}, so it is no packed set and is not overwritten; name another folder")


def create(path: Path, shape: Sequence[int], dtype: str) -> np.memmap:
    """Return a new .npy file of zeros as a memory map. Raises OSError with its name if the disk is full.

    Its space is reserved at once: writing to a memory map on a full disk would kill the process with SIGBUS.
    """
    try:
        array = np.lib.format.open_memmap(path, "w+", dtype, tuple(shape))
        if hasattr(os, "posix_fallocate"):
            with path.open("r+b") as file:
                os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):  # a file system that cannot reserve
            raise OSError(error.errno, error.strerror, str(path)) from None
    return array
