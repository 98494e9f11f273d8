"""Sound files as people have them: with wrong lengths, of several recordings, of other kinds, with tags."""

import shutil

import numpy as np
import pytest
import soundfile
from programs import run
from recordings import speech, write

from tools import enhance
from tools.common import audio
from tools.common.errors import UserError

SECONDS = 3


def with_frames(content, factor):
    """Return an MP3 whose header says that many times its frames."""
    at = max(content.find(b"Xing"), content.find(b"Info")) + 8
    frames = round(factor * int.from_bytes(content[at : at + 4], "big"))
    return content[:at] + frames.to_bytes(4, "big") + content[at + 4 :]


def without_total(flac):
    return flac[:21] + bytes([flac[21] & 0xF0, 0, 0, 0, 0]) + flac[26:]


def from_pipe(wav):
    at = wav.find(b"data") + 4
    return wav[:at] + bytes(4) + wav[at + 4 :]


# name: how it is written, what is done to its bytes, seconds or the reason why it is not read without ffmpeg
ODD = {
    "plain.mp3": ({}, lambda mp3: mp3, SECONDS),
    "more.mp3": ({}, lambda mp3: with_frames(mp3, 3), SECONDS),
    "fewer.mp3": ({}, lambda mp3: with_frames(mp3, 0.25), "only the first"),
    "joined.mp3": ({}, lambda mp3: mp3 + mp3, "only the first"),
    "chained.ogg": ({}, lambda ogg: ogg + ogg, "only the first"),
    "unknown.flac": ({}, without_total, SECONDS),
    "pipe.wav": ({}, from_pipe, SECONDS),
    "gsm.wav": ({"subtype": "GSM610"}, lambda wav: wav, SECONDS),
    "adpcm.wav": ({"subtype": "MS_ADPCM"}, lambda wav: wav, SECONDS),
    "voice.m4a": ({"format": "WAV"}, lambda wav: wav, "needs ffmpeg"),
}


@pytest.fixture(params=ODD)
def odd(request, tmp_path):
    options, change, expected = ODD[request.param]
    path = write(tmp_path / "in" / request.param, speech("a", SECONDS), **options)
    path.write_bytes(change(path.read_bytes()))
    return path, expected


def test_odd_files_are_read_whole_or_refused_with_a_way_out(odd, monkeypatch):
    path, expected = odd
    monkeypatch.setenv("PATH", "")
    if isinstance(expected, str):
        with pytest.raises(UserError, match=f"{expected}.*install ffmpeg"):
            audio.read(path)
        return
    spoken, samples = speech("a", SECONDS), audio.read(path)
    assert len(samples) == audio.read_format(path).samples == pytest.approx(16000 * expected, abs=2500)
    assert samples.std() == pytest.approx(spoken.std(), rel=0.1)
    np.testing.assert_allclose(audio.read(path, 20000, 8000), samples[20000:28000], atol=1e-3)


@pytest.mark.skipif(not shutil.which("ffmpeg"), reason="needs ffmpeg")
def test_ffmpeg_reads_what_libsndfile_does_not(odd, capsys):
    path, _ = odd
    whole = 2 * SECONDS if path.stem in ("joined", "chained") else SECONDS
    assert run(enhance, path.parent, "-o", path.parent / "out") == 0
    assert f"{path.name} -> " in capsys.readouterr().out
    out = path.parent / "out" / path.name.replace("m4a", "flac")
    assert soundfile.info(out).duration == pytest.approx(whole, abs=0.16)
    assert path.suffix != ".mp3" or out.stat().st_size > 0.95 * path.stat().st_size
    assert audio.read(path).std() == pytest.approx(speech("a", SECONDS).std(), rel=0.1)


def test_titles_and_time_codes_are_kept(tmp_path):
    with soundfile.SoundFile(tmp_path / "a.flac", "w", 16000, 1) as file:
        file.title, file.artist = "Interview 3", "A. Speaker"
        file.write(speech("a"))
    path = write(tmp_path / "b.wav", speech("a"))
    path.write_bytes(path.read_bytes() + b"bext" + (603).to_bytes(4, "little") + bytes(range(200)) * 3 + b"abc\0")
    assert run(enhance, tmp_path / "a.flac", path, "-o", tmp_path / "out") == 0
    assert soundfile.SoundFile(tmp_path / "out/a.flac").title == "Interview 3"
    assert audio.riff_chunks(tmp_path / "out/b.wav")[b"bext"] == bytes(range(200)) * 3 + b"abc"
    assert soundfile.info(tmp_path / "out/b.wav").frames == 24_000


@pytest.mark.parametrize("suffix", ["mp3", "ogg", "opus"])
def test_lossy_outputs_have_the_bit_rate_of_their_input(tmp_path, suffix):
    options = {"subtype": "OPUS", "format": "OGG"} if suffix == "opus" else {}
    path = write(
        tmp_path / f"a.{suffix}", speech("a", 4) + 0.001 * np.random.default_rng(0).normal(size=64_000), **options
    )
    assert run(enhance, path, "-o", tmp_path / "out", "--dry", 1) == 0  # the same audio: rates depend on it
    assert (tmp_path / "out" / path.name).stat().st_size > 0.98 * path.stat().st_size
