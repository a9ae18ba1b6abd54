import pytest

from tierlb.topology.problems import Problem, TopologyError, path_text, suggestion


def test_a_problem_reads_as_editors_understand_it() -> None:
    problem = Problem("shop.yaml", 5, 9, "tiers.web.to", "no tier or pool named 'ap'")
    assert str(problem) == "shop.yaml:5:9: tiers.web.to: no tier or pool named 'ap'"


def test_a_problem_of_the_whole_file_has_no_path() -> None:
    assert str(Problem("f", 1, 1, "", "the file is empty")) == "f:1:1: the file is empty"


def test_problems_come_once_each_and_in_the_order_of_the_file() -> None:
    first, second, third = (Problem("f", line, column, "", "x") for line, column in ((2, 9), (2, 10), (10, 1)))
    error = TopologyError([third, second, first, second])
    assert error.problems == (first, second, third)
    assert str(error).splitlines() == [str(first), str(second), str(third)]


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ((), ""),
        (("tiers", "web", "routes", 0, "to"), "tiers.web.routes[0].to"),
        (("tiers", "a b"), "tiers.'a b'"),
        (("x\x1b[2J",), r"'x\x1b[2J'"),
    ],
)
def test_paths_are_printable(path: tuple[str | int, ...], text: str) -> None:
    assert path_text(path) == text


@pytest.mark.parametrize(
    ("word", "text"),
    [("ap", " (did you mean 'app'?)"), ("WEB", " (did you mean 'web'?)"), ("zzz", ""), ("a" * 1000, "")],
)
def test_only_near_names_are_suggested(word: str, text: str) -> None:
    assert suggestion(word, ["web", "app", "static"]) == text
