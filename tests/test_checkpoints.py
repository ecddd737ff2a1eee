import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from jaxprune import checkpoints, mitigation, models, pruning, training
from jaxprune.errors import DamagedFile, UserError
from jaxprune.files import (
    check_seal,
    is_sealed,
    remove_leftovers,
    remove_sealed,
    seal,
    sealed_folder,
    whole_folder,
    write_atomically,
)
from jaxprune.published import read_mark


def tree() -> dict:
    return {"a": {"kernel": jnp.arange(6.0).reshape(2, 3)}, "b": [jnp.ones(4, jnp.int32), jnp.zeros((), bool)]}


def equal(one, other) -> None:
    assert jax.tree.structure(one) == jax.tree.structure(other)
    for x, y in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        assert x.dtype == y.dtype
        np.testing.assert_array_equal(x, y)


def test_what_is_saved_comes_back(tmp_path) -> None:
    checkpoints.save(tmp_path / "c", tree())
    equal(checkpoints.restore(tmp_path / "c", jax.eval_shape(tree)), tree())


@pytest.mark.parametrize("kind", ["threefry2x32", "rbg"])
def test_random_keys_come_back(tmp_path, kind) -> None:
    """As a network with dropout has them among its statistics."""
    saved = {
        "one": jax.random.key(3, impl=kind),
        "many": jax.random.split(jax.random.key(4, impl=kind), 5),
        "w": jnp.ones(2),
    }
    checkpoints.save(tmp_path / "c", saved)
    for like in (saved, jax.eval_shape(lambda: saved)):
        found = checkpoints.restore(tmp_path / "c", like)
        assert jax.tree.structure(found) == jax.tree.structure(saved)
        for name in ("one", "many"):
            assert found[name].dtype == saved[name].dtype
            np.testing.assert_array_equal(jax.random.key_data(found[name]), jax.random.key_data(saved[name]))
        assert jax.random.normal(found["one"]) == jax.random.normal(saved["one"])


def test_a_training_state_with_dropout_comes_back(tmp_path) -> None:
    rngs = nnx.Rngs(0)
    _, params, stats = models.from_nnx(nnx.Sequential(nnx.Linear(2, 2, rngs=rngs), nnx.Dropout(0.5, rngs=rngs)))
    state = training.init_state(params, optax.sgd(0.1), stats)
    checkpoints.save(tmp_path / "c", state)
    found = checkpoints.restore(tmp_path / "c", state)
    assert jax.tree.structure(found) == jax.tree.structure(state)
    assert [leaf.dtype for leaf in jax.tree.leaves(found)] == [leaf.dtype for leaf in jax.tree.leaves(state)]


def test_a_training_state_with_masks_and_multipliers_comes_back(tmp_path) -> None:
    params = {"w": jnp.ones((3, 2)), "b": jnp.zeros(2)}
    masks = pruning.global_masks(pruning.magnitude().score(params), 0.5, pruning.prunable(params))
    primal = optax.chain(optax.adam(0.1), pruning.keep_masked(masks))
    tx = mitigation.lagrangian(primal, mitigation.equal_loss(3), optax.sgd(0.1))
    state = training.init_state(params, tx)
    checkpoints.save(tmp_path / "c", state)
    equal(checkpoints.restore(tmp_path / "c", jax.eval_shape(lambda: state)), state)


def test_saving_again_replaces(tmp_path) -> None:
    checkpoints.save(tmp_path / "c", {"a": jnp.zeros(2)})
    checkpoints.save(tmp_path / "c", {"a": jnp.ones(3)})
    equal(checkpoints.restore(tmp_path / "c", {"a": jnp.zeros(3)}), {"a": jnp.ones(3)})
    assert [path.name for path in tmp_path.iterdir()] == ["c"]


@pytest.mark.parametrize(
    ("like", "parts"),
    [
        ({"a": {"kernel": jnp.zeros((2, 3))}}, ["surplus b/0", "surplus b/1"]),
        (tree() | {"c": jnp.zeros(1)}, ["lacks c"]),
        (tree() | {"a": {"kernel": jnp.zeros((3, 2))}}, ["a/kernel has shape (2, 3), not (3, 2)"]),
    ],
)
def test_a_checkpoint_of_another_network_is_refused(tmp_path, like, parts) -> None:
    checkpoints.save(tmp_path / "c", tree())
    with pytest.raises(UserError) as caught:
        checkpoints.restore(tmp_path / "c", like)
    for part in parts:
        assert part in str(caught.value)


def test_a_missing_checkpoint_is_named(tmp_path) -> None:
    with pytest.raises(UserError, match=r"no checkpoint at .*/nowhere"):
        checkpoints.restore(tmp_path / "nowhere", tree())


def test_every_damage_to_any_file_is_seen(tmp_path) -> None:
    """Truncates each file of a checkpoint in turn: none may pass as whole."""
    checkpoints.save(tmp_path / "c", tree())
    for path in sorted(p for p in (tmp_path / "c").rglob("*") if p.is_file() and p.stat().st_size):
        content = path.read_bytes()
        path.write_bytes(content[:-1])
        with pytest.raises(UserError, match="truncated or altered"):
            checkpoints.restore(tmp_path / "c", tree())
        path.write_bytes(content)
    equal(checkpoints.restore(tmp_path / "c", tree()), tree())


