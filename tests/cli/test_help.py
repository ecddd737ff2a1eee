"""Help, completion and templates: short, complete, quick, and without jax."""

import re
import resource
import shutil
import subprocess
import sys
import tomllib

import pytest

from jaxprune import cli, config
from jaxprune.cli.arguments import COMMANDS, SHELLS
from jaxprune.cli.settings import COMMON, TAKES, taken


def shown(capsys, *arguments: str) -> str:
    """What a command that ends well prints."""
    capsys.readouterr()
    try:
        code = cli.main(list(arguments))
    except SystemExit as ended:
        code = ended.code
    assert code == 0
    return capsys.readouterr().out


def flags(text: str) -> set[str]:
    """The settings that a help lists."""
    return {flag for flag in re.findall(r"^  --([a-z0-9_.]+)", text, re.MULTILINE) if flag in config.paths()}


def refused(capsys, *arguments: str) -> str:
    capsys.readouterr()
    assert cli.main(list(arguments)) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.count("\n") == 1
    return printed.err


def test_the_short_help_shows_the_settings_that_people_change(capsys) -> None:
    text = shown(capsys, "run", "--help")
    assert flags(text) == set(COMMON)
    assert 18 <= len(flags(text)) <= 22
    assert text.splitlines()[0] == "usage: jaxprune run [CONFIG] [--out FOLDER] [--SETTING VALUE ...]"
    assert "--train.epochs INT    passes over the training split (15)" in text
    assert "`jaxprune run --help-all` shows all" in text
    assert len(text.splitlines()) <= 110


@pytest.mark.parametrize("command", [name for name in TAKES if name != "datasets"])
def test_the_long_help_shows_all_that_a_command_takes(capsys, command) -> None:
    words = command.split()
    assert flags(shown(capsys, *words, "--help-all")) == set(taken(command))
    assert flags(shown(capsys, *words, "--help")) <= set(taken(command))


def test_every_setting_is_a_flag_of_some_command() -> None:
    assert {path for command in TAKES for path in taken(command)} == set(config.paths())
    assert set(COMMON) <= set(config.paths())
    assert set(TAKES) <= {*COMMANDS, "datasets show", "datasets prepare"}


def test_help_is_a_command_too(capsys) -> None:
    assert shown(capsys, "help", "datasets", "show") == shown(capsys, "datasets", "show", "--help")
    assert shown(capsys, "help", "run") == shown(capsys, "run", "--help")
    assert shown(capsys, "help") == shown(capsys, "--help")
    assert "unknown command 'rum'; did you mean 'run'" in refused(capsys, "help", "rum")


def test_the_commands_of_data_sets_have_help_of_their_own(capsys) -> None:
    show, prepare = (shown(capsys, "datasets", action, "--help") for action in ("show", "prepare"))
    for flag, there, absent in (("--sheet", show, prepare), ("--table", prepare, show), ("--npz", prepare, show)):
        assert f"  {flag} " in there
        assert flag not in absent
    assert flags(prepare) == {"data.directory"}
    assert "data.group" in flags(show)
    assert "data.name" not in flags(show)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "--retrain.epochs", "3"], "--retrain.epochs does nothing for `jaxprune train`; leave it out"),
        (["train", "digits", "--prune.sparsities", "0.5"], "--prune.sparsities does nothing for `jaxprune train`"),
        (["train", "--choice.max_cost", "0.1"], "--choice.max_cost does nothing for `jaxprune train`"),
        (["report", "--seeds", "2"], "--seeds does nothing for `jaxprune report`"),
        (["datasets", "--data.group", "sex"], "--data.group does nothing for `jaxprune datasets`"),
        (["datasets", "adult", "--table", "t.csv"], "--table does nothing for `jaxprune datasets show`"),
        (["datasets", "prepare", "mine", "--sheet", "a.png"], "--sheet does nothing for `jaxprune datasets prepare`"),
        (["datasets", "show", "adult", "--train.epochs", "3"], "--train.epochs does nothing for"),
        (["datasets", "show"], "datasets show: give the name of one data set"),
        (["datasets", "show", "adult", "digits"], "'digits' is one argument too many; one name is taken"),
        (["run", "--dense", "a.pt"], "unknown flag 'dense'; see jaxprune run --help-all"),
        (["run", "--epochs", "3"], "unknown flag 'epochs'; did you mean 'retrain.epochs' or 'train.epochs'?"),
        (["run", "--quite"], "unknown flag 'quite'; did you mean 'quiet'?"),
        (["run", "adult", "--seeds", "0"], "command line: seeds = 0: it should be greater than or equal to 1"),
        (["run", "--prune.sparsities", "50", "70"], "sparsities = 50: it should be less than 1; write 0.5 for 50 %"),
        (["run", "--progress", "bar"], "progress = 'bar': it should be one of auto, bars, lines, none"),
        (["completion", "csh"], "invalid choice: 'csh'"),
    ],
)  # fmt: skip
def test_what_a_command_does_not_take_is_refused(capsys, tmp_path, monkeypatch, arguments, message) -> None:
    monkeypatch.chdir(tmp_path)
    assert message in refused(capsys, *arguments)
    assert list(tmp_path.iterdir()) == []


