"""Progress: lines that keep coming, a clock that goes on, the time left, and a block in a notebook."""

import html
import io
import re
import subprocess
import sys
import threading
import time
import types

import pytest
from rich.console import Console

from jaxprune.errors import UserError
from jaxprune.progress import Bars, Display, Lines, Page, notebook_shell
from jaxprune.progress.pieces import Piece, clock, short_clock
from jaxprune.terminal import PlainConsole


class Clock:
    """Time that passes when it is told to."""

    def __init__(self) -> None:
        self.time = 100.0

    def __call__(self) -> float:
        return self.time


def plain() -> Console:
    return PlainConsole(80, file=io.StringIO())


def printed(console: Console) -> list[str]:
    assert isinstance(console.file, io.StringIO)
    return [line.strip() for line in console.file.getvalue().splitlines()]


@pytest.mark.parametrize(
    ("done", "earlier", "moved", "now", "left"),
    [
        (0, 0, 0, 31, None),  # nothing is known yet
        (12, 0, 30, 30, 70),  # 2.5 s each, 28 to come
        (12, 0, 30, 31, 69),
        (12, 0, 30, 40, 67.5),  # the current part takes long: the others are still to come
        (39, 0, 39, 60, None),  # only the current part is left, and it takes longer than the others did
        (40, 0, 40, 60, None),  # done, and something goes on
        (12, 10, 4, 4, 56),  # ten of them were done by an earlier run: 2 s each
        (10, 10, 0, 9, None),
    ],
)
def test_time_left(done, earlier, moved, now, left) -> None:
    """The time left is estimated from the parts that were timed."""
    piece = Piece("training", 40, begun=0.0, done=done, earlier=earlier, moved=moved)
    assert piece.seconds_left(now) == (None if left is None else pytest.approx(left))


def test_times_are_written_as_clocks() -> None:
    assert [clock(s) for s in (0.9, 31, 3725)] == ["0:00:00", "0:00:31", "1:02:05"]
    assert [short_clock(s) for s in (0.2, 70.4, 3725)] == ["0:01", "1:10", "1:02:05"]


def test_a_log_has_a_line_every_ten_seconds_with_the_time_left() -> None:
    now, console = Clock(), plain()
    display = Display(screen=Lines(console, now=now), now=now)
    display.screen.begin()
    display.start("training dense networks", 40)
    silent = longest = 0.0
    for second in range(1, 121):
        now.time += 1
        if second in (10, 20, 30):
            for _ in range(4):
                display.advance("loss 0.300")
        before = len(printed(console))
        display.screen.tick(display.pieces[-1])
        silent = 0 if len(printed(console)) > before else silent + 1
        longest = max(longest, silent)
    assert longest < 10
    assert "training dense networks  12/40  0:00:30, about 1:10 left  loss 0.300" in printed(console)
    display.finish()
    assert printed(console)[-1] == f"{'training dense networks':<62} 120.0 s  loss 0.300"
    now.time += 10
    display.screen.tick(None)
    assert printed(console)[-1] == "working  0:02:10"


