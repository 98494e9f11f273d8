"""The table of losses: every registered term with what it computes, what it cannot see and where it comes from.

python -m tools.list_losses                    # prints it
python -m tools.list_losses --write README.md  # renews the table in a file, between its two marks
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from pathlib import Path

from losses import TERMS, LossTerm
from tools.cli import UserError, parse_arguments, run_command
from tools.files import write_text

BEGIN = "<!-- losses: python -m tools.list_losses --write README.md -->"
END = "<!-- end of losses -->"


@dataclass(frozen=True)
class ListSettings:
    """Where the table goes."""

    write: str = ""
    """A Markdown file whose table is renewed; the table is printed where none is named."""


def loss_table() -> str:
    """The Markdown table of all terms, base ones first."""
    lines = ["| term | | definition | does not see | source |", "|---|---|---|---|---|"]
    for name, term in sorted(TERMS.items(), key=lambda item: item[1].perceptual):
        definition, source = _describe(term)
        kind = "perceptual" if term.perceptual else "base"
        cells = [name, kind, definition, ", ".join(term.invariances), source]
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines)


def renew_table(text: str) -> str:
    """The text with the table between the marks renewed; ValueError if it has none."""
    head, begin, rest = text.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not end:
        raise ValueError(f"found no table, expected the marks {BEGIN} and {END}")
    return f"{head}{begin}\n{loss_table()}\n{end}{tail}"


def _describe(term: type[LossTerm]) -> tuple[str, str]:
    """First paragraph of a term's docstring, and what follows "Source:", each on one line."""
    paragraphs = [" ".join(paragraph.split()) for paragraph in (inspect.getdoc(term) or "").split("\n\n")]
    sources = [paragraph.removeprefix("Source: ") for paragraph in paragraphs if paragraph.startswith("Source: ")]
    return paragraphs[0].rstrip("."), "".join(sources).rstrip(".")


def main() -> None:
    path = parse_arguments(ListSettings, __doc__).write
    if not path:
        print(loss_table())
        return
    try:
        renewed = renew_table(Path(path).read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{path}: {error}") from None
    write_text(path, renewed)


if __name__ == "__main__":
    run_command(main)
