"""One experiment: every setting with its default, unit, meaning and allowed values.

The defaults are the paper's full network and its training. Change them here, or override any of them on the
command line of train.py and test.py: `python train.py --loss SI-SNR+LMS --batch_size 8`.
"""

from __future__ import annotations

import dataclasses
import re
import string
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from tools.common.errors import UserError

DEMO_DATA = "data/demo"
SAMPLE_RATE = 16_000  # Hz, of data sets, networks and scores


def _lists_as_tuples(kind: type) -> type:
    """Allow lists as defaults, which a dataclass refuses."""
    for name, value in list(vars(kind).items()):
        if isinstance(value, list):
            setattr(kind, name, tuple(value))
    return kind


@dataclasses.dataclass(frozen=True)
@_lists_as_tuples
class Config:
    """All settings of one experiment."""

    # -- The run --
    name: str = "{model}_{loss}"
    """Name of the run, for runs/<name> and samples/<name>; {field} stands for that setting's value, with x instead
    of *, which file names may not contain: SI-SNR+0.3xMR-STFT."""
    seed: int = 0
    """Seed of the initial weights and of the order of the training items; 0 or more."""
    device: str = "auto"
    """Where to compute: auto (CUDA if there is a GPU, else CPU), cpu, cuda or cuda:<number>."""

    # -- The data --
    data: str = DEMO_DATA
    """Folder of the packed set: train.npy, valid.npy, test.npy, dataset.json; data/demo is made if missing."""
    sample_rate: Literal[SAMPLE_RATE] = SAMPLE_RATE  # type: ignore[valid-type]
    """In Hz; the network's frames, PMSQE and wide-band PESQ are defined at 16000 only."""
    workers: int = -1
    """Processes that load data; 0 loads in the main process, -1 means 4 on a GPU and 0 on a CPU."""

    augment: tuple[
        Literal["synthetic", "second-noise", "equalise", "band-limit", "room", "clip", "clean", "speed"], ...
    ] = ()
    """Random changes of training items, for data made with --mix on-the-fly. synthetic: steady noise with a random
    spectrum instead of recorded noise; second-noise: two noises at once; speed: recorded noise played at half to
    twice its speed; equalise: random filters for speech and noise; band-limit: low-pass at 3 to 7.5 kHz for both;
    room: short reverberation of speech, also in the target; clip: noisy clipped; clean: hardly any noise (choose a
    loss with a limit, such as SNR: in others these items outweigh the rest)."""

    # -- The network --
    model: str = "DCCRN"
    """The network; python -m tools.list_networks explains each and its settings. Several networks share those
    below; None stands for the network's default."""
    mask: str | None = None
    """How the output changes the noisy spectrum. E: magnitude through tanh, phases add; C: complex product; R:
    real and imaginary part separately; none: no mask, the network estimates the spectrum itself."""
    kernel_num: tuple[int, ...] | None = None
    """Channels of each encoder layer, in complex networks real and imaginary together."""
    rnn_units: int | None = None
    """Units of a recurrent layer, in complex networks real and imaginary together."""
    rnn_layers: int | None = None
    """Recurrent layers."""
    lstm: str | None = None
    """complex: the complex product of two LSTMs a layer; real: one LSTM over all channels."""
    norm: str | None = None
    """batch: batch norm of every channel; complex: 2 x 2 whitening of real and imaginary part."""
    skip: bool | None = None
    """Skip connections: each decoder layer also gets the output of the encoder layer of its size."""
    network: tuple[str, ...] = ()
    """Other settings of the network, as name=value."""

    # -- The loss --
    loss: str = "SI-SNR"
    """One or several terms, such as SI-SNR+LMS; numbers before terms are their weights: SI-SNR+0.3*MR-STFT."""
    coupling: Literal["paper", "balanced"] | tuple[float, ...] = "paper"
    """Weights of the loss's terms, divided by their sum: paper (published constants, in losses/coupling.py),
    one positive number a term, or balanced (adjusted in training to the influences that balance sets)."""
    balance: float = 1.0
    """With balanced coupling, the ratio of the influences of a base term and a perceptual one: 1 to 10 in the
    paper; above 0."""

    # -- The training --
    init: str = ""
    """Start from these weights instead of random ones: a checkpoint, a run's folder or name, or pretrained, the
    packaged network. Model and network settings are then the checkpoint's."""
    epochs: int = 100
    """Passes over the training items; 1 or more."""
    batch_size: int = 15
    """Utterances in a step, over all processes; 1 or more."""
    learning_rate: float = 5e-4
    """Learning rate of Adam; with a schedule, the highest one; above 0."""
    schedule: Literal["constant", "plateau", "cosine"] = "constant"
    """Schedule of the learning rate. plateau: halved after every epoch without a new lowest validation loss;
    cosine: falls to 0 over half a cosine until the end of the last epoch."""
    warmup_steps: int = 0
    """Steps over which the learning rate first rises linearly; 0 for none."""
    clip_grad: float = 0.0
    """Largest L2 norm of the gradient; a larger one is scaled down to it. 0 for no limit."""
    ema: float = 0.0
    """Decay of a moving average of the weights, such as 0.999, which is validated and saved as best.pt; 0 uses
    the weights themselves."""
    patience: int = 0
    """Number of epochs without a new best after which training stops early; 0 for never."""
    best_by: Literal["loss", "pesq"] = "loss"
    """Criterion of the best epoch: the lowest validation loss or the highest validation PESQ."""
    skip_nonfinite: int = 0
    """Steps of an epoch that may be skipped because loss or gradient is not finite; one more is an error."""
    valid_scores: int = 100
    """Validation utterances to score after each epoch, 0 for none; the validation loss is that of all."""
    valid_metrics: tuple[str, ...] = ("pesq", "stoi", "estoi", "si_sdr")
    """The scores of validation; names as for metrics."""
    checkpoint_minutes: float = 10.0
    """Minutes between checkpoints within an epoch; 0 for checkpoints only at the end of each epoch."""

    # -- The computation --
    threads: Literal["auto"] | int = "auto"
    """Threads that compute on a CPU; auto: OMP_NUM_THREADS, else one for each core that the run may use."""
    precision: Literal["auto", "fp32", "tf32", "bf16"] = "auto"
    """Number format of the network in training and validation. fp32; tf32: matrix products of a GPU round their
    inputs to 10 bits; bf16: bfloat16 autocast; auto: bf16 on a GPU from Ampere on, and on a CPU if a measurement
    shows that it is faster, else fp32; a run keeps the choice. Losses and spectra are always float32."""
    accumulate: int = 1
    """Number of parts in which each process computes its share of a batch, to save memory."""
    compile: bool = False
    """Compile the network with torch.compile; the first steps take minutes."""
    channels_last: bool = False
    """Channels-last memory format, for tensor cores. On a CPU it is automatic if it is faster: with bf16, in
    DCCRN, CRN and DCUNET without complex norms."""
    deterministic: bool = False
    """Use GPU kernels that give the same bits every time but are slower; on a CPU all kernels do."""

    # -- The test --
    metrics: tuple[str, ...] = ("standard",)
    """Scores of the test: pesq, pesq_nb, stoi, estoi, si_sdr, ssnr, csig, cbak, covl (together: standard); without
    a reference: dnsmos_sig, dnsmos_bak, dnsmos_ovrl (together: dnsmos) and distillmos; or all."""
    samples: int = 3
    """Utterances of each noise type and dB that test.py saves as WAV files; 0 for none."""
    show: tuple[int, ...] = (0,)
    """Utterances, counted from 0, of which test.py draws spectrograms at the lowest, middle and highest dB."""

    def __post_init__(self) -> None:
        """Check the settings. Raises UserError for one that cannot be used."""
        if isinstance(self.loss, str):
            object.__setattr__(self, "loss", "".join(self.loss.split()))  # SI-SNR + LMS is SI-SNR+LMS
        hints = typing.get_type_hints(type(self))
        for field in dataclasses.fields(self):
            _check_type(field.name, getattr(self, field.name), hints[field.name])
        for name, (low, high) in _BOUNDS.items():
            found = getattr(self, name)
            _expect(low <= found <= high, name, found, f"{low} or more" if found < low else f"{high} or less")
        balanced, infinity = self.coupling == "balanced", float("inf")
        scored = self.valid_scores > 0 and {"pesq", "standard", "all"} & set(self.valid_metrics)
        for name, fine, expected in (
            ("learning_rate", 0 < self.learning_rate < infinity, "a number above 0"),
            (
                "coupling",
                isinstance(self.coupling, str) or (self.coupling and all(0 < w <= 1e30 for w in self.coupling)),
                "paper, balanced, or one positive number up to 1e30 for each term of the loss",
            ),
            (
                "balance",
                0 < self.balance < infinity and (balanced or self.balance == 1),
                "a number above 0"
                if balanced
                else f"1, since coupling is {self.coupling}; it works with --coupling balanced",
            ),
            ("clip_grad", 0 <= self.clip_grad < infinity, "a number above 0, or 0 for none"),
            ("ema", 0 <= self.ema < 1, "a number from 0 to below 1"),
            ("checkpoint_minutes", 0 <= self.checkpoint_minutes < infinity, "0 or more minutes"),
            ("best_by", self.best_by == "loss" or scored, "loss, or valid_scores and a PESQ among valid_metrics"),
            ("show", all(number >= 0 for number in self.show), "numbers of 0 or more"),
            ("threads", self.threads == "auto" or 1 <= self.threads <= 1024, "auto or a number from 1 to 1024"),
            ("device", is_device(self.device), DEVICE),
            ("data", self.data.strip(), "a folder"),
        ):
            _expect(fine, name, getattr(self, name), expected)
        _expect(is_file_name(self.run_name), "name", self.run_name, FILE_NAME)

    @property
    def run_name(self) -> str:
        """Return the name with every {field} replaced by that setting's value."""
        try:
            settings = {field.name for field in dataclasses.fields(self)} - {"name"}
            values = {f: getattr(self, f) for f in _template_fields(self.name) if f in settings}
            if "loss" in values:
                values["loss"] = self.loss.replace("*", "x")
            return self.name.format_map(values)
        except (KeyError, ValueError, AttributeError, IndexError) as error:
            raise UserError(
                f"name: found {self.name!r}, expected a setting in every {{...}}, such as {{loss}}"
            ) from error

    @property
    def run_dir(self) -> Path:
        """Return the folder that train.py and test.py write: runs/<name>."""
        return Path("runs") / self.run_name

    def to_dict(self) -> dict[str, Any]:
        """Return all settings as plain values, as in config.json and checkpoints."""
        plain = dataclasses.asdict(self)
        return {name: list(value) if isinstance(value, tuple) else value for name, value in plain.items()}

    @classmethod
    def from_dict(cls, settings: Mapping[str, Any]) -> Config:
        """Return a config of plain values, with defaults for missing ones. Raises UserError for unknown ones."""
        known = {field.name for field in dataclasses.fields(cls)}
        if not isinstance(settings, Mapping):
            raise UserError(f"settings: found a {type(settings).__name__}, expected names and values")
        unknown = sorted(map(str, set(settings) - known))
        if unknown:
            raise UserError(f"{unknown[0]}: no such setting; the settings are {', '.join(sorted(known))}")
        return cls(**{k: tuple(v) if isinstance(v, list) else v for k, v in settings.items()})


