"""Networks beside DCCRN: they compute what was published, at any length, and are chosen by name."""

from __future__ import annotations

import dataclasses
import importlib
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from networks import SMALL_NETWORKS, save_checkpoint, small, small_settings, trained_like
from programs import run
from signals import voiced
from trainings import history_of

import test
import train
from config import Config
from losses import COMBINATIONS, TERMS, LossError, build_loss
from models import GTCRN, NETWORKS, ModelError, build_model, complete, load_model
from models.dcunet import DCUNET
from models.gru import gru
from models.masks import apply_mask
from models.published.gtcrn import gtcrn_from_published, gtcrn_to_published
from models.registry import NetworkSettings, register, setting, whole
from tools import compare, enhance, export, import_checkpoint, list_networks
from tools.common import plugins
from tools.demo_corpus.corpus import make_demo_corpus
from tools.inference.pieces import PieceEnhancer

OTHERS = np.load(Path(__file__).with_name("reference_crn_fullsubnet.npz"))
REFERENCE = np.load(Path(__file__).with_name("reference_gtcrn.npz"))
WEIGHTS = {name[8:]: torch.from_numpy(REFERENCE[name]) for name in REFERENCE.files if name.startswith("weights/")}


def published() -> GTCRN:
    model = GTCRN()
    model.load_state_dict(gtcrn_from_published(WEIGHTS))
    return model.eval()


@torch.no_grad()
def test_gtcrn_computes_what_the_published_code_does():
    noisy, estimate = (torch.from_numpy(REFERENCE[name]) for name in ("noisy", "estimate"))
    assert (published()(noisy) - estimate).abs().max() < 1e-5


def test_gtcrn_weights_go_there_and_back_unchanged():
    back = gtcrn_to_published(published().state_dict())
    assert set(back) - set(WEIGHTS) == {"erb.erb_fc.weight", "erb.ierb_fc.weight"}
    assert all(torch.equal(back[name], weight) for name, weight in WEIGHTS.items())
    for broken in ({**WEIGHTS, "x": torch.zeros(1)}, {"x": torch.zeros(1)}):
        with pytest.raises(KeyError):
            gtcrn_from_published(broken)


def test_gtcrn_has_the_published_number_of_weights():
    assert sum(p.numel() for p in GTCRN().parameters()) == 23_669


def test_a_wider_gtcrn_has_more_weights_and_keeps_the_length():
    wide = GTCRN(channels=32)
    assert sum(p.numel() for p in wide.parameters()) == 78_805
    assert wide(torch.zeros(2, 1001)).shape == (2, 1001)


def test_a_gru_that_trains_here_has_the_outputs_and_gradients_of_torchs():
    torch.manual_seed(0)
    theirs = torch.nn.GRU(5, 7, batch_first=True).double()
    x, hidden = (torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in ((3, 11, 5), (1, 3, 7)))
    results = []
    for y, last in (theirs(x, hidden), gru(x, hidden, theirs.all_weights[0])):
        value = y.square().sum() + last.sum()
        results.append([y, last, *torch.autograd.grad(value, [x, hidden, *theirs.parameters()])])
    for found, expected in zip(*results, strict=True):
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


PUBLISHED_ESTIMATES = [("CRN", "mask", "E"), ("CRN", "mask", "none")] + [
    ("FullSubNet", "level", level) for level in ("offline", "cumulative")
]


def other_weights(network: str) -> dict[str, torch.Tensor]:
    """Return weights with the published names."""
    prefix = f"{network}/weights/"
    return {n.removeprefix(prefix): torch.from_numpy(OTHERS[n]) for n in OTHERS.files if n.startswith(prefix)}


