"""Contact sheets: example images of every group, as one PNG."""

import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from jaxprune.data import SPLITS, Dataset
from jaxprune.errors import UserError
from jaxprune.text import printable, shown_names

if TYPE_CHECKING:
    from PIL import Image, ImageDraw, ImageFont

_MARK = "jaxprune contact sheet"  # the software that the file names
_LARGE, _SMALL = 96, 72  # pixels a side: larger images are reduced, smaller ones enlarged by a whole factor, to these
_ROW, _MOST_ROWS = 12, 60  # examples of a group, and groups
_GAP, _BLOCK_GAP, _LINE_GAP, _MARGIN = 3, 18, 14, 24
_INK, _FAINT, _RULE = "#111111", "#666666", "#BBBBBB"


def is_images(dataset: Dataset) -> bool:
    """Return True if the inputs are images [N, H, W, channels]."""
    return len(dataset.train.x.shape) == 4


def check_path(dataset: Dataset, file: str | None) -> Path | None:
    """Check the path of a contact sheet; None if there is none.

    Raises:
      UserError: The data are rows of numbers, the file is no PNG, or its folder is missing.
    """
    if file is None:
        return None
    if not is_images(dataset):
        raise UserError(f"--sheet: {dataset.name} is rows of numbers, without images; leave it out")
    path = Path(file)
    if path.suffix.lower() != ".png":
        raise UserError(f"--sheet {path}: the sheet is a PNG; give a name that ends in .png")
    if not path.parent.is_dir():
        raise UserError(f"--sheet {path}: folder {path.parent} does not exist; make it first")
    return path


def draw_contact_sheet(dataset: Dataset) -> bytes:
    """Draw examples of every group, a row for each, as a PNG.

    Where there are few labels, each has its own columns; where there are many, an example's label stands below it. The
    examples of a cell are spread evenly over the whole set, always the same ones.

    Args:
      dataset: A data set of images [N, H, W, channels].

    Returns:
      The content of the file.
    """
    from PIL import PngImagePlugin

    dataset = _with_shown_names(dataset)
    plan = _plan(dataset)
    page = _draw(dataset, plan, _pixels(dataset, plan))
    info, out = PngImagePlugin.PngInfo(), io.BytesIO()
    info.add_text("Software", _MARK)
    page.save(out, format="PNG", pnginfo=info)
    return out.getvalue()


def _with_shown_names(dataset: Dataset) -> Dataset:
    return replace(
        dataset,
        name=printable(dataset.name),
        group_by=printable(dataset.group_by),
        label_by=printable(dataset.label_by),
        group_names=tuple(shown_names(dataset.group_names)),
        label_names=tuple(shown_names(dataset.label_names)),
    )


@dataclass(frozen=True)
class _Plan:
    """Layout of a contact sheet.

    Attributes:
      headings: The names of the blocks of columns; empty for one block without a name.
      width: Examples in a row of a block, at most.
      cells: [rows][blocks] indices of the examples, counted over the splits in their order.
      captions: True if an example's label stands below it.
      label: [N] the label of every example.
      sizes: [G] examples of each group.
    """

    headings: Sequence[str]
    width: int
    cells: Sequence[Sequence[np.ndarray]]
    captions: bool
    label: np.ndarray
    sizes: np.ndarray


