"""What tests share: a fresh database on each engine."""

import secrets
from collections.abc import Iterator

import psycopg
import pytest

from nightingale_hub.database import Database
from tests.postgres import running_postgres


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    with running_postgres() as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request, tmp_path) -> str:
    """The URL of an empty database, once per engine."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'test.sqlite'}"
    template = request.getfixturevalue("postgres")
    name = f"t{secrets.token_hex(6)}"
    with psycopg.connect(template.format(name="postgres"), autocommit=True) as conn:
        conn.execute(f"CREATE DATABASE {name}".encode())
    return str(template.format(name=name))


@pytest.fixture
def empty_database(database_url) -> Iterator[Database]:
    db = Database(database_url)
    yield db
    db.dispose()


@pytest.fixture
def database(empty_database) -> Database:
    """A database with the schema, once per engine."""
    empty_database.upgrade()
    return empty_database