@pytest.mark.parametrize(("network", "setting", "value"), PUBLISHED_ESTIMATES)
def test_published_weights_come_in_give_the_published_estimate_and_go_out(tmp_path, network, setting, value):
    state = other_weights(network)
    torch.save({"model": {f"module.{name}": weight for name, weight in state.items()}}, tmp_path / "up.pt")
    assert run(import_checkpoint, tmp_path / "up.pt", tmp_path / "ours.pt", f"--{setting}", value) == 0
    noisy, estimate = (torch.from_numpy(OTHERS[f"{network}/{n}"]) for n in ("noisy", f"estimate/{value}"))
    with torch.no_grad():
        assert (load_model(tmp_path / "ours.pt")(noisy) - estimate).abs().max() < 1e-5
    assert run(export, tmp_path / "ours.pt", tmp_path / "back.pt", "--upstream") == 0
    back = torch.load(tmp_path / "back.pt", weights_only=True)
    assert back.keys() == state.keys()
    assert all(torch.equal(back[name], weight) for name, weight in state.items())


def test_published_gtcrn_comes_in_and_goes_out_with_its_filter_bank(tmp_path):
    bands = gtcrn_to_published(published().state_dict())
    torch.save({"model": bands, "epoch": 3}, tmp_path / "up.pt")
    assert run(import_checkpoint, tmp_path / "up.pt", tmp_path / "ours.pt") == 0
    assert run(export, tmp_path / "ours.pt", tmp_path / "back.pt", "--upstream") == 0
    back = torch.load(tmp_path / "back.pt", weights_only=True)
    assert back.keys() == bands.keys()
    assert all(torch.equal(back[name], weight) for name, weight in bands.items())


@pytest.mark.parametrize(
    ("network", "options", "change", "named"),
    [
        ("CRN", [], {}, "mask: found None, expected one of E, none for CRN"),
        ("CRN", ["--mask", "C"], {}, "mask: found C, expected one of E, none for CRN"),
        ("FullSubNet", ["--mask", "E"], {}, "mask: found E, but these are weights of FullSubNet, which has none"),
        ("FullSubNet", [], {}, "level: found None, expected one of offline, cumulative for FullSubNet"),
        (
            "FullSubNet",
            ["--level", "offline"],
            {"fb_model.fc_output_layer.bias": torch.zeros(161)},
            "fb_model.fc_output_layer.bias of shape [161] instead of [257]",
        ),
        ("CRN", ["--mask", "E"], {"x": torch.zeros(1)}, "unknown x"),
    ],
)
def test_published_weights_that_do_not_fit_are_named_in_one_line(
    tmp_path, capsys, network, options, change, named
):
    torch.save(other_weights(network) | change, tmp_path / "up.pt")
    assert run(import_checkpoint, tmp_path / "up.pt", tmp_path / "ours.pt", *options) == 2
    error = capsys.readouterr().err.strip()
    assert named in error
    assert "\n" not in error
    assert not (tmp_path / "ours.pt").exists()


@pytest.mark.parametrize(
    ("network", "own", "weights"),
    [
        ("DCCRN", (), 3_671_053),
        ("CRN", (), 1_703_436),
        ("FullSubNet", (), 5_637_635),
        ("DCUNET", ("layers=10",), 1_421_890),
        ("DCUNET", ("layers=16",), 2_375_490),
        ("DCUNET", ("layers=20",), 3_527_850),
    ],
)
def test_networks_have_the_published_numbers_of_weights(network, own, weights):
    with torch.device("meta"):
        model = build_model(Config(model=network, network=own))
    assert sum(p.numel() for p in model.parameters()) == weights


@torch.no_grad()
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("layers", [10, 16, 20])
def test_dcunet_computes_what_asteroid_does_with_the_same_weights(layers):
    from asteroid.models import DCUNet

    torch.manual_seed(0)
    theirs = DCUNet(f"DCUNet-{layers}", fix_length_mode="pad").masker
    ours = DCUNET(layers).eval()
    x = torch.randn(2, 513, 30, dtype=torch.complex64)
    theirs.train()(x)  # norms that have seen signals
    theirs.eval()
    for layer, other in zip(
        [*ours.encoder, *ours.decoder], [*theirs.encoders, *theirs.decoders, None], strict=True
    ):
        conv = theirs.output_layer[0] if other is None else getattr(other, "conv", getattr(other, "deconv", None))
        kernel = layer if other is None else layer.conv
        for part, module in (("real", conv.re_module), ("imag", conv.im_module)):
            getattr(kernel, f"weight_{part}").copy_(module.weight)
            if other is None:
                getattr(kernel, f"bias_{part}").copy_(module.bias)
        if other is not None:
            parts = [other.norm.re_module.state_dict(), other.norm.im_module.state_dict()]
            state = {k: torch.cat([p[k] for p in parts]) for k in parts[0] if k != "num_batches_tracked"}
            layer.norm.load_state_dict(state, strict=False)
    mask = ours.estimate(torch.stack([x.real, x.imag], 1)).unbind(1)
    mask = torch.complex(*apply_mask("E", mask, (torch.ones_like(x.real), torch.zeros_like(x.real))))
    assert (mask - theirs(x)[:, 0]).abs().max() < 1e-4


