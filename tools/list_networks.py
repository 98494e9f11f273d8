"""List the networks with their number of weights, multiply-adds, latency, settings and sources.

python -m tools.list_networks
"""

import dataclasses
import inspect

import torch
from torch.utils.flop_counter import FlopCounterMode

from config import SAMPLE_RATE
from models import NETWORKS
from models.registry import find_network
from models.streaming import can_stream, streaming_step
from tools.common.command_line import field_help, parse_arguments, run_command


@dataclasses.dataclass(frozen=True)
class ListSettings:
    """No settings."""


def describe_network(name: str) -> str:
    """Return a paragraph on a network: weights, multiply-adds a second, latency, settings, source."""
    entry = find_network(name)
    model = entry.kind(**dataclasses.asdict(entry.settings())).eval()
    weights = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:  # two a multiply-add
        model(torch.zeros(1, SAMPLE_RATE))
    millions = counter.get_total_flops() / 2 / 1e6
    latency = "needs the whole recording"
    if can_stream(model):
        step = streaming_step(model)
        latency = f"latency {1000 * (step.delay + 1) * step.hop / SAMPLE_RATE:g} ms, enhances block by block"
    paragraphs = [" ".join(part.split()) for part in (inspect.getdoc(entry.kind) or "").split("\n\n")]
    source = [part for part in paragraphs if "Source: " in part]
    lines = [
        f"{name}: {weights:,} weights, {millions:,.0f} million multiply-adds a second outside recurrences",
        f"  {latency}",
        *(f"  {part}" for part in dict.fromkeys([paragraphs[0], *source])),
    ]
    for name, text in field_help(entry.settings).items():
        lines.append(f"  --{name}: {text} (default: {getattr(entry.settings, name)})")
    return "\n".join(lines)


def main() -> None:
    parse_arguments(ListSettings, __doc__)
    print("\n\n".join(map(describe_network, NETWORKS)))


if __name__ == "__main__":
    run_command(main)
