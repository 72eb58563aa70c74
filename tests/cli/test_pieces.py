"""Parts of the commands without a server: saved sessions, safe output, CSV files, ports, directories."""

from __future__ import annotations

import json
import os
import socket
import stat
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from restante import errors
from restante_cli import directories, output, ports
from restante_cli.admin import account_import
from restante_cli.admin.context import octets
from restante_cli.failures import described
from restante_cli.inputs import read_password
from restante_cli.mail import mail, saved_session, show
from restante_cli.mail.context import MessageIds, flat
from restante_cli.mail.saved_session import SavedSession
from restante_cli.main import main
from restante_process import config, config_file
from tests.harness.certificates import pair_maker


def test_a_kept_session_is_for_its_owner_alone_and_replaced_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "state" / "restante" / "mail.json"
    session = SavedSession("localhost:1", "alice@example.org").with_token(b"\0token")
    saved_session.save(path, session)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert saved_session.load(path) == session
    assert session.token_octets == b"\0token"
    saved_session.save(path, session.with_token(b"new"))
    assert os.listdir(path.parent) == ["mail.json"]
    assert "token" not in repr(session).replace("SavedSession(", "")
    saved_session.forget(path)
    saved_session.forget(path)
    assert saved_session.load(path) is None


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"server": 1', '{"server": "x", "user": "y", "token": "%%%"}'])
def test_a_damaged_session_file_is_reported(tmp_path: Path, text: str) -> None:
    path = tmp_path / "mail.json"
    path.write_text(text)
    with pytest.raises(click.ClickException, match="log in again"):
        saved_session.load(path)


def test_the_session_lies_where_the_environment_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(saved_session.ENVIRONMENT, raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert saved_session.default_path() == tmp_path / "restante" / "mail.json"
    monkeypatch.setenv(saved_session.ENVIRONMENT, str(tmp_path / "other.json"))
    assert saved_session.default_path() == tmp_path / "other.json"


def test_no_command_takes_a_password_as_an_argument() -> None:
    def options(command: click.Command, path: str) -> list[str]:
        found = [f"{path} {name}" for each in command.params for name in each.opts if isinstance(each, click.Option)]
        if isinstance(command, click.Group):
            context = click.Context(command)
            for name in command.list_commands(context):
                below = command.get_command(context, name)
                assert below is not None
                found += options(below, f"{path} {name}")
        return found

    named = {each.split()[-1] for each in options(main, "restante") if "password" in each.split()[-1]}
    assert named == {"--password-stdin", "--password-file", "--passwords-stdin"}


@pytest.mark.parametrize(
    ("text", "ids"), [("7", [7]), ("3-5", [3, 4, 5]), ("0", None), ("5-3", None), ("x", None), ("1-", None), ("", None)]
)
def test_message_ids_are_numbers_or_ranges(text: str, ids: list[int] | None) -> None:
    if ids is None:
        with pytest.raises(click.BadParameter):
            MessageIds().convert(text, None, None)
    else:
        assert MessageIds().convert(text, None, None) == ids


def test_ids_are_named_once() -> None:
    assert flat([[3, 4], [1], [4, 5]]) == [3, 4, 1, 5]


@pytest.mark.parametrize(
    ("text", "expected"),
    [("500MB", 500_000_000), ("2GiB", 2 << 30), ("1.5k", 1_500), ("12", 12), ("none", 0), ("1 TB", 10**12)],
)
def test_sizes_are_understood(text: str, expected: int) -> None:
    command = click.Command("x", params=[click.Option(["--size"])])
    assert octets(click.Context(command), command.params[0], text) == expected


@pytest.mark.parametrize("text", ["x", "-1", "5 apples", "", "nan", "inf", "9999999TB"])
def test_what_is_no_size_is_refused(text: str) -> None:
    command = click.Command("x", params=[click.Option(["--size"])])
    with pytest.raises(click.BadParameter):
        octets(click.Context(command), command.params[0], text)


@pytest.mark.parametrize(
    ("number", "text"), [(0, "0 B"), (999, "999 B"), (1_500, "1.5 kB"), (123_456, "123 kB"), (5 * 10**9, "5.0 GB")]
)
def test_sizes_are_written(number: int, text: str) -> None:
    assert output.size(number) == text


def test_nothing_in_a_mail_reaches_the_terminal_as_a_command() -> None:
    assert output.safe("a\x1b[31mb\x07\x9b\u202ec\r\nd\te") == "a\ufffd[31mb\ufffd\ufffd\ufffdc\nd\te"
    assert output.one_line("a\n b\r\n\tc") == "a b c"


@pytest.mark.parametrize(
    ("key", "text"),
    [("name", "Name"), ("failed_dmarc", "Failed DMARC"), ("id", "ID"), ("next_attempt", "Next attempt")],
)
def test_keys_are_headings_for_people(key: str, text: str) -> None:
    assert output.heading(key) == text


def test_a_table_shows_markup_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    output.show("table", ("subject",), [{"subject": "[bold]no[/bold] [link=x]"}])
    assert "[bold]no[/bold] [link=x]" in capsys.readouterr().out


def test_json_is_for_programs(capsys: pytest.CaptureFixture[str]) -> None:
    output.show("json", ("id",), [{"id": 7, "text": "ä\x1b"}])
    assert json.loads(capsys.readouterr().out) == [{"id": 7, "text": "ä\x1b"}]


def test_an_error_is_one_line_with_its_reason() -> None:
    line = described(errors.FolderNotFound("No such\n folder.", folder_id=7))
    assert line == "No such folder. [FOLDER_NOT_FOUND]"
    assert "restante mail login" in described(errors.SessionExpired())


def test_a_password_is_the_first_line_of_a_file(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("a b c \r\nsecond\n")
    assert read_password(file=file) == "a b c "
    file.write_text("\n")
    with pytest.raises(click.ClickException, match="empty"):
        read_password(file=file)


def test_accounts_are_read_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "accounts.csv"
    hashed = "$argon2id$v=19$m=19456,t=2,p=1$c2FsdA$aGFzaA"
    file.write_text(
        "\ufeffAddress,password,name,quota_octets\n"
        'a@example.org, spaces count ,"A, Person",1000\n'
        "\n"
        f'b@example.org,"{hashed}"\n'
        "c@example.org,secret,,2GB\n"
    )
    lines, bad = account_import.read_lines(file)
    first, second, third = (line.request() for line in lines)
    assert bad == {}
    assert third.quota_octets == 2_000_000_000
    assert (first.password, first.display_name, first.quota_octets) == (" spaces count ", "A, Person", 1000)
    assert (second.password, second.password_hash) == ("", hashed)
    assert not second.HasField("quota_octets")
    assert "spaces" not in repr(lines)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a@example.org\n", "a line needs the columns"),
        ("a@example.org,\n", "a line needs the columns"),
        ("a@example.org,secret,name,lots\n", "'lots' is not a size; write one such as 500MB"),
        ("a@example.org,secret,name,1,more\n", "a line needs the columns"),
    ],
)
def test_a_line_that_cannot_be_understood_is_named_and_the_others_are_read(
    tmp_path: Path, text: str, problem: str
) -> None:
    file = tmp_path / "accounts.csv"
    file.write_text(f"b@example.org,secret\n{text}c@example.org,secret\n")
    lines, bad = account_import.read_lines(file)
    assert [line.address for line in lines] == ["b@example.org", "c@example.org"]
    assert list(bad) == [2]
    assert problem in bad[2]


