"""`restante mail` with the running platform, in the use of a person or a script."""

from __future__ import annotations

import json
import os
import secrets
import smtplib
import subprocess
import sys
import time
from collections.abc import Iterator
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from restante_cli.mail import mail
from restante_cli.main import main
from tests.harness.demo import Demo

pytestmark = pytest.mark.end_to_end


class Mail:
    """The command with a separate session file."""

    def __init__(self, demo: Demo, person: str, directory: Path) -> None:
        self.demo, self.person, self.session = demo, person, directory / f"{person}.json"

    def run(self, *arguments: str, stdin: str = "") -> Result:
        # In this process, because most of the time would go into starting an interpreter for each command.
        return CliRunner().invoke(mail, arguments, input=stdin, env={"RESTANTE_MAIL_SESSION": str(self.session)})

    def __call__(self, *arguments: str, stdin: str = "") -> str:
        done = self.run(*arguments, stdin=stdin)
        assert done.exit_code == 0, done.stderr
        return done.stdout

    def json(self, *arguments: str, stdin: str = "") -> Any:
        return json.loads(self(*arguments, "--output", "json", stdin=stdin))

    def login(self, *more: str, password: str | None = None) -> Result:
        server = ("--server", f"localhost:{self.demo.port('api')}", "--ca", str(self.demo.ca))
        user = ("--user", self.demo.address(self.person), "--password-stdin")
        return self.run("login", *server, *user, *more, stdin=(password or self.demo.password(self.person)) + "\n")


@pytest.fixture
def alice(demo: Demo, tmp_path: Path) -> Mail:
    person = Mail(demo, "alice", tmp_path)
    assert person.login().exit_code == 0
    return person


@pytest.fixture
def bob(demo: Demo, tmp_path: Path) -> Mail:
    person = Mail(demo, "bob", tmp_path)
    assert person.login().exit_code == 0
    return person


@pytest.fixture
def subject() -> str:
    return f"Subject {secrets.token_hex(6)}"


def one(rows: list[dict[str, Any]]) -> dict[str, Any]:
    assert len(rows) == 1, rows
    return rows[0]


def test_login_keeps_a_token_for_its_owner_and_no_password(alice: Mail, demo: Demo) -> None:
    assert alice.session.stat().st_mode & 0o777 == 0o600
    kept = alice.session.read_text()
    assert demo.password("alice") not in kept
    assert json.loads(kept)["token"]
    assert "alice@example.test (Alice)" in alice("whoami")


def test_a_wrong_password_is_one_line_and_exit_code_1(demo: Demo, tmp_path: Path) -> None:
    refused = Mail(demo, "carol", tmp_path).login(password="not carol's")
    assert refused.exit_code == 1
    assert refused.stderr.count("\n") == 1
    assert "AUTHENTICATION_FAILED" in refused.stderr


def test_without_a_login_one_is_told_what_to_do(demo: Demo, tmp_path: Path) -> None:
    refused = Mail(demo, "carol", tmp_path).run("list")
    assert refused.exit_code == 1
    assert "restante mail login" in refused.stderr


def test_wrong_usage_is_exit_code_2(alice: Mail) -> None:
    assert alice.run("move", "seven", "--to", "INBOX").exit_code == 2
    assert alice.run("send", "no recipient").exit_code == 2


def test_a_token_that_is_no_good_is_told_clearly(alice: Mail) -> None:
    kept = json.loads(alice.session.read_text())
    alice.session.write_text(json.dumps({**kept, "token": "AAAA"}))
    refused = alice.run("list")
    assert refused.exit_code == 1
    assert "restante mail login" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_logout_ends_the_session_at_the_server(alice: Mail) -> None:
    token = json.loads(alice.session.read_text())
    alice("logout")
    assert not alice.session.exists()
    alice.session.write_text(json.dumps(token))  # a copy of the session file
    refused = alice.run("list")
    assert refused.exit_code == 1
    assert "SESSION_REVOKED" in refused.stderr or "INVALID_SESSION" in refused.stderr


def test_with_ask_no_session_is_kept(demo: Demo, tmp_path: Path) -> None:
    person = Mail(demo, "alice", tmp_path)
    assert person.login("--ask").exit_code == 0
    assert json.loads(person.session.read_text())["token"] == ""
    password = tmp_path / "password"
    password.write_text(demo.password("alice") + "\n")
    assert "alice@example.test" in person("--password-file", str(password), "whoami")


