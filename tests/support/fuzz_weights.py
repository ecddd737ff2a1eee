"""Reads mutated files of weights: each is read, or refused on one line, in bounded time and memory.

`python tests/support/fuzz_weights.py 1000000` tries a million, in some twenty minutes. It prints how many were read,
and ends with an error at the first that raises anything else than a UserError, takes ten seconds or asks for a
gigabyte. That file stays in the folder that the error names.
"""

import argparse
import pickletools
import random
import resource
import signal
import sys
import tempfile
from pathlib import Path
from types import FrameType

import numpy as np
from safetensors.numpy import save
from torch_format import Call, Name, code, dump, older_form, storage, tensor, zip_form

from jaxprune import models
from jaxprune.errors import UserError

SECONDS, GIGABYTE = 10, 2**30
ARRAYS = {
    "0": np.arange(6, dtype=np.float32).reshape(3, 2),
    "1": np.ones(3, np.float32),
    "2": np.ones((1, 3), np.float16),
    "3": np.array([0.5]),
}
NAMES = ("dense_0.weight", "dense_0.bias", "dense_1.weight", "dense_1.bias")
NUMBERS = (0, 1, -1, 127, 128, 255, 2**15, 2**31 - 1, -(2**31), 2**32, 2**53, 2**61 - 1, 2**62, 2**63, -(2**63), 2**200)
OPCODES = "".join(opcode.code for opcode in pickletools.opcodes).encode("latin-1")
OURS = ("MemoryError", "RecursionError", "SystemError")  # bounds of the reader should come before those of the machine


def pickles() -> list[bytes]:
    """Pickles of a state dict: plain, older, wrapped, masked and as a whole module."""
    made = []
    for legacy in (False, True):
        views = {}
        for name, (key, array) in zip(NAMES, ARRAYS.items(), strict=True):
            strides = tuple(step // array.itemsize for step in array.strides)
            views[name] = tensor(storage(key, array, legacy=legacy), 0, array.shape, strides)
        made.append(dump(views))
        module = Call(Name("train", "Net"), (), {"_parameters": views, "_modules": {}})
        made.append(dump({"model": module, "args": Call(Name("argparse", "Namespace"), (), {"lr": 0.1}), "epoch": 3}))
        masked = {
            **views,
            "dense_0.weight_orig": views["dense_0.weight"],
            "dense_0.weight_mask": views["dense_0.weight"],
        }
        made.append(
            dump({"state_dict": {f"module.{name}": view for name, view in masked.items()}, "state_dict_ema": views})
        )
    return made


def mutate(content: bytes, draw: random.Random, others: list[bytes]) -> bytes:
    """Some changes at some places."""
    changed = bytearray(content)
    for _ in range(draw.choice((1, 1, 1, 2, 3, 8))):
        place = draw.randrange(len(changed) + 1)
        length = draw.choice((1, 1, 2, 4, 8, 30))
        number = draw.choice(NUMBERS)
        new = draw.choice(
            (
                draw.randbytes(length),
                bytes([draw.choice(OPCODES)]),
                code(number),
                (number % 2**64).to_bytes(8, draw.choice(("little", "big"))),
                (number % 2**32).to_bytes(4, "little"),
                f"{number}\n".encode(),
                bytes(changed[place : place + length]) * draw.choice((2, 50)),
                b"",
            )
        )
        kind = draw.randrange(5)
        if kind == 0 and place < len(changed):
            changed[place] ^= 1 << draw.randrange(8)
        elif kind == 1:
            changed[place:place] = new
        elif kind == 2:
            changed[place : place + len(new)] = new
        elif kind == 3:
            changed[place : place + length] = new
        else:
            other = draw.choice(others)
            begin = draw.randrange(len(other))
            changed[place : place + length] = other[begin : begin + draw.choice((length, 200))]
    return bytes(changed[: draw.randrange(len(changed) + 1)]) if draw.random() < 0.05 else bytes(changed)


def case(draw: random.Random, sources: list[bytes], table: bytes) -> tuple[str, bytes]:
    """A file of one of the forms: with its parts changed and put together anew, or changed as a whole."""
    kind = draw.randrange(8)
    if kind == 0:
        return "x.safetensors", mutate(table, draw, [table])
    source = draw.choice(sources)
    changed = mutate(source, draw, sources) if kind < 6 else source
    form = older_form if draw.random() < 0.4 else zip_form
    whole = form(changed, ARRAYS)
    return "x.pt", whole if kind < 6 else mutate(whole, draw, [whole])


def late(_: int, __: FrameType | None) -> None:
    """The time of one file is over."""
    raise SystemExit(f"a file took more than {SECONDS} seconds")


def bound_memory() -> None:
    """Allow a gigabyte beside what the process has taken."""
    if sys.platform == "linux":
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limit = pages * resource.getpagesize() + GIGABYTE
        resource.setrlimit(resource.RLIMIT_AS, (limit, resource.getrlimit(resource.RLIMIT_AS)[1]))


def main() -> None:
    """Tries as many as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("count", type=int)
    parser.add_argument("--first", type=int, default=0, help="the number of the first one, which decides its changes")
    chosen = parser.parse_args()
    params = {"dense_0": {"kernel": np.ones((2, 3), np.float32), "bias": np.ones(3, np.float32)}}
    params["dense_1"] = {"kernel": np.ones((3, 1), np.float32), "bias": np.ones(1, np.float32)}
    sources = pickles()
    table = save({name: array.astype(np.float32) for name, array in zip(NAMES, ARRAYS.values(), strict=True)})
    folder = Path(tempfile.mkdtemp(prefix="fuzz-weights-"))
    signal.signal(signal.SIGALRM, late)
    for path, content in (("x.pt", zip_form(sources[0], ARRAYS)), ("x.safetensors", table)):
        (folder / path).write_bytes(content)
        models.load_weights(folder / path, params, {})
    bound_memory()
    read = 0
    for number in range(chosen.first, chosen.first + chosen.count):
        name, content = case(random.Random(number), sources, table)
        (folder / name).write_bytes(content)
        signal.alarm(SECONDS)
        try:
            models.load_weights(folder / name, params, {})
            read += 1
        except UserError as error:
            if not str(error).isprintable():
                raise SystemExit(
                    f"{folder / name}, number {number}: {str(error)!r} is not one printable line"
                ) from None
        except BaseException as error:
            raise SystemExit(f"{folder / name}, number {number}: {type(error).__name__}: {error}") from error
        signal.alarm(0)
    for file in folder.iterdir():
        file.unlink()
    folder.rmdir()
    sys.stdout.write(f"{read} of {chosen.count} read, the others refused\n")


if __name__ == "__main__":
    main()
