"""Photos behind ``http://`` and ``https://``: fetched politely, within limits, and from public addresses alone.

A catalog is somebody else's text. An address is therefore checked where it is connected to, after the name is looked
up and after each redirect: what lies in a private network or on this machine is refused unless ``[sources]
allow_hosts`` names the host. Behind a proxy, the proxy connects: the address that this machine finds for the host is
checked then, where it finds one.

Faults are ``ImageError``, whose reasons hold no link. Codes beside those of ``images``: ``http_404`` and the like (what
the server answered), ``unreachable``, ``too_slow``, ``cut_off`` (the answer broke off), ``host_away`` (not asked: the
host has left others without an answer), ``refused_address``, ``redirects``, ``bad_uri`` and ``login_data``.
"""

from __future__ import annotations

import asyncio
import ipaddress
import os
import random
import re
import socket
import time
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit, urlunsplit
from urllib.request import getproxies_environment, proxy_bypass

from vitrine.images import ImageError
from vitrine.setting_sections import SourceSettings

if TYPE_CHECKING:  # who fetches nothing does not wait for it
    import aiohttp
    from yarl import URL

MOST_REDIRECTS = 5
MOST_SILENT = 5
"""Photos one after the other that a host leaves without an answer: then it is away, and is not asked any more."""
_LINK = re.compile(r"https?://", re.IGNORECASE)
_REDIRECTS = (301, 302, 303, 307, 308)
_AGAIN = (408, 425, 429, 500, 502, 503, 504)
_SIGNED = {
    *("x-amz-signature", "x-amz-credential", "x-amz-security-token", "x-goog-signature", "x-goog-credential"),
    *("awsaccesskeyid", "signature", "sig", "access_token", "api_key", "apikey", "password", "passwd", "pwd"),
}
"""Names in a link's query by which it gives somebody's rights away."""
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


def is_link(uri: str) -> bool:
    """Is it a link, whatever its case?"""
    return _LINK.match(uri) is not None


def says_away(code: str) -> bool:
    """May a photo of this code be there all the same, its host being away, busy or broken?"""
    return code in ("unreachable", "too_slow", "cut_off", "host_away", "http_429") or code.startswith("http_5")


def login_data(uri: str) -> str | None:
    """Where the link has a user, a password or a signature in it: the link without."""
    try:
        parts = urlsplit(uri)
        query = parse_qsl(parts.query, keep_blank_values=True)
    except ValueError:
        return "a link that cannot be read" if "@" in uri else None
    signed = any(name.lower() in _SIGNED for name, _ in query)
    if "@" not in parts.netloc and not signed:
        return None
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit((parts.scheme, host, parts.path, "...", "") if signed else (parts.scheme, host, *parts[2:]))


def host_of(uri: str) -> str:
    """The host of a link, in lower case; empty where there is none."""
    try:
        return urlsplit(uri).hostname or ""
    except ValueError:
        return ""


@dataclass(frozen=True)
class Validators:
    """What a server said of a photo, to be asked by whether it is another one since."""

    etag: str | None = None
    last_modified: str | None = None

    def __bool__(self) -> bool:
        return bool(self.etag or self.last_modified)

    @property
    def headers(self) -> dict[str, str]:
        named = {"If-None-Match": self.etag, "If-Modified-Since": self.last_modified}
        return {name: value for name, value in named.items() if value}


@dataclass(frozen=True)
class Answer:
    """A photo's bytes, or None where it is what the validators say, and the validators of now."""

    data: bytes | None
    validators: Validators


@dataclass
class _Host:
    """One host as a task knows it."""

    places: asyncio.Semaphore
    silent: int = 0
    """Photos one after the other that got no answer."""
    asks_to_wait: float = 0.0
    """Until when, on the monotonic clock."""
    is_away: bool = False


