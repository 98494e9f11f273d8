"""tools.benchmark: what it compares is the same network, and its figures are what they say."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from networks import trained_like
from programs import run

import tools.benchmark
from tools.common.timing import count_flops, times_side_by_side
from tools.upstream_structure import UpstreamStructure


def test_the_upstream_structured_network_computes_what_ours_does():
    model = trained_like().eval()
    upstream = UpstreamStructure(model).eval()
    assert sum(p.numel() for p in upstream.parameters()) == sum(p.numel() for p in model.parameters())
    noisy = 0.1 * torch.randn(2, 4800)
    with torch.no_grad():
        torch.testing.assert_close(upstream(noisy), model(noisy), atol=1e-5, rtol=0)


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
    options += ["--seconds", "1", "--repetitions", "1", "--json", "out.json"]
    assert run(tools.benchmark, *options) == 0
    printed = capsys.readouterr().out
    figures = json.loads(Path("out.json").read_text())
    assert figures["training"].keys() == {
        f"{structure}{precision}" for structure in ("", "upstream's structure, ") for precision in ("fp32", "bf16")
    }
    for name, row in figures["training"].items():
        assert f"| {name} | {row['seconds']:.3f} |" in printed
        assert row["seconds"] > 0
        assert row["of_matrix_rate"] > 0
    assert figures["training"]["upstream's structure, fp32"]["times_upstream"] == 1
    assert sum(figures["shares"]["fp32"].values()) > 0.99
    assert figures["scoring"]["items_per_second"] > 0
