"""The parts of a message, as the server's part tree has them (RFC 2045). *Pure.*"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from restante.v1.message_pb2 import MessagePart, Section, SectionDecoding, SectionKind
from restante.v1.types_pb2 import MessageSummary


@dataclass(frozen=True, slots=True)
class Part:
    """One part. `number` is the value for `Section.part`; it is empty for the multipart of a whole message."""

    number: tuple[int, ...]
    media_type: str  # lower case, such as "text/plain"
    parameters: Mapping[str, str] = field(default_factory=dict)  # decoded, by lower-case name
    charset: str = ""  # as declared; the server applies it (`Contents.read_text`)
    encoding: str = "7bit"  # content transfer encoding, lower case
    size_octets: int = 0  # in its transfer encoding
    disposition: str = ""  # lower case, such as "inline" or "attachment"
    file_name: str = ""  # decoded, chosen by the sender: not safe as a path
    content_id: str = ""  # without angle brackets
    description: str = ""
    languages: tuple[str, ...] = ()
    location: str = ""
    is_attachment: bool = False  # of the message that it belongs to
    summary: MessageSummary | None = None  # of an attached message
    children: tuple[Part, ...] = ()

    @property
    def label(self) -> str:
        """Its number as people write it, such as "2.1"."""
        return ".".join(map(str, self.number)) or "0"

    @property
    def is_multipart(self) -> bool:
        return self.media_type.startswith("multipart/")

    def section(self, decoding: SectionDecoding.ValueType = SectionDecoding.SECTION_DECODING_TRANSFER) -> Section:
        """The section that has the part's octets, by default without their transfer encoding."""
        return Section(part=self.number, kind=SectionKind.SECTION_KIND_WHOLE, decoding=decoding)

    def walk(self) -> Iterator[Part]:
        """This part and all parts below it, in order, including those of attached messages."""
        yield self
        for child in self.children:
            yield from child.walk()

    def of_message(self) -> Iterator[Part]:
        """This part and the parts below it, in order, without those of attached messages."""
        yield self
        if self.is_multipart:
            for child in self.children:
                yield from child.of_message()

    def find(self, media_type: str) -> Part | None:
        """The first part of a media type that is no attachment; parts of attached messages do not count."""
        found = (part for part in self.of_message() if part.media_type == media_type and not part.is_attachment)
        return next(found, None)

    def attachments(self) -> Iterator[Part]:
        """The attachments; an attached message counts as one."""
        return (part for part in self.of_message() if part.is_attachment)


def part_of(tree: MessagePart) -> Part:
    """The value of a part tree."""
    return Part(
        number=tuple(tree.part),
        media_type=tree.media_type,
        parameters=dict(tree.parameters),
        charset=tree.charset,
        encoding=tree.transfer_encoding,
        size_octets=tree.size_octets,
        disposition=tree.disposition,
        file_name=tree.file_name,
        content_id=tree.content_id,
        description=tree.content_description,
        languages=tuple(tree.languages),
        location=tree.location,
        is_attachment=tree.attachment,
        summary=tree.summary if tree.HasField("summary") else None,
        children=tuple(map(part_of, tree.parts)),
    )