@pytest.mark.parametrize("octets", [b'a@example.org,secret\nb@example.org,"unclosed\n', b"a@example.org,\xff\n"])
def test_a_file_that_is_no_csv_is_refused_whole(tmp_path: Path, octets: bytes) -> None:
    file = tmp_path / "accounts.csv"
    file.write_bytes(octets)
    with pytest.raises(click.ClickException, match="no account was created"):
        account_import.read_lines(file)


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (["mial"], "did you mean 'mail'?"),
        (["admin", "acount"], "did you mean 'account'?"),
        (["admin", "account", "crate"], "did you mean 'create'?"),
        (["mail", "lits"], "did you mean 'list'?"),
        (["mail", "show", "abc"], "'abc' is not a message number such as 17; `restante mail list` shows them"),
        (["mail", "cancel", "0"], "'0' is not a submission number"),
        (["admin", "queue", "retry", "x"], "'x' is not a queue number"),
        (["mail", "send", "x", "--to", "bob@example.test", "--at", "2020-01-01"], "is in the past"),
        (["init", "--hostname", "a b"], "'a b' is not a DNS name"),
        (
            ["init", "--hostname", "mx.example.org", "--domain", "example.org", "--account", "admin"],
            "is not an address",
        ),
    ],
)
def test_a_mistake_is_named_with_what_would_be_right(command: list[str], said: str, tmp_path: Path) -> None:
    environment = {saved_session.ENVIRONMENT: str(tmp_path / "none")}
    done = CliRunner().invoke(main, command, env=environment)
    assert done.exit_code == 2
    assert said in " ".join(done.stderr.split())
    as_json = CliRunner().invoke(main, [*command, "--output", "json"], env=environment)
    assert as_json.exit_code == 2
    if "did you mean" in said:
        assert said in json.loads(as_json.stderr)["error"]["message"]


def test_a_failure_is_json_where_json_was_asked_for(tmp_path: Path) -> None:
    done = CliRunner().invoke(main, ["admin", "--data", str(tmp_path), "stats", "--output=json"])
    assert done.exit_code == 1
    told = json.loads(done.stderr)["error"]
    assert told["exit_code"] == 1 and "does not exist or has never run" in told["message"]


