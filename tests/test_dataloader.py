"""dataloader/: what is in the files arrives, and files that are wrong are named."""

import copy
import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from config import Config
from dataloader import PackedDataset, build_loader, shuffle_for_epoch
from tools.common.errors import UserError


def write(folder, split, array, **description):
    folder.mkdir(exist_ok=True)
    np.save(folder / f"{split}.npy", array)
    if description:
        (folder / "dataset.json").write_text(json.dumps(description))
    return folder


def counted(*shape, dtype=np.float32):
    """Every value its own, so that a mix-up of axes shows."""
    return (np.arange(np.prod(shape)) % 30000).reshape(shape).astype(dtype)


def test_noisy_and_clean_are_not_swapped(tmp_path):
    array = counted(3, 2, 5)
    noisy, clean, number = PackedDataset(write(tmp_path / "set", "train", array), "train")[1]
    np.testing.assert_array_equal(noisy, array[1, 0])
    np.testing.assert_array_equal(clean, array[1, 1])
    assert (number, noisy.dtype) == (1, torch.float32)


def test_int16_is_full_scale(tmp_path):
    array = np.array([[[-32768, 16384], [0, 32767]]], np.int16)
    noisy, clean, _ = PackedDataset(write(tmp_path / "set", "valid", array), "valid")[0]
    assert noisy.tolist() == [-1, 0.5]
    assert clean.tolist() == [0, 32767 / 32768]


def test_the_test_grid_keeps_its_noise_types_and_snrs(tmp_path):
    array = counted(2, 3, 4, 2, 5)
    write(tmp_path / "set", "test", array, sample_rate=16000, noise_types=["rain", "train"], snr_db=[0, 5, 10])
    grid = PackedDataset(tmp_path / "set", "test")
    assert len(grid) == 24
    for number in range(24):
        noise, snr, utterance = grid.cell(number)
        place = ["rain", "train"].index(noise), [0, 5, 10].index(snr), utterance
        np.testing.assert_array_equal(grid[number][0], array[place][0])


def test_the_papers_grid_needs_no_description(tmp_path):
    grid = PackedDataset(write(tmp_path / "set", "test", counted(2, 7, 1, 2, 5)), "test")
    assert grid.cell(0) == ("seen", -10, 0)
    assert grid.cell(13) == ("unseen", 20, 0)


def test_the_order_follows_seed_and_epoch_alone(tmp_path):
    folder = write(tmp_path / "set", "train", counted(50, 2, 4))

    def order(seed, epoch):
        loader = build_loader(Config(data=str(folder), batch_size=7), "train")
        shuffle_for_epoch(loader, seed, epoch)
        return torch.cat([numbers for _, _, numbers in loader]).tolist()

    assert order(0, 1) == order(0, 1)
    assert sorted(order(0, 1)) == list(range(50))
    assert len({tuple(order(seed, epoch)) for seed in range(3) for epoch in range(3)}) == 9


@pytest.mark.slow
def test_a_program_that_ends_amid_an_epoch_does_not_wait_for_its_workers(tmp_path):
    folder = write(tmp_path / "set", "train", counted(8, 2, 100))
    program = f"""
from config import Config
from dataloader import build_loader, shuffle_for_epoch

loader = build_loader(Config(data={str(folder)!r}, batch_size=2, workers=2), "train")
shuffle_for_epoch(loader, 0, 1)
batches = iter(loader)
next(batches)
raise SystemExit(3)
"""
    assert subprocess.run([sys.executable, "-c", program], timeout=60, check=False).returncode == 3


def test_a_worker_gets_the_path_and_not_the_data(tmp_path):
    data = PackedDataset(write(tmp_path / "set", "train", counted(1000, 2, 100)), "train")
    assert len(pickle.dumps(data)) < 2000  # what a process that is not forked is sent
    assert torch.equal(copy.deepcopy(data)[999][1], data[999][1])  # made of the same state


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (counted(3, 5), r"train.npy: found shape \[3, 5\], expected \[N, 2, samples\]"),
        (counted(0, 2, 5), r"found shape \[0, 2, 5\], expected .*, not empty"),
        (counted(3, 2, 5, dtype=np.float64), "found float64 values, expected float32 or int16"),
        (np.array([[{"a": 1}]]), "not a .npy file of numbers"),
        (np.asfortranarray(counted(3, 2, 5)), "Fortran order"),
    ],
)
def test_an_array_that_does_not_fit_is_named(tmp_path, array, message):
    with pytest.raises(UserError, match=message) as caught:
        PackedDataset(write(tmp_path / "set", "train", array), "train")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("size", [0, 5, -500])
