"""Networks compute what was published, with the weights of the published code."""

from pathlib import Path

import numpy as np
import pytest
import torch
from networks import REFERENCE, SMALL, VARIANTS, reference_weights, weights_in
from programs import refused, run

from config import Config
from models import build_model, complete, load_model
from models.complex_layers import LARGE, ComplexConv2d, ComplexConvTranspose2d, apply_mask
from models.dcunet import DCUNET
from models.gru import gru
from models.gtcrn import DepthWiseConv
from models.published import read_sizes
from tools import import_checkpoint

OTHERS = np.load(Path(__file__).with_name("reference_crn_fullsubnet.npz"))
GTCRN_REFERENCE = np.load(Path(__file__).with_name("reference_gtcrn.npz"))


PUBLISHED = {  # weights; noisy; estimate; options of the import
    **{
        f"DCCRN {variant}": (
            reference_weights(variant),
            REFERENCE["noisy"],
            REFERENCE[f"estimate/{variant}"],
            ["--mask", options.get("mask", "E")],
        )
        for variant, (_, options) in VARIANTS.items()
    },
    **{
        f"{network} {value}": (
            weights_in(OTHERS, f"{network}/weights/"),
            OTHERS[f"{network}/noisy"],
            OTHERS[f"{network}/estimate/{value}"],
            [f"--{setting}", value],
        )
        for network, setting, value in (
            ("CRN", "mask", "E"),
            ("CRN", "mask", "none"),
            ("FullSubNet", "level", "offline"),
            ("FullSubNet", "level", "cumulative"),
        )
    },
    "GTCRN": (weights_in(GTCRN_REFERENCE, "weights/"), GTCRN_REFERENCE["noisy"], GTCRN_REFERENCE["estimate"], []),
}


@torch.no_grad()
@pytest.mark.parametrize(("state", "noisy", "estimate", "options"), PUBLISHED.values(), ids=PUBLISHED)
def test_imported_weights_give_the_published_estimate(tmp_path, state, noisy, estimate, options):
    torch.save(
        {"model": {f"module.{key}": weight for key, weight in state.items()}, "epoch": 3}, tmp_path / "up.pt"
    )
    assert run(import_checkpoint, tmp_path / "up.pt", tmp_path / "ours.pt", *options) == 0
    model = load_model(tmp_path / "ours.pt")
    assert (model(torch.from_numpy(noisy)) - torch.from_numpy(estimate)).abs().max() < 1e-5


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"lstm": "real", "rnn_units": 10, "rnn_layers": 3},
        {"norm": "complex", "kernel_num": (6, 4), "rnn_layers": 1},
        {"model": "CRN", "rnn_layers": 2},
    ],
)
def test_sizes_are_read_from_the_shapes(settings):
    config = complete(Config.from_dict(SMALL | settings))
    sizes = read_sizes(config.model, build_model(config).state_dict())
    assert {name: config.network[name] for name in sizes} == sizes


@pytest.mark.parametrize(
    ("name", "options", "change", "named"),
    [
        ("CRN E", [], {}, "mask: found None, expected one of E, none for CRN"),
        ("GTCRN", ["--mask", "E"], {}, "mask: found E, expected one of None for GTCRN"),
        ("DCCRN E", ["--mask", "E"], {"encoder.0.2.weight": torch.ones(7)}, "encoder.0.activation.weight"),
        ("DCCRN E", ["--mask", "E"], {"encoder.0.0.real_conv.weight": None}, "no network known here"),
        ("DCCRN E", ["--mask", "E"], {"stft.weight": torch.ones(514, 1, 400)}, "stft.weight of another transform"),
        ("GTCRN", [], {"encoder.en_convs.0.conv.bias": torch.full((16,), torch.nan)}, "NaN"),
    ],
)
def test_published_weights_that_do_not_fit_are_named_in_one_line(tmp_path, capsys, name, options, change, named):
    state = {key: weight for key, weight in (PUBLISHED[name][0] | change).items() if weight is not None}
    torch.save(state, tmp_path / "up.pt")
    assert named in refused(capsys, import_checkpoint, tmp_path / "up.pt", tmp_path / "ours.pt", *options)
    assert not (tmp_path / "ours.pt").exists()


def test_grus_that_train_here_have_the_outputs_and_gradients_of_torchs():
    torch.manual_seed(0)
    blocks = [torch.nn.GRU(5, 7, batch_first=True).double() for _ in range(2)]
    x, hidden = (
        torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in ((3, 11, 10), (1, 3, 14))
    )
    halves = [
        theirs(part, state.contiguous())
        for theirs, part, state in zip(blocks, x.chunk(2, 2), hidden.chunk(2, 2), strict=True)
    ]
    weights = [torch.stack(pair) for pair in zip(*(theirs.all_weights[0] for theirs in blocks), strict=True)]
    ours, after = gru(x.permute(1, 2, 0), hidden, weights)
    results = []
    for y, last in ([torch.cat(part, 2) for part in zip(*halves, strict=True)], (ours.permute(2, 0, 1), after)):
        value = y.square().sum() + last.sum()
        parameters = [weight for theirs in blocks for weight in theirs.parameters()]
        results.append([y, last, *torch.autograd.grad(value, [x, hidden, *parameters])])
    for found, expected in zip(*results, strict=True):
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


@pytest.mark.filterwarnings("ignore")
def test_depth_wise_convolutions_have_the_outputs_and_gradients_of_torchs():
    torch.manual_seed(0)
    ours = DepthWiseConv(4, 4, 3, padding=(0, 1), dilation=(5, 1), groups=4).double()
    x = torch.randn(2, 4, 17, 6, dtype=torch.float64, requires_grad=True)
    outputs = ours(x), torch.nn.Conv2d.forward(ours, x)
    assert torch.equal(*outputs)
    results = (torch.autograd.grad(y.square().sum(), [x, *ours.parameters()]) for y in outputs)
    for found, expected in zip(*results, strict=True):
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("kind", [ComplexConv2d, ComplexConvTranspose2d])
def test_three_real_products_give_a_large_layer_the_output_and_gradients_of_four(kind):
    torch.manual_seed(0)
    layer = kind(2 * LARGE, 2 * LARGE, (3, 2), (2, 1), (1, 0)).double()
    torch.nn.init.normal_(layer.bias_real)
    torch.nn.init.normal_(layer.bias_imag)
    x = torch.randn(2, 2 * LARGE, 6, 5, dtype=torch.float64, requires_grad=True)
    results = []
    for y in (layer(x), layer.conv(x, layer.weight(), layer.bias(), *layer.options)):
        results.append([y, *torch.autograd.grad(y.square().sum(), [x, *layer.parameters()])])
    assert not torch.equal(results[0][0], results[1][0])  # computed another way
    for found, expected in zip(*results, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    ("network", "own", "weights"),
    [
        ("DCCRN", {}, 3_671_053),
        ("CRN", {}, 1_703_436),
        ("FullSubNet", {}, 5_637_635),
        ("DCUNET", {"layers": 10}, 1_421_890),
        ("DCUNET", {"layers": 16}, 2_375_490),
        ("DCUNET", {"layers": 20}, 3_527_850),
        ("GTCRN", {}, 23_669),
        ("GTCRN", {"channels": 32}, 78_805),
    ],
)
def test_networks_have_the_published_numbers_of_weights(network, own, weights):
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
    mask = ours.apply_layers(torch.stack([x.real, x.imag], 1)).unbind(1)
    mask = torch.complex(*apply_mask("E", mask, (torch.ones_like(x.real), torch.zeros_like(x.real))))
    assert (mask - theirs(x)[:, 0]).abs().max() < 1e-4
