//! Messages in batches of columns.

use std::sync::Arc;

use crate::client::Client;
use crate::core::Core;
use crate::error::Error;
use crate::events::{Events, Resume, Told};
use crate::link::authorize;
use crate::v1;
use crate::v1::message_service_client::MessageServiceClient;
use crate::v1::message_set::Messages;

impl Client {
    /// Reads columns and sections of any number of messages, a batch at a time, no faster than they are taken. Octets
    /// that the contract cuts at the end of a batch are put together: every cell is whole, and the largest message bounds
    /// the memory.
    ///
    /// A stream that breaks is opened again with the messages that have not been told. It ends after an error.
    pub fn stream_messages(&self, request: v1::StreamMessagesRequest) -> Events<v1::MessageRows> {
        Events::new(self.core.clone(), |core, told| stream(core, request, told))
    }
}

async fn stream(
    core: Arc<Core>,
    mut wanted: v1::StreamMessagesRequest,
    told: Told<v1::MessageRows>,
) -> Result<(), Error> {
    if wanted.min_commit.is_none() {
        wanted.min_commit = core.min_commit(wanted.mailbox_id);
    }
    let mut resume = Resume::new(&core);
    let mut whole = wanted.messages.clone();
    while let Err(failure) = stream_once(&core, &mut whole, &mut wanted, &told, &mut resume).await {
        resume.after(failure).await?;
    }
    Ok(())
}

async fn stream_once(
    core: &Core,
    whole: &mut Option<v1::MessageSet>,
    wanted: &mut v1::StreamMessagesRequest,
    told: &Told<v1::MessageRows>,
    resume: &mut Resume,
) -> Result<(), Error> {
    if wanted.messages.as_ref().is_some_and(is_finished) {
        return Ok(());
    }
    let mut stub = MessageServiceClient::new(core.channel()?.1);
    let request = authorize(wanted.clone(), &core.session.token());
    let mut stream = stub.stream_messages(request).await?.into_inner();
    let mut cut: Option<v1::MessageRows> = None;
    while let Some(response) = stream.message().await? {
        resume.told();
        if response.matching_below != 0 {
            keep_below(whole, response.matching_below);
        }
        if let (Some(batch), Some(rest)) = (&mut cut, response.rest) {
            join(batch, &rest);
        }
        if let Some(rows) = response.rows {
            if let Some(batch) = cut.replace(rows) {
                give(batch, whole, wanted, told).await;
            }
        }
        if let Some(batch) = cut.take_if(|batch| is_whole(batch)) {
            give(batch, whole, wanted, told).await;
        }
    }
    if let Some(batch) = cut {
        give(batch, whole, wanted, told).await;
    }
    Ok(())
}

async fn give(
    batch: v1::MessageRows,
    whole: &Option<v1::MessageSet>,
    wanted: &mut v1::StreamMessagesRequest,
    told: &Told<v1::MessageRows>,
) {
    wanted.messages = whole.as_ref().map(|set| behind(set, &batch));
    told.tell(batch).await;
}

/// Adds octets to a cut cell of the last message of a batch.
fn join(batch: &mut v1::MessageRows, rest: &v1::SectionRest) {
    let cells = usize::try_from(rest.section_index).ok().and_then(|index| batch.sections.get_mut(index));
    if let Some(cell) = cells.and_then(|cells| cells.octets.last_mut()) {
        cell.extend_from_slice(&rest.octets);
    }
}

/// Whether no cell of the last message is cut.
fn is_whole(batch: &v1::MessageRows) -> bool {
    batch.sections.iter().all(|cells| match (cells.octets.last(), cells.total_octets.last()) {
        (Some(octets), Some(total)) => octets.len() as i64 >= *total,
        _ => true,
    })
}

