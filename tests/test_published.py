"""What is published is true: docs/results.md and the README show the kept scores; samples sound as they should."""

from __future__ import annotations

import csv
import json
import re
from collections import defaultdict
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
from made_runs import make_run
from programs import run

from models import load_pretrained
from tools import publish
from tools.common.run_folder import read_history
from tools.reports.comparison import choose_rate, read_rates

ROOT = Path(__file__).parents[1]
PUBLISHED = sorted((ROOT / "results/published").glob("*/"))
SAMPLES = ROOT / "samples/published"
LOSSES = ("MSE", "MSE+LMS", "MSE+PMSQE", "SI-SNR", "SI-SNR+LMS", "SI-SNR+PMSQE")
COLUMNS = {
    "PESQ (wide-band)": "pesq",
    "STOI": "stoi",
    "ESTOI": "estoi",
    "SI-SDR (dB)": "si_sdr",
    "DNSMOS OVRL": "dnsmos_ovrl",
}
by_comparison = pytest.mark.parametrize("folder", PUBLISHED, ids=lambda folder: folder.name)


# -- Tables --


def read_scores(folder):
    """(noise type, signal) to dB to the rows of scores.csv, where a signal is noisy or a loss."""
    found = defaultdict(lambda: defaultdict(list))
    for path in folder.glob("*/test/scores.csv"):
        loss = json.loads((path.parents[1] / "config.json").read_text())["loss"]
        for row in csv.DictReader(path.open(newline="")):
            signal = "noisy" if row["signal"] == "noisy" else loss
            found[row["noise_type"], signal][float(row["snr_db"])].append(row)
    return found


def shown(scores):
    """The scores of COLUMNS that a comparison has."""
    (row, *_), *_ = scores["seen", "noisy"].values()
    return [score for score in COLUMNS.values() if score in row]


def mean(cells, score):
    return np.mean([float(row[score]) for rows in cells for row in rows])


def generated_part(page, name):
    text = (ROOT / page).read_text(encoding="utf-8")
    return text.split(f"<!-- {name}:")[1].split(f"<!-- end of {name} -->")[0]


def results_of(folder):
    (page,) = (
        page for page in (ROOT / "docs").glob("*.md") if f"<!-- results of {folder.name}:" in page.read_text()
    )
    return generated_part(page, f"results of {folder.name}")


def table_cells(text):
    """(heading, header of the line, header of the column, number) of every cell of the tables in a text."""
    heading, header = "", None
    for line in text.splitlines():
        if line.startswith("#"):
            heading = line.strip("# ")
        cells = [cell.strip().replace("**", "") for cell in line.strip("|").split(" | ")]
        if not line.startswith("|"):
            header = None
        elif header is None:
            header = cells
        elif not line.startswith("|---"):
            yield from (
                (heading, (header[0], cells[0]), column, cell)
                for column, cell in zip(header[1:], cells[1:], strict=True)
            )


def is_rounded(text, value):
    places = len(text.partition(".")[2])
    return abs(float(text) - value) <= 0.5 * 10**-places + 1e-9


@by_comparison
def test_the_published_scores_are_those_of_the_kept_files(folder):
    scores, seen = read_scores(folder), 0
    for heading, (noise, signal), column, text in table_cells(results_of(folder)):
        if heading in COLUMNS and (noise, signal) in scores:
            levels = scores[noise, signal]
            cells = levels.values() if column == "average" else [levels[float(column.removesuffix(" dB"))]]
            assert is_rounded(text, mean(cells, COLUMNS[heading])), (heading, noise, signal, column)
            seen += 1
    assert seen == len(shown(scores)) * 2 * (1 + len(LOSSES)) * (len(scores["seen", "noisy"]) + 1)


