"""One experiment: every setting but those of the networks, with default, unit, meaning and allowed values.

The defaults are the paper's full network and its training. Change them here, or override any of them on the
command line of train.py and test.py: `python train.py --loss SI-SNR+LMS --batch_size 8`.
"""

from __future__ import annotations

import dataclasses
import itertools
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from tools.common.errors import UserError

DEMO_DATA = "data/demo"
SAMPLE_RATE = 16_000  # Hz, of data sets, networks and scores

# Types of settings with their bounds, which `check` knows.
Count = Annotated[int, Meta(ge=0)]
Positive = Annotated[int, Meta(ge=1)]
NonNegative = Annotated[float, Meta(ge=0)]
PositiveFloat = Annotated[float, Meta(gt=0)]
Threads = Literal["auto"] | Annotated[int, Meta(ge=1, le=1024)]
Device = Annotated[str, Meta(pattern=r"^(auto|cpu|cuda(:\d{1,3})?)$")]
FolderName = Annotated[str, Meta(pattern=r'^(?! *$|\.|published$)[^/\\:*?"<>|\x00-\x1f]{1,200}$')]


def check(settings: Any) -> None:
    """Check the fields of a dataclass against their types and bounds; lists become tuples, whole numbers floats.

    Raises UserError, such as "epochs: found 0, expected int >= 1".
    """
    for name, kind in typing.get_type_hints(type(settings), include_extras=True).items():
        found = getattr(settings, name)
        try:
            object.__setattr__(settings, name, msgspec.convert(found, kind))
        except msgspec.ValidationError as error:
            expected = str(error).replace("`", "").replace("Expected", "expected")
            if "enum" in expected:  # msgspec does not say which values are allowed
                expected = f"expected {kind}".replace("typing.", "")
            raise UserError(f"{name}: found {found!r}, {expected}") from None


@dataclasses.dataclass(frozen=True)
class RunSettings:
    """The run."""

    name: str = "{model}_{loss}"
    """Name of runs/<name> and samples/<name>; {field} stands for that setting's value, with x instead of *."""
    seed: Annotated[int, Meta(ge=0, lt=2**32)] = 0
    """Seed of the initial weights and of the order of the training items."""
    device: Device = "auto"
    """Where to compute: auto (CUDA if there is a GPU, else CPU), cpu, cuda or cuda:<number>."""


@dataclasses.dataclass(frozen=True)
class DataSettings:
    """The data."""

    data: Annotated[str, Meta(min_length=1)] = DEMO_DATA
    """Folder of the packed set: train.npy, valid.npy, test.npy, dataset.json; data/demo is made if missing."""
    sample_rate: Literal[SAMPLE_RATE] = SAMPLE_RATE  # type: ignore[valid-type]
    """In Hz; the networks' frames, PMSQE and wide-band PESQ are defined at 16000 only."""
    workers: Annotated[int, Meta(ge=-1, le=1024)] = -1
    """Processes that load data; 0 loads in the main process, -1 means 4 on a GPU and 0 on a CPU."""
    augment: tuple[
        Literal[
            "synthetic", "second-noise", "equalise", "band-limit", "room", "clip", "high-snr", "clean", "speed"
        ],
        ...,
    ] = ()
    """Random changes of training items, for data made with --mix on-the-fly. synthetic: steady noise with a random
    spectrum instead of recorded noise; second-noise: two noises at once; speed: recorded noise played at half to
    twice its speed; equalise: random filters for speech and noise; band-limit: low-pass at 3 to 7.5 kHz for both;
    room: short reverberation of speech, also in the target; clip: noisy clipped; high-snr: 30 to 60 dB SNR; use a
    bounded loss such as SNR."""


@dataclasses.dataclass(frozen=True)
class ModelSettings:
    """The network."""

    model: str = "DCCRN"
    """The network; `python -m tools.list_networks` explains each."""


@dataclasses.dataclass(frozen=True)
class LossSettings:
    """The loss."""

    loss: str = "SI-SNR"
    """One or several terms, such as SI-SNR+LMS; numbers before terms are their weights: SI-SNR+0.3*MR-STFT."""
    coupling: Literal["paper", "balanced"] | Annotated[tuple[PositiveFloat, ...], Meta(min_length=1)] = "paper"
    """Weights of the loss's terms, divided by their sum: paper (published constants, in losses/names.py), one
    number a term, or balanced (adjusted in training to the influences that balance sets)."""
    balance: PositiveFloat = 1.0
    """With balanced coupling, the ratio of the influences of a base term and a perceptual one: 1 to 10 in the
    paper."""


