"""Tables of people (CSV, Parquet) as data sets: what becomes inputs, labels, groups and splits."""

import csv
import hashlib

import numpy as np
import pytest

from jaxprune import config, data
from jaxprune.cli import main
from jaxprune.errors import UserError
from jaxprune.pipeline.build import resolve

N = 240
WHITE = np.arange(N) % 3 > 0


def rows() -> dict[str, list]:
    """Columns of 240 people; `hours` tells them apart."""
    rng = np.random.default_rng(0)
    return {
        "id": [f"p{i}" for i in range(N)],
        "number": list(range(7, 7 + N)),
        "income": [("low", "high")[i // 3 % 2] for i in range(N)],
        "race": [("Black", "White")[int(w)] for w in WHITE],
        "age": [20 + i % 50 if i % 4 else "NA" for i in range(N)],
        "hours": [f"{h:.6f}" for h in 40 + 10 * rng.normal(size=N)],
        "seen": [1_700_000_000 + i % 7 for i in range(N)],
        "job": [("cook", "?", "clerk")[i % 3] for i in range(N)],
        "country": ["here"] * N,
    }


def write(path, columns: dict[str, list], delimiter: str = ",") -> str:
    with path.open("w", newline="", encoding="utf-8") as f:
        writer = csv.writer(f, delimiter=delimiter)
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))
    return str(path)


@pytest.fixture
def table(tmp_path) -> str:
    return write(tmp_path / "census.csv", rows())


def by_row(dataset: data.Dataset, hours: np.ndarray) -> dict[str, np.ndarray]:
    """Split -> the rows of the table, told apart by their hours, which are the second input: scaling keeps order."""
    second = np.concatenate([dataset.split(split).x[:, 1] for split in data.SPLITS])
    row = np.argsort(hours)[np.argsort(np.argsort(second))]
    return dict(
        zip(data.SPLITS, np.split(row, np.cumsum([len(dataset.split(s).y) for s in data.SPLITS])[:2]), strict=True)
    )


