import pytest

from tierlb.channel.takeover import takeover_problem

REPLACED = "another process of web-1 took over from this one"
HELD = "10.0.0.1 has this name and is connected: stop it there first, or give this one another --name"


@pytest.mark.parametrize(
    ("host", "live_host", "replaced_boot_id", "vouched", "problem"),
    [
        ("10.0.0.1", None, "", False, ""),
        ("10.0.0.1", "10.0.0.1", "", False, ""),
        ("10.0.0.2", "10.0.0.1", "", False, HELD),
        ("10.0.0.11", "10.0.0.1", "", False, HELD),
        ("127.0.0.2", "10.0.0.1", "", False, HELD),
        ("10.0.0.2", "10.0.0.1", "", True, ""),
        ("10.0.0.2", None, "", False, ""),
        ("10.0.0.1", "10.0.0.1", "older", False, ""),
        ("10.0.0.1", "10.0.0.1", "one", False, REPLACED),
        ("10.0.0.1", "10.0.0.1", "one", True, REPLACED),
        ("10.0.0.2", "10.0.0.1", "one", False, REPLACED),
        ("10.0.0.1", None, "one", False, REPLACED),
        ("", "", "", False, ""),
    ],
)
def test_a_name_goes_to_the_newer_process_from_the_same_address(
    host: str, live_host: str | None, replaced_boot_id: str, vouched: bool, problem: str
) -> None:
    found = takeover_problem(
        "web-1", "one", host, live_host=live_host, replaced_boot_id=replaced_boot_id, vouched=vouched
    )
    assert found == problem
