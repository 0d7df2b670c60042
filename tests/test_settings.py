from pathlib import Path

import pytest

from workhorse.errors import SettingsError
from workhorse.settings import Environment, Settings, find_project, load_settings, unsafe_settings

SAFE_PRODUCTION = {
    "WORKHORSE_ENVIRONMENT": "production",
    "DATABASE_URL": "postgresql://bank:secret@db.internal/bank?sslmode=verify-full",
    "WORKHORSE_GUARD__ALLOWED_HOSTS": "api.example.com",
}


def write(folder: Path, table: str) -> Path:
    (folder / "pyproject.toml").write_text(table)
    return folder


def test_with_no_settings_it_is_development_on_embedded_servers(tmp_path: Path) -> None:
    settings = load_settings(tmp_path)
    assert settings.environment is Environment.DEVELOPMENT
    assert settings.database.url is None
    assert settings.embedded_folder == tmp_path / ".workhorse"


def test_code_wins_over_environment_over_pyproject_over_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, "[tool.workhorse.server]\nport = 1\nworkers = 2\nbacklog = 100\n")
    monkeypatch.setenv("WORKHORSE_SERVER__PORT", "3")
    monkeypatch.setenv("WORKHORSE_SERVER__WORKERS", "4")
    settings = load_settings(tmp_path, server={"port": 5})
    assert (settings.server.port, settings.server.workers, settings.server.backlog) == (5, 4, 100)
    sources = {row.name: row.source for row in settings.rows()}
    assert sources["server.port"] == "code"
    assert sources["server.workers"] == "WORKHORSE_SERVER__WORKERS"
    assert sources["server.backlog"] == "pyproject.toml"
    assert sources["server.host"] == "default"


def test_the_conventional_names_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://db/x")
    monkeypatch.setenv("CACHE_URL", "redis://cache/0")
    settings = load_settings(tmp_path)
    assert settings.database.url is not None
    assert settings.database.url.get_secret_value() == "postgresql://db/x"
    assert settings.cache.url is not None
    assert {row.name: row.source for row in settings.rows()}["database.url"] == "DATABASE_URL"


@pytest.mark.parametrize(
    ("variable", "nearest"),
    [
        ("WORKHORSE_SERVER__PROT", "WORKHORSE_SERVER__PORT"),
        ("WORKHORSE_GUARD__ALLOWED_HOST", "WORKHORSE_GUARD__ALLOWED_HOSTS"),
        ("WORKHORSE_SERVER_PORT", "WORKHORSE_SERVER__PORT"),
    ],
)
def test_an_unknown_variable_is_refused_with_the_nearest(
    variable: str, nearest: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, "1")
    with pytest.raises(SettingsError, match=f"{variable}: there is no such setting; did you mean {nearest}"):
        load_settings(tmp_path)


def test_an_unknown_name_in_pyproject_is_refused_with_the_nearest(tmp_path: Path) -> None:
    write(tmp_path, "[tool.workhorse.guard]\nmax_body_byte = 1\n")
    with pytest.raises(SettingsError, match=r"guard\.max_body_byte: .* did you mean guard\.max_body_bytes"):
        load_settings(tmp_path)


def test_an_unknown_name_in_code_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"did you mean server\.port"):
        load_settings(tmp_path, server={"prot": 1})


def test_a_malformed_value_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKHORSE_SERVER__PORT", "eight")
    with pytest.raises(SettingsError, match=r"server\.port: .*integer"):
        load_settings(tmp_path)


def test_a_broken_pyproject_is_named(tmp_path: Path) -> None:
    write(tmp_path, "[tool.workhorse\n")
    with pytest.raises(SettingsError, match="not valid TOML"):
        load_settings(tmp_path)


def test_a_table_that_is_none_is_refused(tmp_path: Path) -> None:
    write(tmp_path, "[tool]\nworkhorse = 1\n")
    with pytest.raises(SettingsError, match="must be a table"):
        load_settings(tmp_path)


def test_the_project_is_the_nearest_folder_with_a_pyproject(tmp_path: Path) -> None:
    below = tmp_path / "a" / "b"
    below.mkdir(parents=True)
    assert find_project(below) == below
    write(tmp_path, "")
    assert find_project(below) == tmp_path


