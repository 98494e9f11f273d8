"""Networks that hear a whole recording, on long ones in overlapping chunks."""

import numpy as np
import torch
from torch import nn

from config import SAMPLE_RATE

CHUNK_SECONDS, OVERLAP_SECONDS = 10, 1


class ChunkEnhancer:
    """A network that needs the whole recording, on overlapping chunks, with the interface of `StreamingEnhancer`.

    Signals of up to 10 s are enhanced as a whole. Longer ones are cut into chunks of 5.5 to 10 s that overlap by a
    second, over which the estimate fades from one to the next.
    """

    chunk, overlap = CHUNK_SECONDS * SAMPLE_RATE, OVERLAP_SECONDS * SAMPLE_RATE  # samples

    def __init__(self, model: nn.Module, channels: int) -> None:
        self.model = model
        self.device = next(model.parameters(), torch.empty(0)).device
        self.waiting = np.zeros((channels, 0), np.float32)  # from the next chunk on
        self.before: np.ndarray | None = None  # the end of the last estimate, which overlaps the next chunk
        self.latency = 2 * self.chunk - self.overlap

    def push(self, samples: np.ndarray) -> np.ndarray:
        """Return the estimate [channels, m] that is ready after [channels, n]."""
        self.waiting = np.concatenate([self.waiting, samples], 1)
        ready = [self.waiting[:, :0]]
        while self.waiting.shape[1] >= self.latency:  # leaves a whole chunk or more
            ready.append(self._next(self.chunk))
        return np.concatenate(ready, 1)

    def flush(self) -> np.ndarray:
        """Return the rest of the estimate, of one chunk or of two of equal length."""
        left = self.waiting.shape[1]
        ready = [self._next((left + self.overlap + 1) // 2)] if left > self.chunk else []
        ready.append(self._next(self.waiting.shape[1], last=True))
        return np.concatenate(ready, 1)

    def _next(self, samples: int, last: bool = False) -> np.ndarray:
        """Return the next chunk's estimate up to the beginning of the chunk after it."""
        with torch.inference_mode():
            noisy = torch.from_numpy(self.waiting[:, :samples]).to(self.device)
            estimate = torch.cat([self.model(pair) for pair in noisy.split(2)]).cpu().numpy()
        if self.before is not None:
            share = ((np.arange(self.overlap) + 0.5) / self.overlap).astype(np.float32)
            estimate[:, : self.overlap] = self.before + share * (estimate[:, : self.overlap] - self.before)
        end = samples if last else samples - self.overlap
        self.waiting, self.before = self.waiting[:, end:], None if last else estimate[:, end:]
        return estimate[:, :end]