/// The part of a set that follows a batch: batches come in ascending order of UIDs or message ids.
fn behind(set: &v1::MessageSet, told: &v1::MessageRows) -> v1::MessageSet {
    let (Some(&last_id), Some(messages)) = (told.message_ids.last(), &set.messages) else {
        return set.clone();
    };
    let last_uid = told.uids.last().copied().unwrap_or_default();
    let left = match messages.clone() {
        Messages::Uids(mut uids) => {
            uids.ranges.retain(|range| range.last > last_uid);
            for range in &mut uids.ranges {
                range.first = range.first.max(last_uid + 1);
            }
            Messages::Uids(uids)
        }
        Messages::Ids(mut ids) => {
            ids.message_ids.retain(|id| *id > last_id);
            Messages::Ids(ids)
        }
        Messages::Matching(matching) => Messages::Matching(matching_behind(matching, last_id, last_uid)),
    };
    v1::MessageSet { messages: Some(left) }
}

/// The matching messages whose UIDs, or in all folders message ids, are above the last one told.
fn matching_behind(matching: v1::MatchingMessages, last_id: i64, last_uid: i64) -> v1::MatchingMessages {
    let above = if matching.folder_id == 0 { last_id } else { last_uid };
    v1::MatchingMessages { above, ..matching }
}

/// Leaves out the messages that arrive after the first evaluation of a restriction.
fn keep_below(set: &mut Option<v1::MessageSet>, below: i64) {
    if let Some(v1::MessageSet { messages: Some(Messages::Matching(matching)) }) = set {
        matching.below = below;
    }
}

fn is_finished(set: &v1::MessageSet) -> bool {
    match &set.messages {
        Some(Messages::Uids(uids)) => uids.ranges.is_empty(),
        Some(Messages::Ids(ids)) => ids.message_ids.is_empty(),
        Some(Messages::Matching(_)) => false,
        None => true,
    }
}

/// One message of a batch of columns. What was not asked for is zero or empty.
#[derive(Clone, Debug)]
pub struct Row<'a> {
    /// The message's id.
    pub message_id: i64,
    /// In its folder; 0 for a recoverable message.
    pub uid: i64,
    /// The folder.
    pub folder_id: i64,
    /// A sum of `Flag` bits.
    pub flags: i32,
    /// In ascending order.
    pub keywords: &'a [String],
    /// Of its last change.
    pub change_number: i64,
    /// Seconds since 1970-01-01 UTC.
    pub received_at_seconds: i64,
    /// The zone of the received time, minutes east of UTC.
    pub received_offset_minutes: i32,
    /// Of head and content.
    pub size_octets: i64,
    /// The parsed header.
    pub summary: Option<&'a v1::MessageSummary>,
    /// The first 200 characters of text.
    pub preview: &'a str,
    /// Number of attachments.
    pub attachment_count: i32,
    /// The whole message, as the root of its parts.
    pub parts: Option<&'a v1::MessagePart>,
    /// The octets of each section that was asked for; `None` where the message has no such part.
    pub sections: Vec<Option<&'a [u8]>>,
}

impl Row<'_> {
    /// Whether the message has a flag.
    pub fn has(&self, flag: v1::Flag) -> bool {
        self.flags & flag as i32 != 0
    }
}

/// The messages of a batch of columns, one by one.
pub fn rows(batch: &v1::MessageRows) -> impl Iterator<Item = Row<'_>> {
    batch.message_ids.iter().enumerate().map(|(index, id)| Row {
        message_id: *id,
        uid: cell(&batch.uids, index),
        folder_id: cell(&batch.folder_ids, index),
        flags: cell(&batch.flags, index),
        keywords: keywords(batch, index),
        change_number: cell(&batch.change_numbers, index),
        received_at_seconds: cell(&batch.received_at_seconds, index),
        received_offset_minutes: cell(&batch.received_offset_minutes, index),
        size_octets: cell(&batch.size_octets, index),
        summary: batch.summaries.get(index),
        preview: batch.previews.get(index).map_or("", String::as_str),
        attachment_count: cell(&batch.attachment_counts, index),
        parts: batch.parts.get(index),
        sections: batch.sections.iter().map(|cells| section(cells, index)).collect(),
    })
}

fn cell<T: Copy + Default>(column: &[T], index: usize) -> T {
    column.get(index).copied().unwrap_or_default()
}

fn octets(column: &[Vec<u8>], index: usize) -> &[u8] {
    column.get(index).map_or(&[], Vec::as_slice)
}

