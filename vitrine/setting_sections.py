"""The sections of vitrine.toml: what each holds, its defaults and its bounds."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator

from vitrine.names import Name

HOST_RULE = r"^[A-Za-z0-9_.-]+$"


HostName = Annotated[str, AfterValidator(str.lower), Field(pattern=r"^[A-Za-z0-9_.:-]+$")]
"""A host's name or address, without port; of IPv6 without brackets."""


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class EncoderSettings(Section):
    """One ``[encoders.NAME]``: a backbone and where its weights are."""

    backbone: str
    """``timm/NAME``, ``open_clip/NAME:TAG`` or ``torchvision/NAME``."""
    weights: str | None = None
    """A safetensors or PyTorch state-dict file (relative to vitrine.toml); ``random:SEED``; left out: the hub's."""
    revision: str | None = Field(None, pattern=r"^[0-9a-f]{40}$")
    """The commit of the weights on the Hugging Face Hub; left out: the newest when a home first builds it."""
    input_size: int | None = Field(None, ge=16, le=2048)
    """Pixels a side; left out: what the source's own configuration says."""
    colours: Literal["srgb"] | None = None
    """Left out: colour profiles count in HEIC and HEIF alone; ``srgb``: in every format, which is another version."""
    family: Literal["supervised", "self_supervised", "contrastive"] | None = None
    licence: str | None = None


class NightlyDataset(Section):
    """One ``[[nightly.datasets]]``: what is ingested every night."""

    name: Name
    source: str
    """What ``vitrine ingest`` takes; a path starts at the folder of vitrine.toml. The nightly DAG
    fills in Airflow's templates: ``{{ data_interval_end | ds }}``."""
    layout: str = "folder"
    test_share: float | None = Field(None, gt=0, lt=1)
    """Of the photos that the source gives no split: what becomes the test split, the rest being train."""
    splits: bool | None = None
    """Is the first level of a folder one of splits? Left out: as its names say."""
    categories: bool = False
    """Do a folder's products lie in folders of their categories?"""
    encoding: str | None = None
    """The character set of a table in CSV, as ``cp1252``; left out: UTF-8, or what a byte-order mark says."""
    columns: dict[str, str] = {}
    """What a table calls its columns: ``{uri = "image_url", product_id = "sku"}``."""
    attributes: dict[Name, str] = {}
    """Which other columns become attributes of photos: ``{colour = "colour", brand = "Marke"}``."""


class NightlySettings(Section):
    encoders: tuple[Name, ...] = ()
    datasets: tuple[NightlyDataset, ...] = ()
    relevant: Name = "product_id"
    """What counts as found: ``product_id``, ``category`` or an attribute of all its data sets."""
    tags: tuple[Name, ...] = ()
    """Labels that a night gives to photos that lack them: ``product_id``, ``category``, or attributes."""


class TagSettings(Section):
    """``[tags]``; docs/tags.md says how they are used."""

    kinds: tuple[Literal["discriminants", "ridge", "linear_probe", "nearest_neighbours", "perceptron"], ...] = Field(
        ("discriminants", "ridge"), min_length=1
    )
    """Of classifiers: that which tells the training part best is taken."""
    precision: float = Field(0.95, gt=0, lt=1)
    """Of the tags that are given, at least so many are to be right."""
    confidence: float = Field(0.95, gt=0.5, lt=1)
    """That they are so precise."""
    independent: Literal["products", "photos"] = "products"
    """What tells no more than one photo does: the photos of a product together, or each photo by itself."""
    tolerance: float = Field(0.02, ge=0, lt=1)
    """How far below ``precision`` the lower bound of the precision on the reported split may be."""
    unlike: float = Field(0.2, ge=0, lt=1)
    """The share of photos of learned classes that may be too far from what was learned to be tagged."""
    max_drop: float = Field(0.01, ge=0, le=1)
    """How far the share of photos tagged rightly may be below that of the classifier that tags now."""
    max_shift: float = Field(0.1, ge=0, le=1)
    """How far the share of a class among new photos may be from its share among labels."""
    drift: Literal["warn", "refuse"] = "warn"
    """What the gate does where it is surely farther."""


