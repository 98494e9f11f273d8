"""Known corpora: locations of their speech, noise and splits after unpacking."""

import dataclasses
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from tools.common.errors import UserError
from tools.corpora.settings import DatasetSettings

# The 24 talkers of TIMIT's core test set, two men and a woman of each dialect: 192 sentences without SA.
TIMIT_CORE_TEST = (
    "MDAB0 MWBT0 FELC0 MTAS1 MWEW0 FPAS0 MJMP0 MLNT0 FPKT0 MLLL0 MTLS0 FJLM0 "
    "MBPM0 MKLT0 FNLP0 MCMJ0 MJDH0 FMGD0 MGRT0 MNJM0 FDHC0 MJLN0 MPAM0 FMLD0"
)


def with_layout(settings: DatasetSettings, given: Collection[str] = ()) -> DatasetSettings:
    """Return the settings completed by the named layout, but for those given by name or other than their defaults.

    Raises UserError if a folder of the corpus is missing.
    """
    if settings.layout is None:
        return settings
    if settings.root is None:
        raise UserError(f"root: found none, expected --root, the folder of {settings.layout}")
    defaults = {field.name: field.default for field in dataclasses.fields(settings)}
    added = LAYOUTS[settings.layout](settings.root)
    own = {*given, *(name for name, value in defaults.items() if getattr(settings, name) != value)}
    added = {name: value for name, value in added.items() if name not in own}
    return dataclasses.replace(settings, **added, layout=None, root=None)


def voicebank_demand(root: Path) -> dict[str, Any]:
    """Return the settings of VoiceBank+DEMAND, 28 talkers (Valentini-Botinhao 2017); p226 and p287 validate."""
    return {
        "pairs": (_folder(root, "noisy_trainset_28spk_wav"), _folder(root, "clean_trainset_28spk_wav")),
        "test_pairs": (_folder(root, "noisy_testset_wav"), _folder(root, "clean_testset_wav")),
        "valid_talkers": ("p226", "p287"),
    }


def timit_noisex92(root: Path) -> dict[str, Any]:
    """Return the settings of TIMIT with NOISEX-92: 3,696 sentences for training, the core test's 192, without SA.

    Talkers outside the core test validate. Which noises are unseen is this project's choice.
    """
    timit = root / "TIMIT" if (root / "TIMIT").is_dir() else root
    return {
        "speech": (_folder(timit, "TRAIN", "train"),),
        "test_speech": (_folder(timit, "TEST", "test"),),
        "noise": (_folder(root, "NOISEX-92", "NOISEX92", "NoiseX-92", "noisex92", "noisex-92"),),
        "speech_files": r"(?i)(^|/)s[ix]\d+\.(wav|flac|sph)$",
        "talker": r"(?i)([fm][a-z]{3}\d)/[^/]+$",
        "test_talkers": tuple(TIMIT_CORE_TEST.split()),
        "n_valid": 400,
        "unseen_types": ("buccaneer2", "destroyerops", "factory2", "machinegun"),
    }


def librispeech(root: Path) -> dict[str, Any]:
    """Return the settings of LibriSpeech train-clean-100, dev-clean, test-clean; --noise gives the noise."""
    corpus = root / "LibriSpeech" if (root / "LibriSpeech").is_dir() else root
    return {
        "speech": (_folder(corpus, "train-clean-100", "train-clean-360", "train-other-500"),),
        "valid_speech": (_folder(corpus, "dev-clean", "dev-other"),),
        "test_speech": (_folder(corpus, "test-clean", "test-other"),),
        "n_valid": 500,
        "n_test": 100,
    }


def dns_challenge(root: Path) -> dict[str, Any]:
    """Return the settings of the DNS Challenge: read speech, noise, and the synthetic test set if present."""
    data = next((root / name for name in ("datasets", "datasets_fullband") if (root / name).is_dir()), root)
    added = {
        "speech": (_folder(data, "clean", "clean_fullband"),),
        "noise": (_folder(data, "noise", "noise_fullband"),),
        "talker": r"^.*reader_(\d+)|([^/_.-]+)[^/]*$",
        "noise_type": "",
        "cut": "every",
        "n_valid": 500,
        "n_test": 100,
    }
    test = data / "test_set" / "synthetic" / "no_reverb"
    if test.is_dir():
        added |= {"test_pairs": (test / "noisy", test / "clean"), "pair_key": r"fileid_(\d+)", "n_test": 0}
    return added


LAYOUTS: dict[str, Callable[[Path], dict[str, Any]]] = {
    "voicebank-demand": voicebank_demand,
    "timit-noisex92": timit_noisex92,
    "librispeech": librispeech,
    "dns-challenge": dns_challenge,
}


def _folder(root: Path, *names: str) -> Path:
    for name in names:
        if (root / name).is_dir():
            return root / name
    raise UserError(f"{root / names[0]}: no such folder, expected the corpus unpacked in {root} (docs/data.md)")
