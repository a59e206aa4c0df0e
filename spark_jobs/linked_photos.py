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
from vitrine.links import Answer, Fetcher, Validators
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
    turn = F.pmod(F.xxhash64("image_id"), F.lit(tasks))
    asked = (
        listed.join(known, "image_id", "left")
        .repartition(2 * parallel, host, turn)
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
    if not source.isEmpty():
        merge_or_append(spark, settings, LINKS, source, lake.matches("t", dataset=dataset))


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
        places = asyncio.Semaphore(max(_SIDE_BY_SIDE, self.per_host))

        async def one(row: dict[str, Any]) -> dict[str, Any]:
            async with places:
                return await self._check(fetcher, row)

        return list(await asyncio.gather(*map(one, rows)))

    async def _check(self, fetcher: Fetcher, row: dict[str, Any]) -> dict[str, Any]:
        """As ``checked_photos.check_row``, of a photo behind a link."""
        if row["code"] is not None:
            return refused_row(row, row["code"], row["reason"])
        host = {"host": links.host_of(row["uri"]), "asked": False, "not_modified": False, "fetched_bytes": 0}
        known = known_of(row)
        is_same_link = was_known(known) and known["uri"] == row["uri"]
        try:
            of_link = {name: row[f"link_{name}"] for name in _OF_LINK}
            is_held = is_same_link and (of_link["uri"], of_link["content_sha256"]) == (
                row["uri"],
                known["content_sha256"],
            )
            if is_held and not self.sources.keep_gb:  # with a limit, a copy may be gone that nobody needs
                is_held = await asyncio.to_thread(photo_store.holds, self.store, known["content_sha256"], known["size"])
            before = Validators(of_link["etag"], of_link["last_modified"]) if is_held else Validators()
            if is_held and not before and self.now < of_link["asked_at"] + timedelta(self.sources.ask_again_days):
                return good_row(row, {name: known[name] for name in OF_FILE}) | host
            answer = await fetcher.fetch(row["uri"], before)
            host |= {"asked": True, "not_modified": answer.data is None, "fetched_bytes": len(answer.data or b"")}
            of_file = await asyncio.to_thread(self._keep, answer, known, is_same_link)
        except ImageError as error:
            host["asked"] = error.code != "host_away"
            if is_same_link and links.says_away(error.code):  # whole again, should its host turn out to be away
                whole = good_row(row, {name: known[name] for name in OF_FILE})
                return whole | host | {"code": error.code, "reason": str(error), "may_stay": True}
            return refused_row(row, error.code, str(error)) | host
        now = answer.validators
        of_link = {"etag": now.etag, "last_modified": now.last_modified, "asked_at": self.now}
        return good_row(row, of_file) | host | of_link | {"says_more": not is_held or now != before or not now}

    def _keep(self, answer: Answer, known: dict[str, Any], is_same_link: bool) -> dict[str, Any]:
        """``OF_FILE`` of what was answered, which is in the photo store then."""
        if answer.data is None:
            return {name: known[name] for name in OF_FILE}
        sha = hashlib.sha256(answer.data).hexdigest()
        if is_same_link and sha == known["content_sha256"]:
            of_file = {name: known[name] for name in OF_FILE}
        else:
            width, height = images.checked_size(answer.data, self.max_pixels)
            changed = _time(answer.validators.last_modified) or self.now
            of_file = dict(zip(OF_FILE, (len(answer.data), changed, sha, width, height), strict=True))
        photo_store.put(self.store, sha, answer.data)
        return of_file


def _time(last_modified: str | None) -> datetime | None:
    try:
        moment = parsedate_to_datetime(last_modified or "")
    except ValueError:
        return None
    return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
