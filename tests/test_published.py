"""What is published is true: docs/results.md and the README show the kept scores; samples sound as they should."""

import json
import lzma
import re
import shutil
from collections import defaultdict
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
from made_runs import make_run
from programs import refused, run

from models import load_pretrained
from tools import publish
from tools.common.files import fingerprint
from tools.common.run_folder import note_test
from tools.reports.comparison import choose_rate
from tools.scoring.scores import METRICS

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "results/published"
PUBLISHED = sorted(path.parent for path in RESULTS.glob("*/runs.jsonl"))
SAMPLES = ROOT / "samples/published"
LOSSES = ("MSE", "MSE+LMS", "MSE+PMSQE", "SI-SNR", "SI-SNR+LMS", "SI-SNR+PMSQE")
COMPRESSED = ("GTCRN", "PC-MSE", "FastEnhancer", "MR-compressed")  # losses on compressed spectra
by_comparison = pytest.mark.parametrize("folder", PUBLISHED, ids=lambda folder: folder.name)


# -- Tables --


def read_runs(folder):
    """Config and facts of each run of a comparison."""
    return [json.loads(line) for line in (folder / "runs.jsonl").read_text().splitlines()]


def read_scores(folder):
    """All rows of a comparison, where the signal is noisy, a loss or another system."""
    rows = publish.read_packed(folder / "scores.csv.xz")
    losses = rows["run"].map({run["run"]: run["config"]["loss"] for run in read_runs(folder)}).fillna(rows["run"])
    return rows.assign(signal=rows["signal"].where(rows["signal"] == "noisy", losses))


def generated_part(page, name):
    return page.read_text(encoding="utf-8").split(f"<!-- {name}:")[1].split(f"<!-- end of {name} -->")[0]


@by_comparison
def test_the_published_scores_are_the_means_of_the_kept_ones(folder):
    scores = read_scores(folder)
    text = generated_part(publish.find_page(folder.name), f"results of {folder.name}").replace("**", "")
    known = scores.groupby("signal").count().all()
    for metric in known.index[known].intersection(publish.SHOWN):
        title, places = METRICS[metric].title, METRICS[metric].places
        for noise, rows in scores.groupby("noise_type"):
            rows = rows.assign(weight=rows["words"] if metric == "wer" else 1.0).dropna(subset=metric)
            rows["value"] = rows[metric] * rows["weight"]
            sums = rows.pivot_table(["value", "weight"], "signal", "snr_db", aggfunc="sum")
            means = sums["value"] / sums["weight"]
            means["average"] = sums["value"].sum(axis=1) / sums["weight"].sum(axis=1)
            table = text.split(f"#### {title}\n")[1].split(f"| {noise} |")[1].split("\n\n")[0].splitlines()[2:]
            cells = [line.strip("| ").split(" | ") for line in table]
            shown = pd.DataFrame({loss: map(float, numbers) for loss, *numbers in cells}).T
            assert set(shown.index) == set(means.index)
            worst = np.abs(shown.to_numpy() - means.loc[shown.index].to_numpy()).max()
            assert worst < 0.5 * 10**-places + 1e-9, (title, noise)


@pytest.mark.slow
def test_the_kept_files_make_the_same_pages_again(here, undrawn):
    for folder in (publish.DOCS, publish.RESULTS):
        shutil.copytree(ROOT / folder, here / folder)
    shutil.copy(ROOT / publish.README, here)
    assert run(publish) == 0
    for page in (publish.README, *publish.DOCS.glob("*.md")):
        assert page.read_text() == (ROOT / page).read_text(), page


@by_comparison
def test_all_losses_were_trained_and_tested_alike(folder):
    runs = pd.DataFrame([run["config"] for run in read_runs(folder)])
    assert len({run["facts"]["steps"] for run in read_runs(folder)}) == 1
    losses = runs["loss"].str.replace(r"^[\d.]+\*(?=MSE)", "", regex=True)  # of MSE+PMSQE, whatever its weights
    assert set(LOSSES) <= set(losses) or folder.name == "long"
    every = list(range(runs["seed"].max() + 1))
    assert all(seeds == every for seeds in runs.groupby("loss")["seed"].agg(sorted))
    varied = ["name", "loss", "seed", "learning_rate"]
    assert (runs.drop(columns=varied).astype(str).nunique(dropna=False) == 1).all()