def test_folders_have_counts_and_roles(alice: Mail) -> None:
    folders = {row["role"]: row for row in alice.json("folders")}
    assert set(folders) >= {"inbox", "sent", "drafts", "trash", "junk", "archive"}
    assert folders["inbox"]["messages"] >= 3
    assert "Inbox" in alice("folders")


def test_mail_goes_from_one_person_to_another(alice: Mail, bob: Mail, subject: str) -> None:
    sent = alice.json("send", "--to", "Bob <bob@example.test>", "--subject", subject, "Grüße\n.\nvon Alice")
    assert [entry["state"] for entry in sent["recipients"]] == ["delivered"]
    received = one(bob.json("search", "--subject", subject))
    assert received["from"] == ["Alice <alice@example.test>"]
    shown = bob.json("show", str(received["id"]))
    assert shown["text"].strip() == "Grüße\n.\nvon Alice"
    assert one(bob.json("search", "--subject", subject))["flags"] == ["seen"]  # reading it marked it
    copy = one(alice.json("search", "--subject", subject, "--folder", "Sent"))
    assert copy["id"] == sent["sent_message_id"]
    record = [row for row in alice.json("submissions") if row["id"] == sent["id"]]
    assert [row["recipient"] for row in record] == ["bob@example.test"]


def test_text_may_come_on_standard_input(alice: Mail, bob: Mail, subject: str) -> None:
    alice("send", "--to", "bob@example.test", "--subject", subject, stdin="from a pipe\n")
    received = one(bob.json("search", "--subject", subject))
    assert "from a pipe" in bob("show", str(received["id"]))


def test_attachments_small_and_large_arrive_octet_for_octet(
    alice: Mail, bob: Mail, subject: str, tmp_path: Path
) -> None:
    small, large = tmp_path / "klein ä.txt", tmp_path / "large.bin"
    small.write_bytes(b"small\x00\xff\n")
    large.write_bytes(os.urandom(2_000_001))
    attach = ("--attach", str(small), "--attach", str(large))
    alice("send", "--to", "bob@example.test", "--subject", subject, *attach, "see below")
    received = one(bob.json("search", "--subject", subject))
    shown = bob.json("show", str(received["id"]))
    assert shown["text"].strip() == "see below"
    files = {part["file_name"]: part["part"] for part in shown["parts"] if part["attachment"]}
    assert set(files) == {small.name, large.name}
    for original in (small, large):
        target = tmp_path / f"got-{original.name}"
        bob("show", str(received["id"]), "--part", files[original.name], "--output", str(target))
        assert target.read_bytes() == original.read_bytes()
    refused = bob.run("show", str(received["id"]), "--part", files[large.name], "--output", str(tmp_path / "large.bin"))
    assert refused.exit_code == 1  # an existing file is not overwritten
    assert large.stat().st_size == 2_000_001


def test_html_is_sent_with_a_plain_form(alice: Mail, bob: Mail, subject: str) -> None:
    alice("send", "--html", "--to", "bob@example.test", "--subject", subject, "<p>Hello <b>Bob</b></p>")
    received = one(bob.json("search", "--subject", subject))
    shown = bob.json("show", str(received["id"]))
    assert shown["text"].strip() == "Hello Bob"
    assert [part["media_type"] for part in shown["parts"]] == ["text/plain", "text/html"]
    html = bob("show", str(received["id"]), "--part", shown["parts"][1]["part"])
    assert html.strip() == "<p>Hello <b>Bob</b></p>"


def test_bcc_is_delivered_and_not_shown(alice: Mail, bob: Mail, subject: str) -> None:
    alice("send", "--to", "alice@example.test", "--bcc", "bob@example.test", "--subject", subject, "x")
    received = one(bob.json("search", "--subject", subject))
    header = bob("show", str(received["id"]), "--headers")
    assert [line for line in header.splitlines() if "bob" in line] == ["Delivered-To: bob@example.test"]


def test_an_unknown_recipient_is_refused_before_anything_is_sent(alice: Mail, bob: Mail, subject: str) -> None:
    refused = alice.run("send", "--to", "bob@example.test", "--to", "nobody@example.test", "--subject", subject, "x")
    assert refused.exit_code == 1
    assert "RECIPIENT_NOT_FOUND" in refused.stderr
    assert "nobody@example.test" in refused.stderr
    assert bob.json("search", "--subject", subject) == []


