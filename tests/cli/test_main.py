"""The command line as a whole: help, versions, and every misuse as one sentence with exit status 2."""

import subprocess
import sys
import types
import warnings
from pathlib import Path

import pytest

import lam
from lam.cli import main as cli
from lam.errors import LamError, LamWarning

ROOT = Path(__file__).parents[2]


def error_of(capsys, *argv: str) -> str:
    """Run a command that must fail, and return its one line on stderr."""
    try:
        status = cli.main(list(argv))
    except SystemExit as stop:  # argparse
        status = stop.code
    captured = capsys.readouterr()
    assert status == 2
    lines = captured.err.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith("lam: error: "), captured.err
    return lines[0]


def test_version(capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(["--version"])
    assert stop.value.code == 0
    assert capsys.readouterr().out == f"lam {lam.__version__}\n"


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_every_command_has_a_help_with_an_example(command, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main([command, "--help"])
    assert stop.value.code == 0
    text = capsys.readouterr().out
    assert "example" in text and f"lam {command} " in text
    with pytest.raises(SystemExit):
        cli.main(["--help"])
    assert f"\n    {command} " in capsys.readouterr().out


def test_help_imports_nothing_heavy():
    code = (
        "import sys\n"
        "from lam.cli.main import build_parser\n"
        "build_parser().format_help()\n"
        "sys.exit(' '.join({'torch', 'ase', 'rich', 'matplotlib', 'h5py'} & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_no_command_shows_the_help(capsys):
    assert cli.main([]) == 2
    assert "lam models" in capsys.readouterr().out


def test_misuse(capsys):
    assert "no command 'predct'. Did you mean 'predict'" in error_of(capsys, "predct", "x.xyz")
    assert "FILE" in error_of(capsys, "predict")
    assert "--nonsense" in error_of(capsys, "models", "--nonsense")
    assert "a=1" in error_of(capsys, "models", "a=1")
    assert "--dtype" in error_of(capsys, "predict", "x.xyz", "--dtype", "float16")


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (LamError("The file is wrong."), "The file is wrong."),
        (PermissionError(13, "Permission denied", "/a/b"), "Cannot use '/a/b': Permission denied."),
    ],
)
def test_errors_for_the_user_have_no_traceback(error, text, capsys, monkeypatch):
    def fail(args):
        raise error

    monkeypatch.setattr("lam.cli.models.run", fail)
    assert error_of(capsys, "models") == f"lam: error: {text}"


def test_a_bug_keeps_its_traceback(monkeypatch):
    monkeypatch.setattr("lam.cli.models.run", lambda args: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        cli.main(["models"])


def test_interruption(capsys, monkeypatch):
    def interrupt(args):
        raise KeyboardInterrupt

    monkeypatch.setattr("lam.cli.models.run", interrupt)
    assert cli.main(["models"]) == 130
    assert capsys.readouterr().err == "lam: interrupted\n"


def test_the_commands_status_is_passed_on(monkeypatch):
    monkeypatch.setattr("lam.cli.models.run", lambda args: 1)
    assert cli.main(["models"]) == 1


def test_warnings_are_one_line_each_time(capsys, monkeypatch):
    def warn(args):
        for _ in range(2):
            warnings.warn("atoms overlap", LamWarning, stacklevel=2)

    monkeypatch.setattr("lam.cli.models.run", warn)
    assert cli.main(["models"]) == 0
    assert capsys.readouterr().err == "lam: warning: atoms overlap\n" * 2


@pytest.mark.parametrize(
    ("argv", "overrides"),
    [
        (["c.yaml"], []),
        (["c.yaml", "a=1", "b.c=2"], ["a=1", "b.c=2"]),
    ],
)
def test_train_passes_its_arguments_on(argv, overrides, monkeypatch):
    calls = []
    monkeypatch.setattr("lam.train.run.pretrain_from_file", lambda *values: calls.append(values))
    assert cli.main(["train", *argv]) == 0
    assert calls == [("c.yaml", overrides)]


def test_train_without_its_file(capsys):
    assert "nowhere.yaml" in error_of(capsys, "train", "nowhere.yaml")


def test_the_scripts_are_the_commands():
    for script, option in (("train.py", "CONFIG"), ("finetune.py", "--method")):
        done = subprocess.run([sys.executable, script, "--help"], cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0 and option in done.stdout
        assert len((ROOT / script).read_text().splitlines()) <= 20
    done = subprocess.run([sys.executable, "-m", "lam", "--version"], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.startswith("lam ")


def test_finetune_passes_its_arguments_on(monkeypatch, tmp_path):
    calls = []
    stub = types.ModuleType("lam.train.finetune")
    stub.finetune = lambda *values, **options: calls.append((values, options))
    monkeypatch.setitem(sys.modules, "lam.train.finetune", stub)
    odd = tmp_path / "T=300.xyz"  # a file, although it looks like key=value
    odd.touch()
    # Overrides may stand anywhere, also after --data, which takes every word up to the next option.
    argv = ["steps=5", "--model", "m", "--data", "a.xyz", str(odd), "lr=0.1", "--method", "head", "--out", "o", "a.b=2"]
    assert cli.main(["finetune", *argv]) == 0
    [(values, options)] = calls
    assert values == ("m", ["a.xyz", str(odd)])
    assert options == {
        "method": "head",
        "out": "o",
        "head": None,
        "new_head": None,
        "seed": 0,
        "steps": 5,
        "lr": 0.1,
        "a": {"b": 2},
    }


def test_finetune_misuse(capsys):
    assert "--method" in error_of(capsys, "finetune", "--model", "m", "--data", "d", "--method", "lora", "--out", "o")
    assert "required" in error_of(capsys, "finetune", "--model", "m")


def test_an_error_in_a_data_loader_worker_is_one_sentence_too(monkeypatch, capsys):
    import lam.cli.models
    from lam.errors import LamError

    def run(_):
        raise LamError(
            "Caught LamError in DataLoader worker process 0.\nOriginal Traceback (most recent call last):\n"
            '  File "x.py", line 1, in y\nlam.errors.LamError: The shard is damaged.\n'
        )

    monkeypatch.setattr(lam.cli.models, "run", run)
    from lam.cli.main import main

    assert main(["models"]) == 2
    assert capsys.readouterr().err == "lam: error: The shard is damaged.\n"
