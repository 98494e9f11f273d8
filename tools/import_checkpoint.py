"""Make a checkpoint from weights of the published code of a network.

    python -m tools.import_checkpoint UPSTREAM.pt OUT.pt --mask E

UPSTREAM.pt is a state dict, bare or under 'model', of DCCRN, CRN, FullSubNet or GTCRN. Network and settings follow
from names and shapes of the weights, except the mask and FullSubNet's normalisation, which must be given. No code
in the file is run.
"""

import dataclasses
from pathlib import Path
from typing import Annotated

import tyro

from config import Config
from models import complete, rebuild_model
from models.published import read_published
from tools.common.command_line import parse_arguments, run_command
from tools.common.files import check_output
from tools.common.run_folder import save_checkpoint


@dataclasses.dataclass(frozen=True)
class Arguments:
    upstream: tyro.conf.Positional[Path]
    """Weights that the published code saved."""
    out: tyro.conf.Positional[Path]
    """Checkpoint to write."""
    mask: str | None = None
    """Mask of the network: E, C or R for DCCRN, E or none for CRN; upstream's default is E."""
    normalisation: Annotated[str | None, tyro.conf.arg(aliases=["--level"])] = None
    """For FullSubNet: offline or cumulative, how its inputs were normalised."""
    overwrite: bool = False
    """Replace an existing checkpoint."""


def import_checkpoint(arguments: Arguments) -> None:
    check_output(arguments.out, [arguments.upstream], arguments.overwrite)
    given = {"mask": arguments.mask, "normalisation": arguments.normalisation}
    network, settings, weights = read_published(arguments.upstream, **given)
    config = complete(Config(model=network, network=settings)).to_dict()
    model = rebuild_model(arguments.upstream, {"config": config, "model": weights})
    save_checkpoint(arguments.out, {"config": config, "model": model.state_dict(), "epoch": 0})
    listed = ", ".join(f"{name} {value}" for name, value in settings.items())
    print(f"{arguments.out}: {network} with {listed}")


def main() -> None:
    import_checkpoint(parse_arguments(Arguments, __doc__))


if __name__ == "__main__":
    run_command(main)
