"""Networks beside DCCRN compute what was published, and exchange weights with the published code."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from programs import run

from config import Config
from models import GTCRN, build_model, load_model
from models.complex_layers import apply_mask
from models.dcunet import DCUNET
from models.gru import gru
from models.published.gtcrn import gtcrn_from_published, gtcrn_to_published
from tools import export, import_checkpoint

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


@torch.no_grad()
def test_gtcrn_hears_nothing_that_comes_more_than_a_window_later():
    model, noisy = published(), torch.randn(1, 16000) * 0.1
    changed = noisy.clone()
    changed[:, 8192:] = 0
    assert torch.equal(model(noisy)[:, : 8192 - 512], model(changed)[:, : 8192 - 512])


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
    ours = DCUNET(layers=layers).eval()
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
