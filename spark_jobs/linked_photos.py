"""Photos behind links: asked for where they may have changed, kept in the photo store, and what is known of each link.

A host's requests are spread over a few tasks, which share its places: so no more than ``[sources] per_host`` go to it
at once, however many executors there are. A task asks for its photos side by side, by one event loop.
"""

import asyncio
import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any

import pyarrow as pa
from pyspark import StorageLevel
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from spark_jobs.checked_photos import CHECKED, OF_FILE, good_row, known_of, refused_row, was_known
from spark_jobs.delta_tables import merge_or_append, read_table, spark_schema
from spark_jobs.progress import progress
from vitrine import images, lake, links, photo_store
from vitrine.images import ImageError
from vitrine.links import Fetcher, Validators
from vitrine.setting_sections import SourceSettings
from vitrine.settings import Settings
from vitrine.tables import LINKS

_SIDE_BY_SIDE = 64
"""Photos that a task has begun at once: each may be in memory."""
_OF_LINK = ("uri", "content_sha256", "etag", "last_modified", "asked_at")


def check_links(spark: SparkSession, settings: Settings, dataset: str, listed: DataFrame, count: int) -> DataFrame:
    """``count`` photos behind links, with what the catalog knew of them -> rows of ``CHECKED``, and ``away``.

    They are cut from the tables that they were compared with: Spark computes what it has persisted once more when such
    a table is written, and would ask for every photo again.
    """
    known = read_table(spark, settings, LINKS).filter(F.col("dataset") == dataset)
    known = known.select("image_id", *(F.col(name).alias(f"link_{name}") for name in _OF_LINK))
    parallel = spark.sparkContext.defaultParallelism
    tasks = min(parallel, settings.sources.per_host)  # that share a host
    work = _Work(settings.sources, settings.sources.per_host // tasks, settings.photos, settings.max_pixels, lake.now())
    host = F.lower(F.regexp_extract("uri", "^[a-zA-Z]+://([^/?#]*)", 1))
    turn = F.pmod(F.xxhash64("uri"), F.lit(tasks))
    asked = (
        listed.join(known, "image_id", "left")
        .repartition(2 * parallel, host, turn)
        .sortWithinPartitions("uri")
        .mapInArrow(work.rows(), spark_schema(CHECKED))
    )
    with progress(spark, f"asking for {dataset}", count):
        return _stay_where_hosts_are_away(asked.localCheckpoint(storageLevel=StorageLevel.DISK_ONLY))


def _stay_where_hosts_are_away(checked: DataFrame) -> DataFrame:
    """``checked`` with ``away``: true of a known photo that is as it was known, since its host is away. A host is away
    where it answered none of those that asked it, or was given up."""
    answered = F.col("asked") & (F.col("code").isNull() | ~F.col("may_be_hosts"))
    hosts = (
        checked.filter("host IS NOT NULL")
        .withColumn("may_be_hosts", _may_be_hosts())
        .groupBy("host")
        .agg(F.count_if(answered).alias("answered"), F.count_if(F.col("code") == "host_away").alias("skipped"))
        .filter("answered = 0 OR skipped > 0")
        .select("host", F.lit(True).alias("away"))
    )
    stays = F.col("may_stay") & F.col("away")
    both = checked.join(hosts, "host", "left").withColumn("away", F.coalesce(stays, F.lit(False)))
    return both.withColumns(
        {name: F.when(F.col("away"), F.lit(None)).otherwise(F.col(name)) for name in ("code", "reason")}
    )


def _may_be_hosts() -> Any:
    """Is the row's code one that its host may be at fault for? A column; ``links.says_away`` in Python."""
    return F.col("code").isin("unreachable", "too_slow", "cut_off", "host_away", "http_429") | F.col("code").startswith(
        "http_5"
    )


def merge_links(spark: SparkSession, settings: Settings, dataset: str, good: DataFrame) -> None:
    """Bring ``links`` to what servers said of the photos that are ``good``; to be done after the catalog is: else a
    run that is killed between would leave the validators of a photo beside the content of an older one."""
    mine = read_table(spark, settings, LINKS).filter(F.col("dataset") == dataset)
    behind = good.filter("host IS NOT NULL")
    fresh = behind.filter("says_more").withColumns({"dataset": F.lit(dataset), "gone": F.lit(False)})
    gone = mine.join(behind, "image_id", "left_anti").withColumn("gone", F.lit(True))
    columns = [*LINKS.schema.names, "gone"]
    source = fresh.select(columns).unionByName(gone.select(columns))
    if rows := source.count():
        merge_or_append(spark, settings, LINKS, source, lake.matches("t", dataset=dataset), rows=rows)


@dataclass(frozen=True)
class _Kept:
    """What came of a request."""

    of_file: dict[str, Any] | None
    """``OF_FILE`` of a photo that is in the photo store now; None where it is the one of before, or none."""
    validators: Validators
    fetched_bytes: int | None = None
    """None where it is the one of before."""
    refusal: ImageError | None = None
    """Why what was fetched is no photo."""


_Ask = Callable[[str, Validators], tuple[asyncio.Task[_Kept], bool]]
"""A link and what was said of it -> the request, and whether it is a new one."""


@dataclass(frozen=True)
class _Work:
    """What a task has to know."""

    sources: SourceSettings
    per_host: int
    store: str
    max_pixels: int
    now: datetime

    def rows(self) -> Callable[[Iterable[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
        """Rows of ``LISTED``, ``known_`` and ``link_`` columns -> rows of ``CHECKED``."""

        def rows(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
            with asyncio.Runner() as runner:
                opened = links.fetcher(self.sources, self.per_host)
                fetcher = runner.run(opened.__aenter__())
                try:
                    for batch in batches:
                        checked = runner.run(self._all(fetcher, batch.to_pylist()))
                        yield pa.RecordBatch.from_pylist(checked, schema=CHECKED)
                finally:
                    runner.run(opened.__aexit__(None, None, None))

        return rows

    async def _all(self, fetcher: Fetcher, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Each link once, whatever number of rows has it."""
        places = asyncio.Semaphore(max(_SIDE_BY_SIDE, self.per_host))
        asked: dict[tuple[str, Validators], asyncio.Task[_Kept]] = {}

        def ask(uri: str, before: Validators) -> tuple[asyncio.Task[_Kept], bool]:
            is_first = (uri, before) not in asked
            if is_first:
                asked[uri, before] = asyncio.create_task(self._keep(fetcher, uri, before))
            return asked[uri, before], is_first

        async def one(row: dict[str, Any]) -> dict[str, Any]:
            async with places:
                return await self._check(ask, row)

        return list(await asyncio.gather(*map(one, rows)))

    async def _check(self, ask: _Ask, row: dict[str, Any]) -> dict[str, Any]:
        """As ``checked_photos.check_row``, of a photo behind a link."""
        if row["code"] is not None:
            return refused_row(row, row["code"], row["reason"])
        host: dict[str, Any] = {
            "host": links.host_of(row["uri"]),
            "asked": False,
            "not_modified": False,
            "fetched_bytes": 0,
        }
        known = known_of(row)
        as_known = {name: known[name] for name in OF_FILE}
        is_same_link = was_known(known) and known["uri"] == row["uri"]
        before = await self._before(row, known) if is_same_link else None
        if before is not None and not before and self.now < row["link_asked_at"] + self._patience:
            return good_row(row, as_known) | host
        task, host["asked"] = ask(row["uri"], before or Validators())
        try:
            kept = await task
            if host["asked"]:
                host |= {"not_modified": kept.fetched_bytes is None, "fetched_bytes": kept.fetched_bytes or 0}
            if kept.refusal:
                raise kept.refusal
        except ImageError as error:
            host["asked"] = host["asked"] and error.code != "host_away"
            if is_same_link and links.says_away(error.code):  # whole again, should its host turn out to be away
                return good_row(row, as_known) | host | {"code": error.code, "reason": str(error), "may_stay": True}
            return refused_row(row, error.code, str(error)) | host
        now = kept.validators
        says_more = before is None or now != before or not now
        of_link = {"etag": now.etag, "last_modified": now.last_modified, "asked_at": self.now, "says_more": says_more}
        of_file = kept.of_file or as_known
        same = is_same_link and of_file["content_sha256"] == known["content_sha256"]
        return good_row(row, as_known if same else of_file) | host | of_link

    @property
    def _patience(self) -> timedelta:
        return timedelta(self.sources.ask_again_days)

    async def _before(self, row: dict[str, Any], known: dict[str, Any]) -> Validators | None:
        """What the server said of the photo as it is known; None where its copy, or what was said, is not there."""
        if (row["link_uri"], row["link_content_sha256"]) != (known["uri"], known["content_sha256"]):
            return None
        if self.sources.keep_gb is None:  # with a limit, a copy may be gone that nobody needs
            copy = self.store, known["content_sha256"], known["size"]
            if not await asyncio.to_thread(photo_store.holds, *copy):
                return None
        return Validators(row["link_etag"], row["link_last_modified"])

    async def _keep(self, fetcher: Fetcher, uri: str, before: Validators) -> _Kept:
        """Ask for a photo, and keep it where it is another one."""
        answer = await fetcher.fetch(uri, before)
        if answer.data is None:
            return _Kept(None, answer.validators)
        size = len(answer.data)
        try:
            of_file = await asyncio.to_thread(self._facts, answer.data, answer.validators)
        except ImageError as refusal:
            return _Kept(None, answer.validators, size, refusal)
        return _Kept(of_file, answer.validators, size)

    def _facts(self, data: bytes, validators: Validators) -> dict[str, Any]:
        sha, (width, height) = hashlib.sha256(data).hexdigest(), images.checked_size(data, self.max_pixels)
        photo_store.put(self.store, sha, data)
        changed = _time(validators.last_modified) or self.now
        return dict(zip(OF_FILE, (len(data), changed, sha, width, height), strict=True))


def _time(last_modified: str | None) -> datetime | None:
    try:
        moment = parsedate_to_datetime(last_modified or "")
    except ValueError:
        return None
    return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
