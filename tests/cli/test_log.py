import json
import logging
import os
import pty
import subprocess
import sys

import pytest

from tierlb.cli.log import LazyLog, say
from tierlb.telemetry.log_quota import BURST


@pytest.fixture(autouse=True)
def excepthook():
    before, handlers = sys.excepthook, list(logging.getLogger().handlers)
    yield
    sys.excepthook = before
    logging.getLogger().handlers[:] = handlers


def lines(log, capfd):
    assert log.flush()
    return list(map(json.loads, capfd.readouterr().err.splitlines()))


def test_each_event_is_one_line_of_json_where_nobody_watches(capfd):
    log = LazyLog({"node": "web-1"})
    log.info("joined", pid=3)
    log.error("refused", reason="two\nlines")
    first, second = lines(log, capfd)
    assert (first["event"], first["level"], first["node"], first["pid"]) == ("joined", "info", "web-1", 3)
    assert (second["level"], second["reason"]) == ("error", "two\nlines")


def test_its_writer_is_made_once():
    log = LazyLog()
    assert log.warm() is log.warm()


def test_an_exception_is_logged_with_its_traceback(capfd):
    log = LazyLog()
    try:
        raise ValueError("broken")
    except ValueError as error:
        log.error("internal_error", exc_info=error)
    [line] = lines(log, capfd)
    assert "test_log.py" in line["exception"]
    assert line["exception"].endswith("ValueError: broken")


def test_a_flood_of_one_event_is_cut_and_counted(capfd):
    log = LazyLog()
    for _ in range(int(BURST) + 500):
        log.warning("child_turned_away", reason="x")
    log.warning("other")
    seen = [line["event"] for line in lines(log, capfd)]
    assert BURST <= seen.count("child_turned_away") < BURST + 100
    assert seen.count("other") == 1
    assert log.losses.suppressed["child_turned_away"] == BURST + 501 - len(seen)


def test_what_cannot_be_made_a_line_of_is_counted_and_harms_no_caller(capfd):
    class Odd:
        def __repr__(self):
            raise RuntimeError

    log = LazyLog()
    log.info("odd", value=Odd())
    log.info("fine")
    assert [line["event"] for line in lines(log, capfd)] == ["fine"]
    assert log.losses.dropped == 1


def test_an_exception_that_ends_the_process_is_a_line_even_if_nobody_reads_stderr():
    """The pipe is full when the process fails: it ends all the same."""
    script = """
import os, sys
from tierlb.cli.log import LazyLog
if len(sys.argv) > 1:
    os.set_blocking(2, False)
    try:
        while os.write(2, b"x" * 4096): pass
    except BlockingIOError:
        os.set_blocking(2, True)
LazyLog().warm()
raise SystemExit(3) if len(sys.argv) > 2 else ValueError("broken")
"""
    run = [sys.executable, "-c", script]
    done = subprocess.run(run, stderr=subprocess.PIPE, timeout=120, check=False)
    assert json.loads(done.stderr)["event"] == "process_failed"
    assert done.returncode == 1
    reader, writer = os.pipe()
    try:
        assert subprocess.run([*run, "full"], stderr=writer, timeout=120, check=False).returncode == 1
        assert subprocess.run([*run, "full", "exit"], stderr=writer, timeout=120, check=False).returncode == 3
    finally:
        os.close(reader)
        os.close(writer)


def test_what_is_said_to_a_person_is_written(capfd):
    say("ready\nTry")
    while not (said := capfd.readouterr().out):
        pass
    assert said == "ready\nTry\n"


def test_what_libraries_log_is_a_line_too(capfd):
    earlier, log = LazyLog(), LazyLog()
    earlier.warm()
    log.warm()
    logging.getLogger("trio.serve_listeners").error("accept returned %s", 24)
    logging.getLogger("asyncio").info("nothing to tell")
    assert earlier.flush()
    [line] = lines(log, capfd)
    assert (line["event"], line["library"]) == ("library_warning", "trio.serve_listeners")
    assert line["message"] == "accept returned 24"


def test_on_a_terminal_nothing_that_others_wrote_moves_the_cursor():
    """The terminal is a pseudo terminal of this process."""
    ours, theirs = pty.openpty()
    script = """
from tierlb.cli.log import LazyLog
log = LazyLog()
log.warning("child_turned_away", reason="a\\x1b[2J\\nb", count=3)
try:
    raise ValueError("two\\nlines")
except ValueError as error:
    log.error("internal_error", exc_info=error)
"""
    try:
        subprocess.run([sys.executable, "-c", script], stderr=theirs, timeout=120, check=True)
        said = os.read(ours, 65536).decode()
    finally:
        os.close(ours)
        os.close(theirs)
    assert "\x1b[2J" not in said
    assert "a�[2J�b" in said
    assert 'File "<string>", line 6' in said, "a traceback keeps its lines"