def test_every_registered_network_is_tested_below():
    assert {name.split()[0] for name in SMALL_NETWORKS} == set(NETWORKS)


@torch.no_grad()
@pytest.mark.parametrize("name", SMALL_NETWORKS)
@pytest.mark.parametrize("samples", [1, 255, 4000, 4001])
def test_every_network_returns_as_many_samples_as_it_gets(name, samples):
    estimate = small(name).eval()(torch.randn(2, samples) * 0.1)
    assert estimate.shape == (2, samples)
    assert estimate.isfinite().all()


@torch.no_grad()
@pytest.mark.parametrize("name", SMALL_NETWORKS)
def test_a_fresh_network_passes_its_input_through_so_that_no_polarity_is_inverted(name):
    torch.manual_seed(0)
    noisy = torch.randn(2, 16000) * 0.1
    estimate = small(name).train()(noisy)
    least = 0.5 if name == "CRN direct" else 0.9  # magnitudes that are estimated directly begin all alike
    assert torch.nn.functional.cosine_similarity(noisy, estimate).min() > least


@torch.no_grad()
def test_gtcrn_hears_nothing_that_comes_more_than_a_window_later():
    model, noisy = published(), torch.randn(1, 16000) * 0.1
    changed = noisy.clone()
    changed[:, 8192:] = 0
    assert torch.equal(model(noisy)[:, : 8192 - 512], model(changed)[:, : 8192 - 512])


@pytest.mark.parametrize("name", SMALL_NETWORKS)
def test_bfloat16_outside_leaves_spectra_in_single_precision(name):
    model, noisy = small(name).eval(), torch.randn(1, 8000) * 0.1
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        estimate = model(noisy)
    assert estimate.dtype == torch.float32
    assert (estimate - model(noisy)).abs().max() < 0.01


@pytest.mark.parametrize("loss", ["SI-SNR+PMSQE", "MSE+LMS"])
def test_gtcrn_learns_with_base_and_perceptual_losses(loss):
    torch.manual_seed(0)
    clean = torch.sin(torch.arange(16000) * torch.tensor([[0.1], [0.05]])) * 0.1
    noisy, model, loss_fn = clean + 0.05 * torch.randn(2, 16000), GTCRN(), build_loss(loss)
    optimizer, values = torch.optim.Adam(model.parameters(), 1e-3), []
    for _ in range(4):
        value = loss_fn(model(noisy), clean)[0]
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        values.append(value.item())
    assert values[-1] < values[0]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"model": "LSTM"}, "model: found 'LSTM', expected one of DCCRN"),
        ({"mask": "Q"}, "mask: found 'Q', expected one of E, C, R, none"),
        ({"kernel_num": (8, 7)}, r"kernel_num: found \(8, 7\), expected 1 to 8 even numbers"),
        ({"kernel_num": ()}, "kernel_num"),
        ({"kernel_num": (2,) * 9}, "kernel_num"),
        ({"rnn_units": 7}, "rnn_units: found 7, expected an even number"),
        ({"rnn_layers": 0}, "rnn_layers: found 0"),
        ({"model": "GTCRN", "rnn_units": 8}, "rnn_units: the network GTCRN has no such setting; it has channels"),
        ({"model": "GTCRN", "network": ("channels=6",)}, "channels: found 6, expected a multiple of 4"),
        ({"network": ("depth=3",)}, "depth: the network DCCRN has no such setting; it has mask, "),
        ({"network": ("depth",)}, "network: found 'depth', expected name=value"),
        ({"model": "DCUNET", "network": ("layers=[10]",)}, r"layers: found \[10\], expected one of 10, 16, 20"),
        ({"model": "DCUNET", "network": ("layers=" + "(" * 5000,)}, "layers: found"),
        ({"mask": "C", "network": ("mask=E",)}, "network: found 'mask=E'"),
    ],
)
def test_a_setting_that_the_network_does_not_have_or_allow_is_named_in_one_line(settings, message):
    with pytest.raises(ModelError, match=message) as caught:
        build_model(Config(**settings))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("def forward(:", "SyntaxError"),
        ("import not_there", "ModuleNotFoundError: No module named 'not_there'"),
        (
            "from models import GTCRN, register\nregister('DCCRN')(GTCRN)",
            "DCCRN: registered twice, by DCCRN and GTCRN",
        ),
    ],
)
def test_a_network_file_that_cannot_be_imported_is_named_in_one_line(tmp_path, monkeypatch, capsys, text, reason):
    (tmp_path / "mynetworks").mkdir()
    (tmp_path / "mynetworks" / "mine.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(plugins, "BROKEN_FILES", {})
    plugins.import_files(importlib.import_module("mynetworks"), NETWORKS)
    assert run(train, "--model", "Mine") == 2
    error = capsys.readouterr().err.strip()
    assert "not loaded: mynetworks/mine.py, line " in error
    assert reason in error
    assert "\n" not in error


@pytest.fixture(scope="module")
def small_set(tmp_path_factory):
    folder = tmp_path_factory.mktemp("set") / "data"
    make_demo_corpus(folder, n_train=96, n_valid=8, n_test=1, seconds=1.0)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALL_NETWORKS)
