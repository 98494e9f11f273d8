"""Take a trained network elsewhere: to ONNX, or to the code that the network was published with.

    python -m tools.export runs/demo_SI-SNR+LMS/best.pt enhance.onnx
    python -m tools.export runs/demo_SI-SNR+LMS/best.pt step.onnx --streaming
    python -m tools.export runs/demo_SI-SNR+LMS/best.pt upstream.pt --upstream

tools/enhance_onnx.py runs either graph with numpy and onnxruntime alone.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import tyro
from torch import nn

from models import NETWORKS, load_model
from models.published import PUBLISHED
from tools.common.command_line import parse_arguments, run_command
from tools.common.errors import UserError
from tools.common.files import refuse_existing
from tools.common.run_folder import save_checkpoint
from tools.inference.onnx_graphs import export_offline, export_step
from tools.training.checkpoints import checkpoint_path


@dataclasses.dataclass(frozen=True)
class Arguments:
    checkpoint: tyro.conf.Positional[str]
    """A checkpoint that train.py or tools.import_checkpoint wrote, or a run's folder; pretrained: the network that
    comes with the package."""
    out: tyro.conf.Positional[Path]
    """File to write."""
    streaming: bool = False
    """One step of a stream, states in and out, instead of whole recordings."""
    int8: bool = False
    """Weights as 8-bit integers: a third of the size, a little worse; docs/deployment.md has the cost in PESQ."""
    upstream: bool = False
    """A state dict for the published code of DCCRN, CRN, FullSubNet or GTCRN instead of ONNX."""
    overwrite: bool = False
    """Replace a file that exists."""


def export(arguments: Arguments) -> None:
    if arguments.upstream and (arguments.streaming or arguments.int8):
        raise UserError("upstream: found it beside streaming or int8, which are for ONNX; leave one out")
    refuse_existing(arguments.out, arguments.overwrite)
    model = load_model(checkpoint_path(arguments.checkpoint))
    if arguments.upstream:
        export_published(model, arguments.out)
        return
    write = export_step if arguments.streaming else export_offline
    difference = write(model, arguments.out, arguments.int8)
    size = arguments.out.stat().st_size / 1e6
    print(f"{arguments.out}: {size:.1f} MB, in onnxruntime within {difference:.1e} of PyTorch")


def export_published(model: nn.Module, path: Path) -> None:
    """Write the weights as the published code saves them. Raises UserError for a network that it does not have."""
    name = next(name for name, entry in NETWORKS.items() if type(model) is entry.kind)
    code = PUBLISHED.get(name)
    if code is None or not code.has(model):
        what = f"mask {model.mask}, skip {model.skip}" if code else "no published code that is known here"
        raise UserError(f"upstream: found {name} with {what}; the published DCCRN has a mask and skips, CRN skips")
    save_checkpoint(path, code.to_theirs(model.state_dict()))
    print(f"{path}: state dict for the published {name}")


def main() -> None:
    export(parse_arguments(Arguments, __doc__))


if __name__ == "__main__":
    run_command(main)
