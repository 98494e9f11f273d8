"""English sentences from a small grammar, grammar.ini: what the talkers of the demo corpus say."""

import configparser
import functools
import re
import zlib
from pathlib import Path

import numpy as np

# The checksum of a sentence decides its split, so that no sentence is in two splits.
SPLITS = ("train", "train", "train", "train", "train", "train", "valid", "test")


def draw_sentence(split: str, rng: np.random.Generator) -> str:
    """Return a random sentence of a split (train, valid or test)."""
    templates, words = _grammar()

    def draw(slot: re.Match[str]) -> str:
        choices = words[slot[1]]
        return choices[rng.integers(len(choices))]

    while True:
        sentence = re.sub(r"\{(\w+)\}", draw, templates[rng.integers(len(templates))])
        sentence = sentence[0].upper() + sentence[1:]
        if SPLITS[zlib.crc32(sentence.encode()) % len(SPLITS)] == split:
            return sentence


@functools.cache
def _grammar() -> tuple[list[str], dict[str, list[str]]]:
    """Return the templates of sentences, and the words of each slot."""
    grammar = configparser.ConfigParser(interpolation=None)
    grammar.read(Path(__file__).with_name("grammar.ini"), encoding="utf-8")
    words = {slot: " ".join(text.split()).split(", ") for slot, text in grammar["words"].items()}
    return grammar["sentences"]["templates"].strip().split("\n"), words
