"""The convolution in C++ against that of XLA in float64, and what happens where it cannot be built."""

import hashlib
import logging
import os
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxprune import cache
from jaxprune.cache import cache_folder
from jaxprune.models.conv import convolve, forms, native
from jaxprune.models.conv.forms import Geometry
from jaxprune.models.conv.native import library

FORMS = {
    "convolution": forms.CONVOLUTION,
    "image_transpose": forms.IMAGE_TRANSPOSE,
    "kernel_transpose": forms.KERNEL_TRANSPOSE,
}
# replicas, images, (height, width), window, stride, padding, channels in, channels: whole and broken tiles of each kind
SHAPES = {
    "whole tiles": (1, 2, (8, 8), (3, 3), 1, 1, 16, 16),
    "two vectors of channels": (1, 3, (16, 16), (3, 3), 1, 1, 16, 32),
    "odd channels, strided": (2, 3, (7, 9), (3, 3), 2, 1, 3, 5),
    "three vectors, the last one broken": (1, 1, (5, 5), (3, 3), 2, 1, 20, 40),
    "large stem": (1, 2, (32, 32), (7, 7), 2, 3, 3, 16),
    "gaps where no window is": (2, 2, (6, 5), (1, 1), 2, 0, 8, 33),
    "rows apart that no window reaches": (1, 2, (11, 11), (2, 2), 3, 0, 5, 17),
    "uneven window": (1, 2, (9, 9), (5, 3), 1, 1, 4, 64),
    "narrow images in twos": (1, 5, (4, 4), (3, 3), 1, 1, 24, 48),
    "windows that are mostly padding": (1, 1, (1, 2), (3, 3), 1, 1, 8, 8),
    "wider padding than needed": (1, 2, (6, 6), (3, 3), 1, 2, 3, 4),
    "one window": (1, 2, (4, 4), (4, 4), 4, 0, 3, 4),
    "one for each example": (9, 1, (6, 6), (3, 3), 1, 1, 3, 8),
    "no images": (1, 0, (6, 6), (3, 3), 1, 1, 3, 8),
    "frames in blocks": (1, 2, (40, 48), (3, 3), 1, 1, 34, 18),
    "winograd, several blocks": (1, 5, (32, 32), (3, 3), 1, 1, 16, 32),
    "winograd, odd sizes and replicas": (2, 3, (7, 9), (3, 3), 1, 1, 16, 16),
    "winograd, a panel of one vector": (1, 2, (10, 8), (3, 3), 1, 1, 32, 48),
    "winograd, no padding": (1, 4, (9, 10), (3, 3), 1, 0, 48, 16),
    "winograd, wider padding than needed": (2, 4, (6, 5), (3, 3), 1, 2, 16, 16),
    "winograd, a sum of one image for each replica": (9, 1, (12, 12), (3, 3), 1, 1, 16, 16),
    "winograd, replicas and parts": (2, 10, (8, 8), (3, 3), 1, 1, 16, 16),
    "winograd, many channels": (1, 9, (4, 4), (3, 3), 1, 1, 256, 16),
    "strided over as many channels": (1, 3, (17, 16), (3, 3), 2, 1, 16, 32),
    "uneven window over as many channels": (1, 4, (9, 9), (3, 5), 1, 1, 16, 32),
    "winograd, sums in parts": (1, 70, (4, 4), (3, 3), 1, 1, 32, 64),
    "too few tiles for winograd": (1, 1, (8, 8), (3, 3), 1, 1, 32, 32),
}
# channels in, channels: the direct form and Winograd's
FORMS_OF_SUMS = {"direct": (12, 32), "winograd": (16, 32)}


@pytest.fixture(scope="module", autouse=True)
def _built():
    if not native.available():
        pytest.skip("no C++ compiler")


def operands(shape):
    """Image, kernel and result, and the geometry."""
    replicas, images, size, window, stride, padding, features_in, features = shape
    g = Geometry(size, window, stride, padding)
    rng = np.random.default_rng(0)
    sizes = (
        (replicas, images, *size, features_in),
        (replicas, *window, features_in, features),
        (replicas, images, *g.out, features),
    )
    return [rng.normal(size=s) for s in sizes], g


