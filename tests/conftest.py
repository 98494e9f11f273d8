"""Where tiny trainings run, and a browser; files whose subject needs other data have fixtures of their own."""

import dataclasses
import shutil

import pytest
from matplotlib.figure import Figure
from PIL import Image

from config import DEMO_DATA, PRESETS, Config
from tools.demo_corpus.corpus import make_demo_corpus


def pytest_configure():
    """Let tests start from the settings that they were written for, to whatever config.py is edited."""
    shipped = PRESETS["paper"] | {"name": "{model}_{loss}", "data": DEMO_DATA, "precision": "auto"}
    old = zip(dataclasses.fields(Config), Config.__init__.__defaults__, strict=True)
    Config.__init__.__defaults__ = tuple(shipped.get(field.name, value) for field, value in old)


DRAWN = {"test_figures.py", "test_page.py", "test_published.py", "test_inspect_dataset.py"}


@pytest.fixture
def undrawn(monkeypatch):
    """Leave figures undrawn where tests only ask for their files: drawing takes seconds."""
    monkeypatch.setattr(Figure, "get_layout_engine", lambda figure: None)
    monkeypatch.setattr(Figure, "savefig", lambda _, path, **__: Image.new("RGB", (1, 1)).save(path, "png"))


@pytest.fixture(autouse=True)
def undrawn_in_most_files(request):
    if request.path.name not in DRAWN:
        request.getfixturevalue("undrawn")


@pytest.fixture(scope="module")
def browser():
    """An installed Chromium, with sound and a microphone that needs no permission."""
    sync_api = pytest.importorskip("playwright.sync_api")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("needs Chromium")
    with sync_api.sync_playwright() as playwright:
        devices = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
        options = ["--no-sandbox", "--autoplay-policy=no-user-gesture-required", *devices]
        browser = playwright.chromium.launch(executable_path=chromium, args=options)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpus") / "data"
    make_demo_corpus(folder, n_train=22, n_valid=5, n_test=1, seconds=0.6)
    return folder


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def workplace(corpus, here):
    """An empty working directory with the corpus in its place."""
    (here / "data").symlink_to(corpus)
    return here
