"""What all tests share: an empty home, one Spark session, small catalogs of drawn photos."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")
os.environ.setdefault("HF_HUB_OFFLINE", "1")


@pytest.fixture(autouse=True)
def no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("VITRINE_"):
            monkeypatch.delenv(name)


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The settings of an empty home; the working directory is its project folder."""
    from vitrine.settings import load_settings

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VITRINE_HOME", str(tmp_path / "home"))
    return load_settings(tmp_path)


@pytest.fixture
def taken_as_large(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The lake's tables are read and written by Spark, as large ones are; ``IN_BOTH_SIZES`` asks for both ways."""
    if getattr(request, "param", True):
        from spark_jobs import small_merges
        from vitrine import lake

        monkeypatch.setattr(lake, "_SMALL", (0, 0))
        monkeypatch.setattr(small_merges, "_MOST_ROWS", -1)


@pytest.fixture(scope="session")
def spark(tmp_path_factory: pytest.TempPathFactory) -> Iterator[object]:
    """One session for all tests, as the jobs make it."""
    from spark_jobs.session import build_session
    from vitrine.setting_sections import SparkSettings
    from vitrine.settings import Settings

    conf = {"spark.driver.memory": "1g"}  # two run side by side
    settings = Settings(home=tmp_path_factory.mktemp("spark"), spark=SparkSettings(master="local[2,4]", conf=conf))
    session = build_session(settings, "tests")
    yield session
    session.stop()


@pytest.fixture(scope="session")
def redis_port() -> Iterator[int]:
    from tests.support import store_servers

    if not store_servers.redis_program():
        pytest.skip("redis-server is not installed: scripts/test_servers.sh installs it")
    with store_servers.redis_server() as port:
        yield port


@pytest.fixture(scope="session")
def postgres_port() -> Iterator[int]:
    from tests.support import store_servers

    if not store_servers.postgres_programs():
        pytest.skip("PostgreSQL is not installed: scripts/test_servers.sh installs it")
    with store_servers.postgres_server() as port:
        yield port


@pytest.fixture
def draw(tmp_path: Path) -> Callable[..., Path]:
    """Draw a folder catalog: ``draw(products, photos, name="photos")`` -> its root."""
    from vitrine.datasets.drawn.photos import draw_photo, product

    def make(products: int, photos: int, name: str = "photos") -> Path:
        for number in range(products):
            item = product(number)
            folder = tmp_path / name / item.slug
            folder.mkdir(parents=True, exist_ok=True)
            for photo in range(photos):
                (folder / f"{photo:02d}.jpg").write_bytes(draw_photo(item, photo, size=160))
        return tmp_path / name

    return make
