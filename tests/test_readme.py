"""The README's commands and code are run as they stand."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from jaxprune import cli, config

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()

pytestmark = pytest.mark.skipif(not (ROOT / "README.md").exists(), reason="needs a checkout")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.S)


def commands() -> list[str]:
    lines = [line.partition("  #")[0].strip() for block in blocks("sh") for line in block.splitlines()]
    return [line for line in lines if line.startswith("jaxprune")]


def test_the_library_example_runs() -> None:
    code = "\n".join(blocks("python"))
    assert "flax" not in code
    done = subprocess.run([sys.executable, "-W", "error::UserWarning", "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) >= 4


def test_the_two_commands_are_there_as_written() -> None:
    first = blocks("sh")[0].splitlines()
    assert [line.partition("  #")[0].strip() for line in first] == [
        "python -m pip install . && jaxprune run",
        "python -m pip install '.[test]' && pytest",
    ]


@pytest.mark.parametrize("command", commands())
def test_each_command_is_understood(command: str, tmp_path, monkeypatch, capsys) -> None:
    """Flags, values and names of every command are valid; training is left out (the command line's tests do that)."""
    monkeypatch.chdir(tmp_path)
    arguments = shlex.split(command.partition(">")[0])[1:]
    if arguments[0] in ("configs", "datasets"):
        assert cli.main(arguments) == 0
        return
    seen = {}
    monkeypatch.setattr(cli, "_compute", lambda settings, out, options, arguments: seen.update(out=out) or 0)
    assert cli.main(arguments) == 0
    assert seen["out"].parts[0] == "runs"


def test_every_file_it_links_to_exists() -> None:
    for page in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]:
        for target in re.findall(r"\]\((?!http)([^)#]+)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_the_settings_it_names_exist() -> None:
    for page in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]:
        for path in re.findall(r"`--([a-z]+\.[a-z_]+)", page.read_text()):
            assert path in config.paths(), f"{page.name}: {path}"