@by_comparison
def test_the_published_means_and_differences_are_those_of_the_kept_files(folder):
    scores, seen = read_scores(folder), defaultdict(int)
    noises = {noise for noise, _ in scores}

    def whole(signal, score):
        return mean([rows for noise in noises for rows in scores[noise, signal].values()], score)

    for _, (table, line), column, text in table_cells(results_of(folder)):
        if table == "mean over all SNRs":
            noise, _, title = column.partition(": ")
            assert is_rounded(text, mean(scores[noise, line].values(), COLUMNS[title])), (line, column)
        elif table == "difference, whole grid":
            signal, base = line.split(" − ")
            value, low, high = re.fullmatch(r"(\S+) \[(\S+), (\S+)\]", text).groups()
            assert is_rounded(value, whole(signal, COLUMNS[column]) - whole(base, COLUMNS[column]))
            assert float(low) <= float(value) <= float(high)
        seen[table] += 1
    assert seen["mean over all SNRs"] == 2 * len(shown(scores)) * (1 + len(LOSSES))
    assert seen["difference, whole grid"] == len(shown(scores)) * (5 + 2)


@pytest.mark.parametrize("name", re.findall(r"<!-- summary of (\S+):", (ROOT / "README.md").read_text()))
def test_the_readmes_means_are_those_of_the_kept_files(name):
    scores, seen = read_scores(ROOT / "results/published" / name), set()

    def whole(signal, score):
        return mean([rows for (_, s), levels in scores.items() if s == signal for rows in levels.values()], score)

    for _, (_, line), column, text in table_cells(generated_part("README.md", f"summary of {name}")):
        signal, score = line.removesuffix(" (baseline)"), COLUMNS[column]
        value, difference = re.fullmatch(r"(?:[▲▼≈△▽·] )?(-?[\d.]+)(?: \((.+)\))?", text).groups()
        assert is_rounded(value, whole(signal, score)), (line, column)
        if signal in ("noisy", "SI-SNR"):
            assert difference is None
        else:
            assert is_rounded(difference, whole(signal, score) - whole("SI-SNR", score)), (line, column)
        seen.add((signal, score))
    assert {signal for signal, _ in seen} == {"noisy", *LOSSES}


@by_comparison
def test_all_losses_were_trained_and_tested_alike(folder):
    settings, steps, seeds = [], set(), defaultdict(set)
    tuned = (folder / "tuning.csv").is_file()
    rates_vary = tuned or folder.name == "large_dccrn"  # see the next test
    varied = {"name", "loss", "seed"} | ({"learning_rate"} if rates_vary else set())
    for path in folder.glob("*/config.json"):
        config = json.loads(path.read_text())
        seeds[config["loss"]].add(config["seed"])
        settings.append({key: value for key, value in config.items() if key not in varied})
        steps.add(json.loads((path.parent / "facts.json").read_text())["steps"])
    assert set(seeds) == set(LOSSES)
    assert all(found == seeds["MSE"] for found in seeds.values())
    before = publish.find_page(folder.name).read_text().partition(f"<!-- results of {folder.name}:")[0]
    said = "one seed only" in before.rpartition("\n## ")[2]
    assert said == (len(seeds["MSE"]) == 1)
    assert all(other == settings[0] for other in settings)
    if tuned:
        rates = read_rates(folder / "tuning.csv")
        chosen = dict(rates.loc[rates["chosen"], ["loss", "learning_rate"]].to_numpy())
        for path in folder.glob("*/config.json"):
            config = json.loads(path.read_text())
            assert config["learning_rate"] == chosen[config["loss"]]
    assert len(steps) == 1


def test_the_full_dccrns_learning_rates_are_those_with_the_lower_validation_loss():
    folder = publish.RESULTS / "large_dccrn"
    page = publish.find_page(folder.name).read_text(encoding="utf-8")
    table = page.split("| validation loss, seed 0 |")[1].split("\n\n")[0].splitlines()
    heads, _, *rows = ([cell.strip() for cell in line.strip(" |").split("|")] for line in table)
    assert set(heads) == set(LOSSES)
    for loss, *losses in zip(heads, *(cells for _, *cells in rows), strict=True):
        chosen = min(range(len(rows)), key=lambda row: float(losses[row].strip("*")))
        assert [text.startswith("**") for text in losses] == [row == chosen for row in range(len(rows))]
        run = folder / f"large_dccrn_{loss}_seed0"
        assert json.loads((run / "config.json").read_text())["learning_rate"] == float(rows[chosen][0])
        lowest = min(row["valid_loss"] for row in read_history(run))
        assert is_rounded(losses[chosen].strip("*"), lowest)