def test_a_folder_appears_whole_or_not_at_all(tmp_path) -> None:
    def interrupted() -> None:
        with whole_folder(tmp_path / "f") as aside:
            (aside / "half").write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert not (tmp_path / "f").exists()
    with whole_folder(tmp_path / "f") as aside:
        assert not list(aside.iterdir())
        (aside / "new").write_text("new")
    assert sorted(p.name for p in (tmp_path / "f").iterdir()) == ["new", "sha256.json"]


def test_a_file_is_replaced_whole(tmp_path, monkeypatch) -> None:
    path = tmp_path / "file"
    write_atomically(path, "old")

    def fail(*_: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr("jaxprune.files.os.replace", fail)
    with pytest.raises(OSError, match="no space"):
        write_atomically(path, "new")
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_seal_tells_missing_from_altered(tmp_path) -> None:
    """A sealed folder tells a missing file from an altered one."""
    (tmp_path / "a").write_text("a")
    (tmp_path / "b").write_text("b")
    seal(tmp_path)
    check_seal(tmp_path, "remedy")
    (tmp_path / "a").write_text("A")
    with pytest.raises(UserError, match=r"/a is truncated or altered; remedy"):
        check_seal(tmp_path, "remedy")
    (tmp_path / "a").unlink()
    with pytest.raises(UserError, match=r"/a is missing; remedy"):
        check_seal(tmp_path, "remedy")


def test_folder_filled_in_place(tmp_path) -> None:
    """A folder filled in place is whole once its seal is there.

    What an interrupted attempt left is removed, but for its checkpoints, which go once the seal is there.
    """
    folder = tmp_path / "f"

    def interrupted() -> None:
        with sealed_folder(folder):
            (folder / "half").write_text("half")
            (folder / "checkpoints" / "epoch-1").mkdir(parents=True)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert not is_sealed(folder)
    with sealed_folder(folder):
        assert [p.relative_to(folder).as_posix() for p in folder.rglob("*")] == ["checkpoints", "checkpoints/epoch-1"]
        (folder / "new").write_text("new")
    assert sorted(p.name for p in folder.iterdir()) == ["new", "sha256.json"]
    check_seal(folder)
    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert not is_sealed(folder), "from its first change on it is not whole"


@pytest.mark.parametrize("content", ["{}", "null", "[1]", '{"a": ', ""])
def test_a_seal_that_does_not_name_every_file_is_damaged(tmp_path, content) -> None:
    (tmp_path / "values.json").write_text("1")
    seal(tmp_path)
    (tmp_path / "sha256.json").write_text(content)
    with pytest.raises(DamagedFile, match=r"sha256.json is truncated or altered"):
        check_seal(tmp_path)


def test_hidden_files_of_others_are_no_damage(tmp_path) -> None:
    (tmp_path / "a").write_text("a")
    seal(tmp_path)
    (tmp_path / ".DS_Store").write_text("")
    check_seal(tmp_path)
    (tmp_path / "b").write_text("b")
    with pytest.raises(DamagedFile, match=r"sha256.json is truncated or altered: it lacks b"):
        check_seal(tmp_path)


def test_the_seal_goes_first(tmp_path, monkeypatch) -> None:
    """A kill while a checkpoint is removed leaves nothing that could be taken for one."""
    with sealed_folder(tmp_path / "f") as folder:
        (folder / "a").write_text("a")
    removed = []
    monkeypatch.setattr("jaxprune.storage.shutil.rmtree", lambda path: removed.append(is_sealed(path)))
    remove_sealed(tmp_path / "f")
    assert removed == [False]


def test_what_killed_writers_left_is_removed_and_nothing_else(tmp_path) -> None:
    kept = [
        "a.tmp",
        ".hidden",
        ".a.b.tmp",
        "mine.before/x",
        "stages/whole/sha256.json",
        "stages/begun/checkpoints/epoch-1/x",
    ]
    left = [".a.json.123.tmp", "by-x/.b.csv.9.tmp", "stages/old.partial/x", "stages/b.before/y/z"]
    for name in [*kept, *left, "stages/whole/checkpoints/epoch-1/x"]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    remove_leftovers(tmp_path)
    assert sorted(p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*") if p.is_file()) == sorted(kept)


@pytest.mark.parametrize(
    "mark",
    [
        {"stage": "report-1", "digests": {"../outside.txt": "0"}},
        {"stage": "report-1", "digests": {"/outside.txt": "0"}},
        {"stage": "report-1", "digests": ["a"]},
        {"stage": 3, "digests": {}},
        ["report-1"],
    ],
)
def test_broken_mark(tmp_path, mark) -> None:
    """A mark that points out of its folder or is broken says nothing.

    Files that an earlier mark names are removed: never any outside of the folder.
    """
    (tmp_path / "mark").write_text(json.dumps(mark))
    assert read_mark(tmp_path / "mark") == {}


def test_a_mark_says_what_was_published(tmp_path) -> None:
    mark = {"grouping": "race", "stage": "report-1", "digests": {"figures/harm.svg": "0"}}
    (tmp_path / "mark").write_text(json.dumps(mark))
    assert read_mark(tmp_path / "mark") == mark
