"""Who may use the service: one ASGI layer before every path of `redarte serve`.

It refuses requests for a foreign host name (DNS rebinding), requests that another site's page sends, and bodies that
exceed the quota or stall; it adds the headers that keep other sites from framing or embedding a page.
"""

import asyncio
import ipaddress
import re
import socket
from collections.abc import Iterable

from fastapi import HTTPException
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from redarte.runtime.errors import printable

MAX_HELD = 2**29  # bytes of the bodies of all requests that run
_TIMEOUT = 120.0  # seconds in which the body of a request must arrive
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
_EVERY_ADDRESS = ("", "0.0.0.0", "::")
# Headers by which a reverse proxy says that it forwards the request of another machine.
_FORWARDED = ("forwarded", "via", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-real-ip")
_HOST = re.compile(r"(?P<name>\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+)(:\d{1,5})?")
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "X-Frame-Options": "DENY",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class Access:
    """Passes allowed requests to an application, and sets `request.state.is_local`.

    A request is local if it comes from a loopback address, to a loopback name, and through no proxy: a person on this
    machine sent it.

    Args:
        names: further host names by which browsers may open the service.
        behind_proxy: whether a reverse proxy forwards the requests; none of them is local then.
    """

    def __init__(self, app: ASGIApp, host: str = "127.0.0.1", names: Iterable[str] = (), behind_proxy: bool = False):
        self._app, self._behind_proxy = app, behind_proxy
        self._every_address = host in _EVERY_ADDRESS
        # A name of this machine is no name of an attacker's; a browser finds it in the local network.
        own = {socket.gethostname(), f"{socket.gethostname()}.local"} if self._every_address else {host}
        self._names = _LOOPBACK | {_canonical(name) for name in (*own, *names)}
        self._held = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_protected(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        refusal = self._refusal(scope)
        if refusal:
            await JSONResponse({"detail": refusal}, 403)(scope, receive, send_protected)
            return
        scope.setdefault("state", {})["is_local"] = self._is_local(scope)
        body = _Body(self, receive)
        try:
            await self._app(scope, body.receive, send_protected)
        finally:
            self._held -= body.held

    def hold(self, size: int) -> None:
        """Counts bytes of a body."""
        if self._held + size > MAX_HELD:
            raise HTTPException(503, "The server receives too many files at once; try again later.")
        self._held += size

    def _refusal(self, scope: Scope) -> str:
        """Why a request is refused; "" where it is allowed."""
        headers = Headers(scope=scope)
        hosts = headers.getlist("host")
        found = _HOST.fullmatch(hosts[0]) if len(hosts) == 1 else None
        if found is None:
            return "The request needs one valid Host header."
        if not self._is_allowed(_canonical(found["name"])):
            return (
                f"The service does not have the name {printable(found['name'])}; "
                f"start it with: redarte serve --name {printable(found['name'])}"
            )
        origins = headers.getlist("origin")
        if origins and [origin.lower() for origin in origins] not in (
            [f"http://{hosts[0].lower()}"],
            [f"https://{hosts[0].lower()}"],
        ):
            return "The request comes from another site's page."
        # Browsers say so of every request (https://w3c.github.io/webappsec-fetch-metadata/); a link may be followed.
        is_navigation = (
            scope["method"] in ("GET", "HEAD")
            and headers.get("sec-fetch-mode") == "navigate"
            and headers.get("sec-fetch-dest") == "document"
        )
        if headers.get("sec-fetch-site", "none") not in ("same-origin", "none") and not is_navigation:
            return "The request comes from another site's page."
        return ""

    def _is_allowed(self, name: str) -> bool:
        # DNS rebinding needs a name: a page at an IP address comes from this address.
        return name in self._names or (self._every_address and _address(name) is not None)

    def _is_local(self, scope: Scope) -> bool:
        headers = Headers(scope=scope)
        client = _address(scope["client"][0]) if scope.get("client") else None
        name = _HOST.fullmatch(headers["host"])
        return (
            not self._behind_proxy
            and not any(header in headers for header in _FORWARDED)
            and name is not None
            and _canonical(name["name"]) in _LOOPBACK
            and client is not None
            and client.is_loopback
        )


class _Body:
    """The body of a request: within the quota, and received in time."""

    def __init__(self, access: Access, receive: Receive):
        self.held = 0
        self._access, self._receive = access, receive
        self._ends: float | None = asyncio.get_running_loop().time() + _TIMEOUT

    async def receive(self) -> Message:
        try:
            async with asyncio.timeout_at(self._ends):
                message = await self._receive()
        except TimeoutError:
            raise HTTPException(408, "The file did not arrive in time.") from None
        size = len(message.get("body", b""))
        self._access.hold(size)
        self.held += size
        if not message.get("more_body"):
            self._ends = None  # the next message is the end of the connection
        return message


def _canonical(host: str) -> str:
    """A host name or address in lower case, without the brackets of IPv6 and the dot of a complete name."""
    name = host.lower().strip("[]").removesuffix(".")
    address = _address(name)
    return name if address is None else str(address)


def _address(name: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        address = ipaddress.ip_address(name.partition("%")[0])
    except ValueError:
        return None
    # A service on all addresses sees a client of IPv4 as ::ffff:127.0.0.1.
    return getattr(address, "ipv4_mapped", None) or address