# Settings that may differ when a run is resumed or tested, and between seeds of one experiment: none of
# _HOW_IT_RUNS changes what a training step computes.
_HOW_IT_RUNS = {
    "name",
    "device",
    "workers",
    "threads",
    "valid_scores",
    "metrics",
    "valid_metrics",
    "samples",
    "show",
}
MAY_DIFFER: dict[str, set[str]] = {
    "resumed": _HOW_IT_RUNS | {"epochs", "patience", "checkpoint_minutes"},
    "tested": _HOW_IT_RUNS | {"data", "batch_size"},
    "seeds": _HOW_IT_RUNS | {"seed", "patience", "checkpoint_minutes"},
}

# Settings that several networks share, with the same meaning.
NETWORK_SETTINGS = ("mask", "kernel_num", "rnn_units", "rnn_layers", "lstm", "norm", "skip")

# Named sets of overrides, chosen with `--preset`; settings on the command line override it.
_SMALL = {
    "kernel_num": (8, 16, 32, 64, 64, 64),
    "rnn_units": 64,
    "loss": "SI-SNR+LMS",
    "batch_size": 4,
    "learning_rate": 2e-3,
    "schedule": "cosine",
    "precision": "fp32",  # that of the published results
}
# The paper's settings, even if the defaults above are edited; None is the network's default.
_PAPER = {
    **dict.fromkeys(NETWORK_SETTINGS),
    "model": "DCCRN",
    "network": (),
    "augment": (),
    "loss": "SI-SNR",
    "coupling": "paper",
    "balance": 1.0,
    "epochs": 100,
    "batch_size": 15,
    "learning_rate": 5e-4,
    "schedule": "constant",
    "warmup_steps": 0,
    "clip_grad": 0.0,
    "ema": 0.0,
    "patience": 0,
    "best_by": "loss",
}
_CHANGES: dict[str, dict[str, Any]] = {
    "paper": {},
    "demo": {"name": "demo_{loss}", "data": DEMO_DATA, "epochs": 6, **_SMALL},
    "real": {"name": "real_{loss}", "data": "data/real", "epochs": 7, **_SMALL},
    # Other networks as their authors train them; docs/networks.md has the sources and what is ours.
    "crn": {"model": "CRN", "loss": "SDR", "batch_size": 10, "learning_rate": 1e-3},
    "dcunet": {"model": "DCUNET", "norm": "complex", "loss": "wSDR"},
    "fullsubnet": {"model": "FullSubNet", "loss": "cIRM-MSE", "learning_rate": 1e-3, "clip_grad": 10.0},
    "gtcrn": {
        "model": "GTCRN",
        "loss": "GTCRN",
        "epochs": 200,
        "batch_size": 16,
        "learning_rate": 1e-3,
        "schedule": "cosine",
        "clip_grad": 3.0,
    },
}
PRESETS = {"config": {}, **{name: _PAPER | changes for name, changes in _CHANGES.items()}}  # config: as above

