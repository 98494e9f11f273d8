"""Mixing on the fly: every epoch anew, and the same again for the same seed and epoch."""

import json

import numpy as np
import pytest
import torch

from config import Config
from dataloader import build_loader, shuffle_for_epoch
from dataloader.augmentation import DECAY, DIRECT_DB, SHARES, Augmentation
from dataloader.impulse_response import draw_response
from dataloader.random_draws import SegmentDraw
from tools.common.errors import UserError


def write_on_the_fly(folder, items=12, samples=4000, seed=0, snr=(-5, 15), is_range=True):
    """Speech of 12 items, the second half of each padding; three noises, one of them shorter than an item."""
    rng = np.random.default_rng(seed)
    folder.mkdir(exist_ok=True)
    clips = rng.uniform(-0.5, 0.5, (items, samples)).astype(np.float32)
    clips[:, samples // 2 :] = 0
    lengths = (10_000, 4000, 1500)
    rows = [-(-length // samples) for length in lengths]
    starts = np.cumsum([0, *rows])
    noise = np.zeros((starts[-1], samples), np.float32)
    for number, (start, length) in enumerate(zip(starts, lengths, strict=False)):
        noise.reshape(-1)[start * samples :][:length] = rng.standard_normal(length) * 0.1 + number
    np.save(folder / "train_speech.npy", clips)
    np.save(folder / "train_active.npy", np.tile([0, samples // 2], (items, 1)))
    np.save(folder / "train_noise.npy", noise)
    np.save(folder / "train_noise_index.npy", np.stack([starts[:-1], lengths, [0, 1, 1]], axis=1))
    settings = {"snr_db": snr, "is_range": is_range, "level_db": [-33, -20]}
    (folder / "dataset.json").write_text(json.dumps({"on_the_fly": settings}))
    return folder


def mixtures(folder, seed=0, epoch=1, workers=0, augment=()):
    """Return the item numbers in their order; noisy and clean by number."""
    loader = build_loader(Config(data=str(folder), batch_size=5, workers=workers, augment=augment), "train")
    shuffle_for_epoch(loader, seed, epoch)
    noisy, clean, numbers = (torch.cat(parts) for parts in zip(*loader, strict=True))
    order = numbers.argsort()
    return numbers.tolist(), noisy[order], clean[order]


def test_mixtures_on_the_fly_depend_on_seed_and_epoch_alone(tmp_path):
    folder = write_on_the_fly(tmp_path / "set")
    order, noisy, _ = mixtures(folder, 0, 1)
    again, same, _ = mixtures(folder, 0, 1, workers=2)
    assert order == again
    assert torch.equal(noisy, same)
    for seed, epoch in ((0, 2), (1, 1)):
        other = mixtures(folder, seed, epoch)[1]
        assert not any(torch.equal(a, b) for a, b in zip(noisy, other, strict=True))


def test_workers_that_live_on_see_the_next_epoch(tmp_path):
    folder = write_on_the_fly(tmp_path / "set")
    loader = build_loader(Config(data=str(folder), batch_size=12, workers=1), "train")
    for epoch in (1, 2):
        shuffle_for_epoch(loader, 0, epoch)
        ((noisy, _, numbers),) = loader
        order, expected, _ = mixtures(folder, 0, epoch)
        assert numbers.tolist() == order
        assert torch.equal(noisy[numbers.argsort()], expected)


@pytest.mark.parametrize(("snr", "is_range"), [((-5, 15), True), ((0, 10), False)])
def test_mixtures_on_the_fly_have_snr_and_level_as_asked_where_there_is_speech(tmp_path, snr, is_range):
    _, noisy, clean = mixtures(write_on_the_fly(tmp_path / "set", items=40, snr=snr, is_range=is_range), 0, 1)
    noise = (noisy - clean).double()
    assert torch.equal((noisy - clean) + clean, noisy)
    ratio = 10 * torch.log10(clean[:, :2000].double().square().sum(1) / noise[:, :2000].square().sum(1))
    assert ((ratio > snr[0] - 0.01) & (ratio < snr[1] + 0.01)).all()
    if is_range:
        assert ratio.std() > 3
    else:
        assert {round(value) for value in ratio.tolist()} == {0, 10}
    level = 10 * torch.log10(clean[:, :2000].double().square().mean(1))
    assert ((level > -33.01) & (level < -19.99)).all()
    assert level.std() > 2
    assert not clean[:, 2000:].any()
    assert noise[:, 2000:].abs().sum(1).min() > 0


def test_segments_start_anywhere_in_a_recording(tmp_path):
    folder = write_on_the_fly(tmp_path / "set", items=200)
    _, noisy, clean = mixtures(folder, 0, 1)
    noise = (noisy - clean).double()
    offset = noise.mean(1) / noise.std(1)  # that of recording 0 is 0
    assert 70 < (offset < 1).sum() < 130  # types are as likely, whatever they have of recordings
    assert len({tuple((row / row.std())[:5].round(decimals=4).tolist()) for row in noise[offset < 1]}) > 60


def draws(lengths, count=4000, types=None, active=slice(0, 3000), **options):
    """Pieces of segments of 3000 samples; the first piece of a segment is the recording that was drawn."""
    segments = SegmentDraw(types or [0] * len(lengths), lengths, 3000, **options)
    rng = np.random.default_rng(0)
    return [segments.draw(rng, lambda piece: np.ones(piece.count), active)[1] for _ in range(count)]


def shares(drawn, size):
    return np.bincount([pieces[0].recording for pieces in drawn], minlength=size) / len(drawn)


def test_recordings_are_drawn_by_their_length_and_short_ones_like_an_item():
    lengths = [30_000, 3000, 1000, 6000]
    np.testing.assert_allclose(shares(draws(lengths), 4), np.array([30, 3, 3, 6]) / 42, atol=0.025)


@pytest.mark.parametrize(("weights", "expected"), [("root", np.sqrt([48, 3, 12])), ("equal", np.ones(3))])
def test_types_are_drawn_equally_often_or_by_the_root_of_their_length(weights, expected):
    by_type = shares(draws([48_000, 3000, 6000, 3000, 3000], types=[0, 1, 2, 2, 2], type_weights=weights), 5)
    np.testing.assert_allclose([*by_type[:2], by_type[2:].sum()], expected / expected.sum(), atol=0.025)


def test_short_recordings_are_joined_with_others_of_their_type_and_never_repeated():
    lengths, types = [500, 700, 5000, 800], [0, 0, 0, 1]
    positions = set()
    for pieces in draws(lengths, types=types, active=slice(1000, 2000)):
        assert len({types[piece.recording] for piece in pieces}) == 1
        filled, used = np.zeros(3000, int), [np.zeros(length, int) for length in lengths]
        for piece in pieces:
            filled[piece.position : piece.position + piece.count] += 1
            used[piece.recording][piece.start : piece.start + piece.count] += 1
        assert filled.max() == 1
        assert max(map(np.max, used)) == 1
        if pieces[0].recording == 3:  # the only one of its type: once, where there is speech
            assert filled.sum() == 800
            assert filled[1000:2000].sum() == 800
        else:
            assert filled.all()
        positions.add(pieces[0].position)
    assert len(positions) > 300


SPOILT = {
    "no settings": (lambda f: (f / "dataset.json").unlink(), "found no on_the_fly"),
    "spans": (lambda f: np.save(f / "train_active.npy", np.zeros((3, 2), int)), r"expected integers \[12, 2\]"),
    "silent noise": (lambda f: np.save(f / "train_noise.npy", np.zeros((6, 4000), np.float32)), "are silent"),
    "silent speech": (
        lambda f: np.save(f / "train_speech.npy", np.zeros((12, 4000), np.float32)),
        r"train_speech.npy: item \[\d+\]: clean is silent",
    ),
}


@pytest.mark.parametrize(("spoil", "message"), SPOILT.values(), ids=SPOILT)
def test_a_damaged_set_for_mixing_on_the_fly_is_named(tmp_path, spoil, message):
    spoil(write_on_the_fly(tmp_path / "set"))
    with pytest.raises(UserError, match=message) as caught:
        mixtures(tmp_path / "set", 0, 1)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", SHARES)
def test_each_change_meets_its_share_of_the_items_and_leaves_the_others_as_they_were(tmp_path, name):
    folder = write_on_the_fly(tmp_path / "set", items=400)
    before, after, again = (torch.cat(mixtures(folder, augment=names)[1:], 1) for names in ((), (name,), (name,)))
    assert torch.equal(after, again)
    met = (before != after).any(1).double().mean().item()
    assert met == pytest.approx(SHARES[name], abs=0.08)
    assert after.isfinite().all()
    assert after.abs().max() < 1


def test_items_of_high_snr_have_hardly_any_noise_and_clipping_leaves_the_target_alone(tmp_path):
    folder = write_on_the_fly(tmp_path / "set", items=400)
    _, plain, target = mixtures(folder)
    _, noisy, clean = mixtures(folder, augment=("high-snr",))
    assert torch.equal(mixtures(folder, augment=("clean",))[1], noisy)  # its former name
    met = (noisy != plain).any(1)
    noise = (noisy - clean)[met][:, :2000].double()
    assert 10 * torch.log10(clean[met].double().square().sum(1) / noise.square().sum(1)).min() > 29
    _, noisy, clean = mixtures(folder, augment=("clip",))
    met = (noisy != plain).any(1)
    assert torch.equal(clean, target)
    assert (noisy[met].abs().amax(1) < 0.91 * plain[met].abs().amax(1)).all()


def test_noise_played_at_other_speeds_keeps_its_kind_but_not_its_pitch(tmp_path):
    tone = np.sin(2 * np.pi * 1000 * np.arange(16_000) / 16_000)
    pitches = []
    for seed in range(60):
        change = Augmentation(("speed",), np.random.default_rng(seed))
        _, noise = change.sources(tone, tone, lambda rng: tone, slice(None))
        pitches.append(int(np.argmax(np.abs(np.fft.rfft(noise)))))
    changed = [pitch for pitch in pitches if pitch != 1000]
    assert 15 < len(changed) < 45
    assert 499 <= min(changed) < 600
    assert 1600 < max(changed) <= 2001


def test_a_room_keeps_the_direct_sound_in_its_place(tmp_path):
    for seed in range(20):
        response, _ = draw_response(np.random.default_rng(seed), DECAY, DIRECT_DB)
        assert np.argmax(np.abs(response)) == 0
        assert 10 * np.log10(np.sum(response[1:] ** 2)) <= 0.01


def test_augmentation_of_ready_mixtures_is_refused(tmp_path):
    np.save(tmp_path / "train.npy", np.ones((4, 2, 4000), np.float32) / 2)
    with pytest.raises(UserError, match="augment: found clip"):
        mixtures(tmp_path, augment=("clip",))