@dataclasses.dataclass(frozen=True)
class TrainingSettings:
    """The training."""

    init: str = ""
    """Start from these weights instead of random ones: a checkpoint, a run's folder or name, or pretrained, the
    packaged network. The network and its settings are then the checkpoint's."""
    epochs: Positive = 100
    """Passes over the training items."""
    batch_size: Positive = 15
    """Utterances in a step, over all processes."""
    learning_rate: PositiveFloat = 5e-4
    """Learning rate of Adam; with a schedule, the highest one."""
    schedule: Literal["constant", "plateau", "cosine"] = "constant"
    """Schedule of the learning rate. plateau: halved after every epoch without a new lowest validation loss;
    cosine: falls to 0 over half a cosine until the end of the last epoch."""
    warmup_steps: Count = 0
    """Steps over which the learning rate first rises linearly; 0 for none."""
    clip_grad: NonNegative = 0.0
    """Largest L2 norm of the gradient; a larger one is scaled down to it. 0 for no limit."""
    ema: Annotated[float, Meta(ge=0, lt=1)] = 0.0
    """Decay of a moving average of the weights, such as 0.999, which is validated and saved as best.pt; 0 uses
    the weights themselves."""
    patience: Count = 0
    """Number of epochs without a new best after which training stops early; 0 for never."""
    best_by: Literal["loss", "pesq"] = "loss"
    """Criterion of the best epoch: the lowest validation loss or the highest validation PESQ."""
    skip_nonfinite: Count = 0
    """Steps of an epoch that may be skipped because loss or gradient is not finite; one more is an error."""
    valid_scores: Count = 100
    """Validation utterances to score after each epoch; the validation loss is that of all."""
    valid_metrics: tuple[str, ...] = ("pesq", "stoi", "estoi", "si_sdr")
    """The scores of validation; names as for metrics."""
    checkpoint_minutes: NonNegative = 10.0
    """Minutes between checkpoints within an epoch; 0 for checkpoints only at the end of each epoch."""


@dataclasses.dataclass(frozen=True)
class ComputationSettings:
    """The computation."""

    threads: Threads = "auto"
    """Threads that compute on a CPU; auto: OMP_NUM_THREADS, else one for each core that the run may use."""
    precision: Literal["auto", "fp32", "tf32", "bf16"] = "auto"
    """Number format of the network in training and validation. fp32; tf32: matrix products of a GPU round their
    inputs to 10 bits; bf16: bfloat16 autocast; auto: bf16 on a GPU from Ampere on and, but for GTCRN, on a CPU
    with AVX512-BF16, else fp32; a run keeps the choice. Losses and spectra are always float32."""
    accumulate: Positive = 1
    """Number of parts in which each process computes its share of a batch, to save memory."""
    compile: bool = False
    """Compile the network with torch.compile; the first steps take minutes."""
    channels_last: bool = False
    """Channels-last memory format, for tensor cores. On a CPU it is automatic if it is faster: with bf16, in
    DCCRN, CRN and DCUNET without complex norms."""
    deterministic: bool = False
    """Use GPU kernels that give the same bits every time but are slower; on a CPU all kernels do."""


@dataclasses.dataclass(frozen=True)
class TestSettings:
    """The test."""

    metrics: tuple[str, ...] = ("standard",)
    """Scores of the test: pesq, pesq_nb, stoi, estoi, si_sdr, ssnr, csig, cbak, covl (together: standard); without
    a reference: dnsmos_sig, dnsmos_bak, dnsmos_ovrl (together: dnsmos), distillmos, wer; or all but
    wer."""
    opinions: Count = 0
    """Utterances of each noise type and dB whose slow scores (dnsmos, distillmos, wer) are computed; 0: all."""
    wer_talkers: tuple[str, ...] = ()
    """Talkers whose word errors are counted, in all utterances; the recogniser knows English alone. Empty: all."""
    samples: Count = 3
    """Utterances of each noise type and dB that test.py saves as WAV files."""
    show: tuple[Count, ...] = (0,)
    """Utterances, counted from 0, of which test.py draws spectrograms at the lowest, middle and highest dB."""


