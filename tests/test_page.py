"""The page of a comparison in a real browser, opened from the disk as a user does."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
from made_runs import make_run
from programs import watched

from tools.reports.report import CompareSettings, compare


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("page"))
        for seed, (name, loss) in enumerate((("a", "MSE"), ("b", "SI-SNR"), ("c", "SI-SNR+LMS"))):
            make_run(name, loss, seed, samples=1)
        yield compare(CompareSettings(("a", "b", "c"))).resolve()


@pytest.fixture(params=[(1280, 900), (390, 844)], ids=["desktop", "phone"])
def page(request, browser, folder):
    width, height = request.param
    options = {"viewport": {"width": width, "height": height}, "accept_downloads": True}
    with watched(browser, (folder / "index.html").as_uri(), "file:", **options) as page:
        yield page


def wait_for(page, condition):
    page.wait_for_function(f"(() => {{ const s = player.state(); return {condition}; }})()", timeout=20_000)


def test_players_play_and_switch_at_the_same_position(page):
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert page.locator(".row").count() == 4
    page.locator(".row").first.locator(".play").nth(1).click()
    wait_for(page, "s.playing && s.clock === 'running' && s.position > 0.1")
    # Taken in one step of the browser's, so that a gap or a jump would show.
    before, after = page.evaluate(
        """() => {
            const before = player.state();
            document.querySelectorAll(".row .play")[2].click();
            return [before, player.state()];
        }"""
    )
    assert (before["signal"], after["signal"]) == (1, 2)
    assert after["playing"]
    assert abs(after["position"] - before["position"]) < 0.05
    wait_for(page, "s.gains[2] > 0.99 && s.gains.every((gain, n) => n === 2 || gain < 0.01)")


def test_keys_step_through_signals_and_utterances(page):
    page.locator("#listen").focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowDown")
    wait_for(page, "s.row === 1 && s.signal === 1 && !s.playing")
    page.keyboard.press("5")
    page.keyboard.press("ArrowUp")
    wait_for(page, "s.row === 0 && s.signal === 4")
    page.keyboard.press(" ")
    wait_for(page, "s.playing && s.gains[4] === 1")
    page.keyboard.press(" ")
    wait_for(page, "!s.playing")


def test_keys_are_the_pages_own_unless_the_players_have_the_focus(page):
    page.evaluate("document.activeElement.blur()")
    for key in (" ", "ArrowRight", "ArrowDown", "b"):
        page.keyboard.press(key)
    wait_for(page, "s.row === 0 && s.signal === 0 && !s.playing")
    assert not page.locator("#blind").is_checked()
    page.locator(".row .play").nth(1).click()
    wait_for(page, "s.playing && s.signal === 1")
    page.keyboard.press("ArrowRight")
    wait_for(page, "s.playing && s.signal === 2")
    page.keyboard.press(" ")
    wait_for(page, "!s.playing && s.signal === 2")


def test_the_bar_switches_signals_wherever_the_page_is_scrolled_to(page):
    page.evaluate("scrollTo(0, document.body.scrollHeight)")
    buttons = page.locator("#switch button")
    assert buttons.all_text_contents() == ["noisy", "MSE", "SI-SNR", "SI-SNR+LMS", "clean"]
    assert buttons.nth(2).is_visible()
    buttons.nth(2).click()
    wait_for(page, "s.playing && s.signal === 2")
    assert buttons.nth(2).get_attribute("aria-pressed") == "true"


def test_blind_mode_hides_names_until_it_is_left(page):
    page.locator("#listen").focus()
    page.keyboard.press("b")
    first = page.locator(".row").first
    assert sorted(first.locator(".play").all_text_contents()) == ["A", "B", "C", "clean", "noisy"]
    assert not first.locator('[data-kind="loss"] .picture').first.is_visible()
    assert not first.locator('[data-kind="loss"] dl').first.is_visible()
    page.keyboard.press("b")
    names = ["noisy", "MSE", "SI-SNR", "SI-SNR+LMS", "clean"]
    assert first.locator(".play").all_text_contents() == names


def test_the_audio_lies_beside_the_page_as_files_too_sample_for_sample(folder):
    sample, _ = soundfile.read(folder.parents[1] / "samples/b/demo/seen/-5dB/000_enhanced.wav", dtype="int16")
    shown, rate = soundfile.read(folder / "audio/seen_-5dB_000_2_SI-SNR.flac", dtype="int16")
    assert rate == 16000
    np.testing.assert_array_equal(shown, sample)
    assert "https://" not in Path(folder / "index.html").read_text()


def test_the_verdict_stands_first_and_every_table_has_as_many_heads_as_cells(page):
    assert page.locator("table").first.locator("thead th").all_text_contents() == [
        *("mean over the whole grid", "PESQ (wide-band)", "STOI", "ESTOI", "SI-SDR (dB)")
    ]
    rows = page.locator("#verdict tbody tr")
    assert rows.locator("th").all_text_contents() == ["noisy", "MSE (baseline)", "SI-SNR", "SI-SNR+LMS"]
    assert all(text[0] in "▲▼△▽≈·" for text in rows.nth(2).locator("td").all_text_contents())
    counts = page.evaluate(
        """[...document.querySelectorAll("table")].map(table =>
          [...table.rows].map(row => row.cells.length))"""
    )
    assert len(counts) > 20
    assert all(len(set(cells)) == 1 for cells in counts)
    order = page.evaluate("[...document.querySelectorAll('main > *')].map(part => part.id || part.tagName)")
    assert order == ["HEADER", "listen", "measured"]


def test_no_name_of_a_score_is_broken_over_two_lines(page):
    assert page.evaluate("[...document.querySelectorAll('dt')].every(name => name.offsetHeight < 24)")
    assert page.evaluate("[...document.querySelectorAll('dl')].every(dl => dl.scrollWidth <= dl.clientWidth)")