# Lowest and highest values of whole numbers.
_BOUNDS = {
    "seed": (0, 2**32 - 1),
    "workers": (-1, 1024),
    "epochs": (1, 10**9),
    "batch_size": (1, 10**6),
    "warmup_steps": (0, 10**12),
    "patience": (0, 10**9),
    "skip_nonfinite": (0, 10**9),
    "accumulate": (1, 10**6),
    "valid_scores": (0, 10**12),
    "samples": (0, 10**12),
}

# Allowed names of a device, and of a run or report.
DEVICE = "auto, cpu, cuda or cuda:<number>"
FILE_NAME = "a folder name of at most 200 bytes without / or \\, not starting with a dot, and not published"


def _expect(fine: object, name: str, found: object, expected: str) -> None:
    if not fine:
        raise UserError(f"{name}: found {found!r}, expected {expected}")


def _check_type(name: str, value: object, hint: Any) -> None:
    """Raise UserError if a value does not have the type of its annotation, which Python does not check."""
    if hint is float:
        _expect(isinstance(value, (int, float)) and not isinstance(value, bool), name, value, "a number")
    elif hint in (int, str, bool):
        expected = {int: "a whole number", str: "text", bool: "True or False"}[hint]
        _expect(type(value) is hint, name, value, expected)
        if hint is str:
            _expect(is_text(value), name, value, "text that UTF-8 can hold")
    elif typing.get_origin(hint) is Literal:
        allowed = typing.get_args(hint)
        _expect(value in allowed, name, value, "one of " + ", ".join(map(str, allowed)))
    elif typing.get_origin(hint) is tuple:
        _expect(isinstance(value, tuple), name, value, "a list")
        for item in value:
            _check_type(name, item, typing.get_args(hint)[0])
    elif types.NoneType in typing.get_args(hint):  # optional
        if value is not None:
            _check_type(name, value, typing.get_args(hint)[0])
    else:  # a union of a name and numbers
        _check_type(name, value, typing.get_args(hint)[0 if isinstance(value, str) else 1])


def _template_fields(name: str) -> list[str]:
    """Return the {fields} of a name; ValueError if one has a width too large for a file name."""
    parts = [part for part in string.Formatter().parse(name) if part[1] is not None]
    if any(re.search(r"\d{3}|[{}]", spec) for _, _, spec, _ in parts):
        raise ValueError("too wide")
    return [field for _, field, _, _ in parts]


def is_file_name(name: str) -> bool:
    """Return whether a name is allowed for a folder of results: see FILE_NAME."""
    forbidden = name.startswith(".") or any(ord(c) < 32 or c in '\x7f/\\:*?"<>|' for c in name)
    free = name.strip().casefold() not in ("", "published")
    return free and not forbidden and is_text(name) and len(name.encode()) <= 200


def is_text(value: str) -> bool:
    """Return whether UTF-8 can hold a text; file names in another encoding arrive with lone surrogates."""
    return not any("\ud800" <= character <= "\udfff" for character in value)


def is_device(name: str) -> bool:
    """Return whether a name is one of a device: see DEVICE."""
    return re.fullmatch(r"auto|cpu|cuda(:[0-9]{1,3})?", name) is not None
