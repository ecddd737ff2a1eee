"""The floors of the library, the sizes of its files, and what importing it costs."""

import ast
import importlib
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

import jaxprune

ROOT = Path(jaxprune.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))

FLOORS = (
    {"errors", "numbers", "programs", "text", "types"},
    {"cache", "compat", "frames", "interruption", "memory", "networks", "registry", "storage", "terminal", "trees"},
    {"components", "optimisers"},
    {"batches", "config", "devices", "replicas", "sharding", "states"},
    {"examples", "files", "groups", "progress"},
    {"coupling", "data", "losses", "models", "published"},
    {"training", "pruning", "auditing", "theory", "checkpoints", "costs"},
    {"export", "quantities"},
    {"results"},
    {"mitigation", "reporting", "streaming"},
    {"pipeline", "console"},
    {"jobs"},
    {"cli"},
)
FLOOR = {part: floor for floor, parts in enumerate(FLOORS) for part in parts}
EXEMPT = {"__init__", "__main__"}
PARTS = sorted({path.relative_to(ROOT).parts[0].removesuffix(".py") for path in FILES} - EXEMPT)


def files_of(part: str) -> list[Path]:
    """The files of a module or a package."""
    return [path for path in FILES if path.relative_to(ROOT).parts[0].removesuffix(".py") == part]


def name_of(path: Path) -> str:
    """The name of a file for messages, such as `data/sources.py`."""
    return path.relative_to(ROOT).as_posix()


def for_types_alone(tree: ast.Module) -> set[ast.AST]:
    """Everything inside of `if TYPE_CHECKING:`."""
    guards = [node for node in ast.walk(tree) if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)]
    return {inner for guard in guards for statement in guard.body for inner in ast.walk(statement)}


