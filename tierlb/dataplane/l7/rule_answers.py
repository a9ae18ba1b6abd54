"""Answers of this node itself: where a rule is to respond or redirect, and where no rule matches."""

from typing import Final

from tierlb.dataplane.explanation import answered, response_fields
from tierlb.dataplane.l7.client_identity import ClientIdentity
from tierlb.dataplane.l7.front_state import FrontState
from tierlb.dataplane.l7.max_forwards import FinalRecipient
from tierlb.dataplane.l7.plan import RequestPlan
from tierlb.dataplane.l7.redirect import location
from tierlb.dataplane.l7.reply import own_answer
from tierlb.dataplane.upstream.host_set import HostSet
from tierlb.model.listener import HTTPS_PORT
from tierlb.model.topology import Redirect, Respond

RuleChoice = HostSet | Respond | Redirect | FinalRecipient | None
MISDIRECTED: Final = Respond(421, "This connection is for another host, by its TLS certificate: open a new one.\n")
"""RFC 9110 §15.5.20."""
TEXT: Final = "text/plain; charset=utf-8"


def special_action(front: FrontState, identity: ClientIdentity, plan: RequestPlan) -> RuleChoice:
    """What to do with a request where its rule may not decide that."""
    if identity.redirected:
        return to_https(identity.redirected)
    if identity.shown is not None and not identity.shown.serves(plan.head.host_name):
        front.counters.rejected += 1
        return MISDIRECTED
    return front.config.action(plan)


def to_https(port: int) -> Redirect:
    """What a listener with `redirect_https` does with each request."""
    return Redirect("https://{hostname}{path}" if port == HTTPS_PORT else f"https://{{hostname}}:{port}{{path}}")


def rule_answer(
    front: FrontState,
    identity: ClientIdentity,
    plan: RequestPlan,
    action: Respond | Redirect | FinalRecipient | None,
    *,
    keep_alive: bool,
) -> bytes:
    """The whole response, as HTTP/1."""
    extra = front.load_field
    if isinstance(action, FinalRecipient):
        action = action.answer(plan.head)
    if action is None:
        status, body, kind = 404, f"{front.name}: no route matches this request\n", None
    elif identity.redirected and not plan.head.host:
        status, body, kind = 400, f"{front.name}: a request without a host cannot be sent to https\n", None
    elif isinstance(action, Redirect):
        status, body, kind = action.status, "", None
        extra += (
            b"Location: " + location(action, plan.head, trusted=identity.trusted, secured=identity.secured) + b"\r\n"
        )
    else:
        status, body, kind = action.status, action.body, action.content_type
    if plan.nonce is not None and front.explaining.covers(plan.nonce, front.reactor.now):
        extra += response_fields((*identity.explained, answered(front.name, status)))
    return own_answer(
        status,
        body.encode(),
        keep_alive=keep_alive,
        minor=plan.head.minor,
        is_head=plan.is_head,
        content_type=kind or TEXT,
        extra=extra,
    )
