"""tools.list_losses and tools.loss_report: how a user finds and chooses a loss."""

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from networks import save_checkpoint
from programs import refused, run

from config import Config
from losses import TERMS, LossTerm, register
from models import build_model
from tools import list_losses, loss_report


def test_the_table_of_losses_in_the_docs_is_that_of_the_registry():
    text = (Path(__file__).parents[1] / "docs/losses.md").read_text(encoding="utf-8")
    assert list_losses.loss_table() in text, "run: python -m tools.list_losses --write docs/losses.md"


def test_a_new_term_is_in_the_table_with_its_docstring_and_source(capsys, tmp_path):
    @register("twin", perceptual=True, invariances=("sign",))
    class Twin(LossTerm):
        """Something
        |new|.

        Details.

        Source: Somebody 2030.
        """

    row = "| twin | 1 | Something \\|new\\| | sign | Somebody 2030 |"
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- losses: as it is made -->\nold\n<!-- end of losses -->\nafter\n")
    try:
        assert run(list_losses) == 0
        assert row in capsys.readouterr().out.splitlines()
        assert run(list_losses, "--write", page) == 0
    finally:
        del TERMS["twin"]
    lines = page.read_text().splitlines()
    assert row in lines
    assert "old" not in lines
    assert (lines[0], lines[-1]) == ("before", "after")


def test_value_and_gradient_are_those_at_the_estimate():
    clean, estimate = torch.zeros(1, 4), torch.tensor([[3.0, 0, 0, 0]])
    value, gradient = loss_report.value_and_gradient(TERMS["MSE"](), estimate, clean, estimate)
    assert (value, gradient) == (9 / 4, 6 / 4)  # |2 e / 4|


def test_correlations_are_over_the_items_that_have_a_score():
    scores = {"pesq": [-1.0, -4.0, -9.0, math.nan], "stoi": [1.0] * 4, "si_sdr": [1.0, 2.0, math.inf, math.nan]}
    rows = pd.DataFrame({"value_MSE": [1.0, 2.0, 3.0, 9.0]} | scores)
    rows = pd.concat([rows.assign(snr_db=0.0), rows[:3].assign(snr_db=5.0), rows[:2].assign(snr_db=9.0)])
    found = loss_report.agreement_table("", rows, ["MSE"], list(scores)).texts.loc["MSE"]
    assert found["PESQ at one SNR"] == "-1.00"
    assert found["STOI"] == "–"
    few = loss_report.agreement_table("", rows[:4], ["MSE"], list(scores)).texts.loc["MSE"]
    assert few["PESQ (wide-band)"] == "-1.00"
    assert few["SI-SDR (dB)"] == "–"


NETWORK = {"kernel_num": (4, 8), "rnn_units": 8}


@pytest.fixture
def untrained(workplace):
    """A run that was never trained."""
    (workplace / "runs/small").mkdir(parents=True)
    save_checkpoint(build_model(Config(network=NETWORK)), workplace / "runs/small/best.pt", network=NETWORK)


def test_a_report_has_every_table_and_figure(untrained, capsys):
    options = ("--data", "data", "--terms", "SI-SDR", "wSDR", "--utterances", "1", "--device", "cpu")
    assert run(loss_report, *options, "--runs", "small", "--name", "few") == 0
    folder = Path("results/few")
    text = (folder / "report.md").read_text()
    assert "Correlation with scores: small" in capsys.readouterr().out
    figures = ("values", "gradients")
    assert {path.name for path in folder.iterdir()} == {
        "report.md",
        "values.csv",
        *(f"{figure}.{kind}" for figure in figures for kind in ("png", "pdf")),
    }
    rows = pd.read_csv(folder / "values.csv")
    assert len(rows) == 2 * 7 * 2  # noise types, dB, signals
    # The loss is the score, negated: items and scores are not mixed up.
    np.testing.assert_allclose(rows["value_SI-SDR"], -rows["si_sdr"], rtol=0, atol=1e-3, equal_nan=False)
    assert "| SI-SDR | -" in text.split("### Correlation")[1]
    assert "| -1.00 |" in text
    assert text.count("### Correlation with scores") == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--terms", "SI-SNR+LMS"], "terms: found SI-SNR+LMS, expected some of"),
        (["--runs", "none"], "runs/none/best.pt: no such checkpoint"),
    ],
)
def test_a_report_that_cannot_be_made_is_one_line(workplace, capsys, arguments, message):
    options = ("--data", "data", "--utterances", "1", "--name", "bad")
    assert message in refused(capsys, loss_report, *options, *arguments)
    assert not Path("results/bad").exists()
