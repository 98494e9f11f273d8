"""Networks are chosen by name, with settings of their own, and one of your own is one file."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from programs import refused, run

import test
import train
from config import Config, Positive
from models import NETWORKS, build_model, load_model, read_settings
from models.registry import NetworkSettings, register
from tools import compare, enhance, list_networks
from tools.common.errors import UserError
from tools.common.settings import parse_config


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"model": "LSTM"}, "model: found 'LSTM', expected one of CRN, DCCRN"),
        ({"network": {"mask": "Q"}}, r"mask: found 'Q', expected Literal\['E', 'C', 'R', 'none'\]"),
        ({"network": {"kernel_num": (8, 7)}}, r"kernel_num: found \(8, 7\), expected int that's a multiple of 2"),
        ({"network": {"depth": 3}}, "depth: the network DCCRN has no such setting; it has mask, "),
        (
            {"model": "GTCRN", "network": {"rnn_units": 8}},
            "rnn_units: the network GTCRN has no .*has channels",
        ),
        ({"model": "DCUNET", "network": {"kernel_num": (4,)}}, r"kernel_num: found \(4,\), expected 10 numbers"),
    ],
)
def test_a_setting_that_the_network_does_not_have_or_allow_is_named_in_one_line(settings, message):
    with pytest.raises(UserError, match=message) as caught:
        build_model(Config(**settings))
    assert "\n" not in str(caught.value)


@dataclasses.dataclass(frozen=True)
class ScaleSettings(NetworkSettings):
    taps: Positive = 3
    """Length of the filter."""


class Scale(torch.nn.Module):
    """One filter for all. Source: this test."""

    def __init__(self, taps: int) -> None:
        super().__init__()
        self.filter = torch.nn.Conv1d(1, 1, taps, padding="same")

    def forward(self, noisy):
        return self.filter(noisy[:, None])[:, 0]


@pytest.fixture
def scale_network():
    register("Scale", ScaleSettings)(Scale)
    yield
    del NETWORKS["Scale"]


@pytest.mark.slow
def test_a_network_of_ones_own_trains_tests_compares_enhances_and_says_which_settings_it_has(
    scale_network, workplace, capsys
):
    for name, taps in (("own", 5), ("other", 3)):
        ours = ["--model", "Scale", "--taps", str(taps), "--name", name, "--batch_size", "4"]
        assert run(train, *ours, "--data", "data", "--epochs", "1", "--device", "cpu") == 0
        assert load_model(f"runs/{name}/best.pt").filter.kernel_size == (taps,)
        assert run(test, "--name", name, "--device", "cpu", "--samples", "0") == 0
    assert run(compare, "own", "other", "--name", "c") == 0
    assert Path("results/c/index.html").is_file()
    soundfile.write("a.wav", np.zeros(8000), 16000)
    assert run(enhance, "runs/own", "a.wav") == 0
    assert soundfile.info("a_enhanced.wav").frames == 8000
    assert run(list_networks) == 0
    listed = capsys.readouterr().out
    assert "--taps: Length of the filter." in listed
    for name, heard in (("DCCRN", "latency 62.5 ms"), ("GTCRN", "latency 32 ms"), ("DCUNET", "needs the whole")):
        assert heard in listed.partition(f"\n{name}: " if name != "DCCRN" else f"{name}: ")[2].splitlines()[1]
    assert "taps: found 0, expected int >= 1" in refused(capsys, train, *ours[:2], "--taps", "0")


def test_a_name_belongs_to_one_class_which_a_notebook_may_define_again(scale_network):
    again = type("Scale", (torch.nn.Module,), {"__module__": Scale.__module__})
    register("Scale", ScaleSettings)(again)
    assert NETWORKS["Scale"].kind is again
    with pytest.raises(UserError, match="registered twice"):
        register("Scale")(type("Other", (torch.nn.Module,), {}))


def test_a_preset_of_another_network_gives_way_to_the_network_asked_for():
    assert parse_config("", ["--preset", "demo"]).network["kernel_num"] == (8, 16, 32, 64, 64, 64)
    assert parse_config("", ["--preset", "demo", "--model", "GTCRN"]).network == {"channels": 16, "recurrences": 2}


@pytest.mark.parametrize("option", [["--normalisation"], ["--level"], ["--network", "level=cumulative"]])
def test_the_settings_of_a_network_are_options_by_their_present_and_earlier_names(option):
    args = ["--model", "FullSubNet", *option, *["cumulative"] * (len(option) == 1), "--sub_units", "8"]
    expected = {"normalisation": "cumulative", "full_units": 512, "sub_units": 8, "look_ahead": 2}
    assert parse_config("", args).network == expected


def test_settings_of_earlier_versions_are_read():
    flat = {"model": "DCUNET", "mask": "C", "kernel_num": [4] * 5, "lstm": None, "network": ["layers=10"]}
    expected = {"layers": 10, "kernel_num": (4,) * 5, "time_stride": 2, "mask": "C", "norm": "batch"}
    assert read_settings(flat).network == expected
    assert Config.from_dict({"network": ["level=offline"]}).network == {"normalisation": "offline"}
