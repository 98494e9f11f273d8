"""Compare tested runs: tables, differences with confidence intervals, curves, and a page to listen to.

    python -m tools.compare DCCRN_MSE DCCRN_MSE+LMS DCCRN_SI-SNR --baseline DCCRN_MSE

Takes names or folders of runs; writes results/<name>/. Runs that differ only in their seed are pooled.
"""

from tools.common.command_line import parse_arguments, run_command
from tools.reports.report import CompareSettings, compare


def main() -> None:
    compare(parse_arguments(CompareSettings, __doc__))


if __name__ == "__main__":
    run_command(main)
