"""Rows of a table matched to image files."""

from pathlib import Path

import pytest

from jaxprune.data.prepare.match import match_rows
from jaxprune.errors import UserError


def match(names: list[str], files: list[str]) -> list[str]:
    top = Path("photos")
    found = match_rows(names, [top / file for file in files], top, "t.csv")
    return [path.relative_to(top).as_posix() for path in found]


def test_rows_name_images_in_three_ways() -> None:
    files = ["a/1.png", "a/2.png", "b/3.png"]
    assert match(["b/3.png", "./a/1.png", "a\\2.png"], files) == ["b/3.png", "a/1.png", "a/2.png"]
    assert match(["3.png", "1.png", "2.png"], files) == ["b/3.png", "a/1.png", "a/2.png"]
    assert match(["3", "1", "2"], files) == ["b/3.png", "a/1.png", "a/2.png"]
    assert match(["x.png", "x"], ["x.png", "b/x"]) == ["x.png", "b/x"], "a whole path goes first"


@pytest.mark.parametrize(
    ("names", "files", "message"),
    [
        (["1.png"], [], "holds no images"),
        (["1.png", "2.png", "9.png"], ["1.png", "2.png"], "1 row without an image in photos: 9.png; add the images"),
        (["1.png", *"abcde"], ["1.png"], "5 rows without an image in photos: a, b, c and 2 more"),
        (["1.png"], ["1.png", "2.png", "3.png"], "2 images in photos without a row: 2.png, 3.png; add their rows"),
        (["1.png", "1.png", "2.png"], ["1.png", "2.png"], "1 image with several rows: 1.png; keep one row"),
        (["1.png", "1"], ["1.png"], "1 image with several rows: 1.png"),
        (["1.png"], ["a/1.png", "b/1.png"], "'1.png' may be a/1.png, b/1.png; give paths from photos"),
        (["7"], ["a.png"], "no row names an image in photos; the first says '7', the folder has 'a.png'"),
    ],
)
def test_rows_and_images_that_do_not_fit(names, files, message) -> None:
    with pytest.raises(UserError) as caught:
        match(names, files)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
