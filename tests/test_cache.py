"""Where compiled programs are kept, and what happens where nothing can be."""

import logging
import os
from pathlib import Path

import jax
import pytest

from jaxprune import cache, console
from jaxprune.data.sources.tfds import data_directory


@pytest.fixture
def warned(caplog):
    """The warnings so far; what was warned of before is warned of again."""
    cache.warn_once.cache_clear()
    return lambda: [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


@pytest.fixture
def homeless(monkeypatch):
    """A user without a home directory."""

    def home():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", home)
    monkeypatch.setattr(Path, "expanduser", lambda path: home() if str(path).startswith("~") else path)
    for name in ("HOME", "XDG_CACHE_HOME", "TFDS_DATA_DIR", "JAX_COMPILATION_CACHE_DIR"):
        monkeypatch.delenv(name, raising=False)


def test_the_folder_is_made_for_the_user_alone(tmp_path, monkeypatch, warned):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = cache.cache_folder("xla")
    assert folder == tmp_path / "cache" / "jaxprune" / "xla"
    assert folder.stat().st_mode & 0o777 == 0o700
    assert warned() == []


@pytest.mark.usefixtures("homeless")
def test_without_a_home_nothing_is_kept_and_one_line_says_so(warned):
    before = jax.config.jax_compilation_cache_dir
    try:
        jax.config.update("jax_compilation_cache_dir", None)
        console.start_jax()
        assert jax.config.jax_compilation_cache_dir is None
        assert cache.cache_folder("native") is None
    finally:
        jax.config.update("jax_compilation_cache_dir", before)
    assert [line.split(": ")[1] for line in warned()] == ["there is no home directory; set XDG_CACHE_HOME"]
    assert data_directory() == Path("tensorflow_datasets")


def test_a_folder_named_after_jax_was_imported_is_taken(tmp_path, monkeypatch):
    """As in the quick start, which mounts a drive only then."""
    before = jax.config.jax_compilation_cache_dir
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path))
    try:
        jax.config.update("jax_compilation_cache_dir", None)
        console.start_jax()
        assert jax.config.jax_compilation_cache_dir == str(tmp_path)
    finally:
        jax.config.update("jax_compilation_cache_dir", before)


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path, monkeypatch, warned):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert cache.cache_folder("xla") is None
    assert cache.cache_folder("xla") is None
    (line,) = warned()
    assert "cannot be made (Not a directory); set XDG_CACHE_HOME" in line


def test_a_folder_that_others_can_write_keeps_nothing(tmp_path, monkeypatch, warned):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    folder = cache.cache_folder("xla")
    folder.chmod(0o770)
    assert cache.cache_folder("xla") is None
    folder.chmod(0o700)
    folder.parent.chmod(0o707)
    assert cache.cache_folder("xla") is None
    folder.parent.chmod(0o1707)  # sticky, as /tmp
    assert cache.cache_folder("xla") == folder
    monkeypatch.setattr(os, "getuid", lambda: 12345)
    assert cache.cache_folder("xla") is None
    said = [line.split("next run: ")[1].removeprefix(str(folder)) for line in warned()]
    assert said == [
        " can be written by others; empty it, and take that away with chmod go-w",
        f" can be replaced by others, who can write {folder.parent}; set XDG_CACHE_HOME",
        " belongs to another user; set XDG_CACHE_HOME to a folder of your own",
    ]
