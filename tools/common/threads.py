"""How long idle threads spin; this file does not import torch, which reads the setting when it loads."""

import os

# Spin for about 50 µs: long enough to get the next work without sleeping, short if another program uses the core.
# The default is milliseconds. docs/training.md, "Threads", has the measurements.
BRIEF = {"GOMP_SPINCOUNT": "1000", "KMP_BLOCKTIME": "0"}
OF_USER = {"OMP_WAIT_POLICY", *BRIEF}


def wait_briefly() -> None:
    """Let idle threads release their core soon, unless the user has set how they wait.

    Call it before torch is imported. By default OpenMP's threads spin while they wait for a thread whose core
    another program uses: a step on two threads then takes 10 to 30 times as much processor time.
    """
    if not OF_USER & os.environ.keys():
        os.environ.update(BRIEF)