class SourceSettings(Section):
    """``[sources]``: how photos behind links are asked for; docs/datasets.md says how it goes together."""

    allow_hosts: tuple[HostName, ...] = ()
    """Hosts, as links name them, that may have an address of a private network or of this machine."""
    user_agent: str = Field("Vitrine (photos of a catalog)", min_length=1, max_length=200, pattern=r"^[ -~]+$")
    per_host: int = Field(8, ge=1, le=256)
    """Requests at once to one host, of all executors together."""
    connect_seconds: float = Field(10, gt=0)
    total_seconds: float = Field(60, gt=0)
    """For one try of a photo, from the first byte to the last."""
    retries: int = Field(3, ge=0, le=10)
    """Of a photo whose server is busy, broken or silent; twice as long a wait before each."""
    longest_wait: float = Field(60, ge=0)
    """Seconds: a server whose Retry-After asks for more is left alone until the next night."""
    max_bytes: int = Field(64 << 20, ge=1)
    """Of a photo."""
    ask_again_days: float = Field(7, ge=0)
    """When a photo is asked for again whose server gave neither ETag nor Last-Modified."""
    keep_gb: float | None = Field(None, gt=0)
    """Of the photo store, in 10^9 bytes; what is kept longest goes first, by ``vitrine maintain``; left out: no limit.
    """


class AirflowSettings(Section):
    """``[airflow]``; docs/nights.md says how the DAGs use it. Secrets are in Airflow's connections, never here."""

    nightly: str = "0 2 * * *"
    """When the night begins, as cron says it; "": when somebody starts it."""
    maintenance: str = "0 6 * * 0"
    pool: str = Field("gpu", pattern=r"^[A-Za-z0-9_.\-]{1,48}$")
    """The pool that everything which computes vectors or tunes takes a slot of."""
    pool_slots: int = Field(1, ge=1)
    """How many of those may run at once: the GPUs; on a machine without any, one."""
    retries: int = Field(2, ge=0)
    """Of a task that failed (exit code 1); a mistake (2) or a refusal (3) is never tried again."""
    retry_seconds: float = Field(60, ge=0)
    """Before the first retry; twice as long before each next one, half an hour at most."""
    timeout_hours: float = Field(12, gt=0)
    """Of a task."""
    mail_to: tuple[str, ...] = ()
    """Who gets the summary of each night, by ``smtp_connection``; left out: nobody."""
    smtp_connection: str = "smtp_default"
    webhook_connection: str | None = None
    """An HTTP connection that the summary of each night is posted to, as JSON; left out: none."""
    api_connection: str = "vitrine_airflow"
    """An HTTP connection to Airflow's own API, by which the summary becomes a note on the run; without it, the log and
    the task's XCom have it."""


class GateSettings(Section):
    """Thresholds of the gates; ``docs/gates.md`` argues for the defaults."""

    max_removed_share: float = Field(0.2, ge=0, le=1)
    """Of a data set's photos; a source that would take away more is taken for a broken one."""
    removed_from: int = Field(100, ge=1)
    """Data sets with fewer photos than this are not checked for it."""
    max_quarantine_share: float = Field(0.05, ge=0, le=1)
    norm_tolerance: float = Field(1e-3, gt=0)
    metric: str = "mMP@5"
    min_value: float = Field(0.05, ge=0, le=1)
    """The absolute floor of ``metric``."""
    min_above_chance: float = Field(0.05, ge=0, le=1)
    """How far ``metric`` has to be above its value on shuffled labels."""
    max_drop: float = Field(0.01, ge=0, le=1)
    """How far ``metric`` may be below the serving version's (a tuned encoder's: its backbone's too), on the same
    queries and catalog version."""
    max_category_drop: float = Field(0.05, ge=0, le=1)
    """The same, for each category that has ``min_category_queries`` queries."""
    min_category_queries: int = Field(30, ge=2)
    confidence: float = Field(0.95, gt=0.5, lt=1)
    """A candidate is refused when it is worse by more than its margin with this confidence."""
    unclear: Literal["pass", "refuse"] = "pass"
    """What becomes of a candidate whose queries do not tell whether it is worse."""
    probes: int = Field(1000, ge=50, le=5000)
    """How many photos' vectors are compared with those of the serving version."""
    min_rank_share: float = Field(0.1, ge=0, le=1)
    """Of the serving version's effective rank."""
    near_duplicate: float = Field(0.999, gt=0, le=1)
    """The cosine from which two vectors are taken for one."""
    max_near_duplicates: float = Field(0.01, ge=0, le=1)
    """How much larger the share of near-duplicate pairs may be than the serving version's."""
    min_overlap: float = Field(0.3, ge=0, le=1)
    """A smaller share of common neighbours gives a warning."""
    min_mean_cosine: float = Field(0.95, ge=-1, le=1)
    """A smaller cosine between the mean directions of two versions of one encoder gives a warning."""
    min_recall: float = Field(0.95, ge=0, le=1)
    """The share of the exact ``recall_at`` nearest that the served index has to find."""
    recall_at: int = Field(10, ge=1, le=100)
    min_class_photos: int = Field(2, ge=1)
    """Photos that a class needs to be learned from; a share of ``max_small_classes`` may have fewer."""
    max_small_classes: float = Field(0.5, ge=0, le=1)
    """Of a training set's classes."""
    max_without_features: float = Field(0.05, ge=0, le=1)
    """Of the photos of the splits that are learned from: those that have no label or no vector."""


