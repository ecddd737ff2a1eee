"""Registries: every entry can be imported, options, and the entries that installed packages add."""

import inspect
import sys
from functools import partial

import pytest

from jaxprune import components, registry
from jaxprune.errors import UserError
from jaxprune.registry import Entry, Registry

REGISTRIES = {name: value for name, value in vars(components).items() if isinstance(value, Registry)}
ENTRIES = [(family, name) for family, entries in REGISTRIES.items() for name in entries]


@pytest.mark.parametrize(("family", "name"), ENTRIES)
def test_every_entry_can_be_imported_and_has_the_options_that_it_declares(family, name):
    entries = REGISTRIES[family]
    part = entries[name]
    assert entries[name] is part, "the same object, so that no step is compiled again"
    function = part.func if isinstance(part, partial) else part
    if not callable(function):
        return
    parameters = inspect.signature(function.__init__ if inspect.isclass(function) else function).parameters
    assert entries.defaults(name).keys() <= parameters.keys()


def test_constraints_declare_the_tolerance_that_they_take():
    for name, make in components.CONSTRAINTS.items():
        function = make.func if isinstance(make, partial) else make
        takes = "tolerance" in inspect.signature(function).parameters
        assert ("tolerance" in components.CONSTRAINTS.defaults(name)) == takes


def own(**further):
    return Registry("shape", {"square": Entry("builtins:dict", "four sides", {"side": 1}), **further})


def test_a_registry_makes_its_entries_with_options():
    shapes = own(line=Entry("builtins:dict", "one side"))
    assert shapes.names() == ("square", "line")
    assert shapes.describe() == {"square": "four sides", "line": "one side"}
    assert shapes.make("square") == {"side": 1}
    assert shapes.make("square", side=None) == {"side": 1}
    assert shapes.make("square", side=3) == {"side": 3}
    assert shapes["square"]() == {"side": 1}
    with pytest.raises(UserError, match=r"^shape\.angle: square has no angle; leave it out \(it has side\)$"):
        shapes.fill("square", {"angle": 3}, section="shape")
    with pytest.raises(UserError, match=r"side: line has no side; leave it out \(it has no options\)"):
        shapes.make("line", side=2)
    with pytest.raises(UserError, match=r"^plan\.shape: unknown shape 'sqare'; did you mean 'square'\?$"):
        shapes.choose("sqare", where="plan.shape")
    assert "sqare" not in shapes


PACKAGE = '''
def lines(scores, sparsity, prunable, *, width=2):
    """One line."""
    return width
'''


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """Install packages that add entries to the group `jaxprune.shapes`, as pip does: modules and their metadata."""
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "shapes_of_mine.py").write_text(PACKAGE)

    def install(distribution, **points):
        folder = tmp_path / f"{distribution}-1.0.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n")
        lines = "".join(f"{name} = {target}\n" for name, target in points.items())
        (folder / "entry_points.txt").write_text(f"[jaxprune.shapes]\n{lines}")
        registry._installed.cache_clear()

    yield install
    registry._installed.cache_clear()
    sys.modules.pop("shapes_of_mine", None)


def plugged():
    return Registry("shape", {"square": Entry("builtins:dict", "four sides")}, group="jaxprune.shapes")


def test_an_installed_package_adds_entries(installed):
    installed("mine", lines="shapes_of_mine:lines")
    shapes = plugged()
    assert shapes.describe() == {"square": "four sides", "lines": "from the package mine"}
    assert "shapes_of_mine" not in sys.modules, "imported when it is used"
    assert shapes.defaults("lines") == {"width": 2}
    assert shapes.make("lines", 0, 0, 0) == 2
    assert shapes.make("lines", 0, 0, 0, width=5) == 5


@pytest.mark.parametrize("target", ["shapes_of_mine:curves", "no_such_module:lines", "shapes_of_mine"])
def test_a_broken_package_is_one_line_once_it_is_used(installed, target):
    installed("mine", lines=target)
    shapes = plugged()
    assert shapes.make("square") == {}, "the other entries work"
    with pytest.raises(
        UserError, match=r"^jaxprune\.shapes: lines of the package mine .*repair or uninstall"
    ) as caught:
        shapes.choose("lines")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("name", "other"), [("square", "jaxprune"), ("lines", "mine")])
def test_two_entries_of_one_name_are_an_error_that_names_both_packages(installed, name, other):
    installed("mine", lines="shapes_of_mine:lines")
    installed("yours", **{name: "shapes_of_mine:lines"})
    with pytest.raises(UserError, match=rf"the packages {other} and yours both add the shape '{name}'"):
        plugged().names()
