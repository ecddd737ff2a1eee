"""The README's commands and code are run as they stand."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jaxprune import cli, config

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()

pytestmark = pytest.mark.skipif(not (ROOT / "README.md").exists(), reason="needs a checkout")


def blocks(language: str, page: str = README) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", page, re.S)


def commands() -> list[str]:
    pages = README + "".join((ROOT / "docs" / page).read_text() for page in ("data.md", "networks.md", "pruning.md"))
    lines = [line.partition("  #")[0].strip() for block in blocks("sh", pages) for line in block.splitlines()]
    return list(dict.fromkeys(line for line in lines if line.startswith("jaxprune")))


def picture(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (6, 6, 3), np.uint8)).save(path)


def make_files(folder: Path) -> None:
    """What the commands name: an npz file, a folder of images with a table, the files of UTKFace and of FairFace."""
    n = 60
    np.savez(
        folder / "mine.npz", x=np.zeros((n, 5, 5)), y=np.arange(n) % 2, town=np.arange(n) % 3, age=np.arange(n) // 3 % 2
    )
    faces = np.random.default_rng(0).integers(0, 256, (n, 6, 6, 3), np.uint8)
    np.savez(folder / "faces.npz", x=faces, y=np.arange(n) % 2, town=np.arange(n) % 3)
    table = ["file,glasses,tone,age,split"]
    labels = {"train": ["file,age,gender,race,service_test"], "val": ["file,age,gender,race,service_test"]}
    for i in range(n):
        picture(folder / "photos" / f"{i}.png", i)
        table.append(
            f"{i}.png,{('yes', 'no')[i % 2]},{('II', 'IV')[i // 2 % 2]},{20 + i},{('train', 'test')[i % 3 == 0]}"
        )
        picture(folder / "UTKFACE" / f"{i}_{i % 2}_{i % 5}_2017{i:06}.jpg.chip.jpg", i)
        part = ("train", "val")[i % 3 == 0]
        picture(folder / "FAIRFACE" / part / f"{i}.jpg", i)
        labels[part].append(f"{part}/{i}.jpg,20-29,{('Male', 'Female')[i % 2]},{('White', 'Black')[i // 2 % 2]},True")
    (folder / "people.csv").write_text("\n".join(table))
    census = [f"{('low', 'high')[i % 2]},{('II', 'IV')[i // 2 % 2]},{20 + i % 40},{i % 7},x" for i in range(n)]
    (folder / "census.csv").write_text("\n".join(["income,race,age,zip,part", *census]))
    for part, lines in labels.items():
        (folder / "FAIRFACE" / f"fairface_label_{part}.csv").write_text("\n".join(lines))


def test_the_library_example_runs() -> None:
    code = "\n".join(blocks("python"))
    assert "flax" not in code
    done = subprocess.run([sys.executable, "-W", "error::UserWarning", "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) >= 4


@pytest.mark.slow
def test_the_code_about_networks_runs(tmp_path) -> None:
    code = "\n".join(blocks("python", (ROOT / "docs" / "networks.md").read_text()))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr


def test_the_networks_of_a_run_are_saved_as_the_page_says(tmp_path) -> None:
    """The block alone, which the one above runs with the others."""
    page = blocks("python", (ROOT / "docs" / "networks.md").read_text())
    block = next(block for block in page if "pipeline.run" in block)
    code = f"import jax\nimport numpy as np\nfrom jaxprune import models\n{block}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "first.safetensors").stat().st_size > 64 * 16 * 4


@pytest.mark.parametrize("name", ["save_packed", "save_compact"])
def test_sparse_and_compact_files_are_written_and_read_as_the_page_says(name, tmp_path) -> None:
    code = next(block for block in blocks("python", (ROOT / "docs" / "networks.md").read_text()) if name in block)
    expected = re.findall(r"^print\(.*\)  # (.*)$", code, re.M)
    done = subprocess.run(
        [sys.executable, "-W", "error::UserWarning", "-c", code], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == expected != []


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
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "sets"))
    make_files(tmp_path)
    arguments = shlex.split(command.partition(">")[0])[1:]
    if arguments[0] in ("configs", "datasets"):
        if arguments[1:3] == ["show", "people"]:
            assert cli.main(shlex.split("datasets prepare people --directory photos --table people.csv")) == 0
        assert cli.main(arguments) == 0
        return
    seen = {}
    if arguments[0] == "export":
        monkeypatch.setitem(cli._FUNCTIONS, "export", lambda options, arguments: seen.update(vars(options)) or 0)
        assert cli.main(arguments) == 0
        assert seen["run"] == "runs/digits"
        return
    monkeypatch.setattr(cli, "_compute", lambda settings, out, options, arguments: seen.update(out=out) or 0)
    assert cli.main(arguments) == 0
    assert seen["out"].parts[0] == "runs"


def test_every_file_it_links_to_exists() -> None:
    for page in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]:
        for target in re.findall(r"\]\((?!http)([^)#]+)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_the_settings_it_names_exist() -> None:
    for page in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]:
        for path in re.findall(r"`--([a-z]+\.[a-z_0-9]+)", page.read_text()):
            assert path in config.paths(), f"{page.name}: {path}"
