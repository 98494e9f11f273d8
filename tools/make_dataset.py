"""Make a packed data set from folders of speech and noise, from ready-made pairs, or from a known corpus.

    python -m tools.make_dataset --out data/mine --speech DIR --noise DIR
    python -m tools.make_dataset --out data/pairs --pairs NOISY CLEAN
    python -m tools.make_dataset --out data/vb --layout voicebank-demand --root DIR

The same command gives the same files, byte for byte, with any number of workers.
"""

import sys

from tools.common.command_line import parse_arguments, run_command
from tools.common.settings import named_settings
from tools.corpora.build import build
from tools.corpora.settings import DatasetSettings


def main() -> None:
    build(parse_arguments(DatasetSettings, __doc__), named_settings(sys.argv[1:]))


if __name__ == "__main__":
    run_command(main)
