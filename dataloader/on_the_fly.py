"""Training items mixed again in every epoch from separately packed speech and noise."""

from collections.abc import Collection
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from tools.common.errors import UserError

from .arrays import ArrayFile, Shards, exists
from .augmentation import Augmentation
from .description import Description
from .mixing import mix_at_level
from .packed import as_float
from .random_draws import Piece, SegmentDraw

SPEECH, ACTIVE, NOISE, NOISE_INDEX = "train_speech", "train_active", "train_noise", "train_noise_index"


class OnTheFlyDataset(Dataset):
    """Items (noisy [samples], clean [samples], number): a mixture for each clip of speech.

    Level, SNR and noise depend only on seed, epoch (see `start_epoch`) and number of the item, not on worker or
    order. Files (waveforms are float32 or int16 full scale):

    - `train_speech` `[N, samples]`, or shards of it;
    - `train_active.npy` `[N, 2]`: first and last + 1 sample of speech, the span that counts for the SNR;
    - `train_noise.npy` `[rows, samples]`: recordings of noise one after the other, each from the start of a row;
    - `train_noise_index.npy` `[recordings, 3]`: first row, length in samples and type number of each;
    - `dataset.json`: `on_the_fly` with SNRs, levels and weights of the noise types.

    `augment` names random changes of what is mixed (see `Augmentation`). Raises UserError.
    """

    def __init__(self, folder: str | Path, augment: Collection[str] = ()) -> None:
        folder = Path(folder)
        self._augment = augment
        self.path = folder
        self._speech = Shards(folder, SPEECH, "N", "samples")
        self.samples = self._speech.shape[1]
        self._noise = Shards(folder, NOISE, "rows", self.samples)
        self._active = ArrayFile.open(folder / f"{ACTIVE}.npy")
        index = ArrayFile.open(folder / f"{NOISE_INDEX}.npy")
        for array, shape in ((self._active, (len(self), 2)), (index, (*index.shape[:1], 3))):
            if array.shape != shape or array.dtype.kind != "i" or 0 in shape:
                raise UserError(
                    f"{array.path}: found {array.dtype} {list(array.shape)}, expected integers {list(shape)}"
                )
        self._index = index.read()
        self._draw = Description.read(folder, None).on_the_fly
        if self._draw is None:
            raise UserError(
                f"{folder / 'dataset.json'}: found no on_the_fly, expected SNRs and levels for {SPEECH}"
            )
        self._segments = SegmentDraw(self._index[:, 2], self._index[:, 1], self.samples, self._draw.type_weights)
        # In shared memory, because worker processes live longer than an epoch.
        self._seed_and_epoch = torch.zeros(2, dtype=torch.int64).share_memory_()

    def start_epoch(self, seed: int, epoch: int) -> None:
        """Set seed and epoch of the following items, in worker processes too."""
        self._seed_and_epoch[:] = torch.tensor([seed, epoch])

    def __len__(self) -> int:
        return self._speech.shape[0]

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor, int]:
        rng = np.random.default_rng([*self._seed_and_epoch.tolist(), number])
        speech = as_float(self._speech.read(number))
        active = slice(*self._active.read(number).tolist())
        snr_db, level_db = self._draw.draw(rng)
        change = Augmentation(self._augment, np.random.default_rng([*self._seed_and_epoch.tolist(), number, 1]))
        try:
            noise = self._draw_noise(rng, active)
            speech, noise = change.sources(speech, noise, lambda rng: self._draw_noise(rng, active), active)
            snr_db = change.snr_db(snr_db)
            mixture, _ = mix_at_level(speech, noise, snr_db, level_db, active=active, dtype=np.float32)
        except UserError:
            raise
        except ValueError as error:
            raise UserError(f"{self._speech.path}: item [{number}]: {error}") from None
        return torch.from_numpy(change.recorded(mixture.noisy)), torch.from_numpy(mixture.clean), number

    def _draw_noise(self, rng: np.random.Generator, active: slice) -> np.ndarray:
        return self._segments.draw(rng, self._read_noise, active)[0]

    def _read_noise(self, piece: Piece) -> np.ndarray:
        """Return the samples of a piece; its recording begins with a row."""
        first, skip = divmod(piece.start, self.samples)
        first += int(self._index[piece.recording, 0])
        rows = [self._noise.read(first + n) for n in range(-(-(skip + piece.count) // self.samples))]
        return as_float(np.concatenate(rows)[skip : skip + piece.count])


def is_on_the_fly(folder: str | Path) -> bool:
    """Return whether the training items of a set are mixed again in every epoch."""
    return exists(folder, SPEECH)
