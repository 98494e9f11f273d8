"""List the loss terms and published combinations with their definitions, invariances and sources.

python -m tools.list_losses                         # print the table
python -m tools.list_losses --write docs/losses.md  # update the table in a file, between its two marks
"""

import inspect
from dataclasses import dataclass

from losses import TERMS, LossTerm
from losses.names import COMBINATIONS
from tools.common.command_line import parse_arguments, run_command
from tools.common.files import write_block
from tools.reports.tables import Table

WAVEFORM = "losses.waveform"  # its terms come first


@dataclass(frozen=True)
class ListSettings:
    """Where the table goes."""

    write: str = ""
    """Markdown file whose table to update; without one the table is printed."""


def loss_table() -> str:
    """Return the Markdown table of all terms, those on waveforms first, and combinations."""
    rows = {}
    for name, term in sorted(TERMS.items(), key=lambda item: (item[1].perceptual, item[1].__module__ != WAVEFORM)):
        definition, source = _describe(term)
        rows[name] = ["1" if term.perceptual else "balance", definition, ", ".join(term.invariances), source]
    rows |= {name: ["", loss, "", source] for name, (loss, source) in COMBINATIONS.items()}
    columns = ["in balancing", "definition", "does not see", "source"]
    return Table.of(rows, columns, "term").markdown()


def _describe(term: type[LossTerm]) -> tuple[str, str]:
    """Return the first paragraph of a term's docstring, and the text after "Source:", each on one line."""
    paragraphs = [" ".join(paragraph.split()) for paragraph in (inspect.getdoc(term) or "").split("\n\n")]
    sources = [paragraph.removeprefix("Source: ") for paragraph in paragraphs if paragraph.startswith("Source: ")]
    return paragraphs[0].rstrip("."), "".join(sources).rstrip(".")


def main() -> None:
    path = parse_arguments(ListSettings, __doc__).write
    if path:
        write_block(path, "losses", loss_table())
    else:
        print(loss_table())


if __name__ == "__main__":
    run_command(main)
