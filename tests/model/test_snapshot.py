"""How processes are named; the rest of a snapshot is values."""

from hypothesis import given
from hypothesis import strategies as st

from tierlb.model.snapshot import process_name

NODES = st.from_regex(r"[a-z][a-z0-9-]{0,8}-[1-9]", fullmatch=True)
BOOTS = st.text(st.characters(codec="latin-1"), max_size=4)


def test_a_process_is_named_after_its_node_and_its_run() -> None:
    assert process_name("web-1", "b00t") == "web-1/b00t"


@given(NODES, BOOTS, NODES, BOOTS)
def test_two_processes_never_share_a_name(node: str, boot: str, other: str, other_boot: str) -> None:
    assert (process_name(node, boot) == process_name(other, other_boot)) is ((node, boot) == (other, other_boot))
