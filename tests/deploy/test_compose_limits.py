"""Limits in the largest unit that is exact."""

import pytest

from tierlb.deploy.compose_limits import service_limits, service_scale
from tierlb.model.topology import Resources


@pytest.mark.parametrize(
    ("size", "text"), [(2**30, "1g"), (128 * 2**20, "128m"), (1_500 * 2**10, "1500k"), (1_000_001, "1000001b")]
)
def test_memory_is_limited_to_the_byte(size, text):
    assert service_limits(Resources(memory_bytes=size)) == {"mem_limit": text}


def test_what_is_not_limited_and_what_is_there_once_is_not_said():
    assert (service_limits(Resources()), service_scale(1)) == ({}, {})
    assert (service_limits(Resources(cpus=0.5)), service_scale(3)) == ({"cpus": 0.5}, {"scale": 3})
