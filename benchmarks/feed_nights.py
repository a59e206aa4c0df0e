"""Nights on a feed of links, behind a server as the web has them: slow, failing, redirecting, rate-limiting, lying.

A product feed (``--layout google_feed``) of so many drawn photos is named by its own address on a server of this
machine. Of a hundred photos, some are slow (a fifth of a second), fail at first (503), are reached by a redirect, are
called ``text/html``, have no validator, are gone (404, 410), forbidden, no picture, cut off, or never answer; and every
fiftieth request is told to come again in a second (429). Three nights, each a command of its own: the first, one
without news, one with ten photos changed. Then the quarantine by code.

    python benchmarks/feed_nights.py --photos 5000
"""

import argparse
import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from multiprocessing import Pool
from pathlib import Path
from xml.sax.saxutils import escape

from tests.support.photo_server import Page, PhotoServer, photo_server  # the tests' own: no part of the package
from vitrine import lake
from vitrine.datasets.drawn.photos import draw_photo, product
from vitrine.settings import load_settings

PICTURES, PHOTOS_A_PRODUCT, CHANGED = 500, 5, 10
SETTINGS = """
[sources]
allow_hosts = ["127.0.0.1"]
total_seconds = 5
longest_wait = 30
"""
FEED = '<rss xmlns:g="http://base.google.com/ns/1.0" version="2.0"><channel>{items}</channel></rss>'


def draw(number: int) -> bytes:
    return draw_photo(product(number), 0, size=128)


def picture(pictures: list[bytes], number: int, edition: int = 0) -> bytes:
    """One of ``pictures`` with a JPEG comment of its own: another content, as costly to read."""
    comment = f"{number} {edition}".encode()
    drawn = pictures[number % len(pictures)]
    return drawn[:2] + b"\xff\xfe" + (len(comment) + 2).to_bytes(2, "big") + comment + drawn[2:]


def page(data: bytes, number: int) -> Page:
    """What is at the photo's address: 81 of 100 are as they should be."""
    odd: dict[int, Page] = {
        **dict.fromkeys((1, 2, 3), Page(data, seconds=0.2)),
        **dict.fromkeys((4, 5), Page(data, failures=1)),
        **dict.fromkeys((6, 7, 8), Page(status=302, headers={"Location": f"/moved/{number}.jpg"})),
        **dict.fromkeys((9, 10, 11), Page(data, headers={"Content-Type": "text/html"})),
        12: Page(data, validators="neither"),
        13: Page(status=404),
        14: Page(status=410),
        15: Page(status=403),
        16: Page(b"<html>no picture</html>"),
        17: Page(data, cut=True),
        18: Page(data, seconds=8) if number < 400 else Page(data),
        19: Page(data, validators="date"),
    }
    return odd.get(number % 100, Page(data))


def fill(server: PhotoServer, pictures: list[bytes], count: int) -> str:
    """The photos' pages and the feed's; returns the feed's address."""
    items = []
    for number in range(count):
        data = picture(pictures, number)
        server.pages[f"{number}.jpg"] = page(data, number)
        server.pages[f"moved/{number}.jpg"] = Page(data)
        link = escape(server.url(f"{number}.jpg"))
        items.append(
            f"<item><g:id>{number}</g:id><g:item_group_id>p{number // PHOTOS_A_PRODUCT}</g:item_group_id>"
            f"<g:image_link>{link}</g:image_link><g:product_type>kind {number % 20}</g:product_type>"
            f"<g:color>colour {number % 7}</g:color></item>"
        )
    server.pages["feed.xml"] = Page(FEED.format(items="".join(items)).encode())
    requests = itertools.count(1)
    server.limit = lambda: 1.0 if next(requests) % 50 == 0 else None
    return server.url("feed.xml")


def night(home: Path, server: PhotoServer, address: str, what: str) -> str:
    """One row of the table."""
    server.forget()
    started = time.monotonic()
    command = [sys.executable, "-m", "vitrine", "ingest", address, "--dataset", "shop", "--layout", "google_feed"]
    done = subprocess.run([*command, "--attribute", "colour=color", "--json"], cwd=home, capture_output=True, text=True)
    took = time.monotonic() - started
    if done.returncode:
        raise SystemExit(f"the night ended with {done.returncode}:\n{done.stderr[-3000:]}")
    said = json.loads(done.stdout)
    counts = ("images", "added", "changed", "unchanged", "quarantined", "asked", "not_modified")
    answers = ", ".join(f"{status}: {count:,}" for status, count in sorted(server.answers.items()))
    shown = " | ".join(f"{said[name]:,}" for name in counts)
    return f"| {what} | {took:.1f} | {shown} | {said['fetched_bytes']:,} | {answers} | {server.most_at_once} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=int, default=5_000)
    given = parser.parse_args()
    os.environ |= {"no_proxy": "127.0.0.1", "NO_PROXY": "127.0.0.1"}
    with Pool() as pool:
        pictures = pool.map(draw, range(min(PICTURES, given.photos)))
    with tempfile.TemporaryDirectory(prefix="vitrine-feed-") as made, photo_server() as server:
        home = Path(made)
        (home / "vitrine.toml").write_text(SETTINGS)
        address = fill(server, pictures, given.photos)
        print(f"{given.photos:,} photos, {sum(map(len, pictures)) / len(pictures) / 1000:.1f} kB each\n")
        print(
            "| night | seconds | images | added | changed | unchanged | quarantined | asked | 304 | bytes fetched "
            "| the server's answers | most at once |\n|---|---|---|---|---|---|---|---|---|---|---|---|"
        )
        print(night(home, server, address, "the first"), flush=True)
        print(night(home, server, address, "without news"), flush=True)
        for number in [number for number in range(given.photos) if number % 100 >= 20][:CHANGED]:
            server.pages[f"{number}.jpg"] = Page(picture(pictures, number, 1))
        print(night(home, server, address, f"{CHANGED} changed"), flush=True)
        sql = "SELECT code, count(*) AS photos, min(reason) AS reason FROM quarantine GROUP BY code ORDER BY 2 DESC, 1"
        print("\n| code | photos | the reason of one |\n|---|---|---|")
        for row in lake.rows(load_settings(home), sql):
            print(f"| {row['code']} | {row['photos']} | {row['reason']} |")


if __name__ == "__main__":
    main()
