import json
import re
import subprocess
import sys
from pathlib import Path

from tierlb.cli.log_line import TerminalLine, json_line


def test_a_line_of_json_has_the_fields_in_their_order_then_level_and_time():
    line = json.loads(json_line("info", {"node": "web-1", "event": "joined", "pid": 3}))
    assert list(line) == ["node", "event", "pid", "level", "timestamp"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z", line["timestamp"])


def test_a_value_that_json_does_not_know_is_written_as_python_shows_it():
    assert json.loads(json_line("info", {"event": "saved", "at": Path("/tmp")}))["at"] == repr(Path("/tmp"))


def test_an_exception_without_a_traceback_and_one_that_is_none():
    assert json.loads(json_line("error", {"event": "x", "exc_info": ValueError("a")}))["exception"] == "ValueError: a"
    assert "exception" not in json.loads(json_line("error", {"event": "x", "exc_info": None}))


def test_a_line_for_a_terminal_is_readable_and_moves_no_cursor():
    line = TerminalLine()("warning", {"event": "child_turned_away", "reason": "a\x1b[2J", "count": 3})
    assert "child_turned_away" in line
    assert "\x1b[2J" not in line


def test_json_needs_none_of_the_libraries_of_terminals():
    script = """
import sys
from tierlb.cli.log import LazyLog
log = LazyLog()
try:
    raise ValueError
except ValueError as error:
    log.error("internal_error", exc_info=error)
print(*(name for name in ("asyncio", "pygments", "rich", "structlog") if name in sys.modules))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.split() == []
    assert json.loads(done.stderr)["event"] == "internal_error"
