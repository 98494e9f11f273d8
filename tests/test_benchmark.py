"""tools.benchmark: what it compares is the same network, and its rows survive."""

import json
from pathlib import Path

import pytest
import torch
from networks import trained_like
from programs import run
from upstream import build

import tools.benchmark
from tools.common.device import times_side_by_side

UPSTREAM = str(Path(__file__).with_name("upstream.py"))


def test_the_network_of_the_published_structure_computes_what_ours_does():
    model = trained_like("DCCRN")
    upstream = build(model).eval()
    trained = (p for p in upstream.parameters() if p.requires_grad)
    assert sum(p.numel() for p in trained) == sum(p.numel() for p in model.parameters())
    noisy = 0.1 * torch.randn(2, 6400)
    with torch.no_grad():
        torch.testing.assert_close(upstream(noisy), model(noisy), atol=1e-5, rtol=0)
        assert upstream(noisy[:, :-7]).shape == (2, 6393)


def test_variants_take_turns_and_each_is_timed():
    called = []
    variants = {name: lambda name=name: called.append(name) for name in "ab"}
    seconds = times_side_by_side(variants, 3, torch.device("cpu"), warm_up=1)
    assert "".join(called) == "ab" + "ababab"
    assert seconds.keys() == {"a", "b"}
    assert min(seconds.values()) > 0


def test_each_row_is_printed_and_kept_after_one_that_fails(here, monkeypatch, capsys):
    def broken(bench, precision):
        raise RuntimeError("CUDA error: no kernel image\nsecond line")

    monkeypatch.setattr(tools.benchmark, "lack_of_bf16", lambda device: "bf16 is slow here")
    monkeypatch.setattr(tools.benchmark.Benchmark, "convolution", broken)
    options = ["--kernel_num", "4", "8", "--rnn_units", "4", "--batch_size", "1", "--device", "cpu"]
    options += ["--seconds", "0.2", "--repetitions", "1", "--json", "out.json", "--against", UPSTREAM]
    assert run(tools.benchmark, *options) == 0
    printed = capsys.readouterr().out
    first, _, *steps = [json.loads(line) for line in Path("out.json").read_text().splitlines()]
    assert first["error"] == "RuntimeError: CUDA error: no kernel image"
    names = [f"step of {UPSTREAM}, fp32", "step, fp32", "step, fp32, channels_last"]
    assert [row["row"] for row in steps] == names
    for row in steps:
        assert f"| {row['row']} | {row['ms']:,.4g} ms, " in printed
        assert row["s of audio a second"] == pytest.approx(200 / row["ms"])
