"""tools.inspect_dataset: a sound set is called sound, and what is wrong with another is found."""

import json
import shutil

import numpy as np
import pytest
from programs import run
from recordings import write_noise, write_speech

from tools import inspect_dataset, make_dataset
from tools.demo_corpus.corpus import make_demo_corpus


def inspect(folder, *args):
    return run(inspect_dataset, folder, "--workers", 1, *args)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("inspect")
    write_speech(folder / "speech")
    write_noise(folder / "noise")
    for mix in ("once", "on-the-fly"):
        sources = ("--speech", folder / "speech", "--noise", folder / "noise", "--mix", mix)
        small = ("--seconds", 1, "--test_snr_db", 0, 10, "--workers", 1)
        assert run(make_dataset, "--out", folder / mix, *sources, *small) == 0
    return folder


@pytest.fixture
def copy(made, tmp_path):
    return shutil.copytree(made / "once", tmp_path / "set")


def test_a_sound_set_is_described_and_drawn(copy, capsys):
    assert inspect(copy, "--items", 2) == 0
    printed = capsys.readouterr().out
    for part in ("train: [16, 2, 16000], 0.00 h, 8 talkers", "noise: rain, street"):
        assert part in printed
    assert "10.0               2  10.0  10.0" in printed
    assert "OK: splits disjoint" in printed
    assert (copy / "inspection.png").read_bytes().startswith(b"\x89PNG")


def test_a_set_for_mixing_on_the_fly_is_measured_as_training_hears_it(made, tmp_path, capsys):
    assert inspect(made / "on-the-fly", "--items", 1, "--png", tmp_path / "page.png") == 0
    printed = capsys.readouterr().out
    assert "train: [16, 2, 16000], 0.00 h, 8 talkers" in printed
    assert "noise: rain, street" in printed
    assert (tmp_path / "page.png").is_file()


def test_the_demo_corpus_and_sets_without_a_description_are_measured_too(tmp_path, capsys):
    make_demo_corpus(tmp_path / "demo", n_train=3, n_valid=1, n_test=1, seconds=1.0)
    assert inspect(tmp_path / "demo", "--items", 0) == 0
    assert "OK: splits disjoint" in capsys.readouterr().out
    for name in ("dataset.json", "items.jsonl"):
        (tmp_path / "demo" / name).unlink()
    assert inspect(tmp_path / "demo", "--items", 0) == 0
    assert "SNR near (dB)" in capsys.readouterr().out


def test_sets_made_before_items_had_a_file_of_their_own_are_still_understood(copy, capsys):
    description, grouped = json.loads((copy / "dataset.json").read_text()), {}
    for item in read_lines(copy):
        grouped.setdefault(item.pop("split"), []).append(item)
    (copy / "dataset.json").write_text(json.dumps(description | {"items": grouped}))
    (copy / "items.jsonl").unlink()
    assert inspect(copy, "--items", 0) == 0
    assert "noise: rain, street" in capsys.readouterr().out


def change(folder, split, place, value):
    array = np.load(folder / f"{split}.npy")
    array[place] = value
    np.save(folder / f"{split}.npy", array)


def read_lines(folder):
    return [json.loads(line) for line in (folder / "items.jsonl").read_text().splitlines()]


def write_lines(folder, items):
    (folder / "items.jsonl").write_text("".join(json.dumps(item) + "\n" for item in items))


def relabel(folder, split, number, **values):
    items = read_lines(folder)
    [item for item in items if item["split"] == split][number].update(values)
    write_lines(folder, items)


def drop_item(folder):
    items = read_lines(folder)
    items.remove([item for item in items if item["split"] == "train"][3])
    write_lines(folder, items)


def share_noise(folder):
    item = [item for item in read_lines(folder) if item["split"] == "train"][5]
    relabel(folder, "valid", 0, noise=item["noise"], noise_start=item["noise_start"] + 100)


def share_talker(folder):
    for split in ("train", "test"):
        relabel(folder, split, 0, talker="t99")


WRONG = {
    "label": (lambda f: relabel(f, "train", 4, snr_db=7.0), "train item 4: SNR is not its label"),
    "clipped": (lambda f: change(f, "train", (2, 0, 50), 32767), "train item 2: clipped"),
    "silent": (lambda f: change(f, "test", (0, 1, 1, 1), 0), "test item 3: clean is silent"),
    "no noise": (lambda f: change(f, "train", 1, np.arange(16000) % 900), "train item 1: noisy is clean"),
    "a talker twice": (share_talker, "talker 't99' is in train and in test"),
    "noise twice": (share_noise, "is in train and in valid"),
    "an item too few": (drop_item, "train: items.jsonl lists 15 items, 16 are there"),
}


@pytest.mark.parametrize(("spoil", "message"), WRONG.values(), ids=WRONG)
def test_what_is_wrong_is_found_and_the_exit_code_is_1(copy, capsys, spoil, message):
    spoil(copy)
    assert inspect(copy, "--items", 0) == 1
    wrong = [line for line in capsys.readouterr().out.splitlines() if line.startswith("wrong: ")]
    assert any(message in line for line in wrong)
