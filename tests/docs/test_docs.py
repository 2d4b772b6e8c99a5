"""The documentation agrees with the code: generated pages, links, and the commands that it shows."""

from __future__ import annotations

import importlib.util
import re
import shlex
from importlib import import_module
from pathlib import Path

import pytest

from lam.cli.main import COMMANDS, _parse, build_parser
from lam.config.load import load_config
from lam.train.config import PretrainConfig
from lam.train.config_finetune import FinetuneConfig

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "model_cards").glob("*.md"))]
IDS = [str(page.relative_to(ROOT)) for page in PAGES]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
INLINE = re.compile(r"`(lam [^`]+|python [^`]+|torchrun [^`]+|make [^`]+)`")


def generator():
    """Return docs/generate.py as a module."""
    spec = importlib.util.spec_from_file_location("docs_generate", ROOT / "docs" / "generate.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def prose(text):
    """Return a page without its code."""
    return re.sub(r"`[^`\n]*`", "", FENCE.sub("", text))


def anchors(text):
    """Return the anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


def commands(text):
    """Return the commands of a page: lines of shell blocks, continued lines joined, comments dropped."""
    found = []
    for language, block in FENCE.findall(text):
        if language in ("bash", "sh", "shell"):
            found += [line.split("  #")[0].strip() for line in block.replace("\\\n", " ").splitlines()]
    return [command for command in found if command and not command.startswith("#")]


def test_generated_pages_are_up_to_date(capsys):
    assert generator().main(["--check"]) == 0, capsys.readouterr().err


def test_a_stale_page_is_noticed_and_written_again(monkeypatch, tmp_path):
    module = generator()
    for page in (ROOT / "docs").glob("*.md"):
        (tmp_path / page.name).write_text(page.read_text())
    monkeypatch.setattr(module, "DOCS", tmp_path)
    page = tmp_path / "conventions.md"
    page.write_text(page.read_text().replace("edge_shift", "edge_shove"))
    assert module.main(["--check"]) == 1
    assert module.main([]) == 0 and module.main(["--check"]) == 0
    assert "edge_shift" in page.read_text()


def test_every_key_of_a_section_is_documented():
    from lam.config.document import document

    table = document(PretrainConfig)
    for key in ("steps", "batch.max_edges", "optimizer.ema_decay", "log.wandb"):
        assert f"| `{key}` |" in table
    assert "| `batch.temperature` | number | `0.5` | >= 0, <= 1 |" in table
    assert "| `output` | text | required |" in table


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_links_lead_somewhere(page):
    text = page.read_text(encoding="utf-8")
    for target in LINK.findall(prose(text)):
        if target.startswith(("http://", "https://", "mailto:")):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), f"{page.name} links to {target}, which is not there"
        if anchor and file.suffix == ".md":
            assert anchor in anchors(file.read_text(encoding="utf-8")), f"{page.name}: no heading for {target}"


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_commands_are_understood(page):
    for command in commands(page.read_text(encoding="utf-8")):
        check_command(command)


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_commands_in_sentences_exist(page):
    for command in INLINE.findall(FENCE.sub("", page.read_text(encoding="utf-8"))):
        words = shlex.split(command)
        if words[0] == "lam":  # often without its arguments
            assert words[1] in COMMANDS or words[1].startswith("-"), command
        elif words[0] == "python" and words[1].endswith(".py"):
            assert (ROOT / words[1]).is_file(), command
        else:
            check_command(command)


def check_command(command):
    """Parse a command with what would parse it; nothing is run."""
    words = shlex.split(command)
    if words[0] == "torchrun":
        words = ["python", *words[next(i for i, word in enumerate(words) if word.endswith(".py")) :]]
    if words[0] == "make":
        targets = re.findall(r"^([a-z][\w-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE)
        assert not [word for word in words[1:] if "=" not in word and word not in targets], command
    elif words[0] == "lam":
        check_lam(words[1:])
    elif words[0] == "python" and words[1] in ("train.py", "finetune.py"):
        check_lam([words[1].removesuffix(".py"), *words[2:]])
    elif words[0] == "python" and words[1] == "-m":
        assert importlib.util.find_spec(words[2]), command
    elif words[0] == "python" and words[1].endswith(".py"):
        assert (ROOT / words[1]).is_file(), command


def check_lam(words):
    """Parse the words after ``lam``; settings must be keys that exist."""
    if "--help" in words or "--version" in words:
        return
    if any(word.isupper() for word in words) or any("|" in word or "[" in word for word in words):
        return  # a pattern, not a command
    try:
        args = _parse(build_parser(), words)
    except SystemExit:
        pytest.fail(f"lam {shlex.join(words)} is not understood")
    if args.command == "train":
        config = ROOT / args.config
        assert config.is_file(), f"there is no {args.config}"
        load_config(PretrainConfig, config, args.overrides)
    elif args.command == "finetune":
        overrides = [*[word for word in args.data if "=" in word], *args.overrides]
        load_config(FinetuneConfig, None, overrides)


@pytest.mark.parametrize("name", COMMANDS)
def test_examples_in_the_help_are_understood(name):
    module = import_module(f"lam.cli.{name}")
    text = getattr(module, "_EPILOG", None) or module.EPILOG
    examples = [line.strip() for line in text.replace("\\\n", " ").splitlines() if line.startswith("  ")]
    assert examples, f"lam {name} --help shows no example"
    for example in examples:
        check_command(example)


@pytest.mark.parametrize("command", ["make tset", "lam predcit x.xyz", "lam predict", "python nowhere.py"])
def test_a_wrong_command_would_be_noticed(command):
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        check_command(command)


def test_an_unknown_setting_would_be_noticed():
    from lam.errors import LamError

    with pytest.raises(LamError, match="steps"):
        check_command("python train.py configs/pretrain/nano.yaml stesp=3")
    with pytest.raises(LamError, match="steps"):
        check_command("lam finetune --model m --data a.xyz --method full --out o stesp=3")


def test_every_part_of_the_package_is_on_the_map():
    text = (ROOT / "docs" / "development.md").read_text(encoding="utf-8")
    for folder in sorted(path.name for path in (ROOT / "lam").iterdir() if (path / "__init__.py").exists()):
        assert f"lam/{folder}/" in text, f"enter lam/{folder}/ in the map of docs/development.md"