def test_the_comparisons_are_kept_and_their_scores_are_small():
    assert [folder.name for folder in PUBLISHED] == ["demo", "demo_tuned", "large_dccrn", "large_gtcrn", "real"]
    assert 0 < sum(path.stat().st_size for path in (ROOT / "results/published").glob("*/*/test/*.csv")) < 4e6


# -- Samples --


def read_samples():
    """Place, such as seen_0dB_000, to signal to waveform."""
    places = defaultdict(dict)
    for path in SAMPLES.glob("audio/*.flac"):
        place, signal = re.fullmatch(r"(.+_\d+)_\d+_(.+)", path.stem).groups()
        places[place][signal], rate = soundfile.read(path)
        assert rate == 16000
    return places


def test_samples_have_the_right_polarity_and_level_and_do_not_clip():
    places = read_samples()
    assert {place.rpartition("_")[0] for place in places} == {"seen_0dB", "seen_5dB", "unseen_0dB", "unseen_5dB"}
    for place, signals in places.items():
        assert set(signals) == {"noisy", "clean", *LOSSES}
        clean = signals["clean"]
        for name, signal in signals.items():
            factor = (signal @ clean) / (clean @ clean)
            assert factor > 0, f"{place} {name}: inverted"
            assert abs(20 * np.log10(factor)) < 3, f"{place} {name}: {20 * np.log10(factor):.1f} dB"
            assert np.abs(signal).max() < 32767 / 32768, f"{place} {name}: clips"


def test_samples_of_the_packaged_network_are_what_it_makes_of_the_noisy_ones():
    model, folder = load_pretrained(), SAMPLES / "enhancer"
    places = sorted(path.name.removesuffix("_noisy.flac") for path in folder.glob("*_noisy.flac"))
    assert places == ["seen_0dB", "seen_5dB", "unseen_0dB", "unseen_5dB"]
    for place in places:
        noisy, enhanced, clean = (
            soundfile.read(folder / f"{place}_{name}.flac", dtype="float32")[0]
            for name in ("noisy", "enhanced", "clean")
        )
        with torch.inference_mode():
            again = model(torch.from_numpy(noisy)[None])[0].numpy()
        assert np.abs(again - enhanced).max() < 1e-3
        factor = (enhanced @ clean) / (clean @ clean)
        assert 0.5 < factor < 1.1, f"{place}: {factor}"
        assert np.abs(enhanced).max() < 32767 / 32768, f"{place}: clips"
        assert np.sum((enhanced - clean) ** 2) < 0.5 * np.sum((noisy - clean) ** 2)


def test_samples_are_small():
    assert 0 < sum(path.stat().st_size for path in SAMPLES.rglob("*")) < 10e6


# -- tools.publish --

TABLES = Path("docs/results.md")
PAGES = {TABLES: "results of demo", publish.README: "summary of demo"}


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for loss in ("MSE", "SI-SNR"):
        for seed in (0, 1):
            make_sweep_run(f"demo_{loss}_seed{seed}", loss, seed)
    TABLES.parent.mkdir()
    Path("data/demo").mkdir(parents=True)
    Path("data/demo/dataset.json").write_text('{"samples": 48000}')
    for page, name in PAGES.items():
        page.write_text(f"before\n<!-- {name}: how -->\n<!-- end of {name} -->\nafter\n")
    return tmp_path


def make_sweep_run(name, loss, seed, **settings):
    make_run(name, loss, seed, samples=1, **settings)
    folder = Path("runs") / name
    columns = "epoch,seconds,train_loss,valid_loss,valid_pesq,valid_si_sdr"
    (folder / "history.csv").write_text(f"{columns}\n1,60,2,3,1.5,8\n2,60,1,2,1.6,\n")
    facts = dict.fromkeys(publish.PUBLIC) | {"threads": 1, "cores": 2, "cpu": "Abacus", "commit": "0123456789"}
    call = facts | {"packages": {"torch": "2.11.0"}, "machine": "myhost", "command": "/home/me/train.py"}
    (folder / "environment.json").write_text(json.dumps([call]))
    config = json.loads((folder / "config.json").read_text())
    torch.save({"config": config, "model": {}, "epoch": 2, "progress": {"step": 600}}, folder / "last.pt")


