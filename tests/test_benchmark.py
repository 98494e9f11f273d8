"""tools.benchmark: what it compares is the same network, and its figures are what they say."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
import torch
from networks import small_settings, trained_like
from programs import run
from upstream import build

import tools.benchmark
from config import Config
from models import build_model, read_checkpoint
from tools import check_gpu, make_demo_corpus
from tools.benchmark import training_steps
from tools.common.errors import UserError
from tools.common.timing import count_flops, times_side_by_side

UPSTREAM = str(Path(__file__).with_name("upstream.py"))


@pytest.mark.parametrize("name", ["DCCRN", "CRN", "GTCRN"])
def test_the_network_of_the_published_structure_computes_what_ours_does(name):
    model = trained_like(name)
    upstream = build(model).eval()
    trained = (p for p in upstream.parameters() if p.requires_grad)
    assert sum(p.numel() for p in trained) == sum(p.numel() for p in model.parameters())
    noisy = 0.1 * torch.randn(2, 6400)
    with torch.no_grad():
        torch.testing.assert_close(upstream(noisy), model(noisy), atol=1e-5, rtol=0)
        assert upstream(noisy[:, :-7]).shape == (2, 6393)


@pytest.mark.parametrize(
    ("name", "options", "compared"),
    [
        ("DCCRN", {}, True),
        ("DCCRN", {"mask": "C"}, False),
        ("DCCRN", {"norm": "complex"}, False),
        ("CRN", {}, True),
        ("CRN direct", {}, False),
        ("GTCRN", {}, True),
        ("DCUNET", {}, False),
    ],
)
def test_a_step_is_compared_with_the_published_structure_or_refused(name, options, compared):
    noisy, clean = torch.randn(2, 1, 1600)
    config = Config(**small_settings(name) | options)
    if compared:
        assert "upstream, fp32" in training_steps(config, build_model(config), noisy, clean, UPSTREAM)
    else:
        with pytest.raises(
            UserError, match=r"upstream[.]py, build.*ValueError: has GTCRN, CRN and DCCRN with mask E"
        ):
            training_steps(config, build_model(config), noisy, clean, UPSTREAM)


@pytest.mark.parametrize("text", [None, "def build(: pass", "def make(model): return model"])
def test_a_file_that_builds_no_network_is_refused_in_one_line(tmp_path, text):
    path = tmp_path / "other.py"
    if text:
        path.write_text(text)
    with pytest.raises(UserError, match=r"^against: .*other.py, build\(model\): \w+: .*\Z"):
        tools.benchmark.build_other(path, torch.nn.Identity())


def test_operations_are_counted_as_two_for_a_multiply_and_add():
    conv, x = torch.nn.Conv1d(3, 5, 7, bias=False), torch.randn(2, 3, 20)
    assert count_flops(lambda: conv(x)) == 2 * 2 * 5 * 14 * 3 * 7


def test_variants_take_turns_and_each_is_timed():
    called = []
    variants = {name: lambda name=name: called.append(name) for name in "ab"}
    seconds = times_side_by_side(variants, 3, torch.device("cpu"), warm_up=1)
    assert "".join(called) == "ab" + "ababab"
    assert seconds.keys() == {"a", "b"}
    assert min(seconds.values()) > 0


@pytest.mark.slow
def test_the_benchmark_prints_a_table_and_writes_the_same_figures(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tools.common.timing.MATRIX", 256)
    options = ["--kernel_num", "4", "8", "--rnn_units", "4", "--batch_size", "1", "--device", "cpu"]
    options += ["--seconds", "1", "--repetitions", "1", "--json", "out.json", "--against", UPSTREAM]
    assert run(tools.benchmark, *options) == 0
    printed = capsys.readouterr().out
    figures = json.loads(Path("out.json").read_text())
    assert figures["training"].keys() == {
        f"{structure}{precision}" for structure in ("", "upstream, ") for precision in ("fp32", "bf16")
    }
    for name, row in figures["training"].items():
        assert f"| {name} | {row['seconds']:.3f} |" in printed
        assert row["seconds"] > 0
        assert row["of_matrix_rate"] > 0
    assert figures["training"]["upstream, fp32"]["times_baseline"] == 1
    assert sum(figures["shares"]["fp32"].values()) > 0.99
    assert figures["scoring"]["items_per_second"] > 0


@pytest.fixture
def bench(tmp_path):
    return check_gpu.Bench(torch.device("cpu"), time.monotonic() + 300, tmp_path)


def test_a_check_that_fails_is_a_row_and_those_after_it_are_shown(bench):
    def broken(bench):
        yield check_gpu.Row("before", "this")
        raise RuntimeError("CUDA error: no kernel image\nsecond line")

    def without_checkpoint(bench):
        yield check_gpu.Row("checkpoint", str(read_checkpoint(bench.folder / "last.pt")))

    rows = list(check_gpu.check(bench, (broken, without_checkpoint, check_gpu.largest_batch)))
    assert [row.fine for row in rows] == [None, False, False, None]
    assert "last.pt: no such checkpoint" in rows.pop(2).found
    assert [row.found for row in rows] == ["this", "second line", "not shown: computed on a CPU"]


def test_a_check_that_no_time_is_left_for_is_named(bench, tmp_path):
    late = check_gpu.Bench(bench.device, time.monotonic() - 1, tmp_path)
    found = {row.found for row in check_gpu.check(late)}
    assert found == {"not shown: no time was left"}


@pytest.mark.parametrize("most", [0, 1, 7, 100, 5000])
def test_the_largest_batch_is_found_to_an_eighth(monkeypatch, most):
    bench = check_gpu.Bench(torch.device("cuda"), time.monotonic() + 300, Path())
    monkeypatch.setattr(check_gpu, "_fits", lambda bench, precision, count: count <= most)
    row, _ = check_gpu.largest_batch(bench)
    fits, most = int(row.found.split()[0]), min(most, check_gpu.LARGEST)
    assert fits <= most <= fits + max(1, fits // 8)


@pytest.mark.slow
def test_a_training_is_stopped_and_resumed_with_the_same_bits(bench, tmp_path):
    make_demo_corpus.make_demo_corpus(tmp_path / "data" / "demo", n_train=64, n_valid=4, n_test=1, seconds=1.0)
    (row,) = check_gpu.resume(bench)
    assert row.fine, row
