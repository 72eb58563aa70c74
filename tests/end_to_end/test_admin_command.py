"""`restante admin`, `restante init` and `restante config` with an administrator's use."""

from __future__ import annotations

import json
import secrets
import ssl
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from restante_cli.admin import admin
from restante_cli.main import main
from tests.harness.demo import Demo

pytestmark = pytest.mark.end_to_end


class Admin:
    """The command on the core's machine."""

    def __init__(self, *options: str) -> None:
        self.options = options

    def run(self, *arguments: str, stdin: str = "") -> Result:
        return CliRunner().invoke(admin, [*self.options, *arguments], input=stdin)

    def __call__(self, *arguments: str, stdin: str = "") -> str:
        done = self.run(*arguments, stdin=stdin)
        assert done.exit_code == 0, done.stderr
        return done.stdout

    def json(self, *arguments: str, stdin: str = "") -> Any:
        return json.loads(self(*arguments, "--output", "json", stdin=stdin))


@pytest.fixture
def here(demo: Demo) -> Admin:
    return Admin("--data", str(demo.directory))


@pytest.fixture
def domain(here: Admin) -> str:
    """A domain for this test alone."""
    name = f"d{secrets.token_hex(5)}.example"
    here("domain", "create", name)
    return name


def named(rows: list[dict[str, Any]], key: str, value: str) -> dict[str, Any]:
    (row,) = [row for row in rows if row[key] == value]
    return row


def test_a_domain_is_made_listed_and_removed(here: Admin, domain: str) -> None:
    assert named(here.json("domain", "list"), "name", domain)["accounts"] == 0
    again = here.run("domain", "create", domain)
    assert again.exit_code == 1
    assert "DOMAIN_EXISTS" in again.stderr
    here("domain", "delete", domain)
    assert all(row["name"] != domain for row in here.json("domain", "list"))


def test_a_key_is_made_rotated_revoked_and_deleted(here: Admin, domain: str) -> None:
    first = here.json("domain", "key", "create", domain)
    assert [(row["algorithm"], row["state"]) for row in first] == [("rsa-2048", "active"), ("ed25519", "active")]
    shown = here("domain", "key", "show", domain)
    for row in first:
        assert f'{row["record_name"]}. IN TXT ( "v=DKIM1; k=' in shown
        assert "".join(row["record_strings"]) == row["record_text"]
    assert "prepared" in here("domain", "key", "rotate", domain)
    changed = here.json("domain", "key", "activate", domain, "--publish-days", "3")
    assert sorted(row["state"] for row in changed) == ["active", "active", "retired", "retired"]
    here("domain", "key", "create", domain, "--algorithm", "ed25519", "--selector", "spare")
    (revoked,) = here.json("domain", "key", "revoke", domain, "spare")
    assert revoked["record_text"] == "v=DKIM1; k=ed25519; p="
    here("domain", "key", "delete", domain, "spare")
    listed = here.json("domain", "key", "list", domain)
    assert {row["selector"] for row in listed} == {row["selector"] for row in changed}
    assert all(row["domain"] != domain for row in here.json("domain", "key", "list", "example.test"))


def test_a_wrong_key_is_reported_with_its_field(here: Admin, domain: str) -> None:
    assert "create" in here.run("domain", "key", "rotate", domain).stderr  # nothing to rotate yet
    assert here.run("domain", "key", "create", domain, "--selector", "s").exit_code == 2
    bad = here.run("domain", "key", "create", domain, "--algorithm", "ed25519", "--selector", "a_b")
    assert (bad.exit_code, "keys.selector" in bad.stderr) == (1, True)
    assert "DOMAIN_KEY_NOT_FOUND" in here.run("domain", "key", "revoke", domain, "gone").stderr
    assert "DOMAIN_NOT_FOUND" in here.run("domain", "key", "show", "nowhere.example").stderr


def test_the_server_shows_its_version_and_limits(here: Admin) -> None:
    shown = here.json("server")
    assert shown["version"] == version("restante")
    assert shown["limits"]["max_page_size"] == 1000
    assert "AdminService/RetryQueued" in shown["rpcs"]
    assert "52.4 MB" in here("server")


def test_an_account_has_its_whole_life(here: Admin, domain: str) -> None:
    address = f"dave@{domain}"
    made = here.json(
        "account", "create", address, "--name", "Dave", "--quota", "1GiB", "--password-stdin", stdin="a good one\n"
    )
    assert (made[0]["address"], made[0]["quota_octets"]) == (address, 1 << 30)
    here("account", "update", address, "--disabled", "--sent-copy", "always", "--quota", "none")
    shown = here.json("account", "show", address)[0]
    assert (shown["enabled"], shown["sent_copy"], shown["quota_octets"]) == (False, "always", None)
    here("quota", "set", address, "5MB")
    assert here.json("quota", "show", address)[0]["quota_octets"] == 5_000_000
    here("account", "password", address, "--password-stdin", stdin="another good one\n")
    refused = here.run("domain", "delete", domain)
    assert "DOMAIN_NOT_EMPTY" in refused.stderr
    here("account", "delete", address, "--yes")
    assert "ACCOUNT_NOT_FOUND" in here.run("account", "show", address).stderr


