"""What listeners leave no use for: routes to which no request comes."""

from collections.abc import Collection, Iterator, Mapping

from tierlb.topology.problems import Fault
from tierlb.topology.shapes import FileShape, ListenerShape, listed_listeners


def redirect_faults(file: FileShape, targets: Mapping[str, Collection[str]]) -> Iterator[Fault]:
    """Tiers that get no request to route, because all their listeners redirect. `targets`: what each tier sends to."""
    sent_to = {lower for each in targets.values() for lower in each}
    for name, tier in file.tiers.items():
        given = listed_listeners(tier)
        all_redirect = all(isinstance(each, ListenerShape) and each.redirect_https for each in given)
        if given and all_redirect and name not in sent_to:
            message = (
                "every listener redirects to https, so no request is routed: add the listener for https, or for a tier "
                'that only redirects write routes: [{redirect: "https://{hostname}{path}"}] and no redirect_https'
            )
            yield Fault(("tiers", name, "listen"), message)
