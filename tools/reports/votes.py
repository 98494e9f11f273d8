"""Blind votes from the listening page, pooled over listeners into a ranking."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np

from tools.common.errors import UserError
from tools.common.files import fingerprint, read_json

RESAMPLES = 1000
ITERATIONS = 200


class Vote(msgspec.Struct):
    """The signal that a listener preferred at a place, and the signals to choose from."""

    preferred: str
    among: tuple[str, ...]


class Ballot(msgspec.Struct):
    """A file that the page saves: the votes of a listener."""

    format: Literal[1]
    listener: str
    comparison: str
    votes: list[Vote]


def comparison_id(places: Iterable[Any]) -> str:
    """Return a digest of the audio of a page's places and its names."""
    heard = [[place.key, {name: fingerprint(path) for name, path in place.files.items()}] for place in places]
    return hashlib.blake2b(json.dumps(heard).encode(), digest_size=8).hexdigest()


def read_votes(paths: Sequence[Path], comparison: str, signals: Sequence[str]) -> list[Ballot]:
    """Return what listeners saved with the page of this comparison, one file a listener, without empty ones.

    Raises UserError for other files, another comparison, and repeated listeners.
    """
    ballots, listeners = [], {}
    for path in paths:
        ballot = read_json(path, Ballot, "save votes with the page's button")
        if ballot.comparison != comparison:
            raise UserError(
                f"{path}: holds votes on another comparison, {ballot.comparison}, expected {comparison}; "
                "name the same runs and --utterances as for the page that was voted on"
            )
        for vote in ballot.votes:
            if vote.preferred not in vote.among or not set(vote.among) <= set(signals):
                raise UserError(f"{path}: found a vote for {vote.preferred} among {', '.join(vote.among)}")
        if ballot.listener in listeners:
            raise UserError(f"{path}: is by the listener of {listeners[ballot.listener]}; name one of the two")
        listeners[ballot.listener] = path
        ballots.append(ballot)
    return [ballot for ballot in ballots if ballot.votes]


def preference_rows(ballots: Sequence[Ballot], signals: Sequence[str]) -> dict[str, list[str]]:
    """Return each signal's votes and the probability, in %, that it is preferred among all, with 95% intervals.

    The model is that of Bradley & Terry (1952), for choices among several Luce (1959). Intervals come from a
    bootstrap over listeners, or over votes if there are fewer than three listeners.
    """
    votes = [vote for ballot in ballots for vote in ballot.votes]
    units = [ballot.votes for ballot in ballots] if len(ballots) >= 3 else [[vote] for vote in votes]
    rng = np.random.default_rng(0)
    draws = rng.integers(len(units), size=(RESAMPLES, len(units)))
    samples = [strengths([vote for n in draw for vote in units[n]], signals) for draw in draws]
    low, high = np.quantile(samples, (0.025, 0.975), axis=0)
    wins, heard = Counter(vote.preferred for vote in votes), Counter(one for vote in votes for one in vote.among)
    return {
        signal: [f"{wins[signal]} of {heard[signal]}", f"{100 * share:.0f} [{100 * a:.0f}, {100 * b:.0f}]"]
        for signal, share, a, b in zip(signals, strengths(votes, signals), low, high, strict=True)
    }


def strengths(votes: Sequence[Vote], signals: Sequence[str]) -> np.ndarray:
    """Return the probability that each signal is preferred among all of them, [signals]; they sum to 1.

    Maximum likelihood by Hunter's algorithm (2004). Half a vote for and against each signal, compared with one of
    average strength, keeps strengths finite if a signal always or never won.
    """
    number = {signal: n for n, signal in enumerate(signals)}
    wins = np.full(len(signals), 0.5)
    choices = Counter(tuple(sorted(number[signal] for signal in vote.among)) for vote in votes)
    for vote in votes:
        wins[number[vote.preferred]] += 1
    strength = np.ones(len(signals))
    for _ in range(ITERATIONS):
        denominator = 1 / (strength + 1)
        for among, count in choices.items():
            denominator[list(among)] += count / strength[list(among)].sum()
        before, strength = strength, wins / denominator
        strength /= np.exp(np.log(strength).mean())
        if np.allclose(before, strength, rtol=1e-6):
            break
    return strength / strength.sum()