def test_short_work_is_one_line() -> None:
    console = plain()
    with Display(screen=Lines(console)) as display:
        display.start("measuring [bold]networks[/]", 2)
        display.advance()
        display.finish()
        display.say("warning: group [red] is small")
    assert re.fullmatch(r"measuring \[bold\]networks\[/\] +0\.0 s", printed(console)[0])
    assert printed(console)[1:] == ["warning: group [red] is small"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_clock_in_long_step(error) -> None:
    """The clock goes on during a long step and stops with an error."""
    console = plain()

    def fail() -> None:
        with Display(screen=Lines(console, seconds=0.05)) as display:
            display.start("a long step", 1)
            time.sleep(0.5)
            raise error

    with pytest.raises(error):
        fail()
    lines = printed(console)
    assert len(lines) >= 4
    assert set(lines) == {"a long step  0/1  0:00:00"}
    assert "jaxprune progress" not in {thread.name for thread in threading.enumerate()}
    time.sleep(0.1)
    assert printed(console) == lines


def test_work_within_other_work_gives_the_place_back() -> None:
    now, console = Clock(), plain()
    display = Display(screen=Lines(console, now=now), now=now)
    display.start("outer", 2)
    display.start("inner", 1)
    display.finish()
    display.advance()
    assert display.pieces[-1].line(now()) == "outer  1/2  0:00:00"
    display.finish()
    display.finish()
    assert [line.split()[0] for line in printed(console)] == ["inner", "outer"]


def test_bar_after_last_part() -> None:
    """A bar shows the time left and its clock goes on when all parts are done."""
    now = Clock()
    console = Console(file=io.StringIO(), width=120, force_terminal=True, color_system=None)
    bars = Bars(console, now=now)
    display = Display(screen=bars, now=now)

    def shown() -> str:
        with console.capture() as capture:
            console.print(bars.bars.get_renderable())
        return capture.get()

    display.start("training [dim]dense[/] networks", 4)
    now.time += 30
    display.advance("loss 0.3")
    assert "training [dim]dense[/] networks" in shown()
    assert "1/4 0:00:30, about 1:30 left loss 0.3" in shown()
    for _ in range(3):
        display.advance()
    now.time += 45
    assert "4/4 0:01:15" in shown()
    display.start("inner", 9)
    assert "inner" in shown()
    assert "training" not in shown()
    display.finish()
    display.finish()
    assert shown().strip() == ""
    with display:
        display.start("again", 1)
        assert bars.bars.live.is_started
    assert not bars.bars.live.is_started
    assert shown().strip() == ""


def test_bar_in_narrow_terminal() -> None:
    """A bar is one line in a narrow terminal and keeps its times."""
    now = Clock()
    console = Console(file=io.StringIO(), width=80, force_terminal=True, color_system=None)
    bars = Bars(console, now=now)
    display = Display(screen=bars, now=now)
    display.start("retraining, 90% pruned: fair before and after, 5 seeds", 40)
    now.time += 3725
    display.advance("loss 0.300")
    with console.capture() as capture:
        console.print(bars.bars.get_renderable())
    (line,) = capture.get().splitlines()
    assert "retraining" in line
    assert "1/40 1:02:05, about 40:21:15 left" in line


def test_a_notebook_has_one_block_updated_in_place() -> None:
    now, blocks = Clock(), []

    def show(content: str):
        blocks.append([content])
        return blocks[-1].append

    display = Display(screen=Page(show, now=now), now=now)
    with display:
        display.start("training <b>", 4)
        now.time += 30
        display.advance("loss 0.3")
        display.say("warning: group 'a<b' is small")
        now.time += 1
        display.screen.tick(display.pieces[-1])
        latest = blocks[0][-1]
        assert '<progress max="4" value="1">' in latest
        assert html.escape("training <b>  1/4  0:00:31, about 1:29 left  loss 0.3") in latest
        assert "<b>" not in latest
        assert html.escape("warning: group 'a<b' is small") in latest
        display.finish()
    assert len(blocks) == 1
    assert "<progress" not in blocks[0][-1]
    assert "ran for 0:00:31" in blocks[0][-1]
    assert "warning: group" in blocks[0][-1]


def test_the_place_decides_how_progress_is_shown(monkeypatch) -> None:
    assert isinstance(Display().screen, Lines), "no terminal"
    monkeypatch.setenv("FORCE_COLOR", "1")  # rich then takes the output for a terminal
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("JPY_PARENT_PID", raising=False)
    assert isinstance(Display().screen, Bars)
    assert isinstance(Display("lines").screen, Lines)
    assert Display("none").screen is None
    monkeypatch.setenv("NO_COLOR", "1")
    assert Display().console.no_color
    monkeypatch.setenv("JPY_PARENT_PID", "1")
    assert isinstance(Display().screen, Lines), "a cell's !command"
    monkeypatch.delenv("JPY_PARENT_PID")
    monkeypatch.setenv("TERM", "dumb")
    assert isinstance(Display().screen, Lines)
    fake = types.SimpleNamespace(get_ipython=lambda: types.SimpleNamespace(kernel=None))
    monkeypatch.setitem(sys.modules, "IPython", fake)
    assert isinstance(Display().screen, Page)
    fake.get_ipython = types.SimpleNamespace  # IPython in a terminal: a shell without a kernel
    assert notebook_shell() is None
    with pytest.raises(UserError, match="auto, bars, lines, none"):
        Display("line")


def test_warnings_are_shown_without_progress(capsys) -> None:
    with Display("none") as display:
        display.start("work", 1)
        display.advance()
        display.finish()
        display.say("warning: small")
    assert capsys.readouterr().out == "  warning: small\n"


def test_a_pipe_gets_lines_while_python_is_at_work() -> None:
    code = """
import time
from jaxprune.progress import Display, Lines
display = Display()
assert isinstance(display.screen, Lines)
display.screen.seconds = display.screen.tick_seconds = 0.1
with display:
    display.start("compiling", 3)
    time.sleep(0.5)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.count("compiling  0/3  0:00:00\n") >= 2
    assert "\x1b" not in done.stdout
    assert "\r" not in done.stdout
