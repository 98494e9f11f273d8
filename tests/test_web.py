"""The page of tools.export: in a browser it gives what tools.enhance gives at 16 kHz, and names bad files."""

import functools
import http.server
import os
import shutil
import threading
from pathlib import Path

import numpy as np
import pytest
import soundfile
from networks import SMALL, save_checkpoint, trained_like
from programs import refused, run, watched

from tools import export
from tools.inference import enhance
from tools.inference.web_folder import RUNTIME

MODEL = trained_like()


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """Where the exported page is served; ORT_WEB may name the .tgz of onnxruntime-web, else npm downloads it."""
    if not (os.environ.get("ORT_WEB") or shutil.which("npm")):
        pytest.skip(f"needs npm, or {RUNTIME} in ORT_WEB")
    folder = tmp_path_factory.mktemp("web")
    checkpoint = save_checkpoint(MODEL, folder / "best.pt", **SMALL)
    runtime = ["--runtime", os.environ["ORT_WEB"]] if os.environ.get("ORT_WEB") else []
    assert run(export, checkpoint, f"{folder / 'page'}/", *runtime) == 0
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(folder / "page"))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


@pytest.fixture
def page(browser, address):
    """The page, loaded; in the end, nothing was refused by its policy and nothing else was loaded."""
    size = {"width": 1000, "height": 900}
    with watched(browser, address, address, only_errors=True, viewport=size) as page:
        page.locator("#status", has_text="Ready").wait_for(timeout=60_000)
        yield page


def enhanced_by(page, path):
    page.set_input_files("#file", path)
    page.locator("#status", has_text="real-time factor").wait_for(timeout=120_000)
    return np.float32(page.evaluate("window.enhancer.enhanced.map((channel) => Array.from(channel))"))


def noise(channels, samples):
    return 0.05 * np.random.default_rng(0).standard_normal((channels, samples)).astype(np.float32)


@pytest.mark.slow
@pytest.mark.parametrize("rate", [16000, 44100])
def test_the_browser_gives_what_tools_enhance_gives_and_saves_it_mixed(page, tmp_path, rate):
    soundfile.write(tmp_path / "a.wav", noise(2, rate + 123).T, rate, subtype="FLOAT")
    assert page.is_hidden("#player")
    estimate = enhanced_by(page, tmp_path / "a.wav")
    noisy = np.float32(page.evaluate("window.enhancer.noisy.map((channel) => Array.from(channel))"))
    assert estimate.shape == noisy.shape
    assert noisy.shape == (2, pytest.approx((rate + 123) * 16000 / rate, abs=1))
    np.testing.assert_allclose(estimate, enhance(noisy, 16000, MODEL, stereo="separate"), rtol=0, atol=1e-5)
    page.fill("#dry", "0.25")
    with page.expect_download() as download:
        page.click("#save")
    saved, rate = soundfile.read(download.value.path(), dtype="float32")
    assert rate == 16000
    np.testing.assert_allclose(saved.T, 0.75 * estimate + 0.25 * noisy, rtol=0, atol=1e-6)


@pytest.mark.slow
def test_a_quiet_recording_is_enhanced_like_a_loud_one(page, tmp_path):
    for level, name in ((1, "a.wav"), (1e-4, "quiet.wav")):
        soundfile.write(tmp_path / name, level * noise(1, 32000)[0], 16000, subtype="FLOAT")
    page.set_input_files("#file", tmp_path / "a.wav")
    page.locator("#status", has_text="a.wav: 2.0 s").wait_for(timeout=120_000)
    usual = np.float32(page.evaluate("Array.from(window.enhancer.enhanced[0])"))
    page.set_input_files("#file", tmp_path / "quiet.wav")
    page.locator("#status", has_text="quiet.wav: 2.0 s").wait_for(timeout=120_000)
    quiet = np.float32(page.evaluate("Array.from(window.enhancer.enhanced[0])")) * 1e4
    assert np.std(quiet - usual) < 0.5 * np.std(usual)


@pytest.mark.slow
def test_switching_does_not_stop_the_sound(page, tmp_path):
    soundfile.write(tmp_path / "a.wav", noise(1, 32000)[0], 16000)
    enhanced_by(page, tmp_path / "a.wav")
    page.click("#play")
    page.click("#noisy")
    assert page.inner_text("#play") == "Stop"
    assert page.evaluate("window.enhancer.shown") == "noisy"
    page.locator(".at >> nth=0").wait_for(state="attached")
    page.click("#enhanced")
    assert page.inner_text("#play") == "Stop"


@pytest.mark.slow
def test_the_microphone_is_enhanced_live_at_the_rate_of_the_system(page):
    page.click("#microphone")
    page.locator("#status", has_text="Microphone: 1 s, real-time").wait_for()
    assert page.is_hidden("#play")
    page.click("#microphone")
    assert page.is_hidden("#player")


@pytest.mark.slow
@pytest.mark.parametrize("rate", [44100, 48000])
def test_a_microphone_at_another_rate_keeps_its_pitch_and_level(page, rate):
    script = """async (rate) => {
        const audio = new OfflineAudioContext(1, rate, rate);
        await audio.audioWorklet.addModule("live.js");
        const blocks = [];
        const node = new AudioWorkletNode(audio, "microphone", { numberOfOutputs: 0 });
        node.port.onmessage = ({ data }) => blocks.push(...data);
        const tone = new OscillatorNode(audio, { frequency: 1000 });
        tone.connect(node);
        tone.start();
        await audio.startRendering();
        await new Promise((resolve) => setTimeout(resolve, 200));
        return blocks;
    }"""
    heard = np.array(page.evaluate(script, rate))
    assert len(heard) == pytest.approx(16000, abs=640)
    spectrum = np.abs(np.fft.rfft(heard[4000:12000])) / 4000
    assert spectrum.argmax() == 500
    assert spectrum.max() == pytest.approx(1, abs=0.02)


@pytest.mark.slow
@pytest.mark.parametrize("content", [b"", b"no sound at all"], ids=["empty", "text"])
def test_a_file_that_cannot_be_enhanced_is_explained(page, tmp_path, content):
    (tmp_path / "a.wav").write_bytes(content)
    page.set_input_files("#file", tmp_path / "a.wav")
    page.locator("#status[data-kind=error]").wait_for()
    assert "this browser cannot decode it" in page.inner_text("#status")


@pytest.mark.slow
def test_a_browser_without_simd_is_told_so(browser, address):
    page = browser.new_page()
    page.add_init_script("WebAssembly.validate = () => false")
    page.goto(address)
    assert "no WebAssembly SIMD" in page.inner_text("#status")
    page.close()


def test_a_page_without_npm_or_with_another_package_is_one_line(tmp_path, monkeypatch, capsys):
    checkpoint = save_checkpoint(MODEL, tmp_path / "best.pt", **SMALL)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "install Node.js" in refused(capsys, export, checkpoint, f"{tmp_path}/page/")
    Path(tmp_path / "other.tgz").write_bytes(b"other")
    error = refused(capsys, export, checkpoint, f"{tmp_path}/page/", "--runtime", tmp_path / "other.tgz")
    assert "other.tgz: not the package onnxruntime-web@" in error
    assert sorted(path.name for path in tmp_path.iterdir()) == ["best.pt", "other.tgz"]
