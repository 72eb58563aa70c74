"""Conversion of envelopes to the contract's requests. *Pure.*"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from restante.v1 import submission_pb2, transport_pb2
from restante.v1.greylist_pb2 import ClientEvidence
from restante_gateways.net.addresses import Peer
from restante_gateways.smtp.grammar import MailArguments, RcptArguments

if TYPE_CHECKING:
    from restante_gateways.smtp.core import Envelope

_RETURNS = {
    "": submission_pb2.DSN_RETURN_UNSPECIFIED,
    "FULL": submission_pb2.DSN_RETURN_FULL,
    "HDRS": submission_pb2.DSN_RETURN_HEADERS,
}
_CONDITIONS = {
    "NEVER": submission_pb2.NOTIFY_CONDITION_NEVER,
    "SUCCESS": submission_pb2.NOTIFY_CONDITION_SUCCESS,
    "FAILURE": submission_pb2.NOTIFY_CONDITION_FAILURE,
    "DELAY": submission_pb2.NOTIFY_CONDITION_DELAY,
}


def verification(
    peer: Peer, mail: MailArguments, recipients: Sequence[RcptArguments], evidence: ClientEvidence | None
) -> transport_pb2.VerifyRecipientsRequest:
    """The request about at most 100 recipients."""
    return transport_pb2.VerifyRecipientsRequest(
        reverse_path=_reverse_path(mail),
        forward_paths=[recipient.forward_path.address for recipient in recipients],
        size_octets=mail.size_octets or 0,
        client_address=peer.client.host,
        evidence=evidence,
    )


def begin(envelope: Envelope, request_id: bytes) -> transport_pb2.AcceptBegin:
    """The first request of an acceptance."""
    return transport_pb2.AcceptBegin(
        request_id=request_id,
        reverse_path=_reverse_path(envelope.mail),
        recipients=_recipients(envelope),
        options=_options(envelope.mail),
        client_address=envelope.peer.client.host,
        trace_field=envelope.trace_field.decode("ascii"),
        lmtp=envelope.lmtp,
    )


def submission(envelope: Envelope, request_id: bytes) -> transport_pb2.AcceptSubmissionRequest:
    """The request of a submission, without its message yet."""
    return transport_pb2.AcceptSubmissionRequest(
        submission=submission_pb2.SubmitMessageRequest(
            request_id=request_id,
            reverse_path=_reverse_path(envelope.mail),
            recipients=_recipients(envelope),
            options=_options(envelope.mail),
        ),
        trace_field=envelope.trace_field.decode("ascii"),
    )


def _reverse_path(mail: MailArguments) -> str:
    return mail.reverse_path.address if mail.reverse_path is not None else ""


def _recipients(envelope: Envelope) -> list[submission_pb2.EnvelopeRecipient]:
    return [
        submission_pb2.EnvelopeRecipient(
            forward_path=recipient.forward_path.address,
            notify=[_CONDITIONS[word] for word in sorted(recipient.notify)],
            original_recipient=recipient.orcpt,
        )
        for recipient in envelope.recipients
    ]


def _options(mail: MailArguments) -> submission_pb2.EnvelopeOptions:
    return submission_pb2.EnvelopeOptions(
        dsn_return=_RETURNS[mail.ret],
        envelope_id=mail.envid,
        smtputf8=mail.smtputf8,
        body_8bit=mail.body == "8BITMIME",
    )
