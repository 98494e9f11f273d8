"""Random generators that depend on a seed and a name, not on what was drawn before."""

import zlib

import numpy as np


def generator(seed: int, *key: str | int) -> np.random.Generator:
    """Return the generator for a key, such as item 7 of the training: `generator(seed, "train", 7)`."""
    return np.random.default_rng([seed, *(zlib.crc32(str(part).encode(errors="surrogateescape")) for part in key)])
