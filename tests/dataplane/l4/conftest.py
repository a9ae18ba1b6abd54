from collections.abc import Iterator

import pytest

from tests.dataplane.conftest import Lab
from tests.dataplane.l4.datagrams import UdpLab


@pytest.fixture
def field(lab: Lab) -> Iterator[UdpLab]:
    made = UdpLab(lab)
    yield made
    made.close()
