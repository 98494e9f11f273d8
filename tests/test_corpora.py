"""tools/corpora/: audio of any kind is read right or named, and splits share nothing."""

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from recordings import RATE, noise, speech, write

from dataloader.impulse_response import reverberate
from dataloader.mixing import active_span
from tools.common.audio import read, read_format
from tools.common.errors import UserError
from tools.corpora.recordings import TALKER, Recording, Selection, check_recording
from tools.corpora.splits import split_by_talker, split_noise

# -- Splits --


@given(
    talkers=st.lists(st.integers(0, 12), min_size=3, max_size=40).filter(lambda t: len(set(t)) >= 3),
    seed=st.integers(0, 99),
)
@settings(max_examples=50, deadline=None)
def test_splits_share_no_talker_and_lose_no_recording(talkers, seed):
    recordings = [Recording(Path(str(n)), f"t{talker}", RATE) for n, talker in enumerate(talkers)]
    splits = split_by_talker(recordings, ("train", "valid", "test"), seed, {})
    assert sorted(r.path for those in splits.values() for r in those) == sorted(r.path for r in recordings)
    heard = [{recording.label for recording in those} for those in splits.values()]
    assert all(heard)
    assert sum(map(len, heard)) == len(set(talkers))


@given(
    lengths=st.lists(st.tuples(st.sampled_from("ab"), st.integers(8000, 400_000)), min_size=1, max_size=12),
    seed=st.integers(0, 99),
)
@settings(max_examples=100, deadline=None)
def test_parts_of_noise_never_overlap_and_hold_a_segment_where_they_can(lengths, seed):
    recordings = [Recording(Path(str(n)), kind, size) for n, (kind, size) in enumerate(lengths)]
    parts = split_noise(recordings, ("train", "valid", "test"), 48_000, seed, [])
    heard = np.zeros((len(recordings), 400_000), int)
    for split in parts.values():
        for part in split:
            size = lengths[int(part.path.name)][1]
            assert part.samples >= min(48_000, size)
            assert 0 <= part.offset < part.offset + part.samples <= size
            heard[int(part.path.name), part.offset : part.offset + part.samples] += 1
    assert heard.max() == 1
    assert heard.sum() == sum(size for _, size in lengths)


@given(before=st.integers(0, 20_000), after=st.integers(0, 20_000), length=st.integers(400, 9000))
@settings(max_examples=50, deadline=None)
def test_the_active_span_leaves_out_what_surrounds_speech(before, after, length):
    padded = np.concatenate([np.zeros(before), np.ones(length), np.zeros(after)])
    span = active_span(padded)
    assert before - 320 < span.start <= before
    assert before + length <= span.stop < before + length + 320 or span.stop == padded.size


# -- Audio files --


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "mp3", "aiff"])
@pytest.mark.parametrize("rate", [8000, 16000, 44100, 48000])
def test_any_format_and_rate_gives_the_same_sound(tmp_path, suffix, rate):
    tone = 0.3 * np.sin(2 * np.pi * 440 * np.arange(rate) / rate)
    path = write(tmp_path / f"tone.{suffix}", np.stack([tone, tone], axis=1), rate)
    heard = read(path, 4000, 8000)
    assert read_format(path).samples == pytest.approx(16000, abs=2500 if suffix == "mp3" else 1)
    wanted = 0.3 * np.sin(2 * np.pi * 440 * (np.arange(8000) + 4000) / RATE)
    assert heard.size == 8000
    middle = slice(500, -500)
    tolerance = {"mp3": 0.05, "ogg": 0.02}.get(suffix, 1e-3)
    np.testing.assert_allclose(heard[middle], wanted[middle], atol=tolerance)


@pytest.mark.skipif(not shutil.which("ffmpeg"), reason="needs ffmpeg")
def test_a_video_gives_its_sound(tmp_path):
    heard = write(tmp_path / "a.wav", speech("a"))
    command = ["ffmpeg", "-v", "error", "-i", heard, "-c:a", "flac", tmp_path / "a.mkv"]
    subprocess.run(command, check=True)
    np.testing.assert_allclose(read(tmp_path / "a.mkv"), read(heard), atol=2**-15)


@pytest.mark.parametrize(("subtype", "step"), [("PCM_U8", 2**-7), ("PCM_24", 2**-15), ("FLOAT", 1e-6)])
def test_any_bit_depth_is_full_scale(tmp_path, subtype, step):
    signal = speech("a", 0.6)
    np.testing.assert_allclose(read(write(tmp_path / "a.wav", signal, subtype=subtype)), signal, atol=step)


def test_channels_are_averaged(tmp_path):
    left, right = speech("a", 0.6), speech("b", 0.6)
    path = write(tmp_path / "a.wav", np.stack([left, right], axis=1), subtype="FLOAT")
    np.testing.assert_allclose(read(path), (left + right) / 2, atol=1e-6)


@given(
    rate=st.sampled_from([8000, 19980, 44100, 96000, 192000]),
    start=st.integers(0, 9000),
    size=st.integers(1, 9000),
)
@settings(max_examples=40, deadline=None)
def test_a_part_has_the_length_asked_for_or_what_there_is(tmp_path_factory, rate, start, size):
    path = tmp_path_factory.getbasetemp() / f"{rate}.wav"
    if not path.exists():
        write(path, noise("n", 1.0, rate), rate)
    assert read(path, start, size).size == max(0, min(size, read_format(path).samples - start))


BAD_AUDIO = {
    "an empty file": (lambda p: p.write_bytes(b""), "not readable as audio"),
    "text": (lambda p: p.write_text("not audio"), "not readable as audio"),
    "too short": (lambda p: write(p, speech("a", 0.1)), "too short: 0.10 s, expected 0.5 s or more"),
    "silence": (lambda p: write(p, np.zeros(RATE)), ": silent"),
    "NaN": (lambda p: write(p, np.append(speech("a"), np.nan)[-RATE:], subtype="FLOAT"), "holds NaN or infinity"),
}


@pytest.mark.parametrize(("spoil", "reason"), BAD_AUDIO.values(), ids=BAD_AUDIO)
def test_a_file_that_cannot_be_used_is_named_with_the_reason(tmp_path, spoil, reason):
    spoil(tmp_path / "bad.wav")
    [rejected] = check_recording(tmp_path, "bad.wav", Selection(TALKER, RATE))
    assert isinstance(rejected, str)
    assert reason in rejected
    assert "\n" not in rejected


def test_a_flac_that_is_cut_short_is_named(tmp_path):
    path = write(tmp_path / "a.flac", noise("a"))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(UserError, match=r"cut short|not readable"):
        read(tmp_path / "a.flac", 2 * RATE, RATE)


# -- Rooms --


def test_an_early_target_ends_50_ms_after_the_direct_sound():
    response = np.zeros(4000)
    response[[100, 100 + 799, 100 + 801, 3000]] = 1.0, 0.5, 0.3, 0.2  # 49.9 and 50.1 ms after it
    click = np.zeros(4000)
    click[0] = 1
    assert np.flatnonzero(np.round(reverberate(click, response), 6)).tolist() == [0, 799, 801, 2900]
    assert np.flatnonzero(np.round(reverberate(click, response, 50.0), 6)).tolist() == [0, 799]
