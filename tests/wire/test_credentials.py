"""What follows from a secret, what from a credential, and what from neither."""

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tierlb.wire.credentials import (
    BadCredential,
    Credential,
    Principal,
    Role,
    data_key,
    issued,
    parse_credential,
    proven,
    root_key,
)

ROOT = root_key("secret")
ANY_NODE, ANY_AGENT = Principal(Role.NODE), Principal(Role.AGENT)
WEB, WEB_2, BOOT = (Principal(Role.NODE, *path) for path in (["web"], ["web", "web-2"], ["web", "web-2", "b"]))
APP, APP_1 = (Principal(Role.AGENT, *path) for path in (["app"], ["app", "app-1"]))
ALL = [ANY_NODE, WEB, WEB_2, BOOT, ANY_AGENT, APP, APP_1, Principal(Role.AGENT, "web", "web-2")]
names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40)


def text(principal: Principal, root: bytes = ROOT) -> str:
    return issued(root, principal).text


@pytest.mark.parametrize("principal", ALL)
def test_whoever_has_the_secret_sees_whom_a_credential_is_for(principal: Principal) -> None:
    assert proven(ROOT, text(principal)) == principal
    assert proven(root_key("another secret"), text(principal)) is None
    assert text(principal) == text(principal)
    assert len({text(each) for each in ALL}) == len(ALL)


@pytest.mark.parametrize("wide", ALL)
@pytest.mark.parametrize("narrow", ALL)
def test_a_credential_is_narrowed_to_what_it_covers_and_to_nothing_else(wide: Principal, narrow: Principal) -> None:
    if wide.path == narrow.path[: len(wide.path)]:
        assert issued(ROOT, wide).narrowed(narrow) == issued(ROOT, narrow)
    else:
        with pytest.raises(BadCredential, match=r"this token is for .*, not for "):
            issued(ROOT, wide).narrowed(narrow)


@pytest.mark.parametrize("mine", ALL)
@pytest.mark.parametrize("claimed", ALL)
def test_the_key_of_one_proves_no_other(mine: Principal, claimed: Principal) -> None:
    """Neither as it is nor as the key of what is above or below it."""
    forged = Credential(claimed, issued(ROOT, mine).key).text
    assert (proven(ROOT, forged) is None) is (mine != claimed)


def test_a_parent_accepts_tickets_for_itself_alone() -> None:
    mine, other = issued(ROOT, WEB_2), issued(ROOT, Principal(Role.NODE, "web", "web-1"))
    ticket = issued(mine.reception, APP_1).text
    assert proven(mine.reception, ticket) == APP_1
    assert proven(other.reception, ticket) is None
    assert proven(ROOT, ticket) is None, "a parent cannot make a credential for the controller"
    assert proven(mine.reception, text(APP_1)) is None, "what proves somebody to the controller is not for parents"


def test_a_ticket_is_never_a_credential_of_its_parent() -> None:
    """A process may be called like a role."""
    parent = Principal(Role.NODE, "web", "web-1")
    process = issued(ROOT, attrs.evolve(parent, process="agent"))
    ticket = issued(issued(ROOT, parent).reception, Principal(Role.AGENT))
    assert process.key != ticket.key


def test_neither_text_nor_representation_shows_a_key_to_those_who_have_none() -> None:
    credential = issued(ROOT, WEB_2)
    assert credential.text.startswith("tierlb1/node/web/web-2/")
    assert "key" not in repr(credential)
    assert "secret" not in credential.text


@pytest.mark.parametrize(
    ("principal", "said"),
    [
        (ANY_NODE, "all nodes"),
        (WEB, "nodes of tier web"),
        (BOOT, "node web-2 of tier web"),
        (ANY_AGENT, "all agents"),
        (APP, "agents of pool app"),
        (APP_1, "agent app-1 of pool app"),
    ],
)
def test_a_person_can_read_whom_it_is_for(principal: Principal, said: str) -> None:
    assert str(principal) == said


@pytest.mark.parametrize("secret", ["secret", "with / in it", "tierlb", "node/web", ""])
def test_a_secret_is_no_credential(secret: str) -> None:
    assert parse_credential(secret) is None
    assert proven(ROOT, secret) is None


@pytest.mark.parametrize(
    "damaged",
    [
        "tierlb1/",
        "tierlb1/node",
        "tierlb1/node/",
        "tierlb1/king/" + "A" * 43,
        "tierlb1/node//web-1/" + "A" * 43,
        "tierlb1/node/web/web-1/b/c/" + "A" * 43,
        "tierlb1/node/web/" + "A" * 42,
        "tierlb1/node/web/" + "A" * 42 + "=",
        "tierlb1/node/" + "w" * 3000 + "/" + "A" * 43,
    ],
)
def test_a_damaged_credential_is_told_apart_from_a_secret(damaged: str) -> None:
    with pytest.raises(BadCredential, match="damaged"):
        parse_credential(damaged)
    assert proven(ROOT, damaged) is None


@given(names, names)
def test_any_name_travels_in_one_line_of_ascii(group: str, name: str) -> None:
    principal = Principal(Role.AGENT, group, name)
    line = text(principal)
    assert line.isascii()
    assert line.isprintable()
    assert proven(ROOT, line) == principal


@given(st.text(max_size=100))
def test_nothing_that_comes_from_a_peer_raises(given_text: str) -> None:
    assert proven(ROOT, given_text) is None
    assert proven(ROOT, f"tierlb1/node/{given_text}") is None


def test_the_data_key_follows_from_the_secret_and_from_no_credential() -> None:
    assert data_key(ROOT) == data_key(root_key("secret"))
    assert data_key(ROOT) != data_key(root_key("secret2"))
    assert len(data_key(ROOT)) == 32
    assert data_key(issued(ROOT, ANY_NODE).key) != data_key(ROOT)