def test_hosts_may_be_a_list_or_come_with_commas(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKHORSE_GUARD__ALLOWED_HOSTS", "a.example, b.example")
    assert load_settings(tmp_path).guard.allowed_hosts == ("a.example", "b.example")
    assert load_settings(tmp_path, guard={"allowed_hosts": ["c.example"]}).guard.allowed_hosts == ("c.example",)


def test_a_safe_production_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in SAFE_PRODUCTION.items():
        monkeypatch.setenv(name, value)
    assert load_settings(tmp_path).production


@pytest.mark.parametrize(
    ("name", "value", "setting", "mend"),
    [
        ("DATABASE_URL", "", "database.url", "set DATABASE_URL"),
        ("DATABASE_URL", "postgresql://db.internal/x", "database.url", "sslmode=verify-full"),
        ("DATABASE_URL", "postgresql://db.internal/x?sslmode=disable", "database.url", "sslmode=verify-full"),
        ("DATABASE_URL", "host=db.internal dbname=x", "database.url", "sslmode=verify-full"),
        ("DATABASE_URL", "postgresql:///x?hostaddr=10.1.2.3", "database.url", "sslmode=verify-full"),
        ("CACHE_URL", "redis://cache.internal:6379/0", "cache.url", "rediss://"),
        ("WORKHORSE_GUARD__ALLOWED_HOSTS", "", "guard.allowed_hosts", "name the public ones"),
        ("WORKHORSE_GUARD__INSECURE_ANY_HOST", "true", "guard.insecure_any_host", "guard.allowed_hosts"),
        ("WORKHORSE_GUARD__ALLOWED_HOSTS", "api.example.com,*.com", "guard.allowed_hosts", "*.example.com"),
        ("WORKHORSE_GUARD__INSECURE_CORS_ANY_ORIGIN", "true", "guard.insecure_cors_any_origin", "guard.cors_origins"),
        ("WORKHORSE_GUARD__HSTS_SECONDS", "0", "guard.hsts_seconds", "63072000"),
        ("WORKHORSE_OPERATIONS__METRICS_NETWORKS", "0.0.0.0/0", "operations.metrics_networks", "Prometheus"),
        (
            "WORKHORSE_OPERATIONS__METRICS_NETWORKS",
            "0.0.0.0/1,128.0.0.0/1",
            "operations.metrics_networks",
            "Prometheus",
        ),
        ("WORKHORSE_OPERATIONS__METRICS_NETWORKS", "::/0", "operations.metrics_networks", "Prometheus"),
        ("WORKHORSE_OPERATIONS__TOKEN", "x" * 31, "operations.token", "openssl rand"),
        ("WORKHORSE_SERVER__RELOAD", "true", "server.reload", "false"),
        ("WORKHORSE_LOG__LEVEL", "debug", "log.level", "info"),
    ],
)
def test_production_refuses_what_is_unsafe_and_says_the_mend(
    name: str, value: str, setting: str, mend: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for key, safe in SAFE_PRODUCTION.items():
        monkeypatch.setenv(key, safe)
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError) as refused:
        load_settings(tmp_path)
    assert f"{setting}:" in str(refused.value)
    assert mend in str(refused.value)
    assert "secret" not in str(refused.value)


def test_production_takes_a_strong_token_and_the_networks_of_an_organisation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for key, safe in SAFE_PRODUCTION.items():
        monkeypatch.setenv(key, safe)
    monkeypatch.setenv("WORKHORSE_OPERATIONS__TOKEN", "x" * 32)
    monkeypatch.setenv("WORKHORSE_OPERATIONS__METRICS_NETWORKS", "10.0.0.0/8,fc00::/7")
    monkeypatch.setenv("WORKHORSE_GUARD__ALLOWED_HOSTS", "*.example.com")
    assert load_settings(tmp_path).production


def test_production_behind_proxies_takes_no_plain_http(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for key, safe in SAFE_PRODUCTION.items():
        monkeypatch.setenv(key, safe)
    monkeypatch.setenv("WORKHORSE_GUARD__HTTPS", "off")
    assert load_settings(tmp_path).guard.https == "off", "without a proxy, auto could do no more"
    monkeypatch.setenv("WORKHORSE_GUARD__TRUSTED_PROXIES", "10.0.0.0/8")
    with pytest.raises(SettingsError, match=r"guard\.https: plain HTTP is taken\n    mend: leave guard\.https at auto"):
        load_settings(tmp_path)


@pytest.mark.parametrize("value", ["inf", "nan", "-inf"])
@pytest.mark.parametrize("name", ["deadline_seconds", "body_pause_seconds", "rate_ahead_seconds"])
def test_no_wait_is_without_end(name: str, value: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=rf"guard\.{name}"):
        load_settings(tmp_path, guard={name: float(value)})


def test_production_names_all_faults_at_once() -> None:
    settings = Settings(environment=Environment.PRODUCTION)
    assert {fault.name for fault in unsafe_settings(settings)} == {"database.url", "guard.allowed_hosts"}


def test_a_database_on_this_machine_needs_no_tls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in SAFE_PRODUCTION.items():
        monkeypatch.setenv(name, value)
    for url in ("postgresql://127.0.0.1/x", "postgresql:///x?host=/run/postgresql", "postgresql://[::1]/x"):
        monkeypatch.setenv("DATABASE_URL", url)
        assert load_settings(tmp_path).production


def test_secrets_do_not_show_in_the_repr(tmp_path: Path) -> None:
    settings = load_settings(tmp_path, database={"url": "postgresql://u:hunter2@h/x"})
    assert "hunter2" not in repr(settings)


def test_every_setting_has_a_description_and_a_unit_where_it_is_a_number_of_something() -> None:
    for row in Settings().rows():
        assert row.name == "project" or len(row.description) > 10, row.name
        assert isinstance(row.value, float) is False or row.unit == "seconds", row.name
