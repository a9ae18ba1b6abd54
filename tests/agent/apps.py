"""Apps with a reporter, for servers that run as processes of their own."""

import json

from tierlb.agent.reporter import AsgiReporter


async def plain(scope, receive, send):
    """Says its path; /fail raises, /status/500 answers so."""
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
        return
    if scope["path"] == "/fail":
        raise RuntimeError("asked for")
    status = int(scope["path"].removeprefix("/status/")) if scope["path"].startswith("/status/") else 200
    await send({"type": "http.response.start", "status": status, "headers": [(b"content-type", b"application/json")]})
    await send({"type": "http.response.body", "body": json.dumps(scope["path"]).encode()})


app = AsgiReporter(plain, slots=4, orca=True)