@pytest.mark.parametrize(
    ("name", "changed"),
    [
        ("long", {"epochs", "learning_rate"}),
        ("dccrn", {"epochs", "learning_rate", "model", "network", "precision"}),
    ],
)
def test_longer_trainings_and_another_network_differ_from_the_study_in_nothing_else(name, changed):
    study, other = (
        {(run["config"]["loss"], run["config"]["seed"]): run["config"] for run in read_runs(RESULTS / name)}
        for name in ("study", name)
    )
    for key, config in other.items():
        assert {field for field in config if config[field] != study[key][field]} <= changed | {"name"}


def test_the_longer_trainings_have_one_learning_rate():  # one that was tuned for short trainings misled
    assert {run["config"]["learning_rate"] for run in read_runs(RESULTS / "long")} == {0.0045}


def test_the_comparisons_are_kept_and_all_that_is_published_is_small():
    assert [folder.name for folder in PUBLISHED] == ["dccrn", "large_dccrn", "long", "quick", "study"]
    assert 0 < sum(path.stat().st_size for path in RESULTS.glob("*/*.csv*")) < 1e6
    assert 0 < sum(path.stat().st_size for path in RESULTS.glob("*/networks/*/*")) < 3e6
    assert 0 < sum(path.stat().st_size for path in SAMPLES.rglob("*")) < 10e6


def test_the_numbers_of_the_readmes_answer_are_differences_in_its_tables():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    answer = text.split("**The answer so far:**")[1].split("([tables]")[0]
    assert len(answer.split()) <= 50
    differences = [abs(float(number)) for number in re.findall(r"\(([+-]\d+\.\d+)\)", text)]
    for number in re.findall(r"\d+\.\d+", answer):
        places = len(number.partition(".")[2])
        assert number in {f"{difference:.{places}f}" for difference in differences}


# -- Samples --


def read_samples(name):
    """Place, such as seen_0dB_000, to signal to waveform."""
    places = defaultdict(dict)
    for path in SAMPLES.glob(f"{name}/audio/*.flac"):
        place, signal = re.fullmatch(r"(.+dB_\d+)_\d+_(.+)", path.stem).groups()
        places[place][signal], rate = soundfile.read(path)
        assert rate == 16000
    return places


def test_samples_have_the_right_polarity_and_level_and_do_not_clip():
    places = read_samples("study")
    losses = {run["config"]["loss"].replace("*", "_") for run in read_runs(RESULTS / "study")}
    assert {place.rpartition("_")[0] for place in places} == {"seen_5dB", "unseen_5dB"}
    for place, signals in places.items():
        assert set(signals) == {"noisy", "clean", *losses}
        clean = signals["clean"]
        for name, signal in signals.items():
            factor = (signal @ clean) / (clean @ clean)
            assert factor > 0, f"{place} {name}: inverted"
            least = -5 if name in COMPRESSED else -3  # these remove speech
            assert least < 20 * np.log10(factor) < 3, f"{place} {name}: {20 * np.log10(factor):.1f} dB"
            assert np.abs(signal).max() < 32767 / 32768, f"{place} {name}: clips"


def test_samples_of_the_packaged_network_are_what_it_makes_of_the_noisy_ones():
    model, places = load_pretrained(), read_samples("pretrained")
    assert {place.rpartition("_")[0] for place in places} == {"seen_0dB", "seen_5dB", "unseen_0dB", "unseen_5dB"}
    for signals in places.values():
        with torch.inference_mode():
            again = model(torch.from_numpy(np.float32(signals["noisy"]))[None])[0].numpy()
        assert np.abs(again - signals["pretrained"]).max() < 1e-3


# -- tools.publish --

TABLES = Path("docs/results.md")
PAGES = {TABLES: "results of demo", publish.README: "summary of demo"}


@pytest.fixture
def workplace(here):
    for loss in ("MSE", "SI-SNR"):
        for seed in (0, 1):
            make_sweep_run(f"demo_{loss}_seed{seed}", loss, seed)
    TABLES.parent.mkdir()
    Path("data/demo").mkdir(parents=True)
    Path("data/demo/dataset.json").write_text('{"samples": 48000}')
    for page, name in PAGES.items():
        page.write_text(f"before\n<!-- {name}: how -->\n<!-- end of {name} -->\nafter\n")
    return here


