"""Figures that can be read: every line told apart, every axis named, no label over another."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from tools.reports.figures import (
    difference_figure,
    score_curves,
    spectrogram_figure,
    style_of,
)
from tools.scoring.scores import METRICS, STANDARD


def made_scores(signals, scores):
    rng = np.random.default_rng(0)
    rows = [
        {"noise_type": noise, "snr_db": snr, "utterance": u, "clean_id": u % 3, "signal": signal, "seed": 0}
        | {"words": u}
        | {score: float(n + rng.normal(0, 0.1)) for score in scores}
        for noise in ("seen", "unseen")
        for snr in (-5.0, 0.0, 5.0)
        for u in range(6)
        for n, signal in enumerate(signals)
    ]
    return pd.DataFrame(rows)


def shown(figure):
    return [panel for panel in figure.axes if panel.axison and panel.get_label() != "<colorbar>"]


def assert_all_axes_are_named(figure):
    for panel in shown(figure):
        assert panel.get_xlabel(), panel.get_title()
        assert panel.get_ylabel(), panel.get_title()


def assert_nothing_overlaps(figure):
    """Titles and axis labels, drawn, and within the figure."""
    FigureCanvasAgg(figure).draw()
    texts = [text for panel in shown(figure) for text in (panel.title, panel.xaxis.label, panel.yaxis.label)]
    boxes = [text.get_window_extent() for text in texts if text.get_text()]
    boxes += [legend.get_window_extent() for legend in figure.legends]
    for number, box in enumerate(boxes):
        assert box.x0 >= -1
        assert box.x1 <= figure.bbox.width + 1
        assert not any(box.overlaps(other) for other in boxes[:number])


@pytest.mark.parametrize("scores", [STANDARD[:4], STANDARD, tuple(METRICS)], ids=len)
def test_curves_show_gains_over_noisy_and_their_labels_do_not_collide(scores):
    signals = ("noisy", "MSE", "SI-SNR+PMSQE")
    figure = score_curves(made_scores(signals, scores), scores)
    width, height = figure.get_size_inches()
    assert 1 < width / height < 4
    assert len(shown(figure)) == 2 * len(scores)
    for panel in shown(figure):
        first, second, noisy = panel.lines
        assert np.allclose(first.get_ydata(), 1, atol=0.2)
        assert np.allclose(second.get_ydata(), 2, atol=0.2)
        assert set(noisy.get_ydata()) == {0}
    assert_all_axes_are_named(figure)
    assert_nothing_overlaps(figure)


def test_the_lines_of_more_signals_than_colours_can_be_told_apart():
    assert len({tuple(style_of(number).values()) for number in range(40)}) == 40


@pytest.mark.slow
def test_row_labels_of_many_spectrograms_do_not_overlap():
    waveform = np.random.default_rng(0).normal(0, 0.1, 16000)
    signals = dict.fromkeys(("clean", "noisy", "enhanced"), waveform)
    places = (f"unseen_machine, -{n} dB, utterance {n}" for n in range(10, 26))
    figure = spectrogram_figure([(place, signals) for place in places])
    assert_all_axes_are_named(figure)
    assert_nothing_overlaps(figure)


def test_differences_of_two_networks_stand_beside_each_other_with_their_intervals():
    row = {"noise_type": "all", "baseline": "SI-SNR", "low": -0.1, "high": 0.1, "difference": 0.0}
    rows = [row | {"signal": loss, "metric": name} for loss in ("MSE", "MSE+LMS") for name in ("pesq", "stoi")]
    more = [*rows, row | {"signal": "MSE", "metric": "dnsmos_ovrl"}]
    figure = difference_figure({"DCCRN": pd.DataFrame(rows), "GTCRN": pd.DataFrame(more)})
    assert [panel.get_xlabel() for panel in figure.axes] == ["PESQ (wide-band)", "STOI"]
    errors = pd.DataFrame(rows[::2]).assign(metric="wer")
    assert difference_figure({"DCCRN": errors}).axes[0].xaxis_inverted()  # right is better there too
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["MSE", "MSE+LMS"]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["DCCRN", "GTCRN"]
    bars = [segment for bar in figure.axes[0].collections for segment in bar.get_segments()]
    assert [list(segment[:, 0]) for segment in bars] == [[-0.1, 0.1]] * 4
