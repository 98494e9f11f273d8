"""Make the demo corpus: synthetic speech, synthetic noise, packed for training and testing.

    python -m tools.make_demo_corpus [--out data/demo] [--seed 0] [--overwrite]

The same seed gives the same files, byte for byte.
"""

import functools
from typing import Any

from tools.common.command_line import parse_arguments, run_command
from tools.demo_corpus.corpus import make_demo_corpus


@functools.wraps(make_demo_corpus)
def _arguments(**arguments: Any) -> dict[str, Any]:
    return arguments


def main() -> None:
    arguments = parse_arguments(_arguments, __doc__)
    make_demo_corpus(**arguments)
    print(f"{arguments['out']} is complete")


if __name__ == "__main__":
    run_command(main)
