"""Search, check and conversion of image files."""

import hashlib
import io
import os
import struct
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from jaxprune.errors import UserError

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")
_GREY = ("L", "1")
_EIGHT_BITS = (*_GREY, "RGB", "P", "RGBA", "LA", "PA", "RGBX", "CMYK", "YCbCr")
_ORIENTATION = 274  # the EXIF tag that says how a camera was held


@dataclass(frozen=True)
class Look:
    """Facts about one image file.

    Attributes:
      digest: SHA-256 of the bytes of its file.
      grey: True if it has one channel.
      plain: True if it can be stored byte for byte, among images of as many channels.
    """

    digest: str
    grey: bool
    plain: bool


def find_images(directory: Path, what: str = "of the images") -> list[Path]:
    """Find the images in a folder and its subfolders, sorted by path.

    Hidden files and folders are passed over. Links to folders are gone into, unless the folder is found without them:
    each folder is read once, so that links in a circle end.

    Raises:
      UserError: The folder is missing.
    """
    if not directory.is_dir():
        raise UserError(f"--directory {directory} is not a folder; give the folder {what}")
    images, seen, waiting = [], set[str](), [directory]
    while waiting:
        links: list[Path] = []
        for start in waiting:
            for top, folders, files in os.walk(start):
                here = os.path.realpath(top)
                if here in seen:
                    folders.clear()
                    continue
                seen.add(here)
                folders[:] = sorted(name for name in folders if not name.startswith("."))
                links += [Path(top) / name for name in folders if os.path.islink(os.path.join(top, name))]
                images += [
                    Path(top) / name
                    for name in files
                    if not name.startswith(".") and os.path.splitext(name)[1].lower() in SUFFIXES
                ]
        waiting = links
    return sorted(path for path in images if path.is_file())


def examine(paths: Sequence[Path], advance: Callable[[], None]) -> list[Look]:
    """Decode every image once.

    So all faults are known before anything is written.

    Args:
      paths: [N] the files.
      advance: Called after each.

    Returns:
      [N] facts about each image.

    Raises:
      UserError: Images cannot be read; the message counts them and names the first.
    """
    looks, faults = [], []
    for path in paths:
        try:
            looks.append(_look(path))
        # What Pillow raises for damaged files depends on the format and on where the damage is.
        except (OSError, SyntaxError, ValueError, TypeError, EOFError, struct.error, zlib.error) as error:
            reason = " ".join(str(error).replace(f"'{path}'", "").split()) or type(error).__name__
            faults.append((path, reason))
        advance()
    if len(faults) == 1:
        raise UserError(f"{faults[0][0]} cannot be read as an image ({faults[0][1]}); replace or remove it")
    if faults:
        others = ", ".join(path.name for path, _ in faults[1:3]) + (", ..." if len(faults) > 3 else "")
        raise UserError(
            f"{faults[0][0]} cannot be read as an image ({faults[0][1]}), nor can {len(faults) - 1} more ({others}); "
            "replace or remove them"
        )
    return looks


def stored(path: Path, look: Look, grey: bool) -> bytes:
    """Encode an image for storage.

    Its own bytes serve where they can; else it becomes a lossless PNG, upright and with the channels of the set.

    Args:
      path: The file.
      look: Facts about the file.
      grey: True if all images of the set are grey, and so are stored with one channel.
    """
    from PIL import Image, ImageOps

    if look.plain and look.grey == grey:
        return path.read_bytes()
    with Image.open(path) as image:
        upright = ImageOps.exif_transpose(image).convert("L" if grey else "RGB")
        out = io.BytesIO()
        upright.save(out, format="PNG")
    return out.getvalue()


def _look(path: Path) -> Look:
    from PIL import Image

    content = path.read_bytes()
    try:
        with Image.open(io.BytesIO(content)) as image:
            image.load()
            if image.mode not in _EIGHT_BITS:
                raise ValueError(f"its pixel format is {image.mode}; convert it to 8 bits a channel")
            upright = image.getexif().get(_ORIENTATION, 1) == 1
            return Look(
                hashlib.sha256(content).hexdigest(), image.mode in _GREY, upright and image.mode in ("L", "RGB")
            )
    except Image.UnidentifiedImageError:  # its own words name a buffer
        raise ValueError("no image format that is known" if content else "the file is empty") from None
    except Image.DecompressionBombError as error:
        raise ValueError(str(error)) from None
