"""Long recordings in overlapping pieces, for networks that need a whole recording at once."""

import torch
from torch import Tensor, nn

from config import SAMPLE_RATE

PIECE_SECONDS, OVERLAP_SECONDS = 10, 1


class PieceEnhancer:
    """The network of `model` on overlapping pieces of a signal, with the interface of `StreamingEnhancer`.

        enhancer = PieceEnhancer(model, channels)
        estimate = enhancer.push(noisy)  # [channels, n] to [channels, m]; m may be 0
        rest = enhancer.flush()

    Signals of up to 10 s are enhanced as a whole. Longer ones are cut into pieces of 5.5 to 10 s that overlap by a
    second, over which the estimate fades from one to the next.
    """

    piece, overlap = PIECE_SECONDS * SAMPLE_RATE, OVERLAP_SECONDS * SAMPLE_RATE  # samples

    def __init__(self, model: nn.Module, channels: int) -> None:
        self.model = model
        self.waiting = next(model.parameters(), torch.empty(0)).new_zeros(channels, 0)  # from the next piece on
        self.before: Tensor | None = None  # the end of the last estimate, which overlaps the next piece
        self.latency = 2 * self.piece - self.overlap

    def push(self, samples: Tensor) -> Tensor:
        """Return the estimate that is ready now."""
        self.waiting = torch.cat([self.waiting, samples.to(self.waiting)], 1)
        ready = [self.waiting[:, :0]]
        while self.waiting.shape[1] >= self.latency:  # leaves a whole piece or more
            ready.append(self._next(self.piece))
        return torch.cat(ready, 1)

    def flush(self) -> Tensor:
        """Return the rest of the estimate, of one piece or of two of equal length."""
        left = self.waiting.shape[1]
        ready = [self._next((left + self.overlap + 1) // 2)] if left > self.piece else []
        ready.append(self._next(self.waiting.shape[1], last=True))
        return torch.cat(ready, 1)

    def _next(self, samples: int, last: bool = False) -> Tensor:
        """Return the next piece's estimate up to the beginning of the piece after it."""
        with torch.inference_mode():
            channels = [self.model(channel[None]) for channel in self.waiting[:, :samples]] if samples else []
            estimate = torch.cat(channels or [self.waiting])
        if self.before is not None:
            share = (torch.arange(self.overlap) + 0.5).to(estimate) / self.overlap
            faded = torch.lerp(self.before, estimate[:, : self.overlap], share)
            estimate = torch.cat([faded, estimate[:, self.overlap :]], 1)
        end = samples if last else samples - self.overlap
        self.waiting, self.before = self.waiting[:, end:], None if last else estimate[:, end:]
        return estimate[:, :end]
