"""Files of weights that are made to harm: refused on one line, quickly, and within bounds of memory."""

import os
import pickle
import struct
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
from locations import SUPPORT
from safetensors.numpy import save_file
from torch_format import MAGIC, Call, Name, Raw, code, dump, older_form, storage, tensor, write_torch, zip_form

from jaxprune import models
from jaxprune.errors import UserError
from jaxprune.models import pickles, state_dict, torch_files

ARRAY = np.arange(6, dtype=np.float32)
STORE = storage("0", ARRAY)
OLD = storage("0", ARRAY, legacy=True)
LONGS = Call(Name("torch", "LongStorage"), ([2**61],))
DEEP = Raw(b")" + b"\x85" * 100_000)  # tuples in tuples
LISTS = Raw(b"]" * 50_000 + b"a" * 49_999)
LAUGHS = Raw(b"]q\x00" + b"(h\x00h\x00lq\x00" * 5_000)  # each list twice in the next one
COLLIDING = Raw(b"}(" + b"".join(code(i * (2**61 - 1)) + b"N" for i in range(1, 20_000)) + b"u")
MEMO = Raw(b"N" + b"".join(b"p%d\n" % (i * (2**61 - 1)) for i in range(1, 2_000)))

TENSORS = {
    "sizes whose product wraps": tensor(STORE, 0, (2**32, 2**32), (1, 1)),
    "strides that wrap": tensor(STORE, 0, (3, 2), (2**63, 1)),
    "a reach that wraps": tensor(STORE, 0, (2, 2), (2**62, 2**62)),
    "one number too far": tensor(STORE, 1, (3, 2), (2, 1)),
    "an offset beyond": tensor(STORE, 7, (), ()),
    "a huge offset": tensor(STORE, 2**62, (1,), (1,)),
    "a negative offset": tensor(STORE, -1, (1,), (1,)),
    "a negative size": tensor(STORE, 0, (-1,), (1,)),
    "a negative stride": tensor(STORE, 5, (3,), (-1,)),
    "strides that are a storage": tensor(STORE, 0, (2,), LONGS),
    "strides in a storage": tensor(STORE, 0, (2,), (LONGS,)),
    "sizes of truth values": tensor(STORE, 0, (True,), (1,)),
    "sizes of floats": tensor(STORE, 0, (2.0,), (1,)),
    "fewer strides": tensor(STORE, 0, (3, 2), (1,)),
    "too many dimensions": tensor(STORE, 0, (1,) * 100, (1,) * 100),
    "expanded beyond the file": tensor(STORE, 0, (2**20, 2**20), (0, 0)),
    "empty and huge": tensor(STORE, 0, (0, 2**61, 2**61), (1, 1, 1)),
    "no storage": tensor((1, 2), 0, (2,), (1,)),
    "a storage that is longer than the file": tensor(storage("0", ARRAY, length=2**40), 0, (2,), (1,)),
    "a storage of negative length": tensor(storage("0", ARRAY, length=-1), 0, (1,), (1,)),
    "a storage of objects": tensor(storage("0", ARRAY, kind=Name("numpy", "object_")), 0, (2,), (1,)),
    "a storage of a type by its letter": tensor(storage("0", ARRAY, kind="O"), 0, (2,), (1,)),
    "a storage of a type that is called": tensor(storage("0", ARRAY, kind=Call(Name("os", "system"))), 0, (2,), (1,)),
    "a storage that is not there": tensor(storage("../../0", ARRAY), 0, (2,), (1,)),
    "no arguments": Call(Name("torch._utils", "_rebuild_tensor_v2")),
    "an OrderedDict of numbers": Call(Name("collections", "OrderedDict"), ([1, 2],)),
    "a tensor inside of itself": Call(
        Name("torch._tensor", "_rebuild_from_type_v2"), (Name("torch", "Size"), 1, (3,), 2)
    ),
}
VALUES = {
    "deep tuples": DEEP,
    "deep lists": LISTS,
    "deep states": Raw(b"}" * 100_000 + b"b" * 99_999),
    "deep calls": Raw(b"cos\nsystem\n" * 50_000 + b")" + b"R\x85" * 49_999 + b"R"),
    "deep keys": {"a": Raw(b"}" + DEEP.code + b"Ns")},
    "deep sizes": tensor(STORE, 0, (DEEP,), (1,)),
    "a deep storage key": tensor(
        Raw(code(("storage", Name("torch", "FloatStorage"), DEEP, "cpu", 6)) + b"Q"), 0, (), ()
    ),
    "a list inside of itself": Raw(b"]q\x00h\x00a"),
    "a list of doubled lists": LAUGHS,
    "keys that collide": COLLIDING,
    "memo that collides": MEMO,
    "an integer of many digits": Raw(b"L" + b"9" * 100_000 + b"L\n"),
    "a text of a huge length": Raw(b"\x8d" + struct.pack("<Q", 2**62)),
    "bytes of a huge length": Raw(b"B" + struct.pack("<I", 2**32 - 1)),
    "a bytearray of a huge length": Raw(b"\x96" + struct.pack("<Q", 2**62)),
    "nothing on the stack": Raw(b"000"),
    "no mark": Raw(b"tel"),
    "items of a number": Raw(b"K\x01K\x01K\x01s"),
    "members of a number": Raw(b"K\x01K\x01a"),
    "a memo that is not there": Raw(b"h\x07"),
    "a name that is a number": Raw(b"K\x01K\x02\x93"),
    "an extension": Raw(b"\x82\x01"),
    "a buffer": Raw(b"\x97"),
}


