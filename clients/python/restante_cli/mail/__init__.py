"""`restante mail`: a user's mail on the command line."""

from __future__ import annotations

from pathlib import Path

import click

from restante_cli.groups import Group
from restante_cli.mail import account, edit, lists, saved_session, send, show
from restante_cli.mail.context import Mail

__all__ = ["mail"]


@click.group("mail", cls=Group)
@click.option(
    "--session",
    type=click.Path(path_type=Path, dir_okay=False),
    help="File of the saved session, one for each account ($RESTANTE_MAIL_SESSION).",
)
@click.option(
    "--password-file",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="After `login --ask`: read the password from the first line of this file.",
)
@click.pass_context
def mail(context: click.Context, session: Path | None, password_file: Path | None) -> None:
    """Your own mail, over Restante's API.

    Commands take the message ids that `list` shows; a move does not change them. Exit codes: 0 done, 1 not done
    (one line on standard error says why), 2 wrong usage.
    """
    context.obj = Mail(session or saved_session.default_path(), password_file)


for _module in (account, lists, show, send, edit):
    for _command in _module.COMMANDS:
        mail.add_command(_command)
