"""What the cells of tables say: numbers, kinds, missing values and splits."""

import json

import numpy as np
import pytest

from jaxprune.data import cells
from jaxprune.data.sources import table_files
from jaxprune.data.sources.split_column import read_split
from jaxprune.errors import UserError


@pytest.mark.parametrize(
    ("column", "read"),
    [
        (["1", "-2", "NA"], [1, -2, None]),
        (["1", "0.5", "?"], [1.0, 0.5, None]),
        (["1,5", "0,25", "3", ""], [1.5, 0.25, 3.0, None]),
        (["1,500", "0,25"], [1.5, 0.25]),
        (["0,125", "0,250"], [0.125, 0.25]),
        (["1,500", "2,250", "3"], ["1,500", "2,250", "3"]),  # thousands as well as decimals
        (["1,500,000"], ["1,500,000"]),
        (["1,5", "1.5"], ["1,5", "1.5"]),
        (["12 mg", "3"], ["12 mg", "3"]),
        (["12%", ""], ["12%", None]),
        (["\u0663", "\u0664"], ["\u0663", "\u0664"]),  # digits, but not those of numbers in files
        (["9" * 5000, "1"], ["9" * 5000, "1"]),
        (["01", "02"], ["01", "02"]),
    ],
)
def test_numbers_in_text(column, read):
    assert cells.read_cells(column) == read


def test_words_for_missing_values_are_one_kind():
    texts = cells.to_categories(["a", None, "", " NA ", "nan", float("nan"), "N/A", "null", "None", "?", " b\u00a0 c "])
    assert texts == ["a", *["missing"] * 9, "b c"]


def test_near_twins_are_named_with_what_cannot_be_seen():
    names = ["Male", "male", "Male\u200b", "Fe\u0301minin", "F\u00e9minin", "East Asian", "EastAsian", "other", "2-9"]
    (note,) = cells.twin_notes([("sex", names), ("age", ["0-2", "3-9", "10+", "10-19"])])
    assert note == (
        r"sex: 'Male' and 'male' and 'Male\u200b'; 'Fe\u0301minin' and 'F"
        "\u00e9minin'; 'East Asian' and 'EastAsian' are different categories, though only case, spaces or "
        "invisible characters differ; spell them alike if they are one"
    )


@pytest.mark.parametrize(
    ("column", "codes"),
    [
        (["train", "Validation", "TEST", "dev"], [0, 2, 1, 2]),
        ([0, 1, 2, 0], [0, 2, 1, 0]),  # CelebA's order, which is not that of the codes
        ([0.0, 1.0, 2.0], [0, 2, 1]),
        (["0", "2"], [0, 1]),
    ],
)
def test_splits_in_words_and_in_numbers(column, codes):
    np.testing.assert_array_equal(read_split(column, "split", "t.csv"), codes)


@pytest.mark.parametrize(
    ("column", "said"),
    [
        ([0, 1, 0], "holds 0 and 1 alone, and 1 may mean validation or test"),
        ([0, 1, 3], "says '3' in row 3; it may say train, validation or test"),
        (["train", None], "says 'None' in row 2"),
        (["val", "test"], "says train in no row"),
    ],
)
def test_splits_that_cannot_be_read(column, said):
    with pytest.raises(UserError, match=said) as caught:
        read_split(column, "split", "t.csv")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_encodings_that_spreadsheets_write(tmp_path, encoding):
    (tmp_path / "t.csv").write_bytes("ville;n\nN\u00eemes;1,5\n".encode(encoding))
    assert table_files.read_columns(tmp_path / "t.csv", "t") == {"ville": ["N\u00eemes"], "n": [1.5]}


def test_names_of_columns_are_one_line(tmp_path):
    (tmp_path / "t.csv").write_text('"hours\n per  week",n\n40,1\n')
    assert list(table_files.read_columns(tmp_path / "t.csv", "t")) == ["hours per week", "n"]


def test_damaged_parquet_is_one_line(tmp_path):
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    parquet.write_table(pyarrow.table({"income": [1, 0]}), tmp_path / "t.parquet")
    whole = (tmp_path / "t.parquet").read_bytes()
    for damaged in (whole.replace(b"income", b"in\x80ome"), whole[:-20], b"PAR1"):
        (tmp_path / "t.parquet").write_bytes(damaged)
        with pytest.raises(UserError, match="cannot be read as Parquet") as caught:
            table_files.read_columns(tmp_path / "t.parquet", "t")
        assert "\n" not in str(caught.value)


def test_labels_of_hugging_face_files_have_their_names(tmp_path):
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    features = {"label": {"names": ["no", "yes"], "_type": "ClassLabel"}, "n": {"dtype": "int64", "_type": "Value"}}
    table = pyarrow.table({"label": [1, 0, -1], "n": [3, 4, 5]})
    table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    parquet.write_table(table, tmp_path / "t.parquet")
    assert table_files.read_columns(tmp_path / "t.parquet", "t") == {"label": ["yes", "no", None], "n": [3, 4, 5]}
