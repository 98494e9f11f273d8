"""Enhance recordings with a trained network: files, folders, pipes, or the microphone.

    python -m tools.enhance noisy.wav folder/ -o enhanced/       # with the packaged network
    python -m tools.enhance runs/demo_SI-SNR+LMS noisy.wav       # with one of yours: a run, checkpoint, or graph
    arecord -t raw -f S16_LE -r 16000 | python -m tools.enhance - | aplay -t raw -f S16_LE -r 16000
    python -m tools.enhance --live

The output has the rate, channels, format and length of the input. A file that cannot be enhanced does not stop the
others; it is named at the end, and the exit code is 1.
"""

from __future__ import annotations

import dataclasses
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from tools.common.processes import shorten_spin

if __name__ == "__main__":
    shorten_spin()  # before torch loads

import tyro
from msgspec import Meta
from tqdm import tqdm

from config import Count, Device, Positive
from tools.common.audio import DECODED, SUFFIXES, find_audio, read_format
from tools.common.command_line import parse_arguments, run_command
from tools.common.errors import UserError
from tools.common.files import check_output
from tools.common.processes import ProcessPool, cores
from tools.common.run_folder import find_checkpoint
from tools.inference.graph_stream import Graph, packaged_graph, read_graph
from tools.inference.live import enhance_microphone, enhance_pipe
from tools.inference.signal_chain import EnhanceOptions
from tools.inference.sound_files import enhance_file

if TYPE_CHECKING:
    from torch import nn

WORTHWHILE_SECONDS = 300  # of audio: more are enhanced sooner by several processes, which take seconds to start
BAR = "{desc} {percentage:3.0f}%|{bar}| {n:.0f}/{total:.0f} s of audio, {remaining} left"


@dataclasses.dataclass(frozen=True)
class Arguments(EnhanceOptions):
    inputs: tyro.conf.Positional[tuple[str, ...]] = ()
    """Sound files and folders; - for raw PCM from stdin to stdout. Put a checkpoint, a run or a streaming graph
    (.onnx) before them to use it instead of the packaged network."""
    out: Annotated[Path | None, tyro.conf.arg(aliases=["-o"])] = None
    """File (for one file) or folder to write; left out: <name>_enhanced beside each input."""
    dry: Annotated[float, Meta(ge=0, le=1), tyro.conf.arg(aliases=["--mix"])] = 0.0
    """Share of the noisy signal in the output, 0 to 1; before a recogniser, take 0.25."""
    overwrite: bool = False
    """Replace existing outputs."""
    stream: bool = False
    """Process files in blocks of 20 ms, like a live signal."""
    live: bool = False
    """From the microphone to the loudspeaker, until Ctrl-C; needs sounddevice."""
    input_device: str | None = None
    """Microphone for --live, by name or number; left out: the system's."""
    output_device: str | None = None
    """Loudspeaker for --live, by name or number; left out: the system's."""
    rate: Positive = 16000
    """In Hz, of raw PCM."""
    channels: Positive = 1
    """Of raw PCM, interleaved."""
    encoding: Literal["s16le", "f32le"] = "s16le"
    """Of raw PCM: 16-bit integers or 32-bit floating point, little-endian."""
    device: Device = "auto"
    """Where to compute: auto, cpu, cuda or cuda:<number>. With auto, the packaged network computes on the CPU,
    others on a GPU if there is one; graphs always on the CPU."""
    threads: Positive = 1
    """Threads that compute on a CPU; more are slightly faster, but not on a busy machine."""
    processes: Count = 0
    """Processes that enhance several files at once; 0: one for each core if there is enough to do."""


def enhance(arguments: Arguments) -> int:
    """Enhance the inputs of the arguments; return the number of files that failed."""
    packaged = arguments.inputs[:1] == ("pretrained",)
    checkpoint = find_checkpoint(arguments.inputs[0]) if arguments.inputs and not packaged else None
    inputs = arguments.inputs[1:] if checkpoint or packaged else arguments.inputs
    if arguments.live == bool(inputs) or ("-" in inputs and (len(inputs) > 1 or arguments.out)):
        raise UserError(
            "inputs: expected sound files and folders, or - alone for a pipe, or --live without inputs"
        )
    if inputs and inputs[0] != "-" and not Path(inputs[0]).exists() and Path(inputs[0]).suffix not in SUFFIXES:
        raise UserError(f"{inputs[0]}: no such sound file, folder, checkpoint or run in runs/")
    model = open_model(checkpoint, arguments)
    if arguments.live:
        enhance_microphone(model, arguments.input_device, arguments.output_device, arguments)
        return 0
    if "-" in inputs:
        streams = sys.stdin.buffer, sys.stdout.buffer
        enhance_pipe(model, *streams, arguments.rate, arguments.channels, arguments.encoding, arguments)
        return 0
    pairs = find_files([Path(name) for name in inputs], arguments.out)
    print(f"network: {checkpoint or 'the packaged one'}")
    return enhance_files(model, arguments, pairs)