def make_sweep_run(name, loss, seed, **settings):
    make_run(name, loss, seed, samples=1, **settings)
    folder = Path("runs") / name
    scores = pd.read_csv(path := folder / "test/demo/scores.csv")
    scores[::-1].to_csv(path, index=False)  # not sorted by name, as noise types are not
    columns = "epoch,seconds,train_loss,valid_loss,valid_pesq,valid_si_sdr"
    (folder / "history.csv").write_text(f"{columns}\n1,60,2,3,1.5,8\n2,60,1,2,1.6,\n")
    facts = dict.fromkeys(publish.PUBLIC) | {"threads": 1, "cores": 2, "cpu": "Abacus", "commit": "0123456789"}
    call = facts | {"packages": {"torch": "2.11.0"}, "machine": "myhost", "command": "/home/me/train.py"}
    (folder / "environment.json").write_text(json.dumps([call]))
    config = json.loads((folder / "config.json").read_text())
    torch.save({"config": config, "model": {}, "epoch": 2, "progress": {"step": 600}}, folder / "last.pt")
    (folder / "best.pt").write_text(name)
    note_test(folder / "test/demo", {"checkpoint": fingerprint(folder / "best.pt")})


def test_a_comparison_is_published_without_what_its_files_say_about_the_machine(workplace):
    for path in Path("runs").glob("*/test/demo/scores.csv"):
        scores = pd.read_csv(path).assign(talker="anna", noise="/home/me/noise/rain/a.wav")
        scores.to_csv(path, index=False)
    assert run(publish, "demo", "--samples", "demo") == 0
    texts = {page: page.read_text() for page in PAGES}
    for text in texts.values():
        assert text.startswith("before\n")
        assert text.endswith("\nafter\n")
    assert set(publish.read_kept(Path("results/published/demo"))[0].scores["noise"]) == {"rain/a.wav"}
    assert "600 steps" in texts[TABLES]
    took = "took 2.0 to 2.0 minutes, all 4 together 0.1 hours, each on 1 thread of 2 cores (Abacus)"
    assert took in texts[TABLES]
    assert "| MSE | " in texts[publish.README]
    assert (
        len(list(Path("samples/published/demo/audio").glob("*.flac"))) == 2 * 4  # at 5 dB
    )
    for path in Path("results/published").rglob("*.*"):
        text = lzma.decompress(path.read_bytes()) if path.suffix == ".xz" else path.read_bytes()
        assert not re.search(b"myhost|/home/me", text), path


