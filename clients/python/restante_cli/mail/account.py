"""`restante mail login`, `logout`, `whoami`, `change-password`."""

from __future__ import annotations

from pathlib import Path

import click

from restante import errors
from restante.client import Client
from restante.retry import is_over
from restante_cli.failures import run
from restante_cli.inputs import password_file_option, password_stdin_option, read_certificates, read_password
from restante_cli.mail import saved_session
from restante_cli.mail.context import TIMEOUT_SECONDS, Mail
from restante_cli.mail.saved_session import SavedSession
from restante_cli.output import output_option, print_json, say, size


@click.command()
@click.option("--server", metavar="HOST:PORT", help="Address of the API; default: that of the last login.")
@click.option(
    "--ca",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="PEM file of the certificate authority to trust.",
)
@click.option("--server-name", default="", help="Host name in the server's certificate, if it differs from HOST.")
@click.option("--user", metavar="ADDRESS", help="Your address; default: that of the last login.")
@click.option("--ask", is_flag=True, help="Save no session; every command asks for the password.")
@password_stdin_option
@password_file_option
@click.pass_obj
def login(
    mail: Mail,
    server: str | None,
    ca: Path | None,
    server_name: str,
    user: str | None,
    ask: bool,
    password_stdin: bool,
    password_file: Path | None,
) -> None:
    """Log in, and save the session (never the password) for the other commands.

    A session lapses 15 minutes after the last command, and 24 hours after the login.
    """
    before = saved_session.load(mail.path)
    server, user = server or (before.server if before else None), user or (before.user if before else None)
    if not server or not user:
        raise click.UsageError("the first login needs --server and --user")
    if before is not None and before.server == server and ca is None:
        certificates, server_name = before.root_certificates, server_name or before.server_name
    else:
        certificates = (read_certificates(ca) or b"").decode("ascii", "replace")
    password = read_password(f"Password of {user}", from_stdin=password_stdin, file=password_file)
    run(_login(mail, SavedSession(server, user, certificates, server_name), password, ask))


async def _login(mail: Mail, fresh: SavedSession, password: str, ask: bool) -> None:
    async with Client.connect(
        fresh.server,
        user=fresh.user,
        password=password,
        root_certificates=fresh.root_certificates.encode() or None,
        server_name=fresh.server_name,
        keep_password=False,
        timeout_seconds=TIMEOUT_SECONDS,
    ) as client:
        session = client.session
        if ask:
            await client.account.log_off()
            saved_session.save(mail.path, fresh)
        else:
            saved_session.save(mail.path, fresh.with_token(session.token))
        say(f"Logged in as {session.info.address} at {fresh.server}.")


@click.command()
@click.pass_obj
def logout(mail: Mail) -> None:
    """End the session at the server and delete it here."""
    found = saved_session.load(mail.path)
    if found is not None and found.token:
        try:
            run(_log_off(mail))
        finally:
            saved_session.forget(mail.path)
    saved_session.forget(mail.path)
    say("Logged out." if found is not None else "You were not logged in.")


async def _log_off(mail: Mail) -> None:
    try:
        async with mail.client() as client:
            client.session.on_change = None
            await client.account.log_off()
    except errors.RestanteError as error:
        if not is_over(error):  # otherwise the session had already ended
            raise


@click.command()
@output_option
@click.pass_obj
def whoami(mail: Mail, form: str) -> None:
    """Show the account of the saved session, and the use of its quota."""
    run(_whoami(mail, form))


async def _whoami(mail: Mail, form: str) -> None:
    async with mail.client() as client:
        session, mailbox = client.session.info, await client.mailboxes.get()
    quota = mailbox.quota_octets if mailbox.HasField("quota_octets") else None
    if form == "json":
        print_json(
            {
                "address": session.address,
                "name": session.display_name,
                "messages": mailbox.message_count,
                "used_octets": mailbox.used_octets,
                "quota_octets": quota,
                "recoverable_octets": mailbox.recoverable_octets,
            }
        )
        return
    name = f" ({session.display_name})" if session.display_name else ""
    limit = f" of {size(quota)}" if quota is not None else ""
    say(f"{session.address}{name}: {mailbox.message_count} messages, {size(mailbox.used_octets)}{limit}")


@click.command("change-password")
@click.option(
    "--passwords-stdin",
    is_flag=True,
    help="Read the old and the new password from the first two lines of standard input.",
)
@click.pass_obj
def change_password(mail: Mail, passwords_stdin: bool) -> None:
    """Change your password; your other sessions end."""
    mail.saved()
    old = read_password("Old password", from_stdin=passwords_stdin)
    new = read_password("New password", from_stdin=passwords_stdin, confirm=True)
    run(_change_password(mail, old, new))
    say("The password was changed; your other sessions end within seconds.")


async def _change_password(mail: Mail, old: str, new: str) -> None:
    async with mail.client() as client:
        await client.account.change_password(old, new)


COMMANDS = (login, logout, whoami, change_password)
