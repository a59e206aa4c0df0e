"""vitrine.links: photos asked for over HTTP, from a server that does what servers do."""

import asyncio
import gzip
import socket
import time
from collections.abc import Iterator
from email.utils import formatdate

import pytest

from tests.support.photo_server import Page, PhotoServer, photo_server
from vitrine import links, photo_files
from vitrine.images import ImageError
from vitrine.links import Answer, Validators
from vitrine.setting_sections import SourceSettings

SOURCES = SourceSettings(
    allow_hosts=("127.0.0.1",), connect_seconds=2, total_seconds=0.6, retries=2, longest_wait=1, max_bytes=50_000
)
NONE = Validators()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[PhotoServer]:
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with photo_server() as pages:
        yield pages


def fetch(
    *uris: str, sources: SourceSettings = SOURCES, validators: Validators = NONE, per_host: int | None = None
) -> list[Answer | ImageError]:
    async def one(fetcher: links.Fetcher, uri: str) -> Answer | ImageError:
        try:
            return await fetcher.fetch(uri, validators)
        except ImageError as error:
            assert "127.0.0.1" not in str(error) and "secret" not in str(error)
            return error

    async def run() -> list[Answer | ImageError]:
        async with links.fetcher(sources, per_host) as fetcher:
            return list(await asyncio.gather(*(one(fetcher, uri) for uri in uris)))

    return asyncio.run(run())


def code(uri: str, sources: SourceSettings = SOURCES) -> str:
    (error,) = fetch(uri, sources=sources)
    assert isinstance(error, ImageError), error
    return error.code


def test_a_photo_is_fetched_once_and_then_asked_for_by_what_its_server_said(server: PhotoServer):
    for name in ("etag", "date", "neither"):
        server.pages[name] = Page(b"photo", validators=name)
        (answer,) = fetch(server.url(name))
        assert isinstance(answer, Answer) and answer.data == b"photo"
        (again,) = fetch(server.url(name), validators=answer.validators)
        assert isinstance(again, Answer) and again.validators == answer.validators
        assert (again.data is None) == bool(answer.validators) == (name != "neither")
    server.pages["etag"].data = b"another"
    (changed,) = fetch(server.url("etag"), validators=answer.validators)
    assert isinstance(changed, Answer) and changed.data == b"another"
    assert server.agents == {"Vitrine (photos of a catalog)"}
    fetch(server.url("etag"), sources=SOURCES.model_copy(update={"user_agent": "shop's night"}))
    assert "shop's night" in server.agents
    assert photo_files.read(server.url("etag"), SOURCES) == b"another"


@pytest.mark.parametrize(
    ("page", "expected", "times"),
    [
        (Page(status=404), "http_404", 1),
        (Page(status=410), "http_410", 1),
        (Page(status=403), "http_403", 1),
        (Page(status=304), "http_304", 1),
        (Page(status=204), "http_204", 1),
        (Page(status=500), "http_500", 3),
        (Page(status=503), "http_503", 3),
        (Page(status=429), "http_429", 3),
        (Page(b"x" * 100, seconds=2), "too_slow", 3),
        (Page(b"x" * 100, drip=0.05), "too_slow", 3),
        (Page(b"x" * 100, cut=True), "cut_off", 3),
        (Page(b"x" * 60_000), "too_large", 1),
        (Page(status=302, headers={"Location": "/page"}), "redirects", 6),
        (Page(status=301, headers={"Location": "ftp://127.0.0.1/x"}), "bad_uri", 1),
        (Page(status=301, headers={"Location": "file:///etc/passwd"}), "bad_uri", 1),
        (Page(status=301, headers={"Location": "http://user:secret@127.0.0.1/x"}), "login_data", 1),
        (Page(status=301, headers={"Location": "http://localhost:1/x"}), "refused_address", 1),
        (Page(status=302), "http_302", 1),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_no_photo_has_a_code(server: PhotoServer, page: Page, expected: str, times: int):
    server.pages["page"] = page
    assert code(server.url("page")) == expected
    assert server.asked["page"] == times


def test_a_size_that_is_not_told_is_met_while_streaming(server: PhotoServer):
    server.pages["page"] = Page(b"x" * 60_000, tells_length=False)
    assert code(server.url("page")) == "too_large"
    server.pages["page"].data = b"x" * 40_000
    (answer,) = fetch(server.url("page"))
    assert isinstance(answer, Answer) and answer.data == b"x" * 40_000
    packed = gzip.compress(bytes(20_000_000))
    server.pages["page"] = Page(packed, headers={"Content-Encoding": "gzip"})
    assert len(packed) < 50_000 and code(server.url("page")) == "too_large"


def test_redirects_are_followed_five_times(server: PhotoServer):
    for step in range(6):
        server.pages[str(step)] = Page(status=302, headers={"Location": f"/{step + 1}"})
    server.pages["6"] = Page(b"photo")
    assert code(server.url("0")) == "redirects"
    (answer,) = fetch(server.url("1"))
    assert isinstance(answer, Answer) and answer.data == b"photo"


def test_a_failing_server_is_asked_again_and_waited_for_as_it_asks(server: PhotoServer):
    server.pages["page"] = Page(b"photo", failures=2)
    (answer,) = fetch(server.url("page"))
    assert isinstance(answer, Answer) and server.asked["page"] == 3
    waits = iter([1.0, None, None])
    server.limit = lambda: next(waits)
    started = time.monotonic()
    (answer,) = fetch(server.url("page"))
    assert isinstance(answer, Answer) and time.monotonic() - started >= 1
    server.limit = lambda: 3600.0
    server.forget()
    refusals = fetch(*[server.url("page")] * 20, per_host=1)
    assert [error.code for error in refusals if isinstance(error, ImageError)] == ["http_429"] + ["host_away"] * 19
    assert server.asked["page"] == 1, "it asked for an hour"


def test_a_host_that_leaves_photos_without_an_answer_is_away(server: PhotoServer):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        down = f"http://127.0.0.1:{closed.getsockname()[1]}"
        quick = SOURCES.model_copy(update={"retries": 0})
        refusals = fetch(*(f"{down}/{number}" for number in range(20)), sources=quick, per_host=1)
    codes = [error.code for error in refusals if isinstance(error, ImageError)]
    assert codes == ["unreachable"] * links.MOST_SILENT + ["host_away"] * (20 - links.MOST_SILENT)
    assert code("http://no-such-host.invalid/1.jpg", quick) == "unreachable"


def test_no_more_requests_at_once_than_a_host_has_places(server: PhotoServer):
    for number in range(30):
        server.pages[str(number)] = Page(b"photo", seconds=0.02)
    uris = [server.url(str(number)) for number in range(30)]
    assert all(isinstance(answer, Answer) for answer in fetch(*uris, per_host=3))
    assert server.most_at_once == 3


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "localhost",
        "0.0.0.0",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "127.1",
        "2130706433",
        "0x7f000001",
        "10.0.0.1",
    ]
    + ["169.254.169.254", "192.168.1.1", "100.64.0.1", "[fe80::1]", "[fd00::1]", "[64:ff9b::7f00:1]", "224.0.0.1"],
)
def test_addresses_of_this_machine_and_of_private_networks_are_refused(server: PhotoServer, host: str):
    server.pages["page"] = Page(b"photo")
    closed = SOURCES.model_copy(update={"allow_hosts": (), "retries": 0})
    assert code(f"http://{host}:{server.port}/page", closed) in ("refused_address", "unreachable", "bad_uri")
    assert not server.asked
    if host in ("127.0.0.1", "localhost", "[::1]", "10.0.0.1", "169.254.169.254"):
        assert code(f"http://{host}:{server.port}/page", closed) == "refused_address"


