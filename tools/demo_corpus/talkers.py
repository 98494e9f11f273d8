"""The demo corpus's talkers: eSpeak NG accents and speakers, each at its own pitch and rate."""

from dataclasses import dataclass

import numpy as np

ACCENTS = ["en-us", "en-us-nyc", "en-gb-x-rp", "en-gb-scotland", "en-gb-x-gbclan", "en-gb-x-gbcwmd", "en-029"]
# eSpeak's variants by split, so that no voice of the test is in training. Similar variants (Gene2 and Gene, linda
# and belinda) share a split or are left out, and so are whispers, robots, and variants that echo or clip.
VARIANTS = {
    "train": (
        *("f1", "f2", "f5", "aunty", "belinda", "linda", "anika", "shelby"),
        *("m2", "m4", "m5", "m6", "m7", "adam", "boris", "ed", "grandpa", "pedro", "victor", "miguel"),
    ),
    "valid": ("f4", "grandma", "steph2", "m1", "Gene", "paul"),
    "test": ("f3", "Annie", "Andrea", "m3", "Michael", "robert"),
}


@dataclass(frozen=True)
class Talker:
    """Arguments of `tools.demo_corpus.espeak.synthesise`, and the talker's name."""

    talker: str
    voice: str
    variant: str
    pitch: int
    rate: int


def draw_talkers(split: str, count: int, rng: np.random.Generator) -> list[Talker]:
    """Return random talkers of a split (train, valid or test), with all its variants about equally often."""
    variants = VARIANTS[split]
    order = np.concatenate([rng.permutation(len(variants)) for _ in range(-(-count // len(variants)))])
    return [
        Talker(
            talker=f"{split}_{number:02d}",
            voice=ACCENTS[rng.integers(len(ACCENTS))],
            variant=variants[order[number]],
            pitch=int(rng.integers(38, 63)),
            rate=int(rng.integers(145, 196)),
        )
        for number in range(count)
    ]
