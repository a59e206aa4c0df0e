"""Frozen, typed settings, from ``VITRINE_*`` variables first and the nearest ``vitrine.toml`` after them.

A nested value is spelled ``VITRINE_MILVUS__URI``; secrets (``VITRINE_MILVUS__TOKEN``) belong in the environment only.
"""

import os
import re
import tomllib
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, Field, ValidationError
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from vitrine.errors import UserError
from vitrine.locations import check_printable, expanded, is_uri
from vitrine.names import Name
from vitrine.setting_sections import (
    AirflowSettings,
    EmbedSettings,
    EncoderSettings,
    EvaluateSettings,
    FeastSettings,
    GateSettings,
    LicenceSettings,
    MilvusSettings,
    MlflowSettings,
    NightlySettings,
    Prices,
    SourceSettings,
    SparkSettings,
    TagSettings,
)
from vitrine.tuning_sections import TuneSettings

CONFIG_NAME = "vitrine.toml"
SECRETS = (
    ("milvus", "token"),
    ("milvus", "uri"),
    ("mlflow", "uri"),
    ("lake_uri",),
    *(("feast", name) for name in ("password", "api_key", "registry")),
)
"""Places of values that no error prints: secrets, and URIs that may hold one."""
_NO_LAKE = re.compile(r"%[0-9A-Fa-f]{2}|[\[\]^|\\]")
"""What delta-rs 1.6 loses in a folder's path, whatever it is told: it goes from paths to URIs and back."""
_ELSEWHERE = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]+:/")
_S3 = re.compile(r"s3a?://([a-z0-9][a-z0-9.-]{1,61}[a-z0-9](?:/[A-Za-z0-9][A-Za-z0-9._=-]*)*)/?")


def _s3_folder(value: str) -> str:
    match = _S3.fullmatch(value)
    if not match:
        shown = value.rpartition("@")[2]  # in old Hadoop URIs, keys stand before the @
        raise ValueError(
            f"{shown!r} is no s3://BUCKET[/FOLDER...]: folders of letters, digits and . _ = -, which start with a "
            "letter or digit; credentials come from AWS's own environment; left out, the tables lie under the home"
        )
    return f"s3://{match[1]}"


S3Folder = Annotated[str, AfterValidator(_s3_folder)]


class _TomlFile(TomlConfigSettingsSource):
    def _read_file(self, file_path: Any) -> dict[str, Any]:
        return tomllib.loads(file_path.read_text(encoding="utf-8-sig"))  # editors may begin it with a byte-order mark


class Settings(BaseSettings):
    """Everything that may be set. ``load_settings`` makes one."""

    model_config = SettingsConfigDict(
        env_prefix="VITRINE_", env_nested_delimiter="__", frozen=True, extra="forbid", env_ignore_empty=True
    )

    root: Path = Path()
    """The folder of vitrine.toml: relative paths in it start here."""
    home: Path = Path(".vitrine")
    """Everything that is written lives here."""
    lake_uri: S3Folder | None = None
    """Where the tables lie instead, with what executors write beside them: ``s3://BUCKET[/FOLDER...]``."""
    max_pixels: int = Field(100_000_000, ge=1)
    """Photos with more pixels are quarantined unread."""
    difficulty: float = Field(0.5, ge=0, le=1)
    """How hard the photos of the ``generated`` layout are to tell apart."""
    encoders: dict[Name, EncoderSettings] = {}
    nightly: NightlySettings = NightlySettings()
    sources: SourceSettings = SourceSettings()
    airflow: AirflowSettings = AirflowSettings()
    gates: GateSettings = GateSettings()
    milvus: MilvusSettings = MilvusSettings()
    feast: FeastSettings = FeastSettings()
    spark: SparkSettings = SparkSettings()
    embed: EmbedSettings = EmbedSettings()
    prices: Prices = Prices()
    licences: LicenceSettings = LicenceSettings()
    mlflow: MlflowSettings = MlflowSettings()
    evaluate: EvaluateSettings = EvaluateSettings()
    tune: TuneSettings = TuneSettings()
    tags: TagSettings = TagSettings()

    @property
    def lake(self) -> Path:
        """The folder of the tables, without ``lake_uri``."""
        return self.home / "lake"

    @property
    def lake_root(self) -> str:
        """What the tables lie in, as Spark and delta-rs open it."""
        return self.lake_uri or str(self.lake)

    @property
    def staging(self) -> str:
        """What executors write before it is committed, as Spark opens it."""
        return f"{self.lake_uri or self.home}/staging"

    @property
    def photos(self) -> str:
        """The photo store, which executors write and read."""
        return f"{self.lake_uri or self.home}/photos"

    def place(self, source: str) -> str:
        """A URI, or a path in vitrine.toml, as it is called from anywhere."""
        return source if is_uri(source) else str(self.root / expanded(source))

    @property
    def reports(self) -> Path:
        return self.home / "reports"