def test_mail_to_elsewhere_waits_in_the_queue_and_can_be_taken_back(alice: Mail, subject: str) -> None:
    sent = alice.json("send", "--to", "somebody@example.org", "--subject", subject, "x")
    assert one(sent["recipients"])["state"] in ("pending", "leased")
    until = time.monotonic() + 20
    while (cancelled := alice.run("cancel", str(sent["id"]), "--output", "json")).exit_code:
        # The relay leases it for a moment, then leaves it in the queue.
        assert "SUBMISSION_NOT_CANCELLABLE" in cancelled.stderr
        assert time.monotonic() < until
        time.sleep(0.2)
    assert one(json.loads(cancelled.stdout)["recipients"])["state"] == "discarded"


def test_a_draft_is_kept_and_not_sent(alice: Mail, bob: Mail, subject: str) -> None:
    saved = alice.json("send", "--draft", "--to", "bob@example.test", "--subject", subject, "unfinished")
    draft = one(alice.json("search", "--subject", subject))
    assert (draft["id"], draft["folder"]) == (saved["id"], "Drafts")
    assert "draft" in draft["flags"]
    assert bob.json("search", "--subject", subject) == []


def test_messages_are_marked_moved_copied_deleted_and_recovered(alice: Mail, bob: Mail, subject: str) -> None:
    alice("send", "--to", "bob@example.test", "--subject", subject, "x")
    number = str(one(bob.json("search", "--subject", subject))["id"])
    bob("flag", number, "--add", "flagged", "--add", "$Work", "--add", "seen")
    assert set(one(bob.json("search", "--subject", subject))["flags"]) == {"flagged", "seen", "$Work"}
    bob("flag", number, "--remove", "flagged", "--remove", "$work")
    assert one(bob.json("search", "--subject", subject))["flags"] == ["seen"]
    bob("move", number, "--to", "Archive")
    moved = one(bob.json("search", "--subject", subject))
    assert (str(moved["id"]), moved["folder"]) == (number, "Archive")  # the id stays
    bob("copy", number, "--to", "Inbox")
    assert len(bob.json("search", "--subject", subject)) == 2
    copy = next(row for row in bob.json("search", "--subject", subject) if str(row["id"]) != number)
    bob("delete", str(copy["id"]), "--hard", "--yes")
    bob("delete", number)
    assert one(bob.json("search", "--subject", subject))["folder"] == "Trash"
    bob("delete", number)
    assert bob.json("search", "--subject", subject) == []
    recoverable = [row["id"] for row in bob.json("recover")]
    assert int(number) in recoverable
    assert copy["id"] not in recoverable
    bob("recover", number, "--to", "Inbox")
    assert one(bob.json("search", "--subject", subject))["folder"] == "Inbox"


def test_all_messages_that_match_are_changed_by_one_command(alice: Mail, bob: Mail, subject: str) -> None:
    for _ in range(2):
        alice("send", "--to", "bob@example.test", "--subject", subject, "x")
    bob("flag", "--subject", subject, "--in", "Inbox", "--add", "flagged")
    assert [row["flags"] for row in bob.json("search", "--subject", subject)] == [["flagged"]] * 2
    bob("copy", "--subject", subject, "--to", "Drafts")
    bob("move", "--match", subject, "--flagged", "--in", "Inbox", "--to", "Archive")
    folders = sorted(row["folder"] for row in bob.json("search", "--subject", subject))
    assert folders == ["Archive", "Archive", "Drafts", "Drafts"]
    bob("delete", "--subject", subject, "--hard", "--yes")
    assert bob.json("search", "--subject", subject) == []
    refused = bob.run("move", "--subject", subject, "--to", "Archive")
    assert refused.exit_code == 1
    assert "No message matches." in refused.stderr and "MESSAGE_NOT_FOUND" in refused.stderr
    refused = bob.run("move", "--in", "Archiv", "--to", "Inbox")
    assert refused.stderr == 'Error: no folder "Archiv"; did you mean "Archive"? [FOLDER_NOT_FOUND]\n'
    for usage in (["move", "--to", "Archive"], ["copy", "5", "--in", "Inbox", "--to", "Archive"], ["delete", "--yes"]):
        assert bob.run(*usage).exit_code == 2