@dataclass
class Fetcher:
    """The connections of one event loop; ``fetcher`` opens and closes them. At most ``per_host`` requests to a host at
    once."""

    sources: SourceSettings
    public: aiohttp.ClientSession
    """Connects to public addresses alone."""
    anywhere: aiohttp.ClientSession
    """For hosts that are allowed, and for proxies."""
    hosts: defaultdict[str, _Host] = field(repr=False)

    async def fetch(self, uri: str, validators: Validators = Validators()) -> Answer:
        """The photo at ``uri``.

        Raises:
            ImageError: it cannot be had.
        """
        if login_data(uri):
            raise ImageError("login_data", "the link has a user, a password or a signature in it")
        host = self.hosts[host_of(uri)]
        async with host.places:
            if host.is_away:
                raise ImageError("host_away", f"not asked: its host left {MOST_SILENT} photos without an answer")
            try:
                answer = await self._tried(uri, validators, host)
            except ImageError as error:
                host.silent = host.silent + 1 if says_away(error.code) else 0
                host.is_away |= host.silent >= MOST_SILENT
                raise
            host.silent = 0
            return answer

    async def _tried(self, uri: str, validators: Validators, host: _Host) -> Answer:
        import aiohttp

        sources = self.sources
        for attempt in range(sources.retries + 1):
            await asyncio.sleep(max(0.0, host.asks_to_wait - time.monotonic()))
            wait = min(2**attempt, sources.longest_wait) * random.uniform(0.5, 1)  # noqa: S311
            try:
                async with asyncio.timeout(sources.total_seconds):
                    return await self._ask(uri, validators)
            except TimeoutError:
                fault = ImageError("too_slow", f"no whole answer within {sources.total_seconds:g} s")
            except _Busy as busy:
                fault, asked_wait = busy.fault, busy.wait
                if asked_wait is not None:
                    if asked_wait > sources.longest_wait:  # it means it: nobody asks it any more tonight
                        host.is_away = True
                        raise fault from None
                    host.asks_to_wait = max(host.asks_to_wait, time.monotonic() + asked_wait)
                    wait = 0.0
            except aiohttp.ClientPayloadError:
                fault = ImageError("cut_off", "the answer broke off")
            except (aiohttp.ClientError, OSError) as error:
                fault = ImageError("unreachable", f"no connection: {_kind(error)}")
            except (ValueError, UnicodeError):
                raise ImageError("bad_uri", "not a link that can be read") from None
            if host.is_away:
                break
            if attempt < sources.retries:
                await asyncio.sleep(wait)
        raise fault

    async def _ask(self, uri: str, validators: Validators) -> Answer:
        from yarl import URL

        url = URL(uri)
        for _ in range(MOST_REDIRECTS + 1):
            session, proxy = await self._way(url)
            headers = validators.headers
            async with session.get(url, headers=headers, proxy=proxy, allow_redirects=False) as response:
                if response.status in _REDIRECTS and "Location" in response.headers:
                    url = url.join(URL(response.headers["Location"]))
                    if login_data(str(url)):
                        raise ImageError("login_data", "a redirect leads to a link with a user or signature in it")
                    continue
                return await self._answer(response, validators)
        raise ImageError("redirects", f"more than {MOST_REDIRECTS} redirects")

    async def _way(self, url: URL) -> tuple[aiohttp.ClientSession, str | None]:
        """The session that may connect to ``url``, and the proxy that the environment names for it."""
        if url.scheme not in ("http", "https") or not url.host:
            raise ImageError("bad_uri", "not a link of http or https with a host")
        is_allowed = url.host.lower() in self.sources.allow_hosts
        proxy = getproxies_environment().get(url.scheme)
        if not proxy or proxy_bypass(url.host):
            return (self.anywhere if is_allowed else self.public), None
        if not is_allowed:
            try:
                found = await asyncio.get_running_loop().getaddrinfo(url.host, None, type=socket.SOCK_STREAM)
            except OSError:
                found = []  # only the proxy knows the name
            for *_, address in found:
                check_public(str(address[0]))
        return self.anywhere, proxy if "://" in proxy else f"http://{proxy}"

    async def _answer(self, response: aiohttp.ClientResponse, asked: Validators) -> Answer:
        now = Validators(response.headers.get("ETag"), response.headers.get("Last-Modified"))
        if response.status == 304 and asked:
            return Answer(None, Validators(now.etag or asked.etag, now.last_modified or asked.last_modified))
        if response.status != 200:
            fault = ImageError(f"http_{response.status}", f"the server answered {response.status}")
            if response.status in _AGAIN:
                raise _Busy(fault, _seconds(response.headers.get("Retry-After")))
            raise fault
        most, data = self.sources.max_bytes, bytearray()
        if (response.content_length or 0) > most:
            raise ImageError("too_large", f"{response.content_length} bytes, more than [sources] max_bytes = {most}")
        async for chunk in response.content.iter_any():
            data += chunk
            if len(data) > most:
                raise ImageError("too_large", f"more bytes than [sources] max_bytes = {most}")
        return Answer(bytes(data), now)


