"""README and docs are true: commands parse, links, paths and options exist, examples work, numbers agree."""

import contextlib
import dataclasses
import importlib
import re
import shlex
import sys
import typing
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import tyro

from config import Config
from losses import TERMS, build_loss
from models import NETWORKS, build_model

ROOT = Path(__file__).parents[1]
PAGES = {
    str(path.relative_to(ROOT)): path.read_text(encoding="utf-8")
    for path in [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), ROOT / "samples/README.md"]
}
OWN_LOSSES = {"cube": "Cube", "residue": "Residue", "GAN": "GAN"}
EXAMPLES = {"losses/cube.py", "models/filter.py"}  # files that the docs tell the reader to write
of_each_page = pytest.mark.parametrize("page", PAGES)


def fences(page):
    """(language, text) of the code blocks between ``` of a page."""
    return re.findall(r"^```(\w*)\n(.*?)^```", PAGES[page], re.MULTILINE | re.DOTALL)


def commands(page):
    """The commands of a page, in blocks and within lines, as lists of arguments."""
    blocks = [text for language, text in fences(page) if language in ("", "sh")]
    prose = re.sub(r"^```.*?^```", "", PAGES[page], flags=re.MULTILINE | re.DOTALL)
    blocks += re.findall(r"^ {4}\S.*(?:\n {4,}\S.*)*", prose, re.MULTILINE)
    blocks += re.findall(r"`((?:python|make|pip) [^`]+)`", prose)
    found = []
    for line in "\n".join(blocks).replace("\\\n", " ").splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars="|&>")
        lexer.whitespace_split = True
        try:
            words = list(lexer)
        except ValueError:  # no command: a drawing, or a shell script's quotes over several lines
            continue
        ends = [number for number, word in enumerate(words) if set(word) <= set("|&>")]
        for start, end in zip([-1, *ends], [*ends, len(words)], strict=True):
            found.append(words[start + 1 : end])
    return [words for words in found if words]


def python_calls():
    """(page, program, arguments) of every call of a program of the project, torchrun's included."""
    for page in PAGES:
        for words in commands(page):
            if words[:2] == ["python", "-m"] and words[2].startswith("tools."):
                yield page, words[2], words[3:]
            else:
                script = next(
                    (number for number, word in enumerate(words) if word in ("train.py", "test.py")), None
                )
                if script is not None and {"python", "torchrun"} & set(words[:script]):
                    yield page, words[script][:-3], words[script + 1 :]


CALLS = [call for call in python_calls() if "Filter" not in call[2]]  # a network that the reader is to write


class Parsed(BaseException):
    """The command line was read; nothing else of the program is wanted."""


@pytest.fixture
def parse(monkeypatch):
    """Read a command line with the program's own parser, and stop there; gives the settings' class."""

    def parse(program, arguments):
        module = importlib.import_module(program)
        read = tyro.cli

        def stop(*args, **options):
            asks = "--help" in arguments
            with pytest.raises(SystemExit, match="0") if asks else contextlib.nullcontext():
                read(*args, **options)
            raise Parsed(args[0])

        monkeypatch.setattr(tyro, "cli", stop)
        monkeypatch.setattr(sys, "argv", [program, *arguments])
        with pytest.raises(Parsed) as parsed:
            module.main()
        monkeypatch.undo()
        return parsed.value.args[0]

    return parse


@pytest.mark.parametrize(("page", "program", "arguments"), CALLS, ids=[f"{page}: {p}" for page, p, _ in CALLS])
def test_a_command_in_the_docs_is_one_that_the_program_takes(page, program, arguments, parse):
    parse(program, arguments)
    if "--" in arguments:  # what tools.sweep passes on
        parse("train", arguments[arguments.index("--") + 1 :])


def test_every_program_is_in_the_docs():
    programs = {
        f"tools.{path.stem}" for path in ROOT.glob("tools/*.py") if "parse_" in path.read_text(encoding="utf-8")
    }
    behind_make = set(re.findall(r"-m (tools\.\w+)", (ROOT / "Makefile").read_text(encoding="utf-8")))
    assert programs | {"train", "test"} == behind_make | {program for _, program, _ in CALLS}


