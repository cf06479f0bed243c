"""What tests share: a fresh database on each engine, an instance of each kind, mount, console."""

import secrets
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import Connection, inspect
from sqlalchemy.engine import make_url

from nightingale_hub.database import Database
from tests.audit_mount import AuditMount, audit_mount
from tests.console import Console, answer_by_default, running_console
from tests.local_instance import IS_ROOT, NOBODY, LocalInstance, local_instance, system_user
from tests.postgres import running_postgres
from tests.terraform_cloud import Cloud, local_cloud

# What a shell put in the background ignores SIGINT, and so would all that the tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Each file is run by one worker. One that waits long comes early, so that none is waited for alone.
LONGEST_FIRST = (
    "test_aws",
    "test_demo",
    "test_upstream_failures",
    "test_supervisor",
    "test_supervisor_killed",
    "test_billing_simulation",
    "test_resize",
    "test_journey_browser",
    "test_hub_killed",
    "test_budgets",
    "test_audit_input",
    "test_spawner",
    "test_lab",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the files that take longest first."""
    ranks = {name: rank for rank, name in enumerate(LONGEST_FIRST)}
    items.sort(key=lambda item: ranks.get(item.path.stem, len(ranks)))


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    with running_postgres() as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def engine(request) -> str:
    """Each kind of database."""
    return str(request.param)


@pytest.fixture
def database_url(request, engine, tmp_path) -> str:
    """The URL of an empty database, once per engine."""
    if engine == "sqlite":
        return f"sqlite:///{tmp_path / 'test.sqlite'}"
    return create_database(request.getfixturevalue("postgres"))


@pytest.fixture
def empty_database(database_url) -> Iterator[Database]:
    db = Database(database_url)
    yield db
    db.dispose()


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database's file with the schema: a copy costs less than all migrations."""
    path: Path = tmp_path_factory.mktemp("template") / "test.sqlite"
    migrate(f"sqlite:///{path}")
    return path


@pytest.fixture(scope="session")
def postgres_template(postgres) -> str:
    """The name of a database with the schema."""
    url = create_database(postgres)
    migrate(url)
    return str(make_url(url).database)


@pytest.fixture
def database(request, engine, tmp_path) -> Iterator[Database]:
    """A database with the schema, once per engine."""
    if engine == "sqlite":
        path = shutil.copy(request.getfixturevalue("sqlite_template"), tmp_path)
        db = Database(f"sqlite:///{path}")
    else:
        template = request.getfixturevalue("postgres_template")
        db = Database(create_database(request.getfixturevalue("postgres"), template))
    yield db
    db.dispose()


def create_database(postgres: str, template: str = "template1") -> str:
    """Create a database at the server *postgres*; return its URL."""
    name = f"t{secrets.token_hex(6)}"
    with psycopg.connect(postgres.format(name="postgres"), autocommit=True) as conn:
        conn.execute(f"CREATE DATABASE {name} TEMPLATE {template}".encode())
    return postgres.format(name=name)


def migrate(url: str) -> None:
    """Bring the database at *url* to the newest schema."""
    db = Database(url)
    db.upgrade()
    db.dispose()


@pytest.fixture(scope="session")
def test_account() -> Iterator[None]:
    """Removes, at the very end, the system user that isolated instances run as."""
    with system_user():
        yield


@pytest.fixture
def isolated_instance(test_account) -> Iterator[LocalInstance]:
    """An instance, not up yet, as root's hub runs it: with another user and namespaces."""
    if not IS_ROOT:
        pytest.skip("only root can give an instance another user and namespaces of its own")
    with local_instance() as instance:
        yield instance


@pytest.fixture
def plain_instance() -> Iterator[LocalInstance]:
    """An instance, not up yet, as an ordinary user's hub runs it."""
    with local_instance(NOBODY if IS_ROOT else None) as instance:
        yield instance


@pytest.fixture(params=["isolated", "plain"])
def any_instance(request) -> LocalInstance:
    """An instance, not up yet, once as root's hub runs it and once as an ordinary user's."""
    instance: LocalInstance = request.getfixturevalue(f"{request.param}_instance")
    return instance


@pytest.fixture
def cloud() -> Iterator[Cloud]:
    """A local cloud with one instance, not up yet, whose hub never answers."""
    with local_cloud() as made:
        yield made


@pytest.fixture(params=["kernel", "libfuse", "fusepy"])
def adapter(request) -> str:
    """Each way to serve an audit mount."""
    return str(request.param)


@pytest.fixture
def mount(tmp_path, adapter) -> Iterator[AuditMount]:
    """A served audit mount, once per adapter."""
    with audit_mount(tmp_path, adapter=adapter) as served:
        yield served


@pytest.fixture(scope="module")
def module_console() -> Iterator[Console]:
    """A console's process, one for each module of tests."""
    with running_console() as console:
        yield console


@pytest.fixture
def console(module_console) -> Iterator[Console]:
    """The console, every part working and every earlier instance gone."""
    answer_by_default(module_console)
    yield module_console
    with module_console.db.write() as conn:
        forget(conn, "instance", "dataset")


def forget(conn: Connection, *names: str) -> None:
    """Delete every row of the tables *names* and of all that refer to them."""
    found = inspect(conn)
    doomed = list(names)
    for table, _ in found.get_sorted_table_and_fkc_names():  # what is referred to comes first
        if table and {key["referred_table"] for key in found.get_foreign_keys(table)} & {*doomed}:
            doomed.append(table)
    for table in reversed(doomed):
        conn.exec_driver_sql(f"DELETE FROM {table}")
