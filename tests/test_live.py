"""The microphone through a simulated sound card: a pause of the computer leaves no delay."""

import contextlib
import queue
import sys
from types import ModuleType

import numpy as np
import pytest
from networks import passing

from tools.inference import live
from tools.inference.signal_chain import EnhanceOptions, SignalChain

BLOCK = 320  # samples, 20 ms
BUFFERED = 3 * BLOCK  # what the card takes before its `write` waits
SECONDS = 8


class Card(ModuleType):
    """Plays and records noise in simulated time, which passes while the program waits; in place of sounddevice."""

    PortAudioError = RuntimeError

    def __init__(self):
        super().__init__("sounddevice")
        self.recorded = 0.1 * np.random.default_rng(0).standard_normal((SECONDS * 16000, 1)).astype(np.float32)
        self.played, self.waiting = [], np.zeros((0, 1), np.float32)

    def InputStream(self, callback, **_):
        self.callback = callback
        return contextlib.nullcontext()

    def OutputStream(self, **_):
        return contextlib.nullcontext(self)

    def write(self, samples):
        self.waiting = np.concatenate([self.waiting, samples])
        while len(self.waiting) > BUFFERED:
            self.pass_time()

    def pass_time(self):
        """Record and play a block; Ctrl-C at the end of the recording."""
        at = BLOCK * len(self.played)
        if at == len(self.recorded):
            raise KeyboardInterrupt
        self.played.append(np.pad(self.waiting[:BLOCK], ((0, BLOCK - len(self.waiting[:BLOCK])), (0, 0))))
        self.waiting = self.waiting[BLOCK:]
        self.callback(self.recorded[at : at + BLOCK], BLOCK, None, None)

    def delay(self, second):
        """Return the delay in seconds of what is played in that second."""
        played, start = np.concatenate(self.played)[:, 0], second * 16000
        lags = np.arange(0, 16000, 10)
        scores = [played[start : start + 16000] @ self.recorded[start - lag :, 0][:16000] for lag in lags]
        return lags[np.argmax(np.convolve(np.abs(scores), np.ones(3), "same"))] / 16000


@pytest.fixture
def card(monkeypatch):
    card = Card()

    class Waiting(queue.Queue):
        def get(self):
            while self.empty():
                card.pass_time()
            return super().get()

    monkeypatch.setitem(sys.modules, "sounddevice", card)
    monkeypatch.setattr(live.queue, "Queue", Waiting)
    return card


@pytest.mark.parametrize("seconds", [0.05, 0.3, 2])
def test_a_hiccup_leaves_no_delay_and_is_counted(card, monkeypatch, capsys, seconds):
    push, calls = SignalChain.push, []

    def slow_once(chain, noisy):
        calls.append(1)
        if len(calls) == 150:  # after 3 s
            for _ in range(round(seconds / 0.02)):
                card.pass_time()
        return push(chain, noisy)

    monkeypatch.setattr(SignalChain, "push", slow_once)
    live.enhance_microphone(passing(), None, None, EnhanceOptions())
    before, after = card.delay(2), card.delay(6)
    assert before < 0.16
    assert after < before + 0.1
    late = float(capsys.readouterr().out.split()[0])
    assert late == pytest.approx(max(0, seconds - 0.1), abs=0.1)
