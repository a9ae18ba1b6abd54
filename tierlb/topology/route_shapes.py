"""The shapes of routes: conditions on requests (l7) or connections (l4), and what is done with those that match."""

from typing import ClassVar

import attrs

from tierlb.model.topology import Match, Redirect, Respond
from tierlb.topology import forms
from tierlb.topology import http_forms as http
from tierlb.topology import net_forms as net
from tierlb.topology.typed import at_most_one, exactly_one, optional, required

To = forms.Name | tuple[forms.Name, ...] | dict[forms.Name, forms.Weight]


@attrs.frozen(kw_only=True)
class MatchShape:
    MODEL: ClassVar = Match
    RULES: ClassVar = (at_most_one("path", "path_prefix"),)
    path: http.UrlPath | None = optional("the whole path, without the query", l7_only=True)
    path_prefix: http.UrlPrefix | None = optional(
        "whole leading segments: /api matches /api and /api/x, not /apix", l7_only=True
    )
    host: net.HostName | tuple[net.HostName, ...] | None = optional(
        "a host name, *.example.com for all below it, or a list", field="hosts", l7_only=True
    )
    method: http.Method | tuple[http.Method, ...] | None = optional(
        "a request method or a list of them", field="methods", l7_only=True
    )
    headers: dict[http.HeaderName, http.FieldValue] | None = optional(
        "header name to value; no value: it is present", l7_only=True
    )
    query: dict[http.QueryName, http.FieldValue] | None = optional(
        "query field to value; no value: it is present", l7_only=True
    )
    sni: net.ServerName | tuple[net.ServerName, ...] | None = optional(
        "the server name in the client's TLS ClientHello, *.example.com for all below it, or a list", l4_only=True
    )
    alpn: net.AlpnName | tuple[net.AlpnName, ...] | None = optional(
        "a protocol that the client offers in its ClientHello, such as h2, or a list of them", l4_only=True
    )
    source: net.CidrNetwork | tuple[net.CidrNetwork, ...] | None = optional(
        "a network with the client's address, such as 10.0.0.0/8, or a list", field="sources", l4_only=True
    )
    port: net.Port | tuple[net.Port, ...] | None = optional(
        "the port that the client connected to, or a list", field="ports", l4_only=True
    )


@attrs.frozen(kw_only=True)
class RespondShape:
    MODEL: ClassVar = Respond
    status: http.Status | None = optional("status code, 200 to 599 (default 200)")
    body: http.Body | None = optional("the text to answer with")
    content_type: http.ContentType | None = optional("media type of the body (default text/plain; charset=utf-8)")


@attrs.frozen(kw_only=True)
class RedirectShape:
    MODEL: ClassVar = Redirect
    location: http.Location = required(
        "URL to go to; may hold {scheme}, {host}, {hostname}, {path} and {query}; the query is kept if it has none"
    )
    status: http.RedirectStatus | None = optional("301, 302, 303, 307 or 308 (default 308)")


@attrs.frozen(kw_only=True)
class RouteShape:
    RULES: ClassVar = (exactly_one("to", "respond", "redirect"),)
    match: MatchShape | None = optional("conditions that must all hold; left out: every request or connection")
    to: To | None = optional("a tier or pool, a list of them (all together), or a mapping of name to share")
    respond: RespondShape | None = optional("answer here with a fixed response", l7_only=True)
    redirect: RedirectShape | None = optional("answer here with a redirect", l7_only=True)
