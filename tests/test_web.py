"""The page of tools.export: in a browser, it gives what tools.enhance gives, and says what it cannot do."""

from __future__ import annotations

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
from programs import run

from tools import export
from tools.inference import enhance
from tools.inference.resampling import Resampler, measure_taps
from tools.inference.web_folder import RATES, RUNTIME

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
MODEL = trained_like()


@pytest.mark.parametrize("rate", RATES)
def test_the_measured_filter_is_what_soxr_does(rate):
    signal = 0.3 * np.random.default_rng(0).standard_normal((rate // 4, 1)).astype(np.float32)
    for source, target in ((rate, 16000), (16000, rate)):
        taps, resampler = measure_taps(source, target), Resampler(source, target, 1)
        expected = np.concatenate([resampler.push(signal), resampler.push(signal[:0], last=True)])[:, 0]
        half, places = taps.shape[1] // 2, np.arange(len(expected)) * resampler.down
        padded = np.pad(signal[:, 0], half + 2)
        windows = np.lib.stride_tricks.sliding_window_view(padded, 2 * half + 1)[places // resampler.up + 2]
        found = np.sum(taps[places % resampler.up].astype(float) * windows, axis=1)
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)


class Silent(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """Where the exported page is served; ORT_WEB may name the .tgz of onnxruntime-web, else npm downloads it."""
    if not (os.environ.get("ORT_WEB") or shutil.which("npm")):
        pytest.skip(f"needs npm, or {RUNTIME} in ORT_WEB")
    folder = tmp_path_factory.mktemp("web")
    checkpoint = save_checkpoint(MODEL, folder / "best.pt", **SMALL)
    runtime = ["--runtime", os.environ["ORT_WEB"]] if os.environ.get("ORT_WEB") else []
    assert run(export, checkpoint, f"{folder / 'page'}/", *runtime) == 0
    handler = functools.partial(Silent, directory=str(folder / "page"))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


@pytest.fixture(scope="module")
def browser():
    sync_api = pytest.importorskip("playwright.sync_api")
    if CHROMIUM is None:
        pytest.skip("needs Chromium")
    with sync_api.sync_playwright() as playwright:
        devices = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
        options = ["--no-sandbox", "--autoplay-policy=no-user-gesture-required", *devices]
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=options)
        yield browser
        browser.close()


@pytest.fixture
def page(browser, address):
    page = browser.new_page(viewport={"width": 1000, "height": 900}, bypass_csp=True)  # for wait_for_function
    problems, requests = [], []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("request", lambda sent: requests.append(sent.url))
    page.goto(address)
    page.wait_for_function("document.getElementById('status').textContent.startsWith('Ready')", timeout=60_000)
    yield page
    page.close()
    assert problems == []
    assert all(url.startswith((address, "data:", "blob:")) for url in requests)


def enhanced_by(page, path, timeout=120_000):
    page.evaluate("window.enhancer.enhanced = null")
    page.set_input_files("#file", path)
    ready = "window.enhancer.enhanced || document.getElementById('status').dataset.kind === 'error'"
    page.wait_for_function(ready, timeout=timeout)
    assert page.evaluate("document.getElementById('status').dataset.kind") != "error", page.inner_text("#status")
    return np.float32(page.evaluate("window.enhancer.enhanced.map((channel) => Array.from(channel))"))


def noise(channels, samples):
    return 0.1 * np.random.default_rng(0).standard_normal((channels, samples)).astype(np.float32)


@pytest.mark.slow
@pytest.mark.parametrize("rate", [8000, 16000, 44100, 48000])
def test_the_browser_gives_what_tools_enhance_gives(page, tmp_path, rate):
    noisy = noise(2, rate + 123)
    soundfile.write(tmp_path / "a.wav", noisy.T, rate, subtype="FLOAT")
    page.select_option("#limit", "12")
    estimate = enhanced_by(page, tmp_path / "a.wav")
    np.testing.assert_allclose(estimate, enhance(noisy, rate, MODEL, limit_db=12), rtol=0, atol=1e-5)
    with page.expect_download() as download:
        page.click("#download")
    np.testing.assert_array_equal(soundfile.read(download.value.path(), dtype="float32")[0].T, estimate)


@pytest.mark.slow
def test_switching_does_not_stop_the_sound(page, tmp_path):
    soundfile.write(tmp_path / "a.wav", noise(1, 32000)[0], 16000)
    enhanced_by(page, tmp_path / "a.wav")
    page.click("#play")
    page.click("#noisy")
    assert page.inner_text("#play") == "Stop"
    assert page.evaluate("window.enhancer.shown") == "noisy"
    page.wait_for_function("document.querySelector('.at').style.left > '1%'")
    page.click("#enhanced")
    assert page.inner_text("#play") == "Stop"


@pytest.mark.slow
def test_the_microphone_is_enhanced_live(page):
    page.click("#microphone")
    page.wait_for_function(
        "/Microphone: [1-9]\\d* s, real-time/.test(document.getElementById('status').textContent)"
    )
    page.click("#microphone")


BAD_FILES = {
    "nine channels": (
        lambda path: soundfile.write(path, np.zeros((10, 9)), 16000),
        "found 9 channels, expected 8",
    ),
    "empty": (lambda path: path.write_bytes(b""), "the file is empty"),
    "no samples": (lambda path: soundfile.write(path, np.zeros(0), 16000), "found no samples"),
    "nan": (
        lambda path: soundfile.write(path, np.float32([0, np.nan]), 16000, subtype="FLOAT"),
        "found NaN or infinity",
    ),
    "text": (lambda path: path.write_text("no sound at all"), "this browser cannot decode it"),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", BAD_FILES)
def test_a_file_that_cannot_be_enhanced_is_explained(page, tmp_path, kind):
    write, message = BAD_FILES[kind]
    write(tmp_path / "a.wav")
    page.set_input_files("#file", tmp_path / "a.wav")
    page.wait_for_function("document.getElementById('status').dataset.kind === 'error'")
    assert message in page.inner_text("#status")


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
    assert run(export, checkpoint, f"{tmp_path}/page/") == 2
    assert "npm: not found" in capsys.readouterr().err
    Path(tmp_path / "other.tgz").write_bytes(b"other")
    assert run(export, checkpoint, f"{tmp_path}/page/", "--runtime", tmp_path / "other.tgz") == 2
    assert "other.tgz: not the package onnxruntime-web@" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["best.pt", "other.tgz"]
