"""The page of metrics: from a plane's figures to what Prometheus reads, and not more often than needed."""

import attrs
import trio
from prometheus_client.parser import text_string_to_metric_families

from tierlb.channel.metrics import KEPT_S, MetricsPage
from tierlb.model.load import NodeLoad, SubtreeLoad
from tierlb.telemetry.exposition import CONTENT_TYPE, Exposed, expose
from tierlb.telemetry.sketch import Sketch


@attrs.define
class Counting:
    """Counts how often it was read, in the figures that it gives."""

    items: int = 0

    def __call__(self):
        self.items += 1
        own = NodeLoad(0, 0, self.items, 0, 0, 0, 0, 0.0)
        return expose([Exposed("web-1", "web", own, SubtreeLoad(), Sketch())])


def items_on(page):
    assert (page.kind, page.status) == (CONTENT_TYPE, 200)
    samples = [s for family in text_string_to_metric_families(page.body.decode()) for s in family.samples]
    return next(sample.value for sample in samples if sample.name == "tierlb_items_total")


async def test_the_page_is_written_once_a_second_at_most(autojump_clock):
    pages = MetricsPage(Counting())
    assert [items_on(pages.page()) for _ in range(3)] == [1, 1, 1]
    await trio.sleep(KEPT_S)
    assert items_on(pages.page()) == 2