def test_what_is_checked_is_the_address_that_is_connected_to(server: PhotoServer, monkeypatch: pytest.MonkeyPatch):
    """A name that is looked up again may lead elsewhere: no earlier look at it counts."""
    looked_up = socket.getaddrinfo

    def rebinding(host: str, *more: object, **named: object) -> object:
        return looked_up("127.0.0.1" if host == "photos.example" else host, *more, **named)

    monkeypatch.setattr(socket, "getaddrinfo", rebinding)
    server.pages["page"] = Page(b"photo")
    assert code(server.url("page", "photos.example")) == "refused_address"
    assert not server.asked
    named = SOURCES.model_copy(update={"allow_hosts": ("photos.example",)})
    (answer,) = fetch(server.url("page", "PHOTOS.example"), sources=named)
    assert isinstance(answer, Answer)
    server.pages["there"] = Page(status=302, headers={"Location": server.url("page", "photos.example")})
    assert code(server.url("there")) == "refused_address"


def test_a_proxy_of_the_environment_is_asked_and_reaches_no_private_network(
    server: PhotoServer, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{server.port}")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    server.pages["http://cdn.invalid/1.jpg"] = Page(b"by proxy")
    (answer,) = fetch("http://cdn.invalid/1.jpg")
    assert isinstance(answer, Answer) and answer.data == b"by proxy"
    assert code("http://10.0.0.1/1.jpg") == "refused_address"
    server.pages["page"] = Page(b"without")
    (answer,) = fetch(server.url("page"))
    assert isinstance(answer, Answer) and answer.data == b"without"


@pytest.mark.parametrize(
    ("uri", "without"),
    [
        ("http://user:secret@shop.example/1.jpg", "http://shop.example/1.jpg"),
        ("https://user@shop.example:8443/a@2x.jpg?v=1", "https://shop.example:8443/a@2x.jpg?v=1"),
        ("https://shop.example/1.jpg?v=1&X-Amz-Signature=secret", "https://shop.example/1.jpg?..."),
        ("https://shop.example/1.jpg?sig=secret", "https://shop.example/1.jpg?..."),
        ("https://shop.example/a@2x.jpg?v=1&token=2#top", None),
        ("http://[bad", None),
    ],
)
def test_login_data_in_a_link_is_told_and_taken_out(uri: str, without: str | None):
    assert links.login_data(uri) == without
    if without:
        assert code(uri) == "login_data"


def test_a_date_to_come_back_at_is_read():
    assert 50 < (links._seconds(formatdate(time.time() + 60, usegmt=True)) or 0) <= 60
    assert [links._seconds(text) for text in ("120", "Fri, 31 Dec 1999 23:59:59 GMT", "soon", None)] == [
        120,
        0,
        None,
        None,
    ]