class _Busy(Exception):
    """The server asks to be asked again."""

    def __init__(self, fault: ImageError, wait: float | None) -> None:
        super().__init__(fault)
        self.fault, self.wait = fault, wait


@asynccontextmanager
async def fetcher(sources: SourceSettings, per_host: int | None = None) -> AsyncIterator[Fetcher]:
    """A ``Fetcher`` for the running loop; ``per_host`` left out: as ``sources`` say."""
    import aiohttp

    places = per_host or sources.per_host
    hosts: defaultdict[str, _Host] = defaultdict(lambda: _Host(asyncio.Semaphore(places)))
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=sources.connect_seconds)

    def session(**how: Any) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, **how),
            timeout=timeout,
            headers={"User-Agent": sources.user_agent, "Accept": "image/*,*/*;q=0.5", "Accept-Encoding": "identity"},
            cookie_jar=aiohttp.DummyCookieJar(),
        )

    async with session(socket_factory=_public_socket) as public, session() as anywhere:
        yield Fetcher(sources, public, anywhere, hosts)


def read(uri: str, sources: SourceSettings) -> bytes:
    """The bytes of the photo at ``uri``, fetched by itself. Not to be called where an event loop runs.

    Raises:
        ImageError: it cannot be had.
    """

    async def alone() -> bytes:
        async with fetcher(sources) as links:
            return (await links.fetch(uri)).data or b""

    return asyncio.run(alone())


def _public_socket(where: tuple[Any, ...]) -> socket.socket:
    """A socket for the address that is connected to now.

    Raises:
        ImageError: it is not a public one.
    """
    family, kind, protocol, _, address = where
    check_public(address[0])
    return socket.socket(family, kind, protocol)


def check_public(address: str) -> None:
    """Raises ImageError where ``address``, an IP address in text, is of a private network, of this machine, or of none
    that is reached over the internet; an IPv6 address that stands for one of IPv4 is what that is."""
    ip: ipaddress.IPv4Address | ipaddress.IPv6Address = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        teredo = ip.teredo[1] if ip.teredo else None
        nat64 = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF) if ip in _NAT64 else None
        ip = ip.ipv4_mapped or ip.sixtofour or teredo or nat64 or ip
    if not ip.is_global or ip.is_multicast:
        raise ImageError(
            "refused_address",
            "its host is of a private network or this machine: [sources] allow_hosts may name it",
        )


def _seconds(retry_after: str | None) -> float | None:
    """What a Retry-After of seconds or of a date asks for (RFC 9110, section 10.2.3)."""
    if retry_after is None:
        return None
    if retry_after.strip().isdigit():
        return float(retry_after)
    try:
        return max(0.0, parsedate_to_datetime(retry_after).timestamp() - time.time())
    except ValueError:
        return None


def _kind(error: Exception) -> str:
    """What happened, without the address in the message."""
    number = getattr(error, "errno", None) or 0
    return os.strerror(number).lower() if number > 0 else type(error).__name__