def test_init_looks_at_the_directory_before_it_asks_for_a_password(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("mine")
    command = ["init", "--data", str(tmp_path), "--hostname", "mx.example.org", "--domain", "example.org"]
    done = CliRunner().invoke(main, [*command, "--account", "admin@example.org", "--local-ca"])
    assert done.exit_code == 1
    assert "nothing was changed there" in done.stderr


def test_config_check_refuses_a_route_with_a_password_and_warns_of_certificates(tmp_path: Path) -> None:
    file, check = tmp_path / "restante.toml", ["config", "--check", str(tmp_path / "restante.toml")]
    file.write_text('[relay.routes]\n"*" = "alice:a-secret@mx.example.org:587"\n')
    done = CliRunner().invoke(main, check)
    assert done.exit_code == 1
    assert "relay.routes.*: a route cannot have a user and password" in done.stderr
    assert "a-secret" not in done.stderr
    pair = pair_maker(tmp_path)("server", "mx.example.org", days=-1)
    file.write_text(f'[[tls.certificates]]\ncertificate = "{pair.certificate}"\nkey = "{pair.key}"\n')
    done = CliRunner().invoke(main, check)
    assert done.exit_code == 0
    assert "Warning: the certificate of mx.example.org expired on" in done.stderr
    (tmp_path / "server.pem").unlink()
    assert "cannot be read" in CliRunner().invoke(main, check).stderr


@pytest.mark.parametrize("route", ["mx.example.org", "mx.example.org:587", "[2001:db8::1]:25", "192.0.2.1:25"])
def test_routes_are_hosts_with_or_without_a_port(route: str) -> None:
    assert config_file.load(None, {}, {"relay.routes": {"*": route}}).relay.routes == {"*": route}


@pytest.mark.parametrize("route", ["", "a b", "mx.example.org:0", "mx.example.org:99999", "2001:db8::1", "smtp://mx"])
def test_what_is_no_route_is_refused(route: str) -> None:
    with pytest.raises(config.ConfigError, match=r"relay\.routes"):
        config_file.load(None, {}, {"relay.routes": {"*": route}})


def test_a_busy_port_is_named_with_its_key() -> None:
    with socket.socket() as busy:
        busy.bind(("127.0.0.1", 0))
        busy.listen()
        port = busy.getsockname()[1]
        listeners = {"imap": {"host": "127.0.0.1", "port": port}}
        off = {"smtp.listeners": {}, "pop3.listeners": {}, "core.api_port": -1}
        health = {f"health.{name}": -1 for name in ("up", "core", "imap", "pop3", "smtp", "relay")}
        settings = config_file.load(None, environment={}, flags={"imap.listeners": listeners, **off, **health})
        (problem,) = ports.problems(settings)
        assert problem.startswith(
            f"imap.listeners.imap: cannot listen on 127.0.0.1:{port}: another program uses this port"
        )
        both = config_file.load(
            None,
            environment={},
            flags={
                "imap.listeners": {"a": {"port": 1, "host": "::1"}, "b": {"port": 1, "host": "::1"}},
                **off,
                **health,
            },
        )
        assert any("is also that of imap.listeners.a" in each for each in ports.problems(both))
    assert ports.problems(settings) == []


def test_a_directory_is_claimed_for_one_kind(tmp_path: Path) -> None:
    demo = tmp_path / "demo"
    assert directories.claim(demo, "demo")
    assert not directories.claim(demo, "demo")
    assert stat.S_IMODE(demo.stat().st_mode) == 0o700
    with pytest.raises(click.ClickException, match="holds a demo, not an installation"):
        directories.claim(demo, "installation")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "file").touch()
    with pytest.raises(click.ClickException, match="not a directory of restante"):
        directories.claim(tmp_path / "other", "demo")


def test_a_directory_has_one_supervisor(tmp_path: Path) -> None:
    with directories.supervised(tmp_path) as broken_off:
        assert not broken_off
        with pytest.raises(click.ClickException, match=f"process {os.getpid()}"), directories.supervised(tmp_path):
            pass
    (tmp_path / directories.LOCK).write_text("4711\n")  # the lock of a killed supervisor
    with directories.supervised(tmp_path) as broken_off:
        assert broken_off


@pytest.mark.parametrize(
    "command", [["login"], ["send", "text"], ["search"], ["flag", "7"], ["delete", "7", "--soft", "--hard"]]
)
def test_wrong_usage_is_exit_code_2(tmp_path: Path, command: list[str]) -> None:
    done = CliRunner().invoke(mail, command, env={saved_session.ENVIRONMENT: str(tmp_path / "none")})
    assert done.exit_code == 2


def test_the_fields_of_a_message_are_shown_as_the_core_reads_them() -> None:
    header = (
        b"From: =?iso-8859-1?q?Gr=FC=DFe=80?= <alice@example.org>\r\nTo: undisclosed-recipients:;\r\n"
        b'Cc: "Doe, J" <j@example.org>,\r\n b@example.org\r\nSubject: =?utf-8?q?x?=\r\n =?utf-8?q?y?=\r\n\r\n'
    )
    assert show._fields(header) == [
        "From: Grüße€ <alice@example.org>",
        "To: undisclosed-recipients: ;",
        "Cc: Doe, J <j@example.org>, b@example.org",
        "Subject: xy",
    ]