def test_what_was_published_makes_the_same_pages_again_without_the_runs(workplace):
    assert run(publish, "demo", "--samples", "demo") == 0
    texts = {page: page.read_text() for page in PAGES}
    for text in texts.values():
        assert text.startswith("before\n")
        assert text.endswith("\nafter\n")
    assert "600 steps" in texts[TABLES]
    took = "took 2.0 to 2.0 minutes, all 4 together 0.1 hours, each on 1 thread of 2 cores (Abacus)"
    assert took in texts[TABLES]
    assert "| MSE | " in texts[publish.README]
    assert len(list(Path("samples/published/audio").glob("*.flac"))) == 2 * 4  # 5 dB; the made grid has no 0 dB
    Path("runs").rename("gone")
    for page, text in texts.items():
        page.write_text(text.replace("600 steps", "many steps").replace("| MSE | ", "| MSE | 9"))
    assert run(publish) == 0
    assert {page: page.read_text() for page in PAGES} == texts


def test_tuned_learning_rates_are_published_with_their_table(workplace):
    histories = {
        rate: pd.DataFrame([{f"valid_{score}": rate * 100 for score in ("pesq", "estoi", "si_sdr")}])
        for rate in (0.001, 0.003)
    }
    Path("results/tuned").mkdir(parents=True)
    choose_rate("MSE", histories).to_csv("results/tuned/tuning.csv", index=False)
    for loss, rate in (("MSE", 0.003), ("SI-SNR", 0.001)):
        make_sweep_run(f"tuned_{loss}_seed0", loss, 0, learning_rate=rate)
    TABLES.write_text("<!-- results of tuned: how -->\n<!-- end of results of tuned -->\n")
    assert run(publish, "tuned") == 0
    text = TABLES.read_text()
    assert "600 steps with 15 utterances each in 100 epochs (7.5 hours of audio)" in text
    assert "tuned learning rates 0.001 (SI-SNR); 0.003 (MSE)" in text
    assert "| MSE, 0.003, chosen | **" in text
    assert "tuned" not in publish.README.read_text()  # which has no place for it


def test_nothing_about_the_machine_is_published(workplace):
    assert run(publish, "demo") == 0
    kept = [path for path in Path("results/published").rglob("*.*") if path.suffix in (".json", ".csv")]
    assert len(kept) == 4 * 4
    for path in kept:
        assert not re.search("myhost|/home/me", path.read_text()), path


def test_an_utterance_that_the_demo_corpus_lacks_leaves_the_published_samples(workplace, monkeypatch, capsys):
    Path("data/demo/dataset.json").write_text('{"noise_types": ["seen"], "snr_db": [0, 5]}')
    speech = np.random.default_rng(0).normal(0, 0.05, (1, 2, 2, 2, 8000))
    np.save("data/demo/test.npy", speech.astype(np.float32))
    monkeypatch.setattr(publish, "ensure_demo_corpus", lambda: None)
    assert run(publish, "--enhancer") == 0
    kept = sorted(Path("samples/published/enhancer").iterdir())
    assert kept
    assert run(publish, "--enhancer", "--utterance", "99") == 2
    assert "utterance: found 99, expected 0 to" in capsys.readouterr().err
    assert sorted(Path("samples/published/enhancer").iterdir()) == kept


@pytest.mark.parametrize("name", ["nothing", "other"])
def test_a_comparison_without_runs_or_without_a_place_for_its_tables_is_refused(workplace, name, capsys):
    for loss in ("MSE", "SI-SNR"):
        make_sweep_run(f"other_{loss}_seed0", loss, 0)
    texts = {page: page.read_text() for page in PAGES}
    assert run(publish, name) == 2
    messages = {
        "nothing": "runs/nothing_*_seed*: found 0",
        "other": "docs: no page has a part <!-- results of other -->",
    }
    assert messages[name] in capsys.readouterr().err
    assert {page: page.read_text() for page in PAGES} == texts
