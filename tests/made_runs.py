"""Tested runs with made-up scores, on the disk as train.py and test.py leave them."""

import json
from pathlib import Path

import numpy as np
from speech import speech_like

from config import Config
from tools.common.audio import sample_path, write_wav
from tools.common.files import write_csv

NOISES, SNRS = ("seen", "unseen"), (-5.0, 5.0)
TYPICAL = {"pesq": 1.5, "pesq_nb": 2.0, "stoi": 0.8, "estoi": 0.6, "si_sdr": 8.0, "ssnr": 4.0}
TYPICAL |= {"csig": 2.5, "cbak": 2.2, "covl": 2.0}


def make_run(name, loss="MSE", seed=0, utterances=12, data=1, shift=None, spread=0.05, samples=0, **settings):
    """runs/<name> and samples/<name> in the working directory.

    Enhanced scores are normal around the noisy ones + 0.3 + shift[score]; `data` is what the noisy ones depend on.
    """
    config = Config.from_dict({"name": name, "loss": loss, "seed": seed, "precision": "fp32"} | settings)
    folder, place = config.run_dir / "test" / "demo", Path("samples") / name / "demo"
    folder.mkdir(parents=True)
    (config.run_dir / "config.json").write_text(json.dumps(config.to_dict()))
    of_data, of_run = np.random.default_rng(data), np.random.default_rng([seed, *name.encode()])
    rows = []
    for noise in NOISES:
        for snr in SNRS:
            for utterance in range(utterances):
                cell = {"noise_type": noise, "snr_db": snr, "utterance": utterance}
                noisy = {score: TYPICAL[score] + 0.2 * of_data.standard_normal() for score in TYPICAL}
                enhanced = {
                    score: noisy[score] + 0.3 + (shift or {}).get(score, 0) + spread * of_run.standard_normal()
                    for score in TYPICAL
                }
                rows.append(cell | {"signal": "noisy"} | noisy)
                rows.append(cell | {"signal": "enhanced"} | enhanced)
                if utterance < samples:
                    for level, kind in ((1, "clean"), (0.7, "noisy"), (0.4 + 0.1 * seed, "enhanced")):
                        path = sample_path(place, (noise, snr, utterance), kind)
                        write_wav(path, level * speech_like(utterance, 16000))
    write_csv(folder / "scores.csv", rows)
    (folder / "tested.json").write_text("{}")
    return rows