@dataclasses.dataclass(frozen=True)
class Config(
    TestSettings, ComputationSettings, TrainingSettings, LossSettings, ModelSettings, DataSettings, RunSettings
):
    """All settings of one experiment: those above and the network's."""

    network: dict[str, Any] = dataclasses.field(default_factory=dict)
    """Settings of the network by name; the others have its defaults."""

    def __post_init__(self) -> None:
        """Check the settings. Raises UserError for one that cannot be used."""
        for name, value in itertools.chain.from_iterable(vars(part).items() for part in Config.__bases__):
            if not (name.startswith("_") or name in vars(self)):
                form = f"{name}: {type(value).__name__} = {value!r}"
                raise UserError(f"config.py: found {name} = {value!r} without its type, expected {form}")
        check(self)
        object.__setattr__(self, "loss", "".join(self.loss.split()))  # SI-SNR + LMS is SI-SNR+LMS
        network = {name: tuple(v) if isinstance(v, list) else v for name, v in self.network.items()}
        object.__setattr__(self, "network", network)  # as from the command line
        if self.balance != 1 and self.coupling != "balanced":
            raise UserError(f"balance: found {self.balance:g}, which works with --coupling balanced")
        validates_pesq = self.valid_scores and {"pesq", "standard", "all"} & set(self.valid_metrics)
        if self.best_by == "pesq" and not validates_pesq:
            raise UserError("best_by: found pesq, expected valid_scores and a PESQ among valid_metrics")
        try:
            msgspec.convert(self.run_name, FolderName)
        except (ValueError, LookupError, AttributeError):
            expected = "a folder name other than published, in which {loss} stands for the loss, and so on"
            raise UserError(f"name: found {self.name!r}, expected {expected}") from None

    @property
    def run_name(self) -> str:
        """Return the name with every {field} replaced by that setting's value."""
        return self.name.format_map({**self.network, **vars(self), "loss": self.loss.replace("*", "x")})

    @property
    def run_dir(self) -> Path:
        """Return the folder that train.py and test.py write: runs/<name>."""
        return Path("runs") / self.run_name

    def to_dict(self) -> dict[str, Any]:
        """Return all settings as plain values, as in config.json and checkpoints."""
        return msgspec.json.decode(msgspec.json.encode(self))

    def flat(self) -> dict[str, Any]:
        """Return all settings as plain values, the network's beside the others."""
        settings = self.to_dict()
        network = settings.pop("network")
        return settings | network

    @classmethod
    def from_dict(cls, settings: Mapping[str, Any]) -> Config:
        """Return a config of plain values, with defaults for missing ones. Raises UserError for unknown ones."""
        known, own = [field.name for field in dataclasses.fields(cls)], dict(settings)
        network = own.pop("network", {})
        if not isinstance(network, Mapping):  # earlier versions wrote a list of name=value, and others beside it
            network = dict(pair.split("=", 1) for pair in network)
            network = {name: int(text) if text.isdigit() else text for name, text in network.items()}
        flat = {name: own.pop(name) for name in _FLAT if name in own}
        network = {**network, **{name: value for name, value in flat.items() if value is not None}}
        network = {RENAMED.get(name, name): value for name, value in network.items()}
        for name in own.keys() - known:
            raise UserError(f"{name}: no such setting; the settings are {', '.join(known)}")
        return cls(**own, network=network)


_FLAT = ("mask", "kernel_num", "rnn_units", "rnn_layers", "lstm", "norm", "skip")  # once beside the others
RENAMED = {"level": "normalisation"}  # settings of networks


# Settings that may differ when a run is resumed or tested, and between seeds of one experiment: _HOW_IT_RUNS
# changes what a training step computes by rounding at most.
_MEASURED = {"valid_scores", "valid_metrics", "metrics", "opinions", "wer_talkers", "samples", "show"}
_HOW_IT_RUNS = {"name", "device", "workers", "threads"} | _MEASURED
MAY_DIFFER: dict[str, set[str]] = {
    "resumed": _HOW_IT_RUNS | {"epochs", "patience", "checkpoint_minutes"},
    "tested": _HOW_IT_RUNS | {"data", "batch_size"},
    "seeds": _HOW_IT_RUNS | {"seed", "patience", "checkpoint_minutes"},
}

# Named sets of overrides, chosen with `--preset`; settings on the command line override it.
_SMALL = {
    "network": {"kernel_num": (8, 16, 32, 64, 64, 64), "rnn_units": 64},
    "loss": "SI-SNR+LMS",
    "batch_size": 4,
    "learning_rate": 2e-3,
    "schedule": "cosine",
    "precision": "fp32",  # that of the published results
}
# The paper's settings, even if the defaults above are edited.
_PAPER = {
    "model": "DCCRN",
    "network": {},
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
    "dcunet": {"model": "DCUNET", "network": {"norm": "complex"}, "loss": "wSDR"},
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
