"""npz files of strangers: what is read, and what is refused before it is."""

import io
import struct
import zipfile

import numpy as np
import pytest

from jaxprune import data
from jaxprune.cli import main
from jaxprune.data.sources import npz_files
from jaxprune.errors import UserError

GOOD = {"x": np.arange(120.0).reshape(60, 2), "y": np.arange(60) % 2, "race": np.arange(60) // 2 % 3}


def npy(header: str, body: bytes = b"", version: bytes = b"\x01\x00") -> bytes:
    size = struct.pack("<H" if version == b"\x01\x00" else "<I", len(header))
    return b"\x93NUMPY" + version + size + header.encode("latin-1") + body


def plain(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def write(path, **members: bytes | np.ndarray) -> str:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in (GOOD | members).items():
            file.writestr(
                name if "." in name else f"{name}.npy", content if isinstance(content, bytes) else plain(content)
            )
    return str(path)


def message(path: str) -> str:
    with pytest.raises(UserError) as caught:
        data.load(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def header(shape: str, kind: str = "<f8") -> str:
    return f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}\n"


@pytest.mark.parametrize(
    ("member", "said"),
    [
        ({"notes.txt": b"hello"}, "holds 'notes.txt', which is not an array"),
        ({"ra\nce": b"hello"}, r"array 'ra\nce'"),
        ({"race": b"hello"}, "array 'race'"),
        ({"race": npy(header("(1000000000000, 1000000)"))}, "its header says more than the file holds"),
        ({"race": npy(header(f"({10**30},)"))}, "its header says more than the file holds"),
        ({"race": npy(header("(" + "9" * 5000 + ",)"))}, "its header"),
        ({"race": npy(header("(-5,)"))}, "its header cannot be read"),
        ({"race": npy(header("(" * 4000 + ")" * 4000))}, "its header cannot be read"),
        ({"race": npy(header("(60,)") + " " * 20_000)}, "its header cannot be read"),
        ({"race": npy(header("(60,)"), bytes(8 * 61))}, "the file holds more than its header says"),
        ({"race": npy(header("(60,)"), bytes(8 * 60), b"\x09\x00")}, "its header cannot be read"),
        ({"race": npy(header("(60,)", "|O"), bytes(8 * 60))}, "holds Python objects, which are not loaded"),
        ({"race": np.zeros(60, [("a", "i4"), ("b", "f8")])}, "is a table of fields (2)"),
    ],
)
def test_members_that_are_no_plain_arrays_are_named(tmp_path, member, said):
    assert said in message(write(tmp_path / "mine.npz", **member))


def change_directory(path, offset: int, value: bytes) -> None:
    """Changes a field of the first entry of the directory of a zip file, and of its local header."""
    content = bytearray(path.read_bytes())
    at = content.index(b"PK\x01\x02")
    content[at + offset : at + offset + len(value)] = value
    if offset < 28:  # the local header has the same fields two bytes earlier
        content[offset - 2 : offset - 2 + len(value)] = value
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("offset", "value", "said"),
    [
        (8, b"\x01\x00", "is encrypted"),
        (10, b"\x63\x00", "compressed in a way that is not known"),
        (24, struct.pack("<I", 2**32 - 2), "GB once unpacked, more than the"),
        (24, struct.pack("<I", 130), "is damaged"),
    ],
)
def test_what_the_directory_declares_is_checked(tmp_path, monkeypatch, offset, value, said):
    path = tmp_path / "mine.npz"
    write(path)
    change_directory(path, offset, value)
    monkeypatch.setattr(npz_files, "available_bytes", lambda: 2**31)
    assert said in message(str(path))


def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path, monkeypatch):
    path = tmp_path / "bomb.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("x.npy", npy(header("(40000000,)", "|u1"), bytes(40_000_000)))
    assert path.stat().st_size < 100_000
    monkeypatch.setattr(npz_files, "available_bytes", lambda: 30_000_000)
    assert "GB once unpacked" in message(str(path))


def test_two_members_of_one_name_are_refused(tmp_path):
    path = tmp_path / "mine.npz"
    write(path)
    with pytest.warns(UserWarning, match="Duplicate"), zipfile.ZipFile(path, "a") as file:
        file.writestr("y.npy", plain(GOOD["y"]))
    assert "holds two arrays named 'y'" in message(str(path))


def test_memory_is_told_or_not():
    free = npz_files.available_bytes()
    assert free is None or free > 10**7


def test_texts_are_names(tmp_path):
    """Names as bytes are decoded; texts in place of codes are kinds."""
    expected = data.load(write(tmp_path / "a.npz", race_names=np.array(["a", "b", "c"])))
    of_bytes = data.load(write(tmp_path / "b.npz", race_names=np.array([b"a", b"b", b"c"])))
    texts = data.load(write(tmp_path / "c.npz", race=np.array(["a", "b", "c"])[GOOD["race"]]))
    assert expected.group_names == ("a", "b", "c")
    assert expected.fingerprint() == of_bytes.fingerprint() == texts.fingerprint()


@pytest.mark.parametrize(("first", "names"), [(1, ("1", "2")), (-1, ("-1", "0")), (5, ("5", "6"))])
def test_labels_may_begin_elsewhere(tmp_path, first, names):
    expected = data.load(write(tmp_path / "a.npz"))
    found = data.load(write(tmp_path / "b.npz", y=GOOD["y"] + first))
    assert found.label_names == names
    np.testing.assert_array_equal(found.train.y, expected.train.y)


def test_labels_of_minus_and_plus_one_are_two_classes(tmp_path):
    found = data.load(write(tmp_path / "b.npz", y=2 * GOOD["y"] - 1))
    assert found.label_names == ("-1", "1")
    np.testing.assert_array_equal(np.bincount(found.train.y), np.bincount(data.load(write(tmp_path / "a.npz")).train.y))


def test_labels_from_one_may_be_many_and_may_have_bins_of_their_own(tmp_path):
    many = write(tmp_path / "a.npz", y=1 + np.arange(60) % 26)
    assert data.load(many, bins=(5.0,), min_group_size=1).num_classes == 26
    assert data.load(many, bins={"y": (5,)}).label_names == ("<5", "5+")


def test_numbers_of_splits_are_told_and_words_need_no_telling(tmp_path):
    split = np.arange(60) // 6 % 3
    numbers = data.load(write(tmp_path / "a.npz", split=split))
    (note,) = numbers.notes
    assert "1 is read as test (18 examples) and 2 as validation (18), the other way round than in CelebA" in note
    words = data.load(write(tmp_path / "b.npz", split=np.array(["train", "test", "val"])[split]))
    assert words.notes == ()
    assert words.fingerprint() == numbers.fingerprint()


def test_paths_of_other_files(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "A.NPZ")
    assert main(["datasets", "A.NPZ"]) == 0
    capsys.readouterr()
    np.save("x.npy", GOOD["x"])
    (tmp_path / "notes.doc").write_text("hello")
    for name, said in (
        ("x.npy", "x.npy is one array; save x, y and attributes"),
        ("notes.doc", "a file of another type"),
    ):
        assert main(["datasets", name]) == 2
        printed = capsys.readouterr().err
        assert said in printed
        assert printed.count("\n") == 1
