"""A rule that denies `/admin` holds for every spelling, before a real nginx, a real Apache and a WSGI application.

Each server keeps a secret under `/admin`. That the spellings matter is shown by asking the servers themselves first.
"""

from collections.abc import Iterator

import attrs
import pytest

from scripts.benchmarks.cluster import free_address, running_cluster
from tests.clients.servers import SERVERS, Answer, ask, serving

pytestmark = pytest.mark.needs("nginx", "apache2")

SECRET = b"the secret of "

TOPOLOGY = """\
cluster: paths
admin: {{listen: {admin}}}
tiers:
  prefix:
    kind: l7
    listen: "{prefix}"
    routes: [{{match: {{path_prefix: /admin}}, respond: {{status: 403}}}}, {servers}]
  exact:
    kind: l7
    listen: "{exact}"
    routes: [{{match: {{path: /admin}}, respond: {{status: 403}}}}, {servers}]
  allow:
    kind: l7
    listen: "{allow}"
    routes: [{{match: {{path: /admin}}, respond: {{status: 403}}}}, {allowed}, {{respond: {{status: 403}}}}]
  as-sent:
    kind: l7
    listen: "{as_sent}"
    paths: as-sent
    routes: [{{match: {{path: /admin}}, respond: {{status: 403}}}}, {servers}]
  upper: {{kind: l7, listen: "{upper}", to: prefix}}
pools: {{{pools}}}
"""


@attrs.frozen
class Site:
    servers: dict[str, str]
    tiers: dict[str, str]


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("paths")
    tiers = {name: free_address() for name in ("prefix", "exact", "allow", "as-sent", "upper")}
    admin = free_address()
    with serving(folder) as servers:
        routes = [f"{{match: {{host: {name}}}, to: {name}}}" for name in servers]
        allowed = [f"{{match: {{host: {name}, path_prefix: /public}}, to: {name}}}" for name in servers]
        text = TOPOLOGY.format(
            admin=admin,
            servers=", ".join(routes),
            allowed=", ".join(allowed),
            pools=", ".join(f'{name}: {{endpoints: ["{address}"]}}' for name, address in servers.items()),
            as_sent=tiers["as-sent"],
            **tiers,
        )
        with running_cluster(text, admin, folder):
            yield Site(servers, tiers)


def spellings() -> list[bytes]:
    """Of `/admin` and of what is below it."""
    names = [b"admin", b"%61dmin", b"%61%64%6D%69%6E", b"%61%64%6d%69%6e", b"adm%69n", b"%2561dmin", b"%252561dmin"]
    names += [b"admin;a=b", b"admin;", b"%61dmin;a=%2F..", b"admin%3Ba=b", b"admin%00", b"admin%00.html", b"admin%3F"]
    names += [b"admin%23", b"admin%20", b"admin.", b"admin%0a", b"adm%09in", b"admin%2e", b"admin%5c", b"%EF%BD%81dmin"]
    ways = [b"/", b"//", b"///", b"/./", b"/.//", b"/%2e/", b"/x/../", b"/x/%2e%2e/", b"/x/.%2E/", b"/x//../", b"/../"]
    ways += [b"/x/y/../../", b"/public/../", b"/;/", b"/;a=b/", b"/.;/", b"/x/..;/", b"/x/..;a=b/", b"/x/..%3B/"]
    ways += [b"/x%2F..%2F", b"/..%2F", b"/%2F", b"/x/..%2f", b"/x%5C..%5C", b"/x\\..\\", b"/\\", b"/%5C", b"/x/..\\"]
    ways += [b"/x/%252e%252e/", b"/x%252F..%252F", b"/..%c0%af", b"/x/%c0%ae%c0%ae/", b"/x/%e0%80%ae./", b"/%00/"]
    ways += [b"/x/..%00/", b"/x/..%0d/", b"/public/..%252f", b"/public%2f../", b"/public;/..;/", b"/x/%25%32%65./"]
    ways += [
        b"/public/..;/",
        b"/public/..%2f",
        b"/public/..%5c",
        b"/public\\..\\",
        b"http://a/",
        b"http://a//",
        b"HTTP://a/./",
    ]
    endings = [
        b"",
        b"/",
        b"/.",
        b"/x",
        b"//x",
        b"/x/..",
        b"/./x",
        b"%2Fx",
        b"%2f",
        b"\\x",
        b"%5Cx",
        b"?x",
        b";a/x",
        b"/;a",
    ]
    found = [way + b"admin" + ending for way in ways for ending in endings]
    found += [way + name for way in ways[::2] for name in names]
    found += [b"/" + name + ending for name in names for ending in endings]
    return list(dict.fromkeys(found))


@pytest.mark.parametrize("server", SERVERS)
def test_spellings_reach_the_secret_of_an_unguarded_server(guarded: Site, server: str) -> None:
    plain = {b"/admin", b"/%61dmin", b"/x/../admin", b"//admin", b"/./admin", b"/x/%2e%2e/admin", b"/admin/x"}
    assert plain <= set(spellings())
    for target in plain:
        assert ask(guarded.servers[server], target, server).body.startswith(SECRET), target
    assert ask(guarded.servers[server], b"/public/x", server).body == b"public"


@pytest.mark.parametrize("server", SERVERS)
@pytest.mark.parametrize("tier", ["prefix", "allow"])
def test_no_spelling_passes_by_a_rule_for_what_is_below_a_path(guarded: Site, tier: str, server: str) -> None:
    passed = [t for t in spellings() if SECRET in ask(guarded.tiers[tier], t, server).body]
    assert passed == []
    assert ask(guarded.tiers[tier], b"/public/x", server) == Answer(200, b"public")
    assert ask(guarded.tiers[tier], b"/x/..//admin", server).status == 403


@pytest.mark.parametrize("server", SERVERS)
def test_no_spelling_passes_by_a_rule_for_one_path(guarded: Site, server: str) -> None:
    """What is below the path, and the path with a slash behind it, are other paths."""
    secret = SECRET + server.encode()
    assert ask(guarded.servers[server], b"/admin", server).body == secret
    assert [t for t in spellings() if ask(guarded.tiers["exact"], t, server).body == secret] == []
    assert ask(guarded.tiers["exact"], b"/public/x", server) == Answer(200, b"public")
    assert ask(guarded.tiers["exact"], b"//admin?x", server).status == 403
    assert ask(guarded.tiers["exact"], b"/admin/x", server).body == secret + b", below"


@pytest.mark.parametrize("server", SERVERS)
def test_a_tier_above_changes_nothing(guarded: Site, server: str) -> None:
    assert [t for t in spellings()[::20] if SECRET in ask(guarded.tiers["upper"], t, server).body] == []
    assert ask(guarded.tiers["upper"], b"/public/x", server) == Answer(200, b"public")


def test_as_sent_forwards_what_came(guarded: Site) -> None:
    """Then it is for the operator to know how the servers behind read paths."""
    assert ask(guarded.tiers["as-sent"], b"//admin", "wsgi").body == b"the secret of wsgi"
    assert ask(guarded.tiers["as-sent"], b"/admin", "wsgi").status == 403