def open_model(checkpoint: Path | None, arguments: Arguments) -> nn.Module | Graph:
    """Return the network of a checkpoint or graph, or the packaged one, as its graph if it computes on the CPU."""
    if checkpoint is None and arguments.device in ("auto", "cpu"):
        return packaged_graph(arguments.threads)
    if checkpoint and checkpoint.suffix == ".onnx":
        return read_graph(checkpoint, arguments.threads)
    from models import load_model, load_pretrained  # torch, which takes two seconds to load
    from models.streaming import require_streaming
    from tools.common.device import find_device, use_threads

    use_threads(arguments.threads)
    device = find_device(arguments.device)
    model = load_model(checkpoint, device) if checkpoint else load_pretrained(device)
    if arguments.live or arguments.stream or "-" in arguments.inputs:
        require_streaming(model)
    return model


def enhance_files(model: nn.Module | Graph, arguments: Arguments, pairs: list[tuple[Path, Path]]) -> int:
    """Enhance every source and write its target; return the number that failed."""
    start, total, done = time.monotonic(), 0.0, 0.0
    inputs, jobs, errors = [source for source, _ in pairs], {}, []
    for source, target in pairs:
        try:
            check_output(target, inputs, arguments.overwrite)
            if target.absolute() in jobs:
                raise UserError(f"{source}: another input is written to {target}; enhance it separately")
            header = read_format(source)
            jobs[target.absolute()] = source, target
            total += header.frames / header.rate
        except UserError as error:
            errors.append(str(error))
    on_cpu = isinstance(model, Graph) or next(model.parameters()).device.type == "cpu"
    processes = arguments.processes or (cores() if on_cpu and total > WORTHWHILE_SECONDS else 1)
    processes = min(processes, max(1, len(jobs)))
    with (
        tqdm(total=total, bar_format=BAR, leave=False, disable=None) as bar,
        ProcessPool(processes, (model, arguments, bar.update if processes == 1 else None)) as pool,
    ):
        for (source, target), result in zip(jobs.values(), pool.starmap(enhance_pair, jobs.values()), strict=True):
            if isinstance(result, str):
                errors.append(result)
                continue
            seconds, note = result
            bar.write(f"{source} -> {target}{note}")
            bar.update(seconds if processes > 1 else 0)
            done += seconds
    took = time.monotonic() - start
    print(f"{len(pairs) - len(errors)} of {len(pairs)} files enhanced, {done:.1f} s of audio in {took:.1f} s")
    for error in errors:
        print(f"error: {error}", file=sys.stderr)
    return len(errors)


def enhance_pair(
    model: nn.Module | Graph, arguments: Arguments, progress: Callable | None, source: Path, target: Path
) -> tuple[float, str] | str:
    """Return the seconds of audio of a file and a note on its encoding, or why it could not be enhanced."""
    try:
        return enhance_file(model, source, target, arguments, arguments.stream, progress)
    except (UserError, OSError) as error:
        return str(error)


def find_files(inputs: list[Path], out: Path | None) -> list[tuple[Path, Path]]:
    """Return each file to enhance and the file to write; files of folders keep their relative paths.

    Kinds of files that cannot be written become FLAC.
    Raises UserError for a folder without sound files, and for one output file for several inputs.
    """
    one_file = out is not None and out.suffix[1:2].isalpha() and not out.is_dir()
    if one_file and (len(inputs) > 1 or inputs[0].is_dir()):
        raise UserError(f"out: found the file {out} for more than one input, expected a folder")
    pairs = []
    for path in inputs:
        if path.is_dir():
            names, unread = find_audio(path)
            found = sorted([*(path / name for name in names), *unread])
            if not found:
                raise UserError(f"{path}: no sound files in it, expected some of {', '.join(SUFFIXES)}")
            folder = path.resolve().with_name(f"{path.resolve().name}_enhanced") if out is None else out
            pairs += [(p, folder / p.relative_to(path)) for p in found]
        elif out is None:
            pairs.append((path, path.with_name(f"{path.stem}_enhanced{path.suffix}")))
        else:
            pairs.append((path, out if one_file else out / path.name))
    return [
        (p, target.with_suffix(".flac") if target.suffix.lower() in DECODED else target) for p, target in pairs
    ]


def main() -> None:
    if enhance(parse_arguments(Arguments, __doc__)):
        sys.exit(1)


def run() -> None:
    """Run the command dccrn-enhance, which `pip install` creates."""
    run_command(main)


if __name__ == "__main__":
    run()