def message(function, *arguments, **options) -> str:
    with pytest.raises(UserError) as caught:
        function(*arguments, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_columns_become_inputs_scaled_by_the_training_split(table):
    dataset, raw = data.load(table, label="income", group="race"), rows()
    assert (dataset.label_names, dataset.group_names) == (("high", "low"), ("Black", "White"))
    hours, seen = np.array(raw["hours"], float), np.array(raw["seen"], float)
    age = np.array([np.nan if a == "NA" else float(a) for a in raw["age"]])
    of_split = by_row(dataset, hours)
    assert sorted(np.concatenate([*of_split.values()])) == list(range(N))
    assert [len(r) for r in of_split.values()] == [154, 38, 48]
    train = of_split["train"]
    for split, row in of_split.items():
        x = dataset.split(split).x
        assert x.shape == (len(row), 7)  # age, hours, seen; whether the age is missing; three kinds of job
        assert x.dtype == np.float32
        expected = (age[row] - np.nanmean(age[train])) / np.nanstd(age[train])
        np.testing.assert_allclose(x[:, 0], np.where(np.isnan(expected), 0, expected), atol=1e-5)
        np.testing.assert_allclose(x[:, 1], (hours[row] - hours[train].mean()) / hours[train].std(), atol=1e-5)
        np.testing.assert_allclose(x[:, 2], (seen[row] - seen[train].mean()) / seen[train].std(), atol=1e-5)
        np.testing.assert_array_equal(x[:, 3], np.isnan(age[row]))
        np.testing.assert_array_equal(x[:, 4:].argmax(1), np.array([1, 2, 0])[row % 3])  # clerk, cook, missing
        np.testing.assert_array_equal(x[:, 4:].sum(1), 1)
        np.testing.assert_array_equal(dataset.split(split).y, 1 - row // 3 % 2)
        np.testing.assert_array_equal(dataset.split(split).group, WHITE[row])


def test_what_is_left_out_is_said_and_the_file_is_named(table, tmp_path):
    dataset = data.load(table, label="income", group="race")
    digest = hashlib.sha256((tmp_path / "census.csv").read_bytes()).hexdigest()
    assert dataset.provenance == f"census.csv, SHA-256 {digest}: 240 rows, 7 inputs from age, hours, seen, job"
    assert dataset.notes == (
        "left out of the inputs: id has 240 categories, such as 'p0'; give numbers, or at most 100 categories; number "
        "numbers the rows; country is the same in every row",
    )
    assert "data.group: id has 240 categories" in message(data.load, table, label="income", group="id")


def test_the_drawn_splits_are_even_and_the_same_whatever_the_groups(table):
    hours = np.array(rows()["hours"], float)
    one = by_row(data.load(table, label="income", group="race", leave_out=("job",)), hours)
    other = by_row(data.load(table, label="income", group="job*race"), hours)
    for split in data.SPLITS:
        np.testing.assert_array_equal(one[split], other[split])
    cells = np.arange(N) // 3 % 2 * 2 + WHITE
    taken = np.bincount(cells[one["test"]], minlength=4)
    assert (np.abs(taken - 0.2 * np.bincount(cells)) <= 1).all()


def test_splits_are_even_over_numbers_of_few_kinds(tmp_path):
    rng = np.random.default_rng(0)
    columns = {"hours": rng.normal(size=400).tolist(), "sex": (np.arange(400) % 8 == 0).astype(int).tolist()}
    columns["income"] = [("low", "high")[i // 8 % 2] for i in range(400)]
    dataset = data.load(write(tmp_path / "t.csv", columns), label="income", group="sex")
    assert dataset.group_names == ("0", "1")
    assert [dataset.group_sizes(split)[1] for split in data.SPLITS] == [32, 8, 10]


def test_infinite_numbers_are_told(tmp_path):
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    columns = rows() | {"age": [float("inf"), *map(float, range(N - 1))], "hours": [float(h) for h in rows()["hours"]]}
    parquet.write_table(pyarrow.table(columns), tmp_path / "t.parquet")
    dataset = data.load(str(tmp_path / "t.parquet"), label="income", group="race")
    assert "age holds infinite numbers; leave such cells empty" in dataset.notes[0]


def test_groups_are_no_inputs_and_numbers_are_binned(table):
    dataset = data.load(table, label="income", group="job*age", bins=("age=40",), leave_out=("seen",))
    assert dataset.train.x.shape[1] == 3  # hours, and two kinds of race
    kinds = ("<40", "40+", "missing")
    assert dataset.group_names == tuple(f"{job}, {age}" for job in ("clerk", "cook", "missing") for age in kinds)
    raw, row = rows(), by_row_of_first(dataset)
    names = [
        f"{'missing' if raw['job'][i] == '?' else raw['job'][i]}, "
        f"{'missing' if raw['age'][i] == 'NA' else '<40' if raw['age'][i] < 40 else '40+'}"
        for i in row
    ]
    group = np.concatenate([dataset.split(split).group for split in data.SPLITS])
    assert [dataset.group_names[g] for g in group] == names
    further = dataset.grouping("race")
    assert further.group_names == ("Black", "White")


def by_row_of_first(dataset: data.Dataset) -> np.ndarray:
    first = np.concatenate([dataset.split(split).x[:, 0] for split in data.SPLITS])
    return np.argsort(np.array(rows()["hours"], float))[np.argsort(np.argsort(first))]


def test_rows_with_missing_values_are_left_out_where_that_is_asked_for(tmp_path):
    columns = rows()
    columns["income"][1] = ""
    path = write(tmp_path / "census.csv", columns)
    kept = data.load(path, label="income", group="race")
    assert sum(len(kept.split(s).y) for s in data.SPLITS) == N - 1
    assert kept.notes[0] == "1 of 240 rows are left out: they have no income"
    whole = data.load(path, label="income", group="race", missing="drop")
    gaps = {i for i in range(N) if i % 4 == 0 or i % 3 == 1} | {1}
    assert sum(len(whole.split(s).y) for s in data.SPLITS) == N - len(gaps)
    assert whole.train.x.shape[1] == 5, "nothing is missing: no input says so, and jobs are of two kinds"
    assert whole.notes[1] == "119 of 240 rows are left out: a value is missing, most often job (79)"


@pytest.mark.parametrize("words", [("train", "validation", "test"), (0, 1, 2)])
def test_a_column_of_splits_is_kept(tmp_path, words):
    part = np.arange(N) % 4 % 3
    path = write(tmp_path / "t.csv", rows() | {"part": [words[p] for p in part]})
    of_split = by_row(
        data.load(path, label="income", group="race", split_column="part"), np.array(rows()["hours"], float)
    )
    for code, split in enumerate(data.SPLITS):
        np.testing.assert_array_equal(np.sort(of_split[split]), np.flatnonzero(part == code))


def test_parquet_and_other_delimiters_give_the_same_data(table, tmp_path):
    expected = data.load(table, label="income", group="race").fingerprint()
    columns = rows()
    semicolon = columns | {"hours": [h.replace(".", ",") for h in columns["hours"]]}
    path = write(tmp_path / "census.TSV", semicolon, ";")
    assert data.load(path, label="income", group="race").fingerprint() == expected
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    columns["age"] = [None if a == "NA" else a for a in columns["age"]]
    columns["hours"] = [float(h) for h in columns["hours"]]
    parquet.write_table(pyarrow.table(columns), tmp_path / "census.parquet")
    assert data.load(str(tmp_path / "census.parquet"), label="income", group="race").fingerprint() == expected


def test_none_may_be_a_kind_and_is_told(tmp_path):
    columns = rows()
    columns["job"] = ["none" if i % 4 == 0 else job for i, job in enumerate(columns["job"])]
    dataset = data.load(write(tmp_path / "t.csv", columns), label="income", group="race")
    assert dataset.notes[1:] == ("job: 60 cells say none, which is read as missing; write no if that is meant",)


def test_near_twins_are_named(tmp_path):
    columns = rows() | {"sex": [("m", "M", "f")[i % 3] for i in range(N)]}
    path = write(tmp_path / "t.csv", columns)
    dataset = data.load(path, label="income", group="sex")
    (note,) = [note for note in dataset.notes if note.startswith("sex")]
    assert "'M' and 'm' are different categories" in note
    assert data.load(path, label="income", group="race").notes[-1] == note


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"label": None}, "data.label: say which column of the table is predicted; it has id, number, income"),
        ({"group": None}, "data.group: say which column of the table forms the groups; it has id, number"),
        ({"label": "wage"}, "data.label: unknown column 'wage'"),
        ({"group": "race*sex"}, "data.group: unknown column 'sex'"),
        ({"leave_out": ("jobs",)}, "data.leave_out: unknown column 'jobs'; did you mean 'job'?"),
        ({"split_column": "part"}, "data.split_column: unknown column 'part'"),
        ({"split_column": "job"}, "column 'job' says 'cook' in row 1"),
        ({"label": "hours"}, "data.label: hours has 240 classes, such as "),
        ({"label": "id"}, "data.label: id has 240 classes, such as 'p0'"),
        ({"label": "country"}, "data.label: country is 'here' for every example"),
        ({"group": "hours"}, "data.group: hours has 240 distinct numbers; give the edges of bins with data.bins"),
        ({"bins": ("job=3",)}, "data.bins: job is not a column of numbers: 'clerk' is none"),
        ({"missing": "ignore"}, "data.missing: 'ignore' is not a choice; give category or drop"),
        ({"leave_out": ("age", "hours", "seen", "job")}, "has no column of inputs"),
        ({"image_size": 32}, "has no image_size; leave it out"),
    ],
)
def test_settings_that_do_not_fit_are_one_line(table, settings, said):
    assert said in message(data.load, table, **({"label": "income", "group": "race"} | settings))


def test_a_run_takes_the_path_and_leaves_the_columns_of_all_groupings_out(table, monkeypatch, capsys):
    settings = config.load(table, {"data.label": "income", "data.group": "race", "audit.groups": ("race", "job")})
    assert (settings.name, settings.data.name) == ("census", table)
    experiment = resolve(settings)
    assert experiment.dataset.train.x.shape[1] == 4
    assert experiment.fingerprint == resolve(experiment.settings).fingerprint
    swapped = config.load(table, {"data.label": "income", "data.group": "job", "audit.groups": ("race", "job")})
    assert experiment.fingerprint == resolve(swapped).fingerprint, "so that networks are used again"
    assert main(["run", table, "--data.name", "adult"]) == 2
    assert "are both given" in capsys.readouterr().err
    assert main(["datasets", table, "--data.label", "income", "--data.group", "race"]) == 0
    printed = capsys.readouterr().out
    assert "warning: left out of the inputs: id has 240 categories" in printed
