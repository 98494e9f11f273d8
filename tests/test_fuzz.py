"""Files with random bytes changed: every reader takes them as they are, or refuses them in one line.

FUZZ_EXAMPLES=5000 makes a long run of it.
"""

from __future__ import annotations

import os

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dataloader import PackedDataset
from dataloader.files import read_records
from tools.common.errors import UserError
from tools.common.run_folder import read_history

fuzzed = settings(
    max_examples=int(os.environ.get("FUZZ_EXAMPLES", "60")),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
# (place as a share of the file, kind of change, bytes)
changes = st.lists(
    st.tuples(
        st.floats(0, 1),
        st.sampled_from(["replace", "insert", "delete", "repeat", "cut off"]),
        st.binary(min_size=1, max_size=6) | st.sampled_from([b"[" * 30, b"1e999", b"null", b"-1", b'"', b"{}"]),
    ),
    min_size=1,
    max_size=3,
)


def damage(content: bytes, todo) -> bytes:
    for share, kind, new in todo:
        place = int(share * len(content))
        rest = {"replace": place + len(new), "insert": place, "delete": place + len(new), "repeat": place // 2}
        new = b"" if kind in ("delete", "repeat", "cut off") else new
        content = content[:place] + new + (b"" if kind == "cut off" else content[rest[kind] :])
    return content


def refused(read, error=UserError) -> bool:
    """Whether a reader refuses, in one line; anything else that it raises is a failure."""
    try:
        read()
    except error as refusal:
        lines = str(refusal).strip().splitlines()
    else:
        return False
    assert len(lines) == 1, lines
    return True


@pytest.fixture(autouse=True)
def _place(tmp_path_factory, monkeypatch):
    monkeypatch.chdir(tmp_path_factory.mktemp("place"))


@fuzzed
@given(changes)
def test_a_damaged_history_is_read_or_refused(tmp_path, todo):
    (tmp_path / "history.csv").write_bytes(damage(b"epoch,seconds,valid_loss\n1,2.5,0.25\n2,2.5,\n", todo))
    refused(lambda: read_history(tmp_path))


@fuzzed
@given(changes)
def test_a_damaged_description_is_read_or_refused(corpus, tmp_path, todo):
    for file in corpus.glob("*.npy"):
        (tmp_path / file.name).unlink(missing_ok=True)
        (tmp_path / file.name).symlink_to(file)
    (tmp_path / "dataset.json").write_bytes(damage((corpus / "dataset.json").read_bytes(), todo))

    def read():
        PackedDataset(tmp_path, "test")
        list(read_records(tmp_path))

    refused(read)


@fuzzed
@given(changes)
def test_a_damaged_array_is_read_as_it_was_or_refused(tmp_path, todo):
    path = tmp_path / "train.npy"
    array = (np.arange(3 * 2 * 50) % 99).astype(np.int16).reshape(3, 2, 50)
    np.save(path, array)
    whole = path.read_bytes()
    path.write_bytes(damage(whole, [(share * 128 / len(whole), *rest) for share, *rest in todo]))
    found = []
    if not refused(lambda: found.append(PackedDataset(tmp_path, "train"))):
        (dataset,) = found
        assert refused(lambda: [dataset[n] for n in range(len(dataset))]) or len(dataset) >= 1
        assert path.stat().st_size >= dataset.samples * 2 * len(dataset) * 2