class HnswSettings(Section):
    """``[milvus.hnsw]``, in Milvus's own words; the bounds are those of its servers since 2.0."""

    m: int = Field(16, ge=4, le=64)
    """Edges of a node."""
    ef_construction: int = Field(200, ge=8, le=512)
    """Candidates looked at for a node's edges."""
    ef: int = Field(128, ge=1, le=32_768)
    """Candidates looked at by a search; at least its limit."""


class IvfSettings(Section):
    """``[milvus.ivf_flat]`` and ``[milvus.ivf_sq8]``, in Milvus's own words and bounds."""

    nlist: int = Field(1024, ge=1, le=65_536)
    """Cells that the vectors are parted into."""
    nprobe: int = Field(64, ge=1, le=65_536)
    """Cells that a search looks into."""

    @model_validator(mode="after")
    def _within(self) -> Self:
        if self.nprobe > self.nlist:
            raise ValueError(f"nprobe = {self.nprobe}: there are only nlist = {self.nlist} cells to look into")
        return self


Refined = Literal["", "SQ8", "BF16", "FP16", "FP32"]
"""What the vectors are kept in besides, to rank the first candidates again; "" for nothing."""


class HnswSqSettings(HnswSettings):
    """``[milvus.hnsw_sq]``: HNSW over vectors in fewer bits, for Milvus Lite and servers since 2.5."""

    sq_type: Literal["SQ6", "SQ8", "BF16", "FP16"] = "SQ8"
    refine: Refined = ""
    refine_k: float = Field(2.0, ge=1)
    """Candidates that are ranked again, in limits of the search."""


class IvfPqSettings(IvfSettings):
    """``[milvus.ivf_pq]``: cells of product-quantised vectors, for servers."""

    parts: int = Field(32, ge=1)
    """Of a vector (Milvus's m), a byte each where ``nbits`` is 8; divides the dimension."""
    nbits: int = Field(8, ge=1, le=16)


class IvfRabitqSettings(IvfSettings):
    """``[milvus.ivf_rabitq]``: cells of vectors in a bit a dimension (arXiv 2405.12497), for servers since 2.6."""

    query_bits: int = Field(0, ge=0, le=8)
    """Of a query's dimension; 0: its floats."""
    refine: Refined = "SQ8"
    refine_k: float = Field(3.0, ge=1)


class MilvusSettings(Section):
    """``[milvus]``; docs/milvus.md says how they go together. No rule here spans two keys: an error prints the
    value that breaks a rule, and of the whole section that would print the token."""

    uri: str | None = Field(None, pattern=r"^(?i:https?|tcp|unix)://.|\.db$")
    """A server's URI, https:// for TLS, or a file of Milvus Lite that ends in .db; left out: one under the home."""
    token: SecretStr | None = None
    database: str = "default"
    ca_certificate: Path | None = None
    """PEM: who signed the server's certificate, or that certificate itself; left out: the authorities gRPC knows."""
    client_certificate: Path | None = None
    """PEM, with ``client_key``: where the server asks its clients for one."""
    client_key: Path | None = None
    server_name: str | None = None
    """The name in the server's certificate, where it is not the URI's host."""
    index: Literal["FLAT", "HNSW", "IVF_FLAT", "IVF_SQ8", "HNSW_SQ", "IVF_PQ", "IVF_RABITQ"] = "FLAT"
    """What serves is searched by it; evaluation is exact (FLAT) whatever it says."""
    hnsw: HnswSettings = HnswSettings()
    ivf_flat: IvfSettings = IvfSettings()
    ivf_sq8: IvfSettings = IvfSettings()
    hnsw_sq: HnswSqSettings = HnswSqSettings()
    ivf_pq: IvfPqSettings = IvfPqSettings()
    ivf_rabitq: IvfRabitqSettings = IvfRabitqSettings()
    keep_days: int = Field(30, ge=0)
    """`vitrine maintain` drops collections that nothing names and that nobody used for so long."""


class RedisSettings(Section):
    """``[feast.redis]``, for ``online_store = "redis"``."""

    host: str = Field("localhost", pattern=HOST_RULE)
    port: int = Field(6379, ge=1, le=65_535)
    database: int = Field(0, ge=0)
    user: str | None = None
    tls: bool = False