def test_a_size_that_is_none_is_refused(here: Admin) -> None:
    refused = here.run("quota", "set", "alice@example.test", "lots")
    assert refused.exit_code == 2
    assert "500MB" in refused.stderr


def test_an_alias_is_made_listed_and_removed(here: Admin, domain: str) -> None:
    here("alias", "create", f"team@{domain}", "alice@example.test", "bob@example.test")
    (row,) = here.json("alias", "list", "--domain", domain)
    assert row == {"address": f"team@{domain}", "targets": ["alice@example.test", "bob@example.test"]}
    here("alias", "delete", f"team@{domain}")
    assert here.json("alias", "list", "--domain", domain) == []


def test_many_accounts_come_from_a_file_which_may_be_repeated(here: Admin, domain: str, tmp_path: Path) -> None:
    file = tmp_path / "accounts.csv"
    lines = [f'user{n}@{domain},password number {n},"User, {n}",{n * 1_000_000}' for n in range(1, 21)]
    file.write_text("address,password,name,quota_octets\n" + "\n".join(lines) + f"\nbad@{domain},short,,\n")
    first = here.run("account", "import", str(file))
    assert first.exit_code == 1
    assert "20 accounts created, 0 existed, 1 failed." in first.stdout
    assert "line 22:" in first.stderr
    assert "WEAK_PASSWORD" in first.stderr
    accounts = here.json("account", "list", "--domain", domain)
    assert len(accounts) == 20
    assert named(accounts, "address", f"user7@{domain}")["name"] == "User, 7"
    assert named(accounts, "address", f"user7@{domain}")["quota_octets"] == 7_000_000
    again = here.run("account", "import", str(file), "--output", "json")
    report = json.loads(again.stdout)
    assert (report["created"], report["present"], len(report["failed"])) == (0, 20, 1)


def test_a_trace_of_nothing_is_said_and_no_success(here: Admin) -> None:
    for more in ((), ("--output", "json")):
        refused = here.run("trace", "nobody@example.net", *more)
        assert refused.exit_code == 1
        assert "no trace matches" in refused.stderr


def test_statistics_count(here: Admin) -> None:
    found = here.json("stats")
    assert found["account_count"] >= 3
    assert found["database"] == "sqlite"


def test_an_administrator_may_work_from_elsewhere_and_nobody_else(demo: Demo, tmp_path: Path) -> None:
    def remote(name: str) -> Admin:
        password = tmp_path / name
        password.write_text(demo.password(name) + "\n")
        server = ("--server", f"localhost:{demo.port('api')}", "--ca", str(demo.ca))
        return Admin(*server, "--user", demo.address(name), "--password-file", str(password))

    assert named(remote("alice").json("domain", "list"), "name", "example.test")
    refused = remote("bob").run("domain", "list")
    assert refused.exit_code == 1
    assert "PERMISSION_DENIED" in refused.stderr


def test_a_directory_without_a_core_is_reported(tmp_path: Path) -> None:
    refused = Admin("--data", str(tmp_path)).run("domain", "list")
    assert refused.exit_code == 1
    assert refused.stderr.count("\n") == 1


def init(directory: Path, *more: str, stdin: str = "a good password\n") -> subprocess.CompletedProcess[str]:
    arguments = ["init", "--data", str(directory), "--hostname", "mail.example.org", "--domain", "example.org"]
    arguments += ["--account", "admin@example.org", "--password-stdin", *more]
    command = [sys.executable, "-m", "restante_cli", *arguments]
    return subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=90, check=False)


def test_init_makes_an_installation_once(tmp_path: Path) -> None:
    directory = tmp_path / "installation"
    made = init(directory, "--local-ca")
    assert made.returncode == 0, made.stderr
    assert "example.org.  MX   10 mail.example.org." in made.stdout
    assert made.stdout.count('._domainkey.example.org.  TXT  "v=DKIM1; k=') == 2
    assert "ca.pem" in made.stdout  # the warning about the self-signed certificate
    assert directory.stat().st_mode & 0o777 == 0o700
    for name in ("restante.toml", "tls/key.pem", "secrets/admin.secret"):
        assert (directory / name).stat().st_mode & 0o777 == 0o600
    checked = CliRunner().invoke(main, ["config", "--check", str(directory / "restante.toml")])
    assert checked.exit_code == 0, checked.stderr
    text = (directory / "restante.toml").read_text()
    again = init(directory, "--local-ca")
    assert again.returncode == 1
    assert "nothing was changed there" in again.stderr
    assert (directory / "restante.toml").read_text() == text
    demo = CliRunner().invoke(main, ["up", "--demo", "--data", str(directory)])
    assert demo.exit_code == 1
    assert "holds an installation, not a demo" in demo.stderr