def test_two_epochs_of_a_small_set_lower_the_validation_loss_and_keep_the_polarity(
    name, small_set, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    options = ["--data", small_set, "--name", "n", "--epochs", "2", "--batch_size", "4", "--learning_rate", "2e-3"]
    for key, value in small_settings(name).items():
        options += [f"--{key}", *(value if isinstance(value, tuple) else [value])]
    assert run(train, *options, "--device", "cpu", "--precision", "fp32", "--valid_scores", "0") == 0
    first, second = (float(row["valid_loss"]) for row in history_of("n"))
    assert second < first
    noisy, clean = torch.from_numpy(np.load(small_set / "valid.npy")).float().unbind(1)
    scale = 32768 if clean.abs().max() > 1 else 1
    with torch.no_grad():
        estimate = load_model("runs/n/best.pt")(noisy / scale)
    assert torch.nn.functional.cosine_similarity(estimate, clean / scale).min() > 0
    assert build_loss("SI-SNR")(estimate, clean / scale)[0] < build_loss("SI-SNR")(noisy / scale, clean / scale)[0]


@pytest.mark.slow
@pytest.mark.parametrize("loss", [*TERMS, *COMBINATIONS])
@pytest.mark.parametrize("name", SMALL_NETWORKS)
def test_three_steps_with_each_loss_are_finite(name, loss):
    try:
        loss_fn = build_loss(loss)
    except LossError as error:  # the package of an extra
        pytest.skip(str(error))
    torch.manual_seed(0)
    noisy, clean = (x.float() for x in voiced(0, samples=8000, batch=2))
    model = small(name)
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    for _ in range(3):
        value, _ = loss_fn(model(noisy), clean, noisy)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        assert value.isfinite()
    assert all(weight.isfinite().all() for weight in model.parameters())


@dataclasses.dataclass(frozen=True)
class ScaleSettings(NetworkSettings):
    taps: int = setting(3, whole(1), "length of the filter")


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


def test_a_network_of_ones_own_trains_tests_compares_enhances_and_says_which_settings_it_has(
    scale_network, workplace, capsys
):
    for name, taps in (("own", 5), ("other", 3)):
        ours = ["--model", "Scale", "--network", f"taps={taps}", "--name", name, "--batch_size", "4"]
        assert run(train, *ours, "--data", "data", "--epochs", "1", "--device", "cpu") == 0
        assert load_model(f"runs/{name}/best.pt").filter.kernel_size == (taps,)
        assert run(test, "--name", name, "--device", "cpu") == 0
    assert run(compare, "own", "other", "--name", "c") == 0
    assert Path("results/c/index.html").is_file()
    soundfile.write("a.wav", np.zeros(8000), 16000)
    assert run(enhance, "runs/own", "a.wav") == 0
    assert soundfile.info("a_enhanced.wav").frames == 8000
    assert run(list_networks) == 0
    listed = capsys.readouterr().out
    assert "taps: length of the filter" in listed
    for name, heard in (("DCCRN", "latency 62.5 ms"), ("GTCRN", "latency 32 ms"), ("DCUNET", "hears the whole")):
        assert heard in listed.partition(f"\n{name}: " if name != "DCCRN" else f"{name}: ")[2].splitlines()[1]
    assert run(train, *ours[:2], "--network", "taps=0") == 2
    assert "taps: found 0, expected a whole number from 1 to" in capsys.readouterr().err
    with pytest.raises(ModelError, match="registered twice"):
        register("Scale")(Scale)


def test_a_preset_of_another_network_gives_way_to_the_network_asked_for():
    assert complete(Config(model="GTCRN")).kernel_num is None
    assert complete(Config()).kernel_num == (32, 64, 128, 256, 256, 256)


@pytest.mark.parametrize("name", ["DCUNET", "FullSubNet"])
def test_a_network_that_cannot_stream_enhances_files_and_says_in_one_line_that_it_does_nothing_live(
    name, tmp_path, capsys
):
    checkpoint = save_checkpoint(trained_like(name), tmp_path / "g.pt", **small_settings(name))
    noisy = 0.1 * np.random.default_rng(0).standard_normal(8000).astype(np.float32)
    soundfile.write(tmp_path / "a.wav", noisy, 16000, subtype="FLOAT")
    assert run(enhance, checkpoint, tmp_path / "a.wav", "-o", tmp_path / "b.wav") == 0
    assert f"{name} hears whole recordings: those of more than 10 s are enhanced in" in capsys.readouterr().out
    with torch.no_grad():
        expected = load_model(checkpoint)(torch.from_numpy(noisy)[None])[0]
    out = soundfile.read(tmp_path / "b.wav", dtype="float32")[0]
    np.testing.assert_allclose(out, expected, rtol=0, atol=1e-6)
    for command in (
        (enhance, checkpoint, "--live"),
        (enhance, checkpoint, "-"),
        (enhance, checkpoint, tmp_path / "a.wav", "--stream", "--overwrite"),
        (export, checkpoint, tmp_path / "a.onnx"),
        (export, checkpoint, tmp_path / "a.onnx", "--streaming"),
    ):
        assert run(*command) == 2
        error = capsys.readouterr().err.strip()
        assert "hears the whole recording and cannot enhance block by block; DCCRN, CRN, GTCRN and" in error
        assert "\n" not in error


class Counting(torch.nn.Module):
    """The number of the call, from 0, for every sample."""

    def __init__(self):
        super().__init__()
        self.calls = []

    def forward(self, noisy):
        self.calls.append(noisy.shape[1])
        return torch.full_like(noisy, len(self.calls) - 1)


@pytest.mark.parametrize("samples", [0, 1, 3999, 4000, 4001, 7599, 7600, 7601, 20000])
def test_long_recordings_are_pieces_that_fade_into_each_other(monkeypatch, samples):
    monkeypatch.setattr(PieceEnhancer, "piece", 4000)
    monkeypatch.setattr(PieceEnhancer, "overlap", 400)
    noisy = torch.randn(2, samples)
    for blocks in (samples or 1, 777):

        def enhanced(model, blocks=blocks):
            enhancer = PieceEnhancer(model, 2)
            return torch.cat([*(enhancer.push(block) for block in noisy.split(blocks, 1)), enhancer.flush()], 1)

        torch.testing.assert_close(enhanced(torch.nn.Identity()), noisy)
        counting = Counting()
        steps = enhanced(counting)[0].diff()
        assert steps.numel() == max(0, samples - 1)
        if samples > 4000:
            assert min(counting.calls) > 2000
            assert steps.abs().max() < 1.01 * 2 / 400  # from one channel's call to its next, all in the overlap
        assert max(counting.calls, default=0) <= 4000
