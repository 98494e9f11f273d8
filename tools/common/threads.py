"""How long the threads of one computation wait for each other; imports no torch, which reads it when it loads."""

import os

# About 50 µs: long enough to find the next piece of work without going to sleep, short enough for a thread whose
# core another program has. The default is milliseconds. docs/training.md, "Threads", has the measurements.
BRIEF = {"GOMP_SPINCOUNT": "1000", "KMP_BLOCKTIME": "0"}
OF_USER = {"OMP_WAIT_POLICY", *BRIEF}


def wait_briefly() -> None:
    """Let idle threads give their core away soon, unless the user has chosen how they wait.

    Call it before torch is imported. By default OpenMP's threads spin while they wait for one whose core another
    program has: a step on two threads then takes the processor time of ten to thirty.
    """
    if not OF_USER & os.environ.keys():
        os.environ.update(BRIEF)