def test_init_that_fails_leaves_nothing(tmp_path: Path) -> None:
    refused = init(tmp_path / "installation", "--local-ca", stdin="short\n")
    assert refused.returncode == 1
    assert "WEAK_PASSWORD" in refused.stderr
    assert list(tmp_path.iterdir()) == []


def test_init_refuses_a_directory_that_is_not_empty(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("mine")
    refused = init(tmp_path, "--local-ca")
    assert refused.returncode == 1
    assert [path.name for path in tmp_path.iterdir()] == ["precious"]


def test_init_checks_the_certificate_before_anything_is_made(demo: Demo, tmp_path: Path) -> None:
    other = tmp_path / "key.pem"
    other.write_text((demo.directory / "tls/cert.pem").read_text())
    pair = ("--certificate", str(demo.directory / "tls/cert.pem"), "--key", str(other))
    refused = init(tmp_path / "installation", *pair)
    assert refused.returncode == 1
    assert "cannot be used together" in refused.stderr
    assert not (tmp_path / "installation").exists()


def test_init_says_which_flags_are_missing_where_it_cannot_ask(tmp_path: Path) -> None:
    refused = CliRunner().invoke(main, ["init", "--data", str(tmp_path / "x")])
    assert refused.exit_code == 2
    assert "--hostname" in refused.stderr


def test_the_demo_certificate_is_for_its_names(demo: Demo) -> None:
    text = ssl._ssl._test_decode_cert(str(demo.directory / "tls/cert.pem"))  # type: ignore[attr-defined]
    names = {value for _kind, value in text["subjectAltName"]}
    assert {"localhost", "127.0.0.1", "mx.example.test"} <= names


def test_jobs_are_started_listed_shown_watched_and_cancelled(here: Admin, domain: str) -> None:
    here("account", "create", f"dave@{domain}", "--password-stdin", stdin="a good one\n")
    begun = here.json("account", "delete", f"dave@{domain}", "--yes", "--detach")
    assert (begun["kind"], begun["subject"], begun["actor"]) == ("account-deletion", f"dave@{domain}", "admin")
    number = str(begun["id"])
    assert here.json("job", "watch", number)["state"] == "succeeded"
    assert f"Job {number}: succeeded" in here("job", "watch", number)
    assert here.json("job", "show", number)["findings"] == []
    assert number in here("job", "show", number)
    assert begun["id"] in [row["id"] for row in here.json("job", "list", "--kind", "account-deletion")]
    assert begun["id"] not in [row["id"] for row in here.json("job", "list", "--kind", "backup")]
    assert begun["id"] not in [row["id"] for row in here.json("job", "list", "--unfinished")]
    late = here.run("job", "cancel", number)
    assert late.exit_code == 1 and "its work had ended" in late.stderr
    assert "JOB_NOT_FOUND" in here.run("job", "show", "999999").stderr
    started = here("check", "--detach")
    assert "restante admin job watch" in started


def test_the_running_store_is_checked_and_backed_up(here: Admin, tmp_path: Path) -> None:
    assert here.json("check")["findings"] == []
    assert "The check found no violations." in here("check", "--digests")
    target = tmp_path / "backup"
    assert "written" in here("backup", str(target))
    assert any(target.iterdir())
    again = here.run("backup", str(target))
    assert again.exit_code == 1
    assert again.stderr.count("\n") == 1


def test_failed_addresses_are_listed_and_cleared(here: Admin) -> None:
    assert here.json("failed-address", "list", "--domain", "example.net") == []
    assert here("failed-address", "clear", "nobody@example.net") == "0 addresses were cleared.\n"
    for wrong in ((), ("a@example.net", "--all"), ("--all", "--domain", "example.net")):
        assert here.run("failed-address", "clear", *wrong).exit_code == 2
    done = here.run("failed-address", "clear", "--domain", "a b")
    assert done.exit_code == 1 and "domain" in done.stderr


def test_greylisting_is_turned_on_seen_and_overridden(here: Admin, domain: str) -> None:
    assert named(here.json("domain", "list"), "name", domain)["greylisting"] == "off"
    (changed,) = here.json("domain", "update", domain, "--greylisting", "on")
    assert changed["greylisting"] == "on"
    (made,) = here.json("greylist", "allow", "203.0.113.7")
    assert (made["subject"], made["state"], made["expires_at"]) == ("203.0.113.7/32", "allowed", "never")
    assert "203.0.113.7/32" in here("greylist", "passes")
    assert here.json("greylist", "list", "--network", "203.0.113.7") == []
    assert "1 networks or recipients were forgotten" in here("greylist", "clear", "203.0.113.7")
    refused = here.run("greylist", "allow", "0.0.0.0/0")
    assert refused.exit_code == 1
    assert "is wider than /8" in refused.stderr
    assert here.run("greylist", "clear").exit_code == 2