fn keywords(batch: &v1::MessageRows, index: usize) -> &[String] {
    let set = usize::try_from(cell(&batch.keyword_sets, index)).ok();
    set.and_then(|set| batch.keyword_table.get(set)).map_or(&[], |set| &set.keywords)
}

fn section(cells: &v1::SectionCells, index: usize) -> Option<&[u8]> {
    (cell(&cells.total_octets, index) >= 0).then(|| octets(&cells.octets, index))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::v1::restriction::Condition;

    fn range(first: i64, last: i64) -> v1::IdRange {
        v1::IdRange { first, last }
    }

    fn cells(octets: &[&[u8]], totals: &[i64]) -> v1::SectionCells {
        let octets = octets.iter().map(|each| each.to_vec()).collect();
        v1::SectionCells { octets, total_octets: totals.to_vec() }
    }

    fn set(messages: Messages) -> v1::MessageSet {
        v1::MessageSet { messages: Some(messages) }
    }

    #[test]
    fn what_was_told_is_not_asked_for_again() {
        let told = v1::MessageRows { message_ids: vec![11, 14], uids: vec![3, 6], ..Default::default() };
        let uids = |ranges| set(Messages::Uids(v1::UidSet { folder_id: 1, ranges }));
        let by_uid = uids(vec![range(1, 4), range(5, 9), range(12, 12)]);
        assert_eq!(behind(&by_uid, &told), uids(vec![range(7, 9), range(12, 12)]));
        let ids = |message_ids| set(Messages::Ids(v1::MessageIdSet { message_ids }));
        let left = behind(&ids(vec![11, 14, 15]), &told);
        assert_eq!((&left, is_finished(&left)), (&ids(vec![15]), false));
        assert!(is_finished(&behind(&ids(vec![11, 14]), &told)));
    }

    #[test]
    fn matching_messages_go_on_behind_the_last_one_told() {
        let told = v1::MessageRows { message_ids: vec![11, 14], uids: vec![3, 6], ..Default::default() };
        let seen = Condition::Flags(v1::FlagRestriction { mask: 1, value: 1 });
        let seen = v1::Restriction { condition: Some(seen) };
        for (folder_id, above) in [(0, 14), (7, 6)] {
            let matching = v1::MatchingMessages { folder_id, restriction: Some(seen.clone()), above: 0, below: 0 };
            let mut whole = Some(set(Messages::Matching(matching.clone())));
            keep_below(&mut whole, 20);
            let left = whole.map(|whole| behind(&whole, &told)).expect("a set");
            assert!(!is_finished(&left));
            assert_eq!(left, set(Messages::Matching(v1::MatchingMessages { above, below: 20, ..matching })));
        }
    }

    #[test]
    fn a_cut_cell_is_put_together() {
        let sections = vec![cells(&[b"whole", b""], &[5, -1]), cells(&[b"", b"cu"], &[0, 3])];
        let mut batch = v1::MessageRows { message_ids: vec![1, 2], sections, ..Default::default() };
        assert!(!is_whole(&batch));
        join(&mut batch, &v1::SectionRest { section_index: 1, octets: b"t".to_vec(), ..Default::default() });
        assert!(is_whole(&batch));
        let found: Vec<_> = rows(&batch).map(|row| row.sections).collect();
        assert_eq!(found, [vec![Some(&b"whole"[..]), Some(b"")], vec![None, Some(b"cut")]]);
    }

    #[test]
    fn columns_that_are_not_there_are_zero() {
        let table = vec![v1::KeywordSet::default(), v1::KeywordSet { keywords: vec!["$Done".into()] }];
        let batch = v1::MessageRows {
            message_ids: vec![7, 8],
            flags: vec![0, v1::Flag::Seen as i32],
            keyword_sets: vec![0, 1],
            keyword_table: table,
            ..Default::default()
        };
        let found: Vec<_> = rows(&batch).collect();
        assert!(!found[0].has(v1::Flag::Seen) && found[1].has(v1::Flag::Seen));
        assert_eq!((found[0].keywords, found[1].keywords), (&[][..], &["$Done".to_owned()][..]));
        assert_eq!((found[1].uid, found[1].summary, found[1].preview), (0, None, ""));
    }
}
