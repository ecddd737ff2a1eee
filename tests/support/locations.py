"""Where the repository's files are, for tests in any folder."""

from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
REPOSITORY = TESTS.parent
SUPPORT = TESTS / "support"
SHARED_DATA = REPOSITORY.parent / "shared" / "data"  # real data on the machines of the project; tests skip without it