def test_a_comparison_grows_by_later_runs_keeps_its_networks_and_leaves_out_those_without_a_test(
    workplace, capsys, undrawn
):
    shutil.rmtree("runs/demo_MSE_seed0")
    assert run(publish, "demo", "--networks") == 0
    for folder in Path("runs").glob("*_seed0"):  # of another machine, for instance
        shutil.rmtree(folder)
    make_sweep_run("demo_MSE_seed0", "MSE", 0)
    make_sweep_run("demo_SNR_seed0", "SNR", 0)
    make_sweep_run("demo_SNR_seed1", "SNR", 1)
    Path("runs/demo_SNR_seed1/test/demo/tested.json").unlink()
    scores = pd.read_csv(path := Path("runs/demo_SNR_seed0/test/demo/scores.csv"))
    scores.loc[scores["utterance"] == 0, "dnsmos_ovrl"] = 3.0
    scores.to_csv(path, index=False)
    capsys.readouterr()
    assert run(publish, "demo", "--networks") == 0
    assert "not tested: demo_SNR_seed1\n" in capsys.readouterr().out
    assert run(publish, "demo") == 0
    networks = Path("results/published/demo/networks")
    texts = {path.parent.name: path.read_text() for path in networks.glob("*/best.pt")}
    assert texts == {name: name for name in ("demo_MSE_seed1", "demo_SI-SNR_seed0", "demo_SNR_seed0")}
    kept = read_scores(Path("results/published/demo"))
    assert kept.groupby("signal")["dnsmos_ovrl"].count().to_dict() == {"MSE": 0, "SI-SNR": 0, "SNR": 4, "noisy": 4}
    assert "DNSMOS" not in TABLES.read_text()  # not of all losses
    pairs = [(loss, seed) for loss in ("MSE", "SI-SNR") for seed in (0, 1)]
    names = {f"demo_{loss}_seed{seed}" for loss, seed in pairs}
    assert set(kept["run"]) == names | {"demo_SNR_seed0", "noisy"}
    assert sorted(kept.groupby("signal").size()) == [48, 48, 96, 96]  # SNR, noisy once, two of two seeds
    before = publish.read_kept(networks.parent)
    scores.drop(columns=["pesq", "stoi"]).assign(dnsmos_ovrl=3.0).to_csv(path, index=False)
    test = Path("runs/demo_SNR_seed0/test").rename("tested")
    shutil.rmtree("runs/demo_SNR_seed0")
    shutil.copytree(networks / "demo_SNR_seed0", "runs/demo_SNR_seed0")
    test.rename("runs/demo_SNR_seed0/test")  # of a kept network, tested again in other scores
    assert run(publish, "demo") == 0
    after = publish.read_kept(networks.parent)
    for old, new in zip(before, after, strict=True):
        assert (old.facts, old.config) == (new.facts, new.config)
        pd.testing.assert_frame_equal(old.history, new.history)
        pd.testing.assert_series_equal(old.scores["pesq"], new.scores["pesq"])
    assert (after[-1].scores["dnsmos_ovrl"] == 3.0)[after[-1].scores["signal"] == "enhanced"].all()


def test_runs_on_other_data_do_not_join_what_is_published(workplace, undrawn, capsys):
    assert run(publish, "demo") == 0
    kept = {path: path.read_bytes() for path in Path("results/published/demo").iterdir()}
    make_sweep_run("demo_SNR_seed0", "SNR", 0, data=2)
    assert "was tested on other data than" in refused(capsys, publish, "demo")
    assert {path: path.read_bytes() for path in Path("results/published/demo").iterdir()} == kept


def test_other_systems_stand_beside_the_losses_and_stay_when_the_comparison_grows(workplace, undrawn, capsys):
    make_sweep_run("RNNoise", "SNR", 0)
    Path("runs/RNNoise/config.json").unlink()  # as of test.py --outputs
    assert run(publish, "demo", "--systems", "RNNoise") == 0
    texts = {page: page.read_text() for page in PAGES}
    assert all("| RNNoise | " in text for text in texts.values())
    assert "all 4 together" in texts[TABLES]  # trainings
    assert run(publish, "demo") == 0
    assert {page: page.read_text() for page in PAGES} == texts
    assert "systems: found with 0 comparisons" in refused(capsys, publish, "--systems", "RNNoise")


def test_tuned_learning_rates_are_published_with_their_table(workplace, undrawn):
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
    choose_rate("SNR", histories).to_csv("results/tuned/tuning.csv", index=False)  # later, of a loss of one's own
    assert run(publish, "tuned") == 0
    assert set(pd.read_csv("results/published/tuned/tuning.csv")["loss"]) == {"MSE", "SNR"}
    text = TABLES.read_text()
    assert "600 steps with 15 utterances each in 100 epochs (7.5 hours of audio)" in text
    assert "tuned learning rates 0.001 (SI-SNR); 0.003 (MSE)" in text
    assert "| MSE, 0.003, chosen | **" in text
    assert "tuned" not in publish.README.read_text()  # which has no place for it


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nothing", "runs/nothing_*_seed*: found none tested"),
        ("other", "docs: no page has a part <!-- results of other -->"),
    ],
)
def test_a_comparison_without_runs_or_without_a_place_for_its_tables_is_refused(workplace, name, message, capsys):
    for loss in ("MSE", "SI-SNR"):
        make_sweep_run(f"other_{loss}_seed0", loss, 0)
    with TABLES.open("a") as file:
        file.write("<!-- results of nothing: how -->\n<!-- end of results of nothing -->\n")
    texts = {page: page.read_text() for page in PAGES}
    assert message in refused(capsys, publish, name)
    assert not Path("results/published").exists()
    assert {page: page.read_text() for page in PAGES} == texts