class PostgresSettings(Section):
    """``[feast.postgres]``, for ``online_store = "postgres"``."""

    host: str = Field("localhost", min_length=1)
    port: int = Field(5432, ge=1, le=65_535)
    database: str = "vitrine"
    db_schema: str = "public"
    user: str = "vitrine"
    sslmode: Literal["disable", "allow", "prefer", "require", "verify-ca", "verify-full"] = "require"
    ca_certificate: Path | None = None
    """PEM: who signed the server's certificate; for verify-ca and verify-full."""


class FeastSettings(Section):
    """``[feast]``; docs/feast.md says how they go together."""

    registry: str | None = Field(None, pattern=r"^(postgresql|mysql|mssql|oracle|snowflake|sqlite)(\+\w+)?://")
    """An SQLAlchemy URL; left out: SQLite under the home."""
    online_store: Literal["sqlite", "redis", "postgres"] | dict[str, str | int | bool] = "sqlite"
    """``sqlite``: a file under the home; or Feast's own ``online_store`` block, for another store."""
    redis: RedisSettings = RedisSettings()
    postgres: PostgresSettings = PostgresSettings()
    password: SecretStr | None = None
    """Of Redis or PostgreSQL."""
    vectors: Literal["float32", "int8"] = "float32"
    """How the online store keeps a vector: ``int8`` packs it into a quarter of the bytes, which ``OnlineFeatures`` and
    ``vitrine serve`` hand back as floats; Feast's own client sees the bytes."""
    ttl_days: float | None = Field(None, gt=0)
    """A vector that nothing wrote for so long is not looked up any more, nor joined to later events; left out: none."""
    follow_seconds: int = Field(60, ge=1)
    """How long a lookup may go on with the version that served before a promotion."""
    host: str = "127.0.0.1"
    """Where ``vitrine serve`` listens."""
    port: int = Field(6566, ge=1, le=65_535)
    api_key: SecretStr | None = Field(None, min_length=16)
    """What a request to ``vitrine serve`` has to bring; may be left out where only this machine can ask."""


class SparkSettings(Section):
    master: str | None = None
    """Left out: what spark-submit said, else ``local[*,4]``."""
    conf: dict[str, str] = {}
    keep_jvm_seconds: int = Field(0, ge=0)
    """On one machine: how long a verb's JVM waits for the home's next verb, which finds it warm; 0: not at all."""
    keep_jvm_for: int | None = None
    """The process whose end also ends such a JVM, by its number."""


class EmbedSettings(Section):
    batch_size: int | None = Field(None, ge=1, le=4096)
    """Photos a forward pass; left out: found by measuring on the first ones, once a machine and backbone."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """``auto``: the GPU that Spark gives a task, or that is there; else the processor."""
    gpu_tasks: int = Field(1, ge=1)
    """Tasks that share a GPU of this machine, each with a network of its own on it; a cluster's share is Spark's."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    task_photos: int | None = Field(None, ge=1)
    """Photos in a task, whose end is a checkpoint; left out: 64 to 2,048, by how many there are."""


class Prices(Section):
    """``[prices]``: what hours and gigabytes cost; left out, no money is counted."""

    core_hour: float = Field(0.0, ge=0)
    gpu_hour: float = Field(0.0, ge=0)
    memory_gb_month: float = Field(0.0, ge=0)
    """Of 10^9 bytes of memory, a month: what serving holds its vectors in, and a search goes through."""
    disk_gb_month: float = Field(0.0, ge=0)
    currency: str = "USD"


class MlflowSettings(Section):
    uri: SecretStr | None = None
    """A tracking server or database URI; left out: SQLite under the home."""
    experiment: str = "vitrine"


class LicenceSettings(Section):
    allow_non_commercial: bool = False
    """May weights serve whose licence forbids commercial use?"""


class EvaluateSettings(Section):
    depth: int = Field(100, ge=10, le=1000)
    max_queries: int = Field(10_000, ge=1)
    """Leave-one-out over a larger data set uses a fixed sample of this many queries."""
    slices: tuple[Name, ...] = ()
    """Attributes: figures are sliced by their values too, and the gate on metrics looks at each, as by category."""

    @field_validator("slices")
    @classmethod
    def _attributes(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if taken := sorted({"product", "product_id", "category"}.intersection(names)):
            raise ValueError(f"{taken[0]}: figures are by product and category anyway; name attributes alone")
        return tuple(dict.fromkeys(names))
