import json

from tests.cli.conftest import run
from tierlb.cli.history import lines


def row(number, who="ann", why="", added=1, removed=0, active=False, undone=False, when=1e9):
    return locals()


ROWS = [
    row(9, "ann", "the file at the start", added=None, removed=None),
    row(10, "bob\x1b[2J", undone=True, removed=12),
    row(11, "a longer name", "scale web=3", active=True),
    row(12, why="no", undone=True),
]


def test_each_revision_is_a_line():
    assert lines(ROWS) == [
        "revision  when                     who            lines   why",
        "  9       2001-09-09 01:46:40 UTC  ann                    the file at the start",
        "  10      2001-09-09 01:46:40 UTC  bob�[2J        +1 -12  undone",
        "▸ 11      2001-09-09 01:46:40 UTC  a longer name  +1 -0   scale web=3",
        "  12      2001-09-09 01:46:40 UTC  ann            +1 -0   undone: no",
    ]


def test_there_may_be_none():
    assert lines([]) == ["revision  when  who  lines  why"]


def history(serve, value, *arguments):
    result = run("history", *arguments, "--admin", serve((200, json.dumps(value).encode())))
    assert result.exit_code == 0
    return result.stdout


def test_the_list_is_printed_without_a_token(serve):
    answer = {"active": 11, "revisions": ROWS}
    assert history(serve, answer) == "\n".join(lines(ROWS)) + "\n"
    assert json.loads(history(serve, answer, "--json")) == answer


def test_the_text_of_one_comes_as_it_was(serve):
    revision = {"number": 3, "text": "cluster: shop\n# é", "who": "ann", "why": "", "when": 1e9, "base": 2}
    assert history(serve, revision, "3") == revision["text"]
    assert json.loads(history(serve, revision, "3", "--json")) == revision
    assert serve.asked == [("GET", "/v1/history/3")] * 2


def test_below_the_text_stands_what_it_wants_of_nodes(serve):
    states = [{"group": "web", "name": "web-1", "state": "drain"}, {"group": "w", "name": "w\n2", "state": "drain"}]
    revision = {"number": 3, "text": "cluster: shop", "admin_states": states}
    assert history(serve, revision, "3") == "cluster: shop\n# web-1: drain\n# w�2: drain\n"
