"""Images as they are found on other machines: other Unicode forms, links, hidden folders, inside of tables."""

import io
import json
import os
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jaxprune import data
from jaxprune.cli import main
from jaxprune.data.prepare.images import find_images

N = 40


def png(seed: int) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (6, 6, 3), np.uint8)).save(stream, "PNG")
    return stream.getvalue()


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")


def listed(top: Path) -> list[str]:
    return [path.relative_to(top).as_posix() for path in find_images(top)]


def prepare(capsys, *flags: str) -> str:
    """What `datasets prepare mine` prints, on either stream."""
    code = main(["datasets", "prepare", "mine", "--data.directory", "sets", *flags])
    printed = capsys.readouterr()
    assert code == (2 if printed.err else 0)
    assert printed.err.count("\n") <= 1
    return printed.err or printed.out


def test_names_match_in_either_unicode_form(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    os.mkdir("photos")
    for i in range(N):
        Path("photos", unicodedata.normalize("NFD", f"\u00e9{i}.png")).write_bytes(png(i))
    rows = "".join(f"\u00e9{i}.png,{('no', 'yes')[i % 2]}\n" for i in range(N))
    Path("t.csv").write_text(f"file,glasses\n{rows}", encoding="utf-8")
    assert "40 images in" in prepare(capsys, "--directory", "photos", "--table", "t.csv")


def test_links_to_folders_are_gone_into_once(tmp_path):
    top = tmp_path / "photos"
    touch(top / "a" / "1.png", tmp_path / "real" / "2.png", tmp_path / "real" / "deep" / "3.png")
    (top / "2019").symlink_to("../real")
    (top / "again").symlink_to("a")  # found without it
    (top / "circle").symlink_to(".")
    (tmp_path / "real" / "up").symlink_to("../photos")
    (top / "gone").symlink_to("nowhere")
    (top / "4.png").symlink_to("a/1.png")
    assert listed(top) == ["2019/2.png", "2019/deep/3.png", "4.png", "a/1.png"]
    (tmp_path / "link").symlink_to("photos")
    assert listed(tmp_path / "link") == listed(top)


def test_hidden_folders_are_passed_over(tmp_path):
    touch(tmp_path / "a.png", tmp_path / ".ipynb_checkpoints" / "a-checkpoint.png", tmp_path / "b" / ".git" / "c.png")
    (tmp_path / ".hidden").symlink_to(tmp_path / "b")
    assert listed(tmp_path) == ["a.png"]
    hidden = tmp_path / ".mine"
    touch(hidden / "d.png")
    assert listed(hidden) == ["d.png"], "unless it is the folder that was given"


def hugging_face_table(path: str, image) -> None:
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    columns = {"image": [image(i) for i in range(N)], "label": [i % 2 for i in range(N)], "age": list(range(N))}
    features = {"image": {"_type": "Image"}, "label": {"names": ["no", "yes"], "_type": "ClassLabel"}}
    table = pyarrow.table(columns).replace_schema_metadata(
        {"huggingface": json.dumps({"info": {"features": features}})}
    )
    parquet.write_table(table, path, row_group_size=7)


@pytest.mark.parametrize("form", ["struct", "bytes"])
def test_images_inside_of_a_parquet_table(tmp_path, monkeypatch, capsys, form):
    monkeypatch.chdir(tmp_path)
    hugging_face_table("t.parquet", (lambda i: {"bytes": png(i), "path": f"{i}.png"}) if form == "struct" else png)
    assert "40 images in" in prepare(capsys, "--table", "t.parquet")
    loaded = data.load("mine", directory="sets", label="label", group="age", bins=(20.0,), min_group_size=1)
    assert (loaded.label_names, loaded.group_names) == (("no", "yes"), ("<20", "20+"))
    found = {}
    for split in data.SPLITS:
        x, y, group, _ = loaded.split(split)
        found |= {image.tobytes(): (int(a), int(g)) for image, a, g in zip(x, y, group, strict=True)}
    expected = {np.asarray(Image.open(io.BytesIO(png(i)))).tobytes(): (i % 2, int(i >= 20)) for i in range(N)}
    assert found == expected
    assert "Images of the table t.parquet (SHA-256 " in loaded.provenance


def test_tables_of_images_that_cannot_be_used_are_one_short_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    os.mkdir("photos")
    Path("photos/1.png").write_bytes(png(1))
    hugging_face_table("t.parquet", lambda i: {"bytes": png(i), "path": f"{i}.png"})
    printed = prepare(capsys, "--table", "t.parquet", "--directory", "photos")
    assert "--directory: the images are in t.parquet, in column 'image'; leave the folder out" in printed
    hugging_face_table("gap.parquet", lambda i: {"bytes": png(i) if i != 3 else None, "path": f"{i}.png"})
    assert "row 4 holds no image in column 'image' (it names '3.png')" in prepare(capsys, "--table", "gap.parquet")
    hugging_face_table("text.parquet", lambda i: f"{i}.png")
    assert "--directory is missing" in prepare(capsys, "--table", "text.parquet")
    assert main(["datasets", "t.parquet", "--data.label", "label", "--data.group", "age"]) == 2
    assert "datasets prepare t --table t.parquet" in capsys.readouterr().err
    assert not Path("sets").exists()


def test_what_a_table_says_is_read_and_told(tmp_path, monkeypatch, capsys):
    """CelebA's numbers of splits, numbers with a decimal comma, near twins, units, words for missing values."""
    monkeypatch.chdir(tmp_path)
    os.mkdir("photos")
    rows = ["file;glasses;sex;dose;unit;partition"]
    for i in range(80):
        Path(f"photos/{i}.png").write_bytes(png(i))
        sex, part = ("Male", "male", "NA", "")[i % 4], (0, 0, 0, 1, 2)[i % 5]
        rows.append(f"{i}.png;{('no', 'yes')[i // 5 % 2]};{sex};{i % 10},{i % 7};{i % 9} mg;{part}")
    Path("t.csv").write_text("\n".join(rows), encoding="utf-8")
    printed = prepare(capsys, "--directory", "photos", "--table", "t.csv", "--split-column", "partition")
    assert "warning: sex: 'Male' and 'male' are different categories" in printed
    loaded = data.load("mine", directory="sets", label="glasses", group="dose", bins=(5.0,))
    assert [len(loaded.split(split).y) for split in data.SPLITS] == [48, 16, 16]
    assert loaded.group_names == ("<5", "5+")
    assert data.load("mine", directory="sets", group="sex").group_names == ("Male", "male", "missing")
    show = ["datasets", "show", "mine", "--data.directory", "sets", "--data.group", "unit", "--data.bins", "unit=5"]
    assert main(show) == 2
    assert "unit is not a column of numbers: '0 mg' is none" in capsys.readouterr().err
