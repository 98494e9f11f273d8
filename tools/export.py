"""Export a trained network to ONNX, or to a page for the browser.

    python -m tools.export runs/demo_SI-SNR+LMS/best.pt enhance.onnx
    python -m tools.export runs/demo_SI-SNR+LMS/best.pt step.onnx --streaming
    python -m tools.export runs/demo_SI-SNR+LMS/best.pt web/  # a page that enhances in the browser

tools/enhance_onnx.py runs either graph with numpy and onnxruntime alone.
"""

import dataclasses
from pathlib import Path

import tyro

from models import load_model
from tools.common.command_line import parse_arguments, run_command
from tools.common.files import check_output
from tools.common.run_folder import checkpoint_path
from tools.inference.onnx_graphs import export_offline, export_step
from tools.inference.web_folder import export_web


@dataclasses.dataclass(frozen=True)
class Arguments:
    checkpoint: tyro.conf.Positional[str]
    """A checkpoint of train.py or tools.import_checkpoint, or a run's folder; pretrained: the packaged network."""
    out: tyro.conf.Positional[str]
    """File to write, or a folder (a name that ends with /) for a static page that enhances in the browser."""
    streaming: bool = False
    """One step of a stream, states in and out, instead of whole recordings."""
    int8: bool = False
    """Store weights as integers of 7 bits, for DCCRN: a quarter of the size, slightly lower scores."""
    runtime: Path | None = None
    """For the page: the .tgz of onnxruntime-web, if npm is not to download it."""
    overwrite: bool = False
    """Replace an existing file or folder."""


def export(arguments: Arguments) -> None:
    out, checkpoint = Path(arguments.out), checkpoint_path(arguments.checkpoint)
    is_page = arguments.out.endswith("/") or out.is_dir()
    check_output(out, [checkpoint], arguments.overwrite)
    model = load_model(checkpoint)
    print(f"exporting {checkpoint}", flush=True)
    if is_page:
        difference = export_web(model, out, arguments.runtime)
        print(f"{out}: a page, its network in onnxruntime within {difference:.1e} of PyTorch")
        print(f"next: python -m http.server -d {out}, and open http://localhost:8000; any web server will do")
        return
    write = export_step if arguments.streaming else export_offline
    difference = write(model, out, arguments.int8)
    print(f"{out}: {out.stat().st_size / 1e6:.1f} MB, in onnxruntime within {difference:.1e} of PyTorch")


def main() -> None:
    export(parse_arguments(Arguments, __doc__))


if __name__ == "__main__":
    run_command(main)