def refusal(path):
    """The one line on which a file is refused."""
    begun = time.monotonic()
    with pytest.raises(UserError) as error:
        models.read_state_dict(path)
    assert str(error.value).isprintable()
    assert str(error.value).startswith("model.weights: ")
    assert not any(word in str(error.value) for word in ("MemoryError", "RecursionError"))
    assert time.monotonic() - begun < 20
    return str(error.value)


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "older form"])
@pytest.mark.parametrize("what", TENSORS)
def test_a_tensor_that_is_none_is_refused(what, legacy, tmp_path):
    content = dump({"conv1.weight": TENSORS[what]})
    if legacy:
        content = content.replace(code(STORE), code(OLD))
    (tmp_path / "x.pt").write_bytes((older_form if legacy else zip_form)(content, {"0": ARRAY}))
    refusal(tmp_path / "x.pt")


@pytest.mark.parametrize("what", VALUES)
def test_a_pickle_that_is_made_to_harm_is_refused(what, tmp_path):
    (tmp_path / "x.pt").write_bytes(zip_form(dump({"conv1.weight": VALUES[what]}), {"0": ARRAY}))
    refusal(tmp_path / "x.pt")


def test_the_steps_of_a_pickle_are_bounded(tmp_path, monkeypatch):
    path = write_torch(tmp_path / "x.pt", {"a": ARRAY, "log": [0] * 2_000})
    assert set(models.read_state_dict(path)) == {"a"}
    monkeypatch.setattr(pickles, "MAX_STEPS", 1_000)
    assert "more than 1,000 steps" in refusal(path)


def test_what_torch_calls_is_a_stand_in_with_a_name_that_is_shown_escaped(tmp_path, capfd):
    name = Raw(code("os\x1b[31m") + code("sys\u202etem") + b"\x93")
    said = refusal(write_torch(tmp_path / "x.pt", {"a": Call(name, ("echo run",))}))
    assert r"would run os\x1b[31m.sys\u202etem, which is refused" in said
    (tmp_path / "x.pt").write_bytes(pickle.dumps({1, 2}, protocol=0))
    assert "is not a file of torch.save" in refusal(tmp_path / "x.pt")
    assert capfd.readouterr().out == ""


@pytest.mark.parametrize("kind", ["pt", "safetensors"])
def test_names_of_tensors_are_shown_escaped_and_shortened(kind, tmp_path):
    entries = {"a\n\x1b[2J\u202e" + "b" * 400: ARRAY, "bias": ARRAY}
    path = tmp_path / f"x.{kind}"
    write_torch(path, entries) if kind == "pt" else save_file(entries, path)
    params = {"bias": ARRAY}
    with pytest.raises(UserError) as error:
        models.load_weights(path, params, {})
    assert str(error.value).isprintable()
    assert r"has a\n\x1b[2J\u202ebbb" in str(error.value)
    assert len(str(error.value)) < len(str(path)) + 400


