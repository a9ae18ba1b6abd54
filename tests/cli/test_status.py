"""The table, made from what a real admin API answered."""

import json

import pytest

from tests.cli.conftest import answer, run, shop, words


def status(url, *options):
    return run("status", "--admin", url, *options)


def test_the_table_has_a_row_for_each_node_and_endpoint(serve):
    result = status(serve(answer(shop())))
    assert result.exit_code == 0
    rows = words(result.stdout)
    assert rows[0] == ["shop", "serving", "revision", "7"]
    assert ["edge-1", "serving", "42", "127.0.0.1:8080", "3", "2", "0", "12/s", "0.25", "s", "1", "compiled"] in rows
    assert ["edge-2", "gone"] in rows
    assert ["127.0.0.1:9001", "serving", "77", "2", "0", "1,500/s", "2,000/s", "100", "%", "0"] in rows
    assert rows[-1] == ["waiting", "for", "edge:", "1", "of", "2", "nodes", "serve;", "edge-2", "has", "not", "joined"]


def test_into_a_file_go_all_columns(serve):
    heading = words(status(serve(answer(shop()))).stdout)[1]
    columns = "node state pid address conns in flight parked rate capacity use p50 p99 age share errors way build"
    assert " ".join(heading) == columns


def test_json_is_what_the_api_answered(serve):
    code, body = answer(shop())
    result = status(serve((code, body)), "--json")
    assert json.loads(result.stdout) == json.loads(body)


def test_no_cluster_there_says_what_to_do():
    result = status("http://127.0.0.1:1")
    assert result.exit_code == 1
    assert "start one with `tierlb up FILE`" in result.stderr


def test_another_answer_than_200_is_shown(serve):
    result = status(serve((421, b"this Host is not served here")))
    assert result.exit_code == 1
    assert "answered 421: this Host is not served here" in result.stderr


@pytest.mark.parametrize("body", [b"<html>", b"[]", b'{"cluster": "shop"}'])
def test_who_answers_something_else_is_no_cluster(serve, body):
    result = status(serve((200, body)))
    assert result.exit_code == 1
    assert "give what `up` printed as admin" in result.stderr


@pytest.mark.parametrize("url", ["7900", "ftp://127.0.0.1:7900", "http://", "http://127.0.0.1:port", "http://[::1"])
def test_an_address_that_is_none_is_wrong_usage(url):
    result = status(url)
    assert result.exit_code == 2
    assert "write it as http://HOST:PORT" in result.stderr
