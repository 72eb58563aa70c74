//! The parts of a message.

use tonic::Code;

use crate::v1::{self, ErrorReason, MessageColumn, MessagePart, SectionDecoding, SectionKind};
use crate::{Client, Content, Error};

impl Client {
    /// The part tree of a message of the user's own mailbox: the whole message, as the root of its parts. The reason of a
    /// failure is `MessageNotFound`.
    pub async fn parts(&self, message_id: i64) -> Result<MessagePart, Error> {
        let ids = v1::MessageIdSet { message_ids: vec![message_id] };
        let request = v1::BatchGetMessagesRequest {
            messages: Some(v1::MessageSet { messages: Some(v1::message_set::Messages::Ids(ids)) }),
            columns: vec![MessageColumn::Parts.into()],
            ..Default::default()
        };
        let rows = self.call(request).await?.rows.unwrap_or_default();
        rows.parts.into_iter().next().ok_or_else(|| {
            let message = format!("The message does not exist (message_id {message_id}).");
            Error::of_reason(Code::NotFound, ErrorReason::MessageNotFound, &message)
                .with("message_id", &message_id.to_string())
        })
    }

    /// Reads a part of a message of the user's own mailbox without its transfer encoding, as
    /// [`open_content`](Self::open_content) reads. The multipart of a whole message has no octets of its own.
    pub fn open_part(&self, message_id: i64, part: &MessagePart) -> Content {
        self.open_content(message_id, Some(section(part, SectionDecoding::Transfer)))
    }

    /// All the octets that [`open_part`](Self::open_part) reads.
    pub async fn read_part(&self, message_id: i64, part: &MessagePart) -> Result<Vec<u8>, Error> {
        self.read_content(message_id, Some(section(part, SectionDecoding::Transfer))).await
    }

    /// The text of a text part of a message of the user's own mailbox. The server decodes its charset; line ends are LF.
    pub async fn read_text(&self, message_id: i64, part: &MessagePart) -> Result<String, Error> {
        let octets = self.read_content(message_id, Some(section(part, SectionDecoding::Text))).await?;
        Ok(String::from_utf8_lossy(&octets).replace("\r\n", "\n"))
    }
}

fn section(part: &MessagePart, decoding: SectionDecoding) -> v1::Section {
    v1::Section {
        part: part.part.clone(),
        kind: SectionKind::Whole.into(),
        decoding: decoding.into(),
        ..Default::default()
    }
}

/// A part and the parts below it, in order, without those of embedded messages.
pub fn parts_of(root: &MessagePart) -> Vec<&MessagePart> {
    let below = root.media_type.starts_with("multipart/").then_some(&root.parts).into_iter().flatten();
    std::iter::once(root).chain(below.flat_map(parts_of)).collect()
}

/// The attachments of a message, in order. An embedded message counts as one.
pub fn attachments(root: &MessagePart) -> Vec<&MessagePart> {
    parts_of(root).into_iter().filter(|part| part.attachment).collect()
}

/// The first part of a media type, such as `text/plain`, that is no attachment.
pub fn find_part<'a>(root: &'a MessagePart, media_type: &str) -> Option<&'a MessagePart> {
    parts_of(root).into_iter().find(|part| part.media_type == media_type && !part.attachment)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(number: &[i32], media_type: &str, attachment: bool, parts: Vec<MessagePart>) -> MessagePart {
        MessagePart { part: number.into(), media_type: media_type.into(), attachment, parts, ..Default::default() }
    }

    fn tree() -> MessagePart {
        let texts = vec![part(&[1, 1], "text/plain", false, vec![]), part(&[1, 2], "text/html", false, vec![])];
        let below = vec![part(&[2, 1], "text/csv", true, vec![])];
        let parts = vec![
            part(&[1], "multipart/alternative", false, texts),
            part(&[2], "message/rfc822", true, below),
            part(&[3], "text/plain", true, vec![]),
        ];
        part(&[], "multipart/mixed", false, parts)
    }

    #[test]
    fn parts_and_attachments_are_those_of_the_message_itself() {
        let tree = tree();
        let numbers: Vec<&[i32]> = parts_of(&tree).into_iter().map(|part| part.part.as_slice()).collect();
        let wanted: [&[i32]; 6] = [&[], &[1], &[1, 1], &[1, 2], &[2], &[3]];
        assert_eq!(numbers, wanted);
        let types: Vec<&str> = attachments(&tree).into_iter().map(|part| part.media_type.as_str()).collect();
        assert_eq!(types, ["message/rfc822", "text/plain"]);
    }

    #[test]
    fn a_part_is_found_by_its_media_type() {
        let tree = tree();
        assert_eq!(find_part(&tree, "text/plain").map(|part| part.part.as_slice()), Some([1, 1].as_slice()));
        assert_eq!(find_part(&tree, "text/csv"), None);
        let single = part(&[1], "text/html", false, vec![]);
        assert_eq!(find_part(&single, "text/html"), Some(&single));
    }
}
