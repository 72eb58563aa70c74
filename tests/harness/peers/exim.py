"""Exim as another organisation's server: it receives into maildirs, and sends by MX with BDAT.

Its Debian package excludes Postfix's, so it lies unpacked in a folder, where .ci/run puts it.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import smtplib
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from tests.harness.peers.place import Place
from tests.harness.requirements import missing

USER = "Debian-exim"  # compiled into Debian's Exim
PLACES = (Path("/opt/restante-peers/exim/usr/sbin/exim4"), Path("/usr/sbin/exim4"))
CONFIGURATION = """\
exim_path = {program}
spool_directory = {directory}/spool
log_file_path = {directory}/exim-%slog
log_selector = +all
pid_file_path = {directory}/exim.pid
primary_hostname = {name}
local_interfaces = {host}
daemon_smtp_ports = {port}
exim_user = Debian-exim
exim_group = Debian-exim
never_users =
deliver_drop_privilege = true
acl_smtp_rcpt = acl_rcpt
acl_smtp_data = acl_data
tls_advertise_hosts = *
tls_certificate = {certificate}
tls_privatekey = {key}
dsn_advertise_hosts = *
chunking_advertise_hosts = *
smtputf8_advertise_hosts = *
recipients_max = 5000
smtp_accept_max = 100
smtp_accept_queue_per_connection = 0
remote_max_parallel = 4
queue_run_max = 5
retry_interval_max = 1m
keep_environment =
trusted_users = root
dns_dnssec_ok = 0
host_lookup =
rfc1413_query_timeout = 0s

begin acl
acl_rcpt:
  defer condition = ${{if exists{{{directory}/later}}}}
        domains = {domain}
        message = 4.3.0 try again later
  accept domains = {domain}
         verify = recipient
  deny domains = {domain}
       message = 5.1.1 no such person
  accept hosts = 127.0.0.0/8
  deny

acl_data:
  warn add_header = :at_start:${{authresults {{{name}}}}}
  accept

begin routers
bob:
  driver = accept
  domains = {domain}
  local_parts = bob
  address_data = bob
  transport = maildir
people:
  driver = accept
  domains = {domain}
  local_parts = \\N^person[0-9]*$\\N
  address_data = person
  transport = maildir
beyond_ascii:
  driver = accept
  domains = {domain}
  local_parts = \\N^.*[^ -~]\\N
  address_data = utf
  transport = maildir
nobody:
  driver = redirect
  domains = {domain}
  allow_fail
  data = :fail: no such person
away:
  driver = dnslookup
  transport = smtp
  self = send
  no_more

begin transports
maildir:
  driver = appendfile
  directory = {directory}/mail/$address_data
  maildir_format
  create_directory
  delivery_date_add
  envelope_to_add
  return_path_add
smtp:
  driver = smtp
  port = {port}
  max_rcpt = 1500
  tls_verify_certificates = {trusted}
  tls_verify_hosts = {verified}
  tls_verify_cert_hostnames = {verified}
  hosts_require_tls = {verified}
  hosts_try_chunking = *
{signing}

begin retry
* * F,1h,1s
"""
SIGNING = """\
  dkim_domain = {domain}
  dkim_selector = {selector}
  dkim_private_key = {key}
  dkim_strict = true
"""


class Exim:
    """A running Exim. It has the users bob, person with any digits, and names beyond ASCII."""

    def __init__(self, place: Place, program: Path) -> None:
        self.place, self._program = place, program

    @property
    def log(self) -> str:
        """Its log so far."""
        return (self.place.directory / "exim-mainlog").read_text(errors="replace")

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

    def defer(self, later: bool) -> None:
        """Whether it answers 451 to recipients of its own."""
        file = self.place.directory / "later"
        if later:
            file.touch()
        else:
            file.unlink()

    async def flush(self) -> None:
        """Try all waiting mail now."""
        await self.place.run(*exim_command(self._program, self.place), "-qff")


def exim_command(program: Path, place: Place) -> list[str | Path]:
    """The program with this place's configuration, as its own user: all it does happens below its folder."""
    return [
        "setpriv",
        f"--reuid={USER}",
        f"--regid={USER}",
        "--clear-groups",
        program,
        "-C",
        place.directory / "exim.conf",
    ]


def find() -> Path:
    """Exim's program. Without it the test ends as in `missing`."""
    found = next((path for path in PLACES if path.exists()), None)
    if found is None:
        missing("Exim is not unpacked in /opt/restante-peers/exim (Debian package exim4-daemon-light; see .ci/run)")
    try:
        pwd.getpwnam(USER)
    except KeyError:
        missing(f"Exim needs the user {USER} (see .ci/run)")
    return found


@contextlib.asynccontextmanager
async def exim(
    place: Place, *, verified: Sequence[str] = (), selector: str = "", signing_key: Path | None = None
) -> AsyncIterator[Exim]:
    """Exim, for the time of the context. It requires a valid certificate of the `verified` hosts."""
    program = find()
    signing = ""
    if signing_key is not None:
        signing = SIGNING.format(domain=place.domain, selector=selector, key=signing_key)
    key = place.directory / "key.pem"
    shutil.copy(place.certificate.key, key)
    key.chmod(0o600)
    (place.directory / "exim.conf").write_text(
        CONFIGURATION.format(
            program=program,
            directory=place.directory,
            name=place.name,
            domain=place.domain,
            host=place.host,
            port=place.port,
            certificate=place.certificate.certificate,
            key=key,
            trusted=place.trusted,
            verified=" : ".join(verified),
            signing=signing,
        )
    )
    owner = pwd.getpwnam(USER)
    for path in (place.directory, key):
        os.chown(path, owner.pw_uid, owner.pw_gid)
    for name in ("spool", "mail"):
        (place.directory / name).mkdir()
        os.chown(place.directory / name, owner.pw_uid, owner.pw_gid)
    command = exim_command(program, place)
    async with place.running(*command, "-bdf", "-q1m", log="exim.out"):
        await place.until_open(place.host, place.port)
        yield Exim(place, program)