def of(name, x, kernel, y):
    """The operands of one of the three."""
    return {"convolution": (x, kernel), "image_transpose": (y, kernel), "kernel_transpose": (x, y)}[name]


OF_VERSIONS = ("odd channels, strided", "winograd, odd sizes and replicas")


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(
    "shape", [pytest.param(shape, marks=[pytest.mark.versions] * (shape in OF_VERSIONS)) for shape in SHAPES]
)
def test_each_of_the_three_is_that_of_xla(shape):
    arrays, g = operands(SHAPES[shape])
    for name, form in FORMS.items():
        a, b = of(name, *arrays)
        exact = np.asarray(form.default(a, b, geometry=g, precision=None))
        single = (jnp.asarray(a, jnp.float32), jnp.asarray(b, jnp.float32))
        call = partial(native.call, name, form.shape(a.shape, b.shape, g), stride=g.stride, padding=g.padding)
        ours = np.asarray(jax.jit(call)(*single))
        assert ours.shape == exact.shape
        np.testing.assert_allclose(ours, exact, rtol=0, atol=2e-6 * np.abs(exact).max(initial=0) + 1e-30)


@pytest.mark.parametrize("form", FORMS_OF_SUMS)
def test_a_sum_is_the_same_to_the_last_bit_however_the_threads_share_it(form):
    arrays, _ = operands((1, 50, (16, 16), (3, 3), 1, 1, *FORMS_OF_SUMS[form]))
    x, kernel, y = (jnp.asarray(a, jnp.float32) for a in arrays)
    total = jax.jit(partial(native.call, "kernel_transpose", kernel.shape, stride=1, padding=1))
    first = np.asarray(total(x, y))
    for _ in range(20):
        np.testing.assert_array_equal(np.asarray(total(x, y)), first)


def test_numbers_that_are_not_finite_stay_where_their_windows_are():
    x = np.ones((1, 2, 8, 8, 4), np.float32)
    x[0, 1, 3, 3, 0] = np.nan
    kernel = np.ones((1, 3, 3, 4, 16), np.float32)
    y = np.asarray(jax.jit(partial(native.call, "convolution", (1, 2, 8, 8, 16), stride=1, padding=1))(x, kernel))
    expected = np.zeros((2, 8, 8), bool)
    expected[1, 2:5, 2:5] = True
    np.testing.assert_array_equal(np.isnan(y[0]).all(-1), expected)
    np.testing.assert_array_equal(np.isnan(y[0]).any(-1), expected)


def hashes() -> list[str]:
    """Of the results of all three, with tiles left over that do not fill a register tile."""
    found = []
    assert native.available()
    for shape in ((1, 2, (7, 7), (3, 3), 1, 2, 64, 16), (1, 5, (8, 8), (3, 3), 1, 1, 32, 64)):
        arrays, g = operands(shape)
        for name, form in FORMS.items():
            a, b = (jnp.asarray(array, jnp.float32) for array in of(name, *arrays))
            call = partial(native.call, name, form.shape(a.shape, b.shape, g), stride=g.stride, padding=g.padding)
            found.append(hashlib.sha256(np.asarray(jax.jit(call)(a, b)).tobytes()).hexdigest())
    return found


def test_results_are_the_same_to_the_last_bit_with_other_numbers_of_threads():
    path = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    environment = {**os.environ, "NPROC": "3", "PYTHONPATH": path}  # XLA makes so many threads, once in a process
    command = [sys.executable, "-c", "from test_native import hashes; print(*hashes())"]
    said = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    assert said.split() == hashes()


def test_without_channels_there_is_nothing_to_add():
    image, kernel = np.zeros((2, 6, 6, 0), np.float32), np.zeros((3, 3, 0, 4), np.float32)
    assert not np.any(jax.jit(partial(convolve, padding=1))(image, kernel))


