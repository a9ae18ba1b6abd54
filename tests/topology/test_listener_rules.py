"""Tiers all of whose listeners redirect."""

import textwrap

import pytest

from tierlb.topology.load import check_text
from tierlb.topology.problems import TopologyError

PLAIN = '{address: "127.0.0.1:80", redirect_https: true}'


def problems(listen: str, more: str = "") -> list[str]:
    text = f"""
    cluster: shop
    tiers:
      web: {{kind: l7, listen: {listen}, routes: [{{respond: {{status: 204}}}}]}}
    {more}
    """
    try:
        check_text(textwrap.dedent(text), "shop.yaml")
    except TopologyError as error:
        return str(error).splitlines()
    return []


@pytest.mark.parametrize(
    "listen", [PLAIN, f"[{PLAIN}]", f'[{PLAIN}, {{address: "127.0.0.1:81", redirect_https: 8443}}]']
)
def test_a_tier_that_only_redirects_gets_no_request_to_route(listen: str) -> None:
    (problem,) = problems(listen)
    assert "tiers.web.listen: every listener redirects to https, so no request is routed" in problem


@pytest.mark.parametrize(
    ("listen", "more"),
    [
        (f'[{PLAIN}, "127.0.0.1:443"]', ""),
        ('[{address: "127.0.0.1:80", redirect_https: false}]', ""),
        (PLAIN, '  edge: {kind: l4, listen: "127.0.0.1:443", to: web}'),
    ],
)
def test_one_that_gets_others_or_whose_parents_send_some_is_right(listen: str, more: str) -> None:
    assert problems(listen, more) == []
