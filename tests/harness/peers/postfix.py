"""Postfix as another organisation's server: it receives into maildirs, and sends by MX with verified TLS."""

from __future__ import annotations

import contextlib
import os
import smtplib
from collections.abc import AsyncIterator, Mapping, Sequence

from tests.harness.peers.place import Place
from tests.harness.requirements import program

NOBODY = 65_534
MAIN = """\
compatibility_level = 3.6
queue_directory = {directory}/queue
data_directory = {directory}/data
command_directory = /usr/sbin
daemon_directory = /usr/lib/postfix/sbin
mail_owner = postfix
setgid_group = postdrop
maillog_file = {directory}/postfix.log
maillog_file_prefixes = {directory}
myhostname = {name}
mydestination =
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
mynetworks = 127.0.0.0/8
alias_maps =
alias_database =
message_size_limit = 50000000
virtual_mailbox_limit = 0
smtpd_recipient_restrictions = check_recipient_access regexp:{directory}/access, permit_mynetworks, reject
smtpd_client_connection_count_limit = 0
smtpd_tls_security_level = may
smtpd_tls_cert_file = {certificate}
smtpd_tls_key_file = {key}
smtpd_tls_received_header = yes
smtp_tls_security_level = may
smtp_tls_CAfile = {trusted}
smtp_tls_loglevel = 1
smtp_tls_policy_maps = inline:{{ {policies} }}
smtp_tcp_port = {port}
smtp_destination_recipient_limit = 1500
smtpd_recipient_limit = 5000
transport_maps = {transports}
virtual_mailbox_domains = {domain}
virtual_mailbox_maps = regexp:{directory}/people
virtual_mailbox_base = {directory}/mail
virtual_uid_maps = static:65534
virtual_gid_maps = static:65534
queue_run_delay = 1s
minimal_backoff_time = 1s
maximal_backoff_time = 2s
smtpd_milters = {milters}
non_smtpd_milters = {milters}
milter_default_action = tempfail
"""
MASTER = """\
{host}:{port} inet n - n - - smtpd
pickup    unix  n - n 60   1 pickup
cleanup   unix  n - n -    0 cleanup
qmgr      unix  n - n 1    1 qmgr
tlsmgr    unix  - - n 1000? 1 tlsmgr
rewrite   unix  - - n -    - trivial-rewrite
bounce    unix  - - n -    0 bounce
defer     unix  - - n -    0 bounce
trace     unix  - - n -    0 bounce
verify    unix  - - n -    1 verify
flush     unix  n - n 1000? 0 flush
proxymap  unix  - - n -    - proxymap
smtp      unix  - - n -    - smtp
showq     unix  n - n -    - showq
error     unix  - - n -    - error
retry     unix  - - n -    - error
discard   unix  - - n -    - discard
virtual   unix  - n n -    - virtual
lmtp      unix  - - n -    - lmtp
anvil     unix  - - n -    1 anvil
scache    unix  - - n -    1 scache
postlog   unix-dgram n - n - 1 postlogd
"""


class Postfix:
    """A running Postfix. It has the users bob, person with any digits, and names beyond ASCII."""

    def __init__(self, place: Place) -> None:
        self.place = place

    @property
    def log(self) -> str:
        """Its log so far."""
        return (self.place.directory / "postfix.log").read_text(errors="replace")

    def mail(self, name: str, subject: str = "") -> list[bytes]:
        """The messages in a maildir with this text in them."""
        found = (self.place.directory / "mail" / name / "new").glob("*")
        read = [path.read_bytes().replace(b"\n", b"\r\n") for path in sorted(found)]
        return [octets for octets in read if subject.encode() in octets]

    def send(
        self,
        sender: str,
        recipients: Sequence[str],
        content: bytes,
        mail_options: Sequence[str] = (),
        rcpt_options: Sequence[str] = (),
    ) -> None:
        """Give it a message to send, by SMTP."""
        with smtplib.SMTP(self.place.host, self.place.port, timeout=30) as client:
            assert client.sendmail(sender, recipients, content, mail_options, rcpt_options) == {}

    async def set_access(self, rules: str) -> None:
        """Replace the rules for recipients, lines of `/pattern/ ACTION`, also for connections that it has."""
        (self.place.directory / "access").write_text(rules)
        await self.command("stop")
        await self.command("start")
        await self.place.until_open(self.place.host, self.place.port)

    async def flush(self) -> None:
        """Try all waiting mail now."""
        await self.place.run("postqueue", "-c", self.place.directory / "etc", "-f")

    async def command(self, name: str) -> None:
        """Run `postfix NAME`."""
        await self.place.run("postfix", "-c", self.place.directory / "etc", name)


def _configure(place: Place, verified: Sequence[str], transports: Mapping[str, str], milters: Sequence[str]) -> None:
    directory = place.directory
    for name in ("etc", "queue", "data", "mail"):
        (directory / name).mkdir()
    os.chown(directory / "mail", NOBODY, NOBODY)
    policies = ", ".join(f"{{ {domain} = secure match=mx.{domain} }}" for domain in verified)
    routes = ", ".join(f"{{ {who} = {route} }}" for who, route in transports.items())
    main = MAIN.format(
        directory=directory,
        name=place.name,
        domain=place.domain,
        host=place.host,
        port=place.port,
        certificate=place.certificate.certificate,
        key=place.certificate.key,
        trusted=place.trusted,
        policies=policies,
        transports=f"inline:{{ {routes} }}" if routes else "",
        milters=", ".join(milters),
    )
    (directory / "etc" / "main.cf").write_text(main)
    (directory / "etc" / "master.cf").write_text(MASTER.format(host=place.host, port=place.port))
    (directory / "access").write_text("")
    rules = (("^bob@", "bob/"), ("^person[0-9]*@", "person/"), ("[^ -~].*@", "utf/"))  # the last: not ASCII
    lines = (f"/{pattern}{place.domain}$/ {folder}\n" for pattern, folder in rules)
    (directory / "people").write_text("".join(lines))


@contextlib.asynccontextmanager
async def postfix(
    place: Place,
    *,
    verified: Sequence[str] = (),
    transports: Mapping[str, str] | None = None,
    milters: Sequence[str] = (),
) -> AsyncIterator[Postfix]:
    """Postfix, for the time of the context. It refuses servers of `verified` domains without a valid certificate."""
    program("postfix")
    _configure(place, verified, transports or {}, milters)
    owner = (await place.run("id", "-u", "postfix")).strip()
    os.chown(place.directory / "data", int(owner), -1)
    made = Postfix(place)
    await made.command("start")
    try:
        await place.until_open(place.host, place.port)
        yield made
    finally:
        await made.command("stop")