@pytest.mark.parametrize("form", FORMS_OF_SUMS)
def test_numbers_that_are_not_finite_stay_in_their_image(form):
    (x, kernel, y), g = operands((1, 3, (16, 16), (3, 3), 1, 1, *FORMS_OF_SUMS[form]))
    x, y = (np.array(a, np.float32) for a in (x, y))
    x[0, 1, 3, 3, 0] = y[0, 1, 3, 3, 0] = np.inf
    for name, image in (("convolution", x), ("image_transpose", y)):
        shape = FORMS[name].shape(image.shape, kernel.shape, g)
        call = partial(native.call, name, shape, stride=1, padding=1)
        finite = np.isfinite(np.asarray(jax.jit(call)(image, jnp.asarray(kernel, jnp.float32))))[0]
        assert finite[[0, 2]].all()
        assert not finite[1, 2:5, 2:5].any()
        assert finite[1, 6:].all()


def lowered(x, kernel):
    return jax.jit(partial(convolve, padding=len(kernel) // 2)).lower(x, kernel).as_text()


def test_windows_of_several_pixels_take_it_and_others_do_not(monkeypatch):
    window = np.zeros((4, 8, 8, 16), np.float32), np.zeros((3, 3, 16, 16), np.float32)
    point = np.zeros((4, 8, 8, 16), np.float32), np.zeros((1, 1, 16, 16), np.float32)
    assert "jaxprune_convolution" in lowered(*window)
    assert "jaxprune_convolution" not in lowered(*point)  # a product of matrices
    monkeypatch.setattr(native, "available", lambda: False)
    assert "jaxprune_convolution" not in lowered(*window)


@pytest.mark.usefixtures("x64")
def test_other_numbers_than_float32_go_by_xla():
    assert "custom_call" not in lowered(np.zeros((4, 8, 8, 16)), np.zeros((3, 3, 16, 16)))


@pytest.fixture
def built_anew(monkeypatch):
    """Asks as if it had not been asked before; nothing is registered twice."""
    monkeypatch.setattr(native.jax.ffi, "register_ffi_target", lambda *_, **__: None)
    return native._registered.__wrapped__


def test_it_is_built_once_and_whole(tmp_path):
    tmp_path.chmod(0o700)
    first = library.built(tmp_path)
    made = first.stat().st_mtime_ns
    assert library.built(tmp_path) == first
    assert first.stat().st_mtime_ns == made
    assert list(tmp_path.iterdir()) == [first]


@pytest.mark.parametrize(
    ("compiler", "said"), [("no-such-compiler", "no C++ compiler (no-such-compiler)"), ("false", "does not work")]
)
def test_without_a_compiler_that_works_xla_is_taken(compiler, said, built_anew, monkeypatch, tmp_path, caplog):
    monkeypatch.setenv("CXX", compiler)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with caplog.at_level(logging.INFO, native.__name__):
        assert not built_anew()
    assert said in caplog.text
    assert list(tmp_path.rglob("*.so")) == []


def test_a_build_that_fails_leaves_nothing_and_xla_is_taken(built_anew, monkeypatch, tmp_path, caplog):
    (tmp_path / "convolution.cc").write_text("this is not C++")
    monkeypatch.setattr(library, "SOURCES", tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert not built_anew()
    assert "exit status" in one_line(caplog)
    assert [path for path in (tmp_path / "cache").rglob("*") if path.is_file()] == []


# --- a kept library that is damaged, or that others could have changed; one of a line, which is built at once ---------


def one_line(caplog):
    """The only warning."""
    (record,) = (record for record in caplog.records if record.levelno >= logging.WARNING)
    assert record.getMessage().isprintable()
    return record.getMessage()


@pytest.fixture
def small(monkeypatch, tmp_path):
    """The folder of a library of one function, `answer`, which is kept."""
    sources = tmp_path / "sources"
    sources.mkdir()
    (sources / "convolution.cc").write_text('extern "C" int answer() { return 42; }')
    monkeypatch.setattr(library, "SOURCES", sources)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert library.load(("answer",)).answer() == 42
    folder = tmp_path / "cache" / "jaxprune" / "native"
    assert folder.stat().st_mode & 0o777 == 0o700
    return folder


def put_in_place(path, content):
    """Replace a library; the file that is loaded must not change under the process."""
    aside = path.with_suffix(".aside")
    aside.write_bytes(content)
    aside.chmod(0o700)
    aside.replace(path)


@pytest.mark.parametrize(
    "damage",
    [lambda content: b"", lambda content: content[:3000], lambda content: content[:-9] + b"\x01" + content[-8:]],
    ids=["empty", "truncated", "altered"],
)
def test_a_damaged_library_is_built_anew(damage, small, caplog):
    (path,) = small.iterdir()
    before = path.read_bytes()
    put_in_place(path, damage(before))
    assert library.load(("answer",)).answer() == 42
    assert "truncated or altered; it is built anew" in one_line(caplog)
    assert path.read_bytes() == before


def test_a_library_without_its_functions_is_built_anew_or_left_out(small, caplog, built_anew, tmp_path):
    (path,) = small.iterdir()
    other = tmp_path / "other.cc"
    other.write_text("int nothing;")
    planted = tmp_path / "planted.so"
    subprocess.run(["c++", "-shared", "-fPIC", str(other), "-o", str(planted)], check=True)
    planted.chmod(0o700)
    name = path.name.split("-")[0]
    path.unlink()
    planted.rename(small / f"{name}-{hashlib.sha256(planted.read_bytes()).hexdigest()}.so")
    assert library.load(("answer",)).answer() == 42
    assert "lacks the function answer; it is built anew" in one_line(caplog)
    caplog.clear()
    assert not built_anew()  # as no such build has the functions of the convolution
    assert "lacks the function jaxprune_convolution" in caplog.records[-1].getMessage()


def test_what_others_could_have_written_is_not_loaded(small, caplog, monkeypatch):
    (path,) = small.iterdir()
    for spoil, mend, said in (
        (lambda: small.chmod(0o777), lambda: small.chmod(0o700), "native can be written by others"),
        (lambda: small.parent.chmod(0o777), lambda: small.parent.chmod(0o700), "can be replaced by others"),
    ):
        spoil()
        with pytest.raises(cache.Exposed, match=said):
            library.built(small)
        planted = path.read_bytes()
        put_in_place(path, b"harm")
        caplog.clear()
        cache.warn_once.cache_clear()
        assert library.load(("answer",)).answer() == 42  # from a folder of this process alone
        assert said in one_line(caplog)
        assert path.read_bytes() == b"harm"
        put_in_place(path, planted)
        mend()
    path.chmod(0o766)
    with pytest.raises(cache.Exposed, match=r"so can be written by others"):
        library.built(small)
    path.chmod(0o700)
    monkeypatch.setattr(os, "getuid", lambda: 12345)
    with pytest.raises(cache.Exposed, match="belongs to another user"):
        library.built(small)


def test_a_compiler_that_hangs_is_ended(built_anew, monkeypatch, tmp_path, caplog):
    compiler = tmp_path / "c++"
    compiler.write_text(f"#!/bin/sh\nsleep 100 &\necho $! > {tmp_path}/child\nwait\n")
    compiler.chmod(0o700)
    monkeypatch.setenv("CXX", str(compiler))
    monkeypatch.setattr(library, "ASK_SECONDS", 1)
    begun = time.monotonic()
    assert not built_anew()
    assert "timed out after 1 seconds" in one_line(caplog)
    assert time.monotonic() - begun < 30
    child = int((tmp_path / "child").read_text())
    for _ in range(100):
        state = Path(f"/proc/{child}/stat")
        if not state.exists() or state.read_text().split()[2] == "Z":
            break
        time.sleep(0.1)
    else:
        pytest.fail("what the compiler had started goes on")


def test_without_a_home_it_is_built_for_the_process(small, caplog, monkeypatch):
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "home", no_home)
    cache.warn_once.cache_clear()
    assert library.load(("answer",)).answer() == 42
    assert cache_folder("xla") is None
    assert "no home directory; set XDG_CACHE_HOME" in one_line(caplog)


def no_home():
    raise RuntimeError("Could not determine home directory.")


def test_it_can_be_switched_off(built_anew, monkeypatch):
    monkeypatch.setenv("JAXPRUNE_NATIVE", "0")
    monkeypatch.setattr(subprocess, "Popen", lambda *_, **__: pytest.fail("it was built"))
    assert not built_anew()
