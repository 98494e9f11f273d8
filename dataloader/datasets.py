"""The items of a packed set: mixtures on disk, or mixed again in every epoch."""

from collections.abc import Collection
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from tools.common.errors import UserError

from .files import DESCRIPTION, Description, Waveforms, open_array
from .mixing import mix
from .random_draws import Piece, SegmentDraw

# Axes of each file before [2, samples], where 0 is noisy and 1 is clean.
LEADING_AXES = {"train": ("N",), "valid": ("N",), "test": ("noise type", "dB", "N")}
SPEECH, ACTIVE, NOISE, NOISE_INDEX = "train_speech", "train_active", "train_noise", "train_noise_index"


class PackedDataset(Dataset):
    """Items of `<folder>/<split>.npy`: (noisy [samples], clean [samples], number of the item).

    Items are numbered over the axes before [2, samples], the last one fastest. An item is read when it is
    requested. Stored as float32 or int16 full scale; returned as float32 in [-1, 1]. Raises UserError.
    """

    def __init__(self, folder: str | Path, split: str) -> None:
        self._waveforms = Waveforms(folder, split, *LEADING_AXES[split], 2, "samples")
        self.path = self._waveforms.path
        self.grid, self.samples = self._waveforms.shape[:-2], self._waveforms.shape[-1]
        self.description = Description.read(folder, self.grid if split == "test" else None)

    def __len__(self) -> int:
        return int(np.prod(self.grid))

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor, int]:
        index = np.unravel_index(number, self.grid)
        pair = self._waveforms.read(*map(int, index))  # [2, samples]
        if not np.isfinite(pair).all():
            index = ", ".join(map(str, index))
            raise UserError(f"{self.path}: item [{index}] holds NaN or infinity, expected finite samples")
        noisy, clean = torch.from_numpy(pair)
        return noisy, clean, number

    def cell(self, number: int) -> tuple[str, float, int]:
        """Return noise type, SNR in dB and utterance number of an item of the test grid."""
        noise, snr, utterance = np.unravel_index(number, self.grid)
        return self.description.noise_types[noise], self.description.snr_db[snr], int(utterance)


class OnTheFlyDataset(Dataset):
    """Items (noisy [samples], clean [samples], number): a mixture for each clip of speech.

    Level, SNR and noise depend only on seed, epoch (see `start_epoch`) and number of the item, not on worker or
    order. Files (waveforms are float32 or int16 full scale):

    - `train_speech` `[N, samples]`;
    - `train_active.npy` `[N, 2]`: first and last + 1 sample of speech, the span that counts for the SNR;
    - `train_noise` `[rows, samples]`: recordings of noise one after the other, each from the start of a row;
    - `train_noise_index.npy` `[recordings, 3]`: first row, length in samples and type number of each;
    - `dataset.json`: `on_the_fly` with SNRs, levels and weights of the noise types.

    `augment` names random changes of what is mixed (see `Augmentation`). Raises UserError.
    """

    def __init__(self, folder: str | Path, augment: Collection[str] = ()) -> None:
        from .augmentation import Augmentation  # scipy takes seconds to import

        self.path = Path(folder)
        self._augment = partial(Augmentation, augment)
        self._speech = Waveforms(folder, SPEECH, "N", "samples")
        self.samples = self._speech.shape[1]
        self._noise = Waveforms(folder, NOISE, "rows", self.samples)
        self._active = self._read_integers(ACTIVE, len(self), 2)
        self._index = self._read_integers(NOISE_INDEX, None, 3)
        self._draw = Description.read(folder).on_the_fly
        if self._draw is None:
            raise UserError(
                f"{self.path / DESCRIPTION}: found no on_the_fly, expected SNRs and levels for {SPEECH}"
            )
        kinds, lengths = self._index[:, 2].tolist(), self._index[:, 1]
        self._segments = SegmentDraw(kinds, lengths, self.samples, self._draw.type_weights)
        # In shared memory, because worker processes live longer than an epoch.
        self._seed_and_epoch = torch.zeros(2, dtype=torch.int64).share_memory_()

    def start_epoch(self, seed: int, epoch: int) -> None:
        """Set seed and epoch of the following items, in worker processes too."""
        self._seed_and_epoch[:] = torch.tensor([seed, epoch])

    def __len__(self) -> int:
        return self._speech.shape[0]

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor, int]:
        rng = np.random.default_rng([*self._seed_and_epoch.tolist(), number])
        change = self._augment(np.random.default_rng([*self._seed_and_epoch.tolist(), number, 1]))
        speech = self._speech.read(number)
        active = slice(*self._active[number].tolist())

        def draw_noise(rng: np.random.Generator) -> np.ndarray:
            return self._segments.draw(rng, self._read_noise, active)[0]

        snr_db, level_db = self._draw.draw(rng)
        try:
            speech, noise = change.sources(speech, draw_noise(rng), draw_noise, active)
            mixture = mix(speech, noise, change.snr_db(snr_db), level_db, active=active, dtype="float32")
        except (ValueError, LookupError) as error:
            raise UserError(f"{self._speech.path}: item [{number}]: {error}") from None
        return torch.from_numpy(change.recorded(mixture.noisy)), torch.from_numpy(mixture.clean), number

    def _read_noise(self, piece: Piece) -> np.ndarray:
        """Return the samples of a piece; its recording begins with a row."""
        first, skip = divmod(piece.start, self.samples)
        first += int(self._index[piece.recording, 0])
        rows = [self._noise.read(first + n) for n in range(-(-(skip + piece.count) // self.samples))]
        return np.concatenate(rows)[skip : skip + piece.count]

    def _read_integers(self, name: str, rows: int | None, columns: int) -> np.ndarray:
        path = self.path / f"{name}.npy"
        array = np.array(open_array(path))
        shape = (rows or max(len(array), 1), columns)
        if array.shape != shape or array.dtype.kind != "i":
            raise UserError(f"{path}: found {array.dtype} {list(array.shape)}, expected integers {list(shape)}")
        return array


def is_on_the_fly(folder: str | Path) -> bool:
    """Return whether the training items of a set are mixed again in every epoch."""
    return any((Path(folder) / name).exists() for name in (SPEECH, f"{SPEECH}.npy"))