def _plan(dataset: Dataset) -> _Plan:
    label = np.concatenate([np.asarray(dataset.split(split).y) for split in SPLITS])
    group = np.concatenate([np.asarray(dataset.split(split).group) for split in SPLITS])
    same, many = dataset.label_by == dataset.group_by, dataset.num_classes > _ROW
    rows = range(min(dataset.num_groups, _MOST_ROWS))
    sizes = np.bincount(group, minlength=dataset.num_groups)
    if same or many:
        cells = [[_spread(np.flatnonzero(group == g), _ROW)] for g in rows]
        return _Plan((), _ROW, cells, many and not same, label, sizes)
    width = max(2, _ROW // dataset.num_classes)
    cells = [
        [_spread(np.flatnonzero((group == g) & (label == c)), width) for c in range(dataset.num_classes)] for g in rows
    ]
    return _Plan(dataset.label_names, width, cells, False, label, sizes)


def _spread(members: np.ndarray, count: int) -> np.ndarray:
    """Choose at most `count` members, evenly spaced."""
    return members[np.linspace(0, len(members) - 1, min(count, len(members))).round().astype(int)]


def _pixels(dataset: Dataset, plan: _Plan) -> "dict[int, Image.Image]":
    """Read the chosen examples as pictures of one size, by index."""
    from PIL import Image

    offset, images = 0, {}
    chosen = np.unique(np.concatenate([cell for row in plan.cells for cell in row]))
    for split in SPLITS:
        x = dataset.split(split).x
        for i in chosen[(chosen >= offset) & (chosen < offset + len(x))]:
            images[int(i)] = np.asarray(x[i - offset])
        offset += len(x)
    values = _as_bytes(np.stack(list(images.values())))
    height, width = values.shape[1:3]
    longest = max(height, width)
    scale = max(1, _SMALL // longest) if longest <= _LARGE else _LARGE / longest
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    how = Image.Resampling.NEAREST if scale >= 1 else Image.Resampling.LANCZOS
    return {i: Image.fromarray(value).resize(size, how) for i, value in zip(images, values, strict=True)}


def _as_bytes(x: np.ndarray) -> np.ndarray:
    """Convert images to bytes [n, H, W, 3].

    Bytes stay as they are unless all are dark; other numbers are stretched for each channel.
    """
    x = x[..., :3] if x.shape[-1] >= 3 else np.repeat(x[..., :1], 3, axis=-1)
    if x.dtype == np.uint8 and x.max() > 127:
        return x
    low = np.zeros(3) if x.dtype == np.uint8 else x.min(axis=(0, 1, 2))
    span = np.maximum(x.max(axis=(0, 1, 2)) - low, 1e-12)
    return np.round(255 * (x - low) / span).astype(np.uint8)


def _draw(dataset: Dataset, plan: _Plan, pictures: "dict[int, Image.Image]") -> "Image.Image":
    from PIL import Image, ImageDraw

    texts = (dataset.name, dataset.group_by, dataset.label_by, *dataset.group_names, *dataset.label_names)
    bold, plain, small = _font(15, texts, bold=True), _font(13, texts), _font(11, texts)
    tile_width, tile_height = next(iter(pictures.values())).size
    line = tile_height + (16 if plan.captions else 0) + _LINE_GAP
    block = plan.width * (tile_width + _GAP) - _GAP
    blocks = max(1, len(plan.headings))
    names = [dataset.group_names[g] for g in range(len(plan.cells))]
    gutter = int(max(110, min(260, max(bold.getlength(name) for name in names)))) + 16
    top = _MARGIN + 94
    hidden = dataset.num_groups - len(names)
    title, subtitle = _words(dataset, plan, hidden)
    width = 2 * _MARGIN + max(
        gutter + blocks * (block + _BLOCK_GAP) - _BLOCK_GAP, int(plain.getlength(subtitle)), int(bold.getlength(title))
    )
    height = top + len(names) * max(line, 40) + _MARGIN - _LINE_GAP
    page = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(page)
    draw.text((_MARGIN, _MARGIN), title, _INK, bold)
    draw.text((_MARGIN, _MARGIN + 24), subtitle, _FAINT, plain)
    draw.text((_MARGIN, top - 30), _short(dataset.group_by, plain, gutter - 12), _FAINT, plain)
    left = _MARGIN + gutter
    for b, heading in enumerate(plan.headings):
        x = left + b * (block + _BLOCK_GAP)
        _centred(draw, x, top - 32, block, heading, bold if plan.width > 1 else small, _INK)
        draw.line((x, top - 8, x + block, top - 8), _RULE)
    for r, (name, cells) in enumerate(zip(names, plan.cells, strict=True)):
        y = top + r * max(line, 40)
        middle = y + tile_height // 2
        draw.text((_MARGIN, middle - 18), _short(name, bold, gutter - 12), _INK, bold)
        draw.text((_MARGIN, middle + 2), f"{plan.sizes[r]:,} images", _FAINT, plain)
        for b, cell in enumerate(cells):
            x = left + b * (block + _BLOCK_GAP)
            if not len(cell):
                _centred(draw, x, middle - 8, block, "none", plain, _FAINT)
            for k, i in enumerate(cell):
                at = (x + k * (tile_width + _GAP), y)
                page.paste(pictures[int(i)], at)
                if plan.captions:
                    caption = dataset.label_names[plan.label[i]]
                    _centred(draw, at[0], y + tile_height + 1, tile_width, caption, small, _FAINT)
    return page


def _words(dataset: Dataset, plan: _Plan, hidden: int) -> tuple[str, str]:
    """Write the title and the line that explains the sheet."""
    height, width = dataset.train.x.shape[1:3]
    title = f"{dataset.name}: {sum(plan.sizes):,} images of {width}x{height} pixels"
    if plan.headings:
        parts = [f"each row is a group ({dataset.group_by}), each block of columns a label ({dataset.label_by})"]
    elif plan.captions:
        parts = [f"each row is a group ({dataset.group_by}); below an image stands its label ({dataset.label_by})"]
    else:
        parts = [f"each row is a group ({dataset.group_by}), which is the label as well"]
    parts.append("the images are spread evenly over the set")
    if hidden:
        parts.append(f"{hidden:,} more groups are not shown")
    return title, "; ".join(parts)


def _centred(
    draw: "ImageDraw.ImageDraw", x: int, y: int, width: int, text: str, font: "ImageFont.FreeTypeFont", colour: str
) -> None:
    text = _short(text, font, width)
    draw.text((x + (width - font.getlength(text)) / 2, y), text, colour, font)


def _short(text: str, font: "ImageFont.FreeTypeFont", width: float) -> str:
    """Cut a text to a width in pixels."""
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "…") > width:
        text = text[:-1]
    return text + "…"


def _font(size: int, texts: Sequence[str], *, bold: bool = False) -> "ImageFont.FreeTypeFont":
    from PIL import ImageFont

    from jaxprune.reporting.fonts import font_file

    return ImageFont.truetype(font_file("".join(texts), bold=bold), size)
