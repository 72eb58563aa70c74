"""EHLO, MAIL and RCPT arguments by table, and the arguments to refuse."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from restante_gateways.smtp.grammar import (
    MailArguments,
    RcptArguments,
    parse_hello,
    parse_mail,
    parse_rcpt,
)
from restante_gateways.smtp.replies import Refused
from restante_mail.envelope.paths import Path


def mail(argument: str, *, extended: bool = True, authentication: bool = True) -> MailArguments:
    return parse_mail(argument.encode(), extended=extended, authentication=authentication)


def rcpt(argument: str, *, extended: bool = True, smtputf8: bool = False) -> RcptArguments:
    return parse_rcpt(argument.encode(), extended=extended, smtputf8=smtputf8)


@pytest.mark.parametrize(
    ("argument", "path", "address"),
    [
        ("TO:<alice@example.test>", Path("alice", "example.test"), "alice@example.test"),
        ("to:<Alice@Example.TEST>", Path("Alice", "Example.TEST"), "Alice@Example.TEST"),  # RFC 5321 2.4: case is kept
        ("TO: <alice@example.test>", Path("alice", "example.test"), "alice@example.test"),  # RFC 5321 3.3
        ("TO:<alice@example.test> ", Path("alice", "example.test"), "alice@example.test"),
        ('TO:<"a b"@example.test>', Path("a b", "example.test"), '"a b"@example.test'),  # RFC 5321 4.1.2
        ('TO:<"alice"@example.test>', Path("alice", "example.test"), "alice@example.test"),  # RFC 5321 4.1.2
        (r'TO:<"a\"b\\c"@example.test>', Path('a"b\\c', "example.test"), r'"a\"b\\c"@example.test'),
        ('TO:<""@example.test>', Path("", "example.test"), '""@example.test'),
        ('TO:<"x@other"@example.test>', Path("x@other", "example.test"), '"x@other"@example.test'),  # RFC 5321 4.1.2
        ('TO:<">"@example.test>', Path(">", "example.test"), '">"@example.test'),
        ("TO:<@a.example,@b.example:bob@example.test>", Path("bob", "example.test"), "bob@example.test"),
        ("TO:<@[192.0.2.1]:bob@example.test>", Path("bob", "example.test"), "bob@example.test"),
        ("TO:<user%other.example@example.test>", Path("user%other.example", "example.test"), None),  # RFC 5321 3.6.2
        ("TO:<other.example!user@example.test>", Path("other.example!user", "example.test"), None),
        ("TO:<Postmaster>", Path("Postmaster", ""), "Postmaster"),  # RFC 5321 4.5.1
        ("TO:<postmaster>", Path("postmaster", ""), "postmaster"),
        ("TO:<postmaster@example.test>", Path("postmaster", "example.test"), None),
        ("TO:<alice@[127.0.0.1]>", Path("alice", "[127.0.0.1]"), "alice@[127.0.0.1]"),  # RFC 5321 4.1.3
        ("TO:<alice@[IPv6:::1]>", Path("alice", "[IPv6:::1]"), "alice@[IPv6:::1]"),
        ("TO:<alice@[ipv6:2001:db8::1]>", Path("alice", "[ipv6:2001:db8::1]"), None),
        ("TO:<alice+news@example.test>", Path("alice+news", "example.test"), None),
        ("TO:<!#$%&'*+-/=?^_`{|}~@example.test>", Path("!#$%&'*+-/=?^_`{|}~", "example.test"), None),
        ("TO:<a@b>", Path("a", "b"), "a@b"),
        ("TO:alice@example.test", Path("alice", "example.test"), None),
        ("TO: alice@example.test ", Path("alice", "example.test"), None),
        ("TO:alice@example.test NOTIFY=NEVER", Path("alice", "example.test"), None),
        ('TO:"a b"@example.test', Path("a b", "example.test"), '"a b"@example.test'),
        ("TO:< alice@example.test>", Path("alice", "example.test"), None),
        ("TO:<alice@example.test  > NOTIFY=NEVER", Path("alice", "example.test"), None),
        ("TO:< @a.example:bob@example.test >", Path("bob", "example.test"), None),
        ("TO:postmaster", Path("postmaster", ""), "postmaster"),
        ("TO:< Postmaster >", Path("Postmaster", ""), "Postmaster"),
        ("TO:<a..b@example.test>", Path("a..b", "example.test"), '"a..b"@example.test'),
        ("TO:<a.@example.test>", Path("a.", "example.test"), '"a."@example.test'),
        ("TO:<.a@example.test>", Path(".a", "example.test"), '".a"@example.test'),
        ("TO:a..b.@example.test", Path("a..b.", "example.test"), '"a..b."@example.test'),
        ("TO:<a@_exam_ple.test>", Path("a", "_exam_ple.test"), None),
        ("TO:<a@xn--bcher-kva.example>", Path("a", "xn--bcher-kva.example"), None),
    ],
)
def test_forward_paths(argument: str, path: Path, address: str | None) -> None:
    arguments = rcpt(argument)
    assert arguments.forward_path == path
    assert arguments.forward_path.address == (address or f"{path.local_part}@{path.domain}")


@pytest.mark.parametrize(
    "argument",
    [
        "",
        "TO",
        "TO:",
        "FROM:<alice@example.test>",
        "TO:<alice>",
        "TO:<alice@>",
        "TO:<@example.test>",
        "TO:<alice@example.test",
        "TO:<alice@example.test>>",
        "TO:<<alice@example.test>>",
        "TO:<alice@example.test><bob@example.test>",
        "TO:<alice@example.test>NOTIFY=NEVER",
        "TO:<alice@example.test> <bob@example.test>",
        "TO:<alice @example.test>",
        "TO:alice@example.test>",
        "TO:alice @example.test",
        "TO:@a.example:alice@example.test",
        "TO:alice@example.test,bob@example.test",
        "TO:alice@example.test bob@example.test",
        "TO:< alice@example.test",
        "TO:< alice@example.test bob@example.test>",
        "TO:postmaster>",
        "TO:<alice@ example.test>",
        "TO:<alice bob@example.test>",
        "TO:<alice@example..test>",
        "TO:<alice@.example.test>",
        "TO:<alice@example.test.>",
        "TO:<alice@-example.test>",
        "TO:<alice@example-.test>",
        "TO:<alice@exam*ple.test>",
        "TO:<alice@example.test> ORCPT=rfc822;älice",
        "TO:<alice@example.test@other.example>",  # never two readings
        "TO:<alice@other.example,bob@example.test>",
        'TO:<"alice@example.test>',
        'TO:<"a"b@example.test>',
        'TO:<a"b"@example.test>',
        "TO:<alice@[300.0.0.1]>",
        "TO:<alice@[127.0.0.1>",
        "TO:<alice@[127.1]>",
        "TO:<alice@[IPv6:::1%eth0]>",
        "TO:<alice@[]>",
        "TO:<alice@[X-tag:foo]>",
        "TO:<@a.example:>",
        "TO:<@a.example,bob@example.test>",
        "TO:<(comment)alice@example.test>",
        "TO:<alice\t@example.test>",
        "TO:<alice\x00@example.test>",
        f"TO:<{'a' * 256}@example.test>",
        f"TO:<alice@{'a' * 64}.test>",
        f"TO:<alice@{'.'.join(['a' * 60] * 5)}>",
        "TO:<alice@example.test> =x",
        "TO:<alice@example.test> NOTIFY",
        "TO:<alice@example.test> NOTIFY=NEVER,SUCCESS",
        "TO:<alice@example.test> NOTIFY=SUCCESS,SUCCESS",
        "TO:<alice@example.test> NOTIFY=SUCCESS,",
        "TO:<alice@example.test> NOTIFY=SOMETIMES",
        "TO:<alice@example.test> NOTIFY=NEVER NOTIFY=NEVER",
        "TO:<alice@example.test> ORCPT=rfc822",
        "TO:<alice@example.test> ORCPT=rfc822;",
        "TO:<alice@example.test> ORCPT=rfc822;a+b",
        "TO:<alice@example.test> ORCPT=rfc822;a=b",
        f"TO:<alice@example.test> ORCPT=rfc822;{'a' * 500}",
    ],
)
def test_bad_rcpt_is_501_and_never_misread(argument: str) -> None:
    with pytest.raises(Refused) as refused:
        rcpt(argument)
    assert refused.value.reply.code == 501
    assert refused.value.reply.enhanced in {"5.1.3", "5.5.2", "5.5.4"}


def test_null_forward_path_is_refused() -> None:
    with pytest.raises(Refused) as refused:
        rcpt("TO:<>")  # RFC 5321 4.1.1.3
    assert refused.value.reply.code == 553


def test_null_reverse_path_is_always_accepted() -> None:
    assert mail("FROM:<>").reverse_path is None  # RFC 5321 4.5.5
    assert mail("FROM: <> BODY=8BITMIME").body == "8BITMIME"
    assert mail("FROM:< >").reverse_path is None


@pytest.mark.parametrize(
    "argument", ["FROM:<", "FROM:", "FROM:<alice>", "FROM:<Postmaster>", "FROM:alice", "FROM: SIZE=1"]
)
def test_bad_mail_is_501(argument: str) -> None:
    with pytest.raises(Refused) as refused:
        mail(argument)
    assert refused.value.reply.code == 501


def test_mail_parameters_keep_the_case_of_their_values() -> None:
    arguments = mail(
        "FROM:<alice@example.test> size=1234 Body=8bitmime RET=hdrs ENVID=Qq+2BzZ AUTH=e+3Dmc2@example.com"
    )
    assert arguments == MailArguments(
        reverse_path=Path("alice", "example.test"),
        size_octets=1234,
        body="8BITMIME",
        ret="HDRS",
        envid="Qq+2BzZ",  # aiosmtpd would have made it QQ+2BZZ
        auth="e+3Dmc2@example.com",  # RFC 4954 5
    )


def test_rcpt_parameters_keep_the_case_of_their_values() -> None:
    arguments = rcpt("TO:<bob@example.test> notify=success,Delay ORCPT=rfc822;Bob+2Bnews@Example.COM")
    assert arguments.notify == {"SUCCESS", "DELAY"}
    assert arguments.orcpt == "rfc822;Bob+2Bnews@Example.COM"
    assert rcpt("TO:<bob@example.test> NOTIFY=NEVER").notify == {"NEVER"}


def test_orcpt_beyond_ascii_is_kept_within_it() -> None:
    given = rcpt("TO:<bob@example.test> ORCPT=utf-8;bücher@example.net", smtputf8=True)
    assert given.orcpt == "utf-8;b\\x{FC}cher@example.net"  # RFC 6533 3


@pytest.mark.parametrize(
    "parameters",
    [
        "SIZE", "SIZE=", "SIZE=x", "SIZE=-1", "SIZE=1 SIZE=1", f"SIZE={'9' * 21}", "BODY=BINARYMIME", "BODY", "RET=ALL",
        "ENVID=", "ENVID=a+b", "ENVID=a+2b", f"ENVID={'a' * 101}", "SMTPUTF8=1", "AUTH=", "=1", "-A=1", "A B=C=D",
    ],
)  # fmt: skip
def test_bad_mail_parameters_are_501(parameters: str) -> None:
    with pytest.raises(Refused) as refused:
        mail(f"FROM:<alice@example.test> {parameters}")
    assert refused.value.reply.code == 501


@pytest.mark.parametrize("parameters", ["FOO", "FOO=bar", "SIZE=1 X-Y=1", "NOTIFY=NEVER", "BY=120;R", "REQUIRETLS"])
def test_unknown_mail_parameter_is_555(parameters: str) -> None:
    with pytest.raises(Refused) as refused:
        mail(f"FROM:<alice@example.test> {parameters}")  # RFC 5321 4.1.1.11
    assert refused.value.reply.code == 555


def test_unknown_rcpt_parameter_is_555() -> None:
    with pytest.raises(Refused) as refused:
        rcpt("TO:<alice@example.test> SIZE=1")
    assert refused.value.reply.code == 555


def test_auth_parameter_only_where_auth_is_offered() -> None:
    with pytest.raises(Refused) as refused:
        mail("FROM:<alice@example.test> AUTH=<>", authentication=False)
    assert refused.value.reply.code == 555


def test_no_parameters_after_helo() -> None:
    with pytest.raises(Refused) as refused:
        mail("FROM:<alice@example.test> SIZE=1", extended=False)
    assert refused.value.reply.code == 501


def test_addresses_beyond_ascii_need_smtputf8() -> None:
    assert mail("FROM:<ünal@bücher.example> SMTPUTF8").reverse_path == Path("ünal", "bücher.example")
    assert rcpt("TO:<ünal@bücher.example>", smtputf8=True).forward_path.address == "ünal@bücher.example"
    for attempt in (lambda: mail("FROM:<ünal@example.test>"), lambda: rcpt("TO:<alice@bücher.example>")):
        with pytest.raises(Refused) as refused:
            attempt()
        assert (refused.value.reply.code, refused.value.reply.enhanced) == (553, "5.6.7")  # RFC 6531 3.5


def test_octets_that_are_no_utf8_are_501() -> None:
    with pytest.raises(Refused) as refused:
        parse_mail(b"FROM:<\xff@example.test> SMTPUTF8", extended=True, authentication=False)
    assert refused.value.reply.code == 501


@pytest.mark.parametrize(
    "name", ["mx.example.net", "localhost", "my_pc", "[127.0.0.1]", "[IPv6:::1]", "a", "10.0.0.1", "host."]
)
def test_hello_names(name: str) -> None:
    assert parse_hello(name.encode()) == name


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("my pc", "my?pc"),
        ("Bob's-PC", "Bob's-PC"),
        ("(none)", "?none?"),
        ("m\u00fcller-pc", "m?ller-pc"),
        ("[2001:db8::19]", "[2001:db8::19]"),
        ("[IPv6:fe80::1%wlan0]", "[IPv6:fe80::1%wlan0]"),
        ("[::1]", "[::1]"),
        ("[1.2.3", "?1.2.3"),
        ("[a](b)]", "[a??b?]"),
        ("-a", "-a"),
        ('a"b\\c,d;e<f>@g', "a?b?c?d?e?f??g"),
        ("=?utf-8?q?a?=", "??utf-8?q?a??"),
        ("a\tb\x01c\x7f", "a?b?c?"),
        ("x" * 300, "x" * 255),
    ],
)
def test_any_hello_name_is_taken_in_a_safe_form(name: str, safe: str) -> None:  # RFC 5321 4.1.4
    assert parse_hello(name.encode()) == safe


def test_a_hello_name_beyond_utf_8_is_taken() -> None:
    assert parse_hello(b"m\xfcller") == "m?ller"


@pytest.mark.parametrize("argument", [b"", b"  "])
def test_a_hello_without_a_name_is_501(argument: bytes) -> None:
    with pytest.raises(Refused) as refused:
        parse_hello(argument)
    assert refused.value.reply.code == 501


@given(st.binary(min_size=1, max_size=300).filter(lambda octets: octets.strip(b" ")))
def test_whatever_the_hello_name_its_received_field_is_one_field_without_comments(octets: bytes) -> None:
    safe = parse_hello(octets)
    assert safe.isascii()
    assert not set(safe) & set(' ()<>"\\;,@=')


@given(st.text(st.characters(codec="ascii", min_codepoint=32, max_codepoint=126), max_size=30))
def test_any_quoted_local_part_comes_back(local: str) -> None:
    written = Path(local, "example.test").address
    assert rcpt(f"TO:<{written}>").forward_path == Path(local, "example.test")


@given(st.binary(max_size=80))
def test_junk_is_parsed_or_refused_never_anything_else(octets: bytes) -> None:
    for attempt in (
        lambda: parse_hello(octets),
        lambda: parse_mail(b"FROM:<" + octets, extended=True, authentication=True),
        lambda: parse_rcpt(b"TO:<" + octets, extended=True, smtputf8=True),
    ):
        code = 250
        try:
            attempt()
        except Refused as refused:
            code = refused.reply.code
        assert code in {250, 501, 553, 555}