@of_each_page
def test_make_targets_and_requirements_in_the_docs_exist(page):
    targets = re.findall(r"^(\S+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    for words in commands(page):
        if words[0] == "make":
            assert {word for word in words[1:] if "=" not in word} <= set(targets), words
        if "-r" in words and words[0] == "pip":
            assert (ROOT / words[words.index("-r") + 1]).is_file(), words


def test_an_option_named_in_the_docs_is_one_of_a_program(parse):
    options = {field.name for entry in NETWORKS.values() for field in dataclasses.fields(entry.settings)}
    for program, arguments in {program: arguments for _, program, arguments in CALLS}.items():
        options |= set(fields(parse(program, arguments)))
    for page, text in PAGES.items():
        for name in re.findall(r"`--(\w+)[^`]*`", text):
            assert name in options | {"help"}, f"{page}: --{name}"


def fields(kind):
    """Names of a settings class's options, or a function's, those of settings within it as well."""
    for name, hint in typing.get_type_hints(kind).items():
        inner = typing.get_args(hint)[0] if typing.get_origin(hint) else hint
        if dataclasses.is_dataclass(inner):
            yield from fields(inner)
        yield name


def anchors(text):
    """The names that GitHub gives to a page's headings."""
    headings = re.findall(
        r"^#+ (.+)$", re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL), re.MULTILINE
    )
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@of_each_page
def test_links_lead_somewhere(page):
    text = re.sub(r"`[^`\n]*`", "", PAGES[page])
    defined = set(re.findall(r"^\[([^\]]+)\]: ", text, re.MULTILINE))
    assert set(re.findall(r"\]\[([^\]]+)\]", text)) <= defined
    for link in re.findall(r"\]\(([^)]+)\)", text):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = ((ROOT / page).parent / path).resolve() if path else ROOT / page
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(target.read_text(encoding="utf-8")), link


@of_each_page
def test_files_of_the_project_named_in_the_docs_exist(page):
    folders = (
        "config.py|train.py|test.py|models|losses|dataloader|tools|tests|docs|results/published|samples/published"
    )
    named = re.findall(rf"`((?:{folders})(?:/[\w./-]*)?)`", PAGES[page])
    for name in set(named) - EXAMPLES:
        assert (ROOT / name).exists(), name


# -- Examples --


@pytest.fixture
def example():
    """Run the Python example of a page that holds a text, as a file of a package."""

    def run(page, holds, package):
        (text,) = (text for language, text in fences(page) if language == "python" and holds in text)
        exec(
            compile(text, page, "exec", dont_inherit=True),
            {"__package__": package, "__name__": f"{package}.example"},
        )

    yield run
    for name in OWN_LOSSES:
        TERMS.pop(name, None)
    NETWORKS.pop("Filter", None)


@pytest.mark.parametrize(("name", "kind"), OWN_LOSSES.items())
def test_the_docs_own_losses_can_be_trained_with(example, name, kind):
    example("docs/losses.md", f"class {kind}", "losses")
    loss = build_loss(name)
    estimate = (0.1 * torch.randn(2, 4000)).requires_grad_()
    signals = estimate, torch.zeros(2, 4000), torch.zeros(2, 4000)
    loss(*signals)[0].backward()
    assert estimate.grad.isfinite().all()
    assert estimate.grad.any()
    assert not any(weight.grad is not None for weight in loss.parameters())
    assert list(loss.own_losses(*signals)) == ([f"{name}_own"] if name == "GAN" else [])
    assert bool(loss.state_dict()) == (name in ("GAN", "residue"))


def test_the_docs_own_training_step_sees_the_networks_spectrum():
    (text,) = (text for _, text in fences("docs/losses.md") if "state.model.spectrum" in text)
    model = build_model(Config(model="GTCRN", network={"channels": 4}))
    noisy = 0.1 * torch.randn(2, 8000)
    model.spectrum = model.enhance(model.stft(noisy))
    scope = {"state": SimpleNamespace(model=model), "estimate": model(noisy), "loss": torch.zeros(())}
    exec(text, scope)
    assert scope["loss"] > 0


def test_the_docs_own_network_is_one(example):
    example("docs/networks.md", "class Filter", "models")
    noisy = torch.zeros(1, 99)
    assert build_model(Config(model="Filter", network={"taps": 5}))(noisy).shape == noisy.shape


def test_what_the_docs_import_exists():
    lines = {
        line
        for page in PAGES
        for language, text in fences(page)
        if language == "python"
        for line in re.findall(r"^from \w.*", text, re.MULTILINE)
    }
    assert lines
    for line in lines:
        exec(line, {})


# -- Numbers --


def test_the_readme_is_short():
    assert len(PAGES["README.md"].splitlines()) <= 180


def test_numbers_in_the_readmes_findings_are_significant_differences_of_the_tables():
    parts = [PAGES["docs/results.md"].split(f"<!-- results of {name}:")[1] for name in ("study", "long", "dccrn")]
    tables = [part.split("| difference, whole grid |")[1].split("\n\n")[0] for part in parts]
    significant = [abs(float(number)) for table in tables for number in re.findall(r"\*\*(\S+) \[", table)]
    findings = PAGES["README.md"].partition("\n1. ")[2].partition("\n5. ")[0]
    numbers = re.findall(r"\b\d\.\d+", findings)
    assert len(numbers) > 10
    for number in numbers:
        places = len(number.partition(".")[2])
        assert number in {f"{difference:.{places}f}" for difference in significant}, number
