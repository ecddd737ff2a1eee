"""Names as they are shown, stored in tables and used for files."""

import pytest

from jaxprune.files import folder_name, safe_name
from jaxprune.text import inert_cell, name_some, printable, shortened, shown_names


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Zürich, 日本 😀 $10 [b] <i> 50 %", "Zürich, 日本 😀 $10 [b] <i> 50 %"),
        ("a\x1b[31mb", r"a\x1b[31mb"),
        ("a\x00b\x7fc\x9bd", r"a\x00b\x7fc\x9bd"),
        ("a\nb\r\tc\u2028d", r"a\nb\r\tc\u2028d"),
        ("\u202eabc\u2066", r"\u202eabc\u2066"),
        ("Male\u200b", r"Male\u200b"),
        ("\udcff", r"\udcff"),
        ("👩\u200d👧", "👩\u200d👧"),  # one family
        ("می\u200cخواهم", "می\u200cخواهم"),
        ("ad\u200dmin", r"ad\u200dmin"),
    ],
)
def test_what_cannot_be_seen_is_shown_as_an_escape(text, shown) -> None:
    assert printable(text) == shown


def test_names_that_would_look_the_same_stay_apart() -> None:
    assert shown_names(["a\n", "a\\n", "b", " "]) == ["a\\n (no. 1)", "a\\n (no. 2)", "b", "(no name)"]
    assert shown_names(["Fe\u0301", "F\u00e9", "F"]) == ["Fe\u0301 (no. 1)", "F\u00e9 (no. 2)", "F"]
    long = shown_names(["x" * 300 + "a", "x" * 300 + "b", "x" * 150 + "1" + "x" * 150 + "a"], most=30)
    assert len(set(long)) == 3
    assert shortened("x" * 300 + "end", 10) == "xxxxxx…end"
    assert name_some(list("abcd"), 2) == "a, b and 2 more"
    assert name_some(list("ab"), 2) == "a, b"


@pytest.mark.parametrize(
    ("text", "cell"),
    [("=cmd|' /C calc'!A0", "'=cmd|' /C calc'!A0"), ("@SUM(A1)", "'@SUM(A1)"), ("+a", "'+a"), ("-a", "'-a"),
     ("\tx", "'\tx"), ("\rx", "'\rx"), ("-1.5e-07", "-1.5e-07"), ("+2", "+2"), ("-.5", "-.5"), ("a=b", "a=b"),
     ("", ""), ("\ud800", r"\ud800")],
)  # fmt: skip
def test_cells_that_a_spreadsheet_would_run_are_inert(text, cell) -> None:
    assert inert_cell(text) == cell
    cell.encode("utf-8")


@pytest.mark.parametrize("name", ["adult", "my data (1)", "日本", "a.b", "it's $5 & more"])
def test_a_fit_name_is_the_name_of_its_folder(name) -> None:
    assert folder_name(name) == name


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../x", "/etc", "a\\b", "c:x", "a\nb", "\x00", "\udcff", " x", "x.", "x" * 300, "字" * 100]
)
def test_other_names_become_safe_and_stay_apart(name) -> None:
    for fit in (folder_name(name), safe_name(name)):
        assert fit.isascii()
        assert 0 < len(fit) <= 120
        assert fit.replace("-", "").replace("_", "").isalnum()
    assert folder_name(name) != folder_name(name + "1")