def test_names_may_stand_after_flags(capsys) -> None:
    text = shown(capsys, "datasets", "show", "synthetic", "--data.sizes", "300", "80")
    assert text == shown(capsys, "datasets", "synthetic", "--data.sizes", "300", "80")
    assert "n=80" in text


def test_a_template_has_every_setting_and_is_the_config(capsys, tmp_path) -> None:
    for name in ("adult", "digits", "compare_adult"):
        text = shown(capsys, "configs", name, "--all")
        (tmp_path / "mine.toml").write_text(text)
        assert config.load(str(tmp_path / "mine.toml")) == config.load(name)
        named = set()
        section = ""
        for line in text.splitlines():
            if line.startswith("["):
                section = line[1 : line.index("]")] + "."
            elif match := re.match(r"(?:# )?([a-z_0-9]+) =.*  # \S", line):
                named.add(section + match[1])
        assert named == set(config.paths())
    assert tomllib.loads(shown(capsys, "configs", "--all"))["name"] == "adult"


def completions(words: list[str], script: str) -> list[str]:
    """What bash offers for the last word."""
    quoted = " ".join(f"'{word}'" for word in words)
    ask = f'COMP_WORDS=({quoted}); COMP_CWORD={len(words) - 1}; _jaxprune; printf "%s\\n" "${{COMPREPLY[@]}}"'
    done = subprocess.run(["bash", "-c", f"{script}\n{ask}"], capture_output=True, text=True, check=True, timeout=30)
    assert done.stderr == ""
    return done.stdout.split()


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_bash_completes_commands_flags_values_and_configs(capsys, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.toml").write_text("")
    script = shown(capsys, "completion", "bash")
    assert completions(["jaxprune", "t"], script) == ["train", "theory"]
    assert completions(["jaxprune", "run", "--train.mo"], script) == ["--train.momentum"]
    assert completions(["jaxprune", "train", "--retrain"], script) == ["--retrain.methods"]
    assert completions(["jaxprune", "run", "--train.optimizer", "adam"], script) == ["adam", "adamw"]
    assert completions(["jaxprune", "run", "--train.flip", ""], script) == ["true", "false"]
    assert completions(["jaxprune", "run", "--progress", "l"], script) == ["lines"]
    assert completions(["jaxprune", "run", "synth"], script) == ["synthetic"]
    assert completions(["jaxprune", "run", "mi"], script) == ["mine.toml"]
    assert completions(["jaxprune", "datasets", "p"], script) == ["prepare"]
    assert completions(["jaxprune", "datasets", "show", "--sh"], script) == ["--sheet"]
    assert completions(["jaxprune", "completion", ""], script) == list(SHELLS)
    assert completions(["jaxprune", "help", "comp"], script) == ["compare", "completion"]


@pytest.mark.parametrize("shell", SHELLS)
def test_scripts_name_every_flag(capsys, shell) -> None:
    script = shown(capsys, "completion", shell)
    for path in config.paths():
        assert re.search(rf"(--| -l ){re.escape(path)}\b", script), path
    if shutil.which(shell):
        check = [shell, "--no-execute" if shell == "fish" else "-n"]
        assert subprocess.run(check, input=script, capture_output=True, text=True, timeout=30).stderr == ""


def test_help_is_quick_and_does_without_jax() -> None:
    """The time of the processor, the least of several: the machine may be at work on other things."""
    taking = []
    for arguments in (["--help"], ["run", "--help"], ["completion", "bash"], ["--help"]):
        code = (
            "import sys\nfrom jaxprune.cli import main\n"
            f"try: main({arguments!r})\nexcept SystemExit: pass\n"
            "assert 'jax' not in sys.modules and 'rich' not in sys.modules and 'numpy' not in sys.modules\n"
        )
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, timeout=60)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        taking.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert min(taking) < 0.3