def test_a_missing_item_is_reported(alice: Mail) -> None:
    for command in (["move", "999999", "--to", "Archive"], ["delete", "999999"], ["show", "999999"]):
        refused = alice.run(*command)
        assert refused.exit_code == 1
        assert "MESSAGE_NOT_FOUND" in refused.stderr
    refused = alice.run("list", "Archiv")
    assert refused.exit_code == 1
    assert refused.stderr == 'Error: no folder "Archiv"; did you mean "Archive"? [FOLDER_NOT_FOUND]\n'
    command = ["mail", "--session", str(alice.session), "list", "zzzzz", "--output", "json"]
    refused = CliRunner().invoke(main, command)
    assert refused.exit_code == 1
    told = json.loads(refused.stderr)["error"]
    assert told["reason"] == "FOLDER_NOT_FOUND" and 'no folder "zzzzz"' in told["message"]


def test_a_listing_says_when_there_is_more(alice: Mail) -> None:
    assert (
        "The list ends after 1 messages, and there are more; raise --limit to see them."
        in alice.run("list", "--limit", "1").stderr
    )
    assert alice.run("list", "--limit", "1000").stderr == ""


def test_search_joins_its_conditions(alice: Mail, bob: Mail, subject: str) -> None:
    alice("send", "--to", "bob@example.test", "--subject", subject, "the word xylophone")
    assert one(bob.json("search", "XYLOPHONE", "--from", "alice", "--subject", subject, "--unread"))
    assert one(bob.json("search", "xylophone", subject, "--since", "2020-01-01"))
    assert bob.json("search", "xylophone", subject, "--before", "2020-01-01") == []
    assert bob.json("search", "xylophone", subject, "--larger", "1000000") == []


def test_raw_is_what_smtp_brought(demo: Demo, bob: Mail, subject: str, tmp_path: Path) -> None:
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = "dan@example.org", "bob@example.test", subject
    message.set_content("\x1b[31mred\x1b[0m and \u202ereversed\n")
    octets = message.as_bytes().replace(b"\n", b"\r\n")
    with smtplib.SMTP("127.0.0.1", demo.port("mx")) as smtp:
        smtp.sendmail("dan@example.org", ["bob@example.test"], octets)
    number = str(one(bob.json("search", "--subject", subject))["id"])
    target = tmp_path / "raw.eml"
    bob("show", number, "--raw", "--output", str(target))
    assert target.read_bytes().endswith(octets)  # after the fields added at delivery
    shown = bob("show", number)
    assert "\x1b" not in shown  # mail cannot send control sequences to the terminal
    assert "\u202e" not in shown


@pytest.fixture
def watching(bob: Mail) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "restante_cli", "mail", "watch", "--count", "2", "--output", "table"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "RESTANTE_MAIL_SESSION": str(bob.session)},
    )
    assert process.stdout is not None
    assert "Watching Inbox" in process.stdout.readline()
    yield process
    process.kill()
    process.communicate()


def test_watch_shows_mail_as_it_comes(alice: Mail, watching: subprocess.Popen[str], subject: str) -> None:
    time.sleep(0.5)
    for number in (1, 2):
        alice("send", "--to", "bob@example.test", "--subject", f"{subject} {number}", "x")
    output, problems = watching.communicate(timeout=20)
    assert [f"{subject} {number}" in line for number, line in enumerate(output.splitlines(), 1)] == [True, True]
    assert watching.returncode == 0, problems


def test_the_password_can_be_changed(demo: Demo, tmp_path: Path) -> None:
    carol = Mail(demo, "carol", tmp_path)
    assert carol.login().exit_code == 0
    old, new = demo.password("carol"), "a much better password"
    wrong = carol.run("change-password", "--passwords-stdin", stdin=f"wrong old one\n{new}\n")
    assert wrong.exit_code == 1
    assert "AUTHENTICATION_FAILED" in wrong.stderr
    weak = carol.run("change-password", "--passwords-stdin", stdin=f"{old}\nshort\n")
    assert "WEAK_PASSWORD" in weak.stderr
    carol("change-password", "--passwords-stdin", stdin=f"{old}\n{new}\n")
    assert "carol" in carol("whoami")  # this session continues
    try:
        assert carol.login().exit_code == 1
        assert carol.login(password=new).exit_code == 0
    finally:
        carol("change-password", "--passwords-stdin", stdin=f"{new}\n{old}\n")


def test_a_server_that_is_not_there_is_one_clear_line(alice: Mail) -> None:
    kept = json.loads(alice.session.read_text())
    alice.session.write_text(json.dumps({**kept, "server": "localhost:1"}))
    refused = alice.run("list")
    assert refused.exit_code == 1
    assert "Cannot reach localhost:1: the connection was refused" in refused.stderr
    assert refused.stderr.count("\n") == 1