def find_config(start: Path | None = None) -> Path | None:
    """The vitrine.toml that ``VITRINE_CONFIG`` names, else the nearest one upwards from ``start`` (default: here)."""
    named = os.environ.get("VITRINE_CONFIG")
    if named:
        if not Path(named).is_file():
            raise UserError(f"VITRINE_CONFIG names {named!r}, which is not a file")
        return Path(named).resolve()
    start = (start or Path.cwd()).resolve()
    candidates = (folder / CONFIG_NAME for folder in (start, *start.parents))
    return next((path for path in candidates if path.is_file()), None)


def _may_be_secret(kind: str, place: tuple[int | str, ...], value: object) -> bool:
    """May the value at ``place``, which an error would print, be a secret?

    It may be at the places of ``SECRETS``, at an unknown key (a misspelled secret), and in a block that holds one.
    """
    in_block = place[:2] == ("feast", "online_store") and len(place) > 3
    return kind == "extra_forbidden" or place[:2] in SECRETS or in_block or isinstance(value, dict)


def load_settings(start: Path | None = None) -> Settings:
    """The settings that hold in ``start`` (default: the working directory); paths come out absolute.

    Raises:
        UserError: vitrine.toml cannot be parsed, or a value breaks its rule.
    """
    config = find_config(start)
    root = config.parent if config else (start or Path.cwd()).resolve()

    class _FromHere(Settings):
        @classmethod
        def settings_customise_sources(
            cls,
            settings_cls: type[BaseSettings],
            init_settings: PydanticBaseSettingsSource,
            env_settings: PydanticBaseSettingsSource,
            dotenv_settings: PydanticBaseSettingsSource,
            file_secret_settings: PydanticBaseSettingsSource,
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            return init_settings, env_settings, _TomlFile(settings_cls, config)

    try:
        loaded = _FromHere(root=root)
    except ValidationError as error:
        faults = "; ".join(
            ".".join(map(str, fault["loc"]))
            + ("" if _may_be_secret(fault["type"], fault["loc"], fault["input"]) else f" = {fault['input']!r}")
            + f": {fault['msg']}"
            for fault in error.errors()
        )
        raise UserError(f"bad settings ({config or 'environment'}): {faults}") from None
    except RecursionError:
        raise UserError(f"bad settings ({config or 'environment'}): values are nested too deeply") from None
    except (OSError, ValueError) as error:  # ValueError: of tomllib and pydantic-settings
        raise UserError(f"bad settings ({config or 'environment'}): {error}") from None
    if _ELSEWHERE.match(str(loaded.home)):
        raise UserError(f"bad home {str(loaded.home)!r}: it is a folder's path; tables on S3 are named by lake_uri")
    home = (root / expanded(loaded.home)).resolve()
    _check_home(home, lake_is_here=loaded.lake_uri is None)
    return Settings.model_construct(**{**dict(loaded), "home": home})


def _check_home(home: Path, lake_is_here: bool) -> None:
    check_printable(str(home), "home")
    if os.fsencode(home).decode(errors="ignore") != str(home):
        raise UserError(f"bad home {str(home)!r}: its path is not UTF-8, and no library that keeps data there takes it")
    if lake_is_here and (lost := _NO_LAKE.search(str(home))):
        raise UserError(
            f"bad home {str(home)!r}: Delta tables cannot lie in a folder with {lost[0]!r} in its path (nor one of "
            "[ ] ^ | \\, or % and two hexadecimal digits): set home (VITRINE_HOME) to another folder"
        )
