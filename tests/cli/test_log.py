import json

from tierlb.cli.log import LazyLog


def test_each_event_is_one_line_of_json_where_nobody_watches(capsys):
    log = LazyLog({"node": "web-1"})
    log.info("joined", pid=3)
    log.error("refused", reason="two\nlines")
    first, second = map(json.loads, capsys.readouterr().err.splitlines())
    assert (first["event"], first["level"], first["node"], first["pid"]) == ("joined", "info", "web-1", 3)
    assert (second["level"], second["reason"]) == ("error", "two\nlines")


def test_structlog_is_imported_at_the_first_event_and_once():
    log = LazyLog()
    assert log.warm() is log.warm()