def test_the_header_and_the_names_of_safetensors_are_bounded(tmp_path, monkeypatch):
    path = tmp_path / "x.safetensors"
    save_file({str(i): ARRAY for i in range(100)}, path)
    assert len(models.read_state_dict(path)) == 100
    monkeypatch.setattr(state_dict, "MAX_HEADER", 1_000)
    assert "header is no header, or has more than 1,000 bytes" in refusal(path)
    monkeypatch.undo()
    save_file({"parametrizations.a." * 1_000: ARRAY}, path)
    assert "the name of a tensor has 19,000 characters" in refusal(path)


def zip_with(member, content=b"", **options):
    """A zip file of torch.save with another member."""
    file = zip_form(dump({"a": tensor(STORE, 0, (6,), (1,))}), {"0": ARRAY} if member != "archive/data/0" else {})
    path = Path(os.environ["WHERE"]) / "x.pt"
    path.write_bytes(file)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(member, content, **options)
    return path


def test_what_torch_never_writes_into_a_zip_file_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("WHERE", str(tmp_path))
    assert models.read_state_dict(zip_with("archive/other", b"x"))["a"].tolist() == ARRAY.tolist()
    bomb = zip_with("archive/data/0", bytes(50_000_000), compress_type=zipfile.ZIP_DEFLATED)
    assert "compressed" in refusal(bomb)
    assert "not one of torch.save" in refusal(zip_with("other/data.pkl", dump({})))
    (tmp_path / "x.pt").write_bytes(zip_form(dump({"a": ARRAY.tolist()}), {}, compression=zipfile.ZIP_DEFLATED))
    assert "compressed" in refusal(tmp_path / "x.pt")
    path = zip_with("archive/other", b"x")
    path.write_bytes(path.read_bytes().replace(ARRAY.tobytes(), ARRAY[::-1].tobytes()))
    assert "Bad CRC-32" in refusal(path)
    path = write_torch(tmp_path / "x.pt", {"a": ARRAY})
    path.write_bytes(path.read_bytes().replace(b"little", b"bigger"))
    refusal(path)


def test_a_list_of_members_is_bounded(tmp_path, monkeypatch):
    path = write_torch(tmp_path / "x.pt", {str(i): ARRAY[:1] for i in range(100)})
    assert len(models.read_state_dict(path)) == 100
    monkeypatch.setattr(torch_files, "MAX_DIRECTORY", 4_000)
    assert "too many members" in refusal(path)


def test_the_older_form_is_bounded(tmp_path):
    path = tmp_path / "x.pt"
    whole = older_form(dump({"a": tensor(OLD, 0, (6,), (1,))}), {"0": ARRAY})
    assert models.read_state_dict(write_torch(path, {"a": ARRAY}, legacy=True))["a"].tolist() == ARRAY.tolist()
    for damaged, said in (
        (whole[:-1], "ends early"),
        (whole.replace(struct.pack("<q", 6) + ARRAY.tobytes(), struct.pack("<q", 2**40)), "two lengths"),
        (whole.replace(dump(["0"]), dump(["1"])), "other storages"),
        (whole.replace(dump(["0"]), dump([DEEP])), "other storages"),
        (whole.replace(code("little_endian") + b"\x88", code("little_endian") + b"\x89"), "big-endian"),
        (dump(MAGIC + 1), "not a file of torch.save"),
    ):
        assert damaged != whole
        path.write_bytes(damaged)
        assert said in refusal(path)


def test_a_storage_that_is_part_of_another_one_is_read_there(tmp_path):
    parts = (*storage("0", ARRAY).parts, ("1", 2, 3))
    view = tensor(type(STORE)(parts), 1, (2,), (1,))
    (tmp_path / "x.pt").write_bytes(older_form(dump({"a": view}), {"0": ARRAY}))
    assert models.read_state_dict(tmp_path / "x.pt")["a"].tolist() == [3, 4]
    outside = tensor(type(STORE)((*parts[:-1], ("1", 4, 3))), 0, (2,), (1,))
    (tmp_path / "x.pt").write_bytes(older_form(dump({"a": outside}), {"0": ARRAY}))
    assert "beyond the one that it is a part of" in refusal(tmp_path / "x.pt")


def test_mutated_files_are_read_or_refused():
    """A million are tried by hand: CONTRIBUTING.md says how."""
    script = SUPPORT / "fuzz_weights.py"
    done = subprocess.run(
        [sys.executable, str(script), "2500"], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stderr == ""
    read = int(done.stdout.split(" of 2500 read")[0])
    assert 60 < read < 1000