def test_a_file_that_is_no_whole_array_is_named(tmp_path, size):
    path = write(tmp_path / "set", "train", counted(100, 2, 100)) / "train.npy"
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(UserError, match=r"train.npy: not a .npy file of numbers"):
        PackedDataset(path.parent, "train")


def test_a_file_that_is_cut_short_meanwhile_is_named(tmp_path):
    folder = write(tmp_path / "set", "train", counted(100, 2, 100))
    data = PackedDataset(folder, "train")
    with (folder / "train.npy").open("r+b") as file:
        file.truncate(5000)
    with pytest.raises(UserError, match=r"train.npy: has been cut short"):
        data[99]


def test_a_missing_file_is_named_with_the_way_to_make_it(tmp_path):
    with pytest.raises(UserError, match=r"valid.npy: no such file.*docs/data.md"):
        PackedDataset(tmp_path / "nowhere", "valid")


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("workers", [0, 1])
def test_nan_in_the_data_is_found_with_its_item(tmp_path, bad, workers):
    array = counted(2, 7, 3, 2, 5)
    array[1, 6, 2, 1, 4] = bad
    folder = write(tmp_path / "set", "test", array)
    loader = build_loader(Config(data=str(folder), workers=workers), "test")
    with pytest.raises(UserError, match=r"test.npy: item \[1, 6, 2\] holds NaN or infinity"):
        list(loader)


@pytest.mark.parametrize(
    ("description", "message"),
    [
        ({"sample_rate": 8000}, r"dataset.json: Expected `int` >= 16000 - at `\$.sample_rate`"),
        ({"noise_types": ["a"]}, "names 1 different noise types and 7 dB values, but test.npy has 2 and 7"),
        ({"noise_types": ["a", "../b"]}, "noise_types"),
        ({"noise_types": ["a", "a"]}, "names 1 different noise types"),
        ({"snr_db": ["loud"]}, "snr_db"),
        ({"snr_db": [-10, -5, 0, 5, 5 + 1e-9, 15, 20]}, "names 2 different noise types and 6 dB values"),
    ],
)
def test_a_description_that_contradicts_the_data_is_named(tmp_path, description, message):
    write(tmp_path / "set", "test", counted(2, 7, 1, 2, 5), **description)
    with pytest.raises(UserError, match=message):
        PackedDataset(tmp_path / "set", "test")


def test_a_grid_of_another_shape_needs_a_description(tmp_path):
    with pytest.raises(UserError, match=r"dataset\.json is missing"):
        PackedDataset(write(tmp_path / "set", "test", counted(3, 7, 1, 2, 5)), "test")


# -- Shards and large sets --


def test_shards_are_read_as_one(tmp_path):
    array = counted(10, 2, 5, dtype=np.int16)
    for name, part in (("a", array[:3]), ("b", array[3:4]), ("c", array[4:])):
        (tmp_path / "train").mkdir(exist_ok=True)
        np.save(tmp_path / "train" / f"{name}.npy", part)
    data = PackedDataset(tmp_path, "train")
    assert len(data) == 10
    for number in range(10):
        np.testing.assert_array_equal(data[number][1] * 32768, array[number, 1])


@pytest.mark.parametrize(
    ("shards", "message"),
    [
        ({"a": counted(2, 2, 5), "b": counted(2, 2, 6)}, "expected .npy files of one type and one shape"),
        ({"a": counted(2, 2, 5), "b": counted(2, 2, 5, dtype=np.int16)}, "expected .npy files of one type"),
    ],
)
def test_shards_that_do_not_fit_are_named(tmp_path, shards, message):
    (tmp_path / "train").mkdir()
    for name, array in shards.items():
        np.save(tmp_path / "train" / f"{name}.npy", array)
    with pytest.raises(UserError, match=message):
        PackedDataset(tmp_path, "train")


def test_reading_all_of_a_large_set_leaves_nothing_of_it_in_memory(tmp_path):
    file = np.lib.format.open_memmap(tmp_path / "train.npy", "w+", np.int16, (1500, 2, 48000))  # 288 MB, sparse
    del file
    data = PackedDataset(tmp_path, "train")
    data[0]
    before = resident_mb()
    for number in range(len(data)):
        data[number]
    assert resident_mb() - before < 30


def resident_mb():
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def test_a_batch_too_small_for_the_processes_is_refused(tmp_path):
    folder = write(tmp_path / "set", "train", counted(8, 2, 100))
    with pytest.raises(UserError, match=r"found batch_size 2 and 8 items in .* for each process"):
        build_loader(Config(data=str(folder), batch_size=2), "train", world_size=3)