def imports(path: Path, *, of_types: bool = True) -> set[str]:
    """The dotted names that a file imports anywhere in it, `from a import b` counting as a.b."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    left_out = set() if of_types else for_types_alone(tree)
    found = set()
    for node in ast.walk(tree):
        if node in left_out:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            package = ["jaxprune", *path.relative_to(ROOT).parts[:-1]]
            base = package[: len(package) + 1 - node.level] if node.level else []
            source = ".".join([*base, *([node.module] if node.module else [])])
            found |= {f"{source}.{alias.name}" for alias in node.names}
    return found


def parts_imported(path: Path, **options: bool) -> set[str]:
    """The parts of the library that a file imports."""
    names = [name.split(".") for name in imports(path, **options)]
    return {name[1] for name in names if name[0] == "jaxprune" and len(name) > 1 and name[1] in FLOOR}


def functions(path: Path) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    return [node for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]


def length(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """The lines of a function without the example in its docstring."""
    example = (ast.get_docstring(function, clean=False) or "").partition("\n    Example:\n")[2]
    return function.end_lineno - function.lineno + 1 - example.count("\n") - 2 * bool(example)


def test_every_part_has_its_floor():
    assert set(PARTS) == set(FLOOR)


def test_the_reader_of_imports_reads_every_kind(tmp_path, monkeypatch):
    """The tests below are worth what this function is."""
    monkeypatch.setattr(sys.modules[__name__], "ROOT", tmp_path)
    path = tmp_path / "data" / "sources.py"
    path.parent.mkdir()
    path.write_text(
        "import jaxprune.cli as c, os\n"
        "from jaxprune import training\n"
        "from jaxprune.models.layers import Conv\n"
        "from .table import Table\n"
        "from ..pipeline import run\n"
        "from .. import console\n"
        "def f():\n    from jaxprune.errors import UserError\n"
        "if typing.TYPE_CHECKING:\n    import jaxprune.theory\n"
    )
    always = {"cli", "training", "models", "data", "pipeline", "console", "errors"}
    assert parts_imported(path) == always | {"theory"}
    assert parts_imported(path, of_types=False) == always


@pytest.mark.parametrize("part", PARTS)
def test_a_part_imports_lower_floors_alone(part):
    for path in files_of(part):
        # console draws what pipeline and reporting return, and names their types; it runs neither.
        for other in parts_imported(path, of_types=part != "console") - {part}:
            assert FLOOR[other] < FLOOR[part], (
                f"{name_of(path)}, on floor {FLOOR[part]}, imports {other}, on floor {FLOOR[other]}"
            )


def test_flax_is_known_to_the_models_and_compat_alone():
    knowing = {name_of(path).split("/")[0] for path in FILES if any(n.split(".")[0] == "flax" for n in imports(path))}
    assert knowing == {"models", "compat.py"}


def test_settings_are_known_to_the_upper_floors_alone():
    knowing = {part for part in PARTS for path in files_of(part) if "config" in parts_imported(path)}
    assert knowing - {"config"} == {"pipeline", "console", "jobs", "cli"}


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_files_and_functions_are_of_a_size_to_be_read(path):
    lines = len(path.read_text(encoding="utf-8").splitlines())
    assert lines <= 400, f"{name_of(path)} has {lines} lines"
    long = {node.name: length(node) for node in functions(path)}
    assert {name: lines for name, lines in long.items() if lines > 60} == {}


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_only_the_command_line_prints(path):
    if name_of(path) in ("cli/__init__.py", "console.py"):
        return
    calls = [node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Call)]
    assert [call.lineno for call in calls if isinstance(call.func, ast.Name) and call.func.id == "print"] == []


MODULES = [".".join(("jaxprune", *path.relative_to(ROOT).with_suffix("").parts)) for path in FILES]
PUBLIC = [
    name.removesuffix(".__init__")
    for name, path in zip(MODULES, FILES, strict=True)
    if "__all__" in path.read_text(encoding="utf-8")
]


def test_there_are_public_names_to_check():
    assert {"jaxprune", "jaxprune.data", "jaxprune.pruning", "jaxprune.theory"} <= set(PUBLIC)


@pytest.mark.parametrize("name", PUBLIC)
def test_public_names_exist_are_named_once_and_are_explained(name):
    module = importlib.import_module(name)
    assert len(module.__all__) == len(set(module.__all__))
    missing = []
    for public in module.__all__:
        try:
            getattr(module, public)
        except (AttributeError, ImportError):
            missing.append(public)
    assert missing == []
    for public in module.__all__:
        thing = getattr(module, public)
        if inspect.isfunction(thing) or inspect.isclass(thing):
            # Its own: a class does not inherit __doc__, but a dataclass makes one up from its fields.
            assert thing.__doc__, f"{name}.{public} has no docstring"
            assert not thing.__doc__.startswith(f"{public}("), f"{name}.{public} has a made-up docstring"


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_public_functions_say_what_they_do(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    public = [
        node for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_")
    ]
    assert [node.name for node in public if not ast.get_docstring(node)] == []


def words_of(line: str) -> list[str]:
    """The words of a line: code, shapes, brackets, quotations and symbols are none."""
    line = re.sub(r"`[^`]*`", " code ", line)
    line = re.sub(r"\[[^]]*\]|\([^)]*\)|\"[^\"]*\"", " ", line)
    return re.findall(r"[^\W\d_]{2,}[\w'-]*|\ba\b", line)


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_first_lines_of_docstrings_have_at_most_twelve_words(path):
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    nodes = [node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, documented)]
    lines = [(ast.get_docstring(node) or "").partition("\n")[0] for node in nodes]
    assert [line for line in lines if len(words_of(line)) > 12] == []


def test_words_are_counted():
    assert len(words_of('Return `f(x)` of [R, G] values (eq. 2), such as "1.5 points", for a group.')) == 9


def python(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, timeout=120, check=False)


HEAVY = ("jax", "flax", "optax", "orbax", "scipy", "matplotlib", "tensorflow", "tensorflow_datasets")


def test_no_pictures_in_repository():
    """No pictures and no data but the bundled are in the repository.

    Faces are lent for testing: a contact sheet that was drawn in the checkout must never be committed.
    """
    here = Path(__file__).parent.parent  # not that of the package, which may be installed elsewhere
    listed = subprocess.run(["git", "ls-files"], cwd=here, capture_output=True, text=True, check=False)
    if listed.returncode or "pyproject.toml" not in listed.stdout.split():
        pytest.skip("not a git checkout")
    kinds = {".png", ".jpg", ".jpeg", ".gif", ".webp", ".npz", ".npy", ".array_record"}
    found = {name for name in listed.stdout.splitlines() if Path(name).suffix.lower() in kinds}
    assert {name for name in found if not name.startswith("jaxprune/data/bundled/")} == set()


def test_asking_for_help_loads_nothing_heavy():
    code = f"""
import sys
import jaxprune
assert "training" in dir(jaxprune)
heavy = [name for name in {HEAVY} if name in sys.modules]
assert not heavy, f"import jaxprune loads {{heavy}}"
from jaxprune import cli
for arguments in (["--help"], ["run", "--help"], ["configs"], ["--version"]):
    try:
        assert cli.main(arguments) == 0
    except SystemExit as end:
        assert end.code == 0
    heavy = [name for name in {HEAVY} if name in sys.modules]
    assert not heavy, f"{{arguments}} loads {{heavy}}"
"""
    done = python("-c", code)
    assert done.returncode == 0, done.stderr


def test_the_package_is_a_program():
    done = python("-m", "jaxprune", "--help")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("usage: jaxprune")
    assert done.stderr == ""
    version = python("-m", "jaxprune", "--version")
    assert version.stdout.strip() == f"jaxprune {jaxprune.__version__}"


def test_a_mistake_on_the_command_line_is_one_line_and_code_2():
    done = python("-m", "jaxprune", "rum")
    assert done.returncode == 2
    assert done.stdout == ""
    assert "'run'" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_names_that_are_not_there_are_attribute_errors():
    with pytest.raises(AttributeError, match="nothing_of_the_kind"):
        _ = jaxprune.nothing_of_the_kind
