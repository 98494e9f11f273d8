"""Measure a packed data set and report its content and errors.

    python -m tools.inspect_dataset data/mine

Prints shapes, hours, talkers, noise types, levels and SNRs, and draws spectrograms. The exit code is 1 if anything
is wrong: an SNR other than its label, an item clipped or silent, a talker or a stretch of noise in two splits.
"""

import dataclasses
import sys
from pathlib import Path

import tyro

from tools.common.command_line import parse_arguments, run_command
from tools.common.errors import UserError
from tools.common.processes import ProcessPool
from tools.corpora.inspection import inspect
from tools.corpora.inspection_page import describe, draw_page


@dataclasses.dataclass(frozen=True)
class Arguments:
    data: tyro.conf.Positional[Path]
    """Folder of the packed data set."""
    png: Path | None = None
    """Where to draw the spectrograms; by default inspection.png in that folder."""
    items: int = 3
    """Items of each split to draw; 0 for no page."""
    workers: int = 0
    """Processes; 0 for one a core."""


def main() -> None:
    arguments = parse_arguments(Arguments, __doc__)
    if not 0 <= arguments.items <= 100:
        raise UserError(f"items: found {arguments.items}, expected 0 to 100")
    page = arguments.png or arguments.data / "inspection.png"
    if page.suffix != ".png":
        raise UserError(f"png: found {page}, expected a name that ends with .png")
    with ProcessPool(arguments.workers) as pool:
        try:
            report = inspect(arguments.data, pool)
        except ValueError as error:
            raise UserError(str(error).splitlines()[-1]) from None
    print(f"{arguments.data}")
    for line in describe(report):
        print(line)
    if arguments.items:
        draw_page(arguments.data, report, page, arguments.items)
        print(f"spectrograms are in {page}")
    if report.wrong:
        sys.exit(1)


if __name__ == "__main__":
    run_command(main)
