//! Changes as they happen.

use std::sync::Arc;

use tokio::time::Instant;

use crate::client::Client;
use crate::core::Core;
use crate::error::Error;
use crate::events::{Events, Resume, Told};
use crate::link::authorize;
use crate::retry::{FIRST_PAUSE, LONGEST_PAUSE, Retry};
use crate::v1::folder_service_client::FolderServiceClient;
use crate::v1::sync_service_client::SyncServiceClient;
use crate::v1::watch_response::Notice;
use crate::v1::{self, ErrorReason, sync_mailbox_response};
use crate::watch::{self, subscribe};

/// What happened in a folder.
#[derive(Clone, Debug, Default)]
pub struct FolderEvent {
    /// They bring a copy of the folder up to date.
    pub changes: v1::FolderChanges,
    /// All that was known before is void: the changes begin a new copy.
    pub fresh: bool,
}

/// What happened in a mailbox.
#[derive(Clone, Debug, Default)]
pub struct MailboxEvent {
    /// The mailbox's.
    pub change_number: i64,
    /// Those known to be touched; there may be more.
    pub folder_ids: Vec<i64>,
    /// Changes may have been missed: compare everything.
    pub fresh: bool,
}

/// Where a watch begins. The default tells what happens from now on.
#[derive(Clone, Copy, Debug, Default)]
pub struct WatchOptions {
    /// The mailbox; 0: the user's own.
    pub mailbox_id: i64,
    /// Tells first what the folder holds; the first event is then fresh.
    pub snapshot: bool,
    /// Tells first what happened above a change number, such as `Folder.change_number` of an earlier answer: so nothing
    /// is missed between that answer and the watch. 0: from now on. A snapshot goes before it.
    pub since: i64,
    /// The mailbox's epoch under which `since` was learned; 0: the present one.
    pub epoch: i64,
}

impl Client {
    /// Tells the changes of a folder for as long as they are taken. All watches of a client share one stream.
    ///
    /// When the stream breaks it is opened again from the last change number that was told, so that nothing is missed.
    /// When the server knows no changes so old, or a reader lags too far, the folder is read anew and the next event is
    /// fresh. It ends with an error: `FolderNotFound` when the folder is gone, `SessionExpired` or `SessionRevoked` when
    /// the session is over.
    pub fn watch(&self, folder_id: i64, options: WatchOptions) -> Events<FolderEvent> {
        Events::new(self.core.clone(), |core, told| watch_folder(core, folder_id, options, told))
    }

    /// Tells each new change number of a mailbox (0: the user's own) from now on, as [`watch`](Self::watch) does for a
    /// folder.
    pub fn watch_mailbox(&self, mailbox_id: i64) -> Events<MailboxEvent> {
        Events::new(self.core.clone(), |core, told| watch_mailbox(core, mailbox_id, told))
    }

    /// Brings a copy of a mailbox or folder up to date and, with `follow`, keeps it so: all that is there, or has changed
    /// since the cursor of the request, and then what comes.
    ///
    /// Keep the cursor of each checkpoint to go on later. A stream that breaks is opened again from the last checkpoint
    /// that was told; what came after it may come again. After a reset throw the copy away: everything follows anew. It
    /// ends after an error, such as `CursorInvalid`, and without `follow` at the end.
    pub fn sync(&self, request: v1::SyncMailboxRequest) -> Events<v1::SyncMailboxResponse> {
        Events::new(self.core.clone(), |core, told| sync(core, request, told))
    }
}

async fn watch_folder(
    core: Arc<Core>,
    folder_id: i64,
    options: WatchOptions,
    told: Told<FolderEvent>,
) -> Result<(), Error> {
    let WatchOptions { mailbox_id, mut snapshot, since, epoch } = options;
    let mut wanted =
        v1::Subscription { mailbox_id, folder_id, since_change_number: since, epoch, ..Default::default() };
    if snapshot || epoch == 0 {
        wanted.epoch = mailbox_now(&core, mailbox_id).await?.epoch;
    }
    if !snapshot && since == 0 {
        let request = v1::GetFolderRequest { mailbox_id, folder_id, ..Default::default() };
        wanted.since_change_number = core.call(request, None).await?.folder.unwrap_or_default().change_number;
    }
    loop {
        if snapshot {
            for (index, piece) in read_folder(&core, mailbox_id, folder_id).await?.into_iter().enumerate() {
                if let Some(folder) = piece.folder {
                    wanted.since_change_number = folder.change_number;
                }
                told.tell(FolderEvent { changes: piece.rows.unwrap_or_default(), fresh: index == 0 }).await;
            }
        }
        let mut notices = Notices::new(&core, wanted.clone());
        while let Some(notice) = notices.next().await? {
            if let Notice::Folder(changes) = notice {
                told.tell(FolderEvent { changes, fresh: false }).await;
            }
        }
        wanted.epoch = mailbox_now(&core, mailbox_id).await?.epoch;
        snapshot = true;
    }
}

async fn watch_mailbox(core: Arc<Core>, mailbox_id: i64, told: Told<MailboxEvent>) -> Result<(), Error> {
    let mut now = mailbox_now(&core, mailbox_id).await?;
    loop {
        let (since_change_number, epoch) = (now.change_number, now.epoch);
        let wanted = v1::Subscription { mailbox_id, since_change_number, epoch, ..Default::default() };
        let mut notices = Notices::new(&core, wanted);
        while let Some(notice) = notices.next().await? {
            if let Notice::Mailbox(changed) = notice {
                let (change_number, folder_ids) = (changed.change_number, changed.folder_ids);
                told.tell(MailboxEvent { change_number, folder_ids, fresh: false }).await;
            }
        }
        now = mailbox_now(&core, mailbox_id).await?;
        told.tell(MailboxEvent { change_number: now.change_number, folder_ids: Vec::new(), fresh: true }).await;
    }
}

async fn mailbox_now(core: &Core, mailbox_id: i64) -> Result<v1::Mailbox, Error> {
    let request = v1::GetMailboxRequest { mailbox_id, ..Default::default() };
    Ok(core.call(request, None).await?.mailbox.unwrap_or_default())
}

/// What a folder holds. A break begins it anew, so that it is only told once it is whole.
async fn read_folder(core: &Arc<Core>, mailbox_id: i64, folder_id: i64) -> Result<Vec<v1::OpenFolderResponse>, Error> {
    let request = v1::OpenFolderRequest { mailbox_id, folder_id, min_commit: core.min_commit(mailbox_id) };
    let mut resume = Resume::new(core);
    loop {
        match read_folder_once(core, request).await {
            Ok(pieces) => return Ok(pieces),
            Err(failure) => resume.after(failure).await?,
        }
    }
}

async fn read_folder_once(core: &Core, request: v1::OpenFolderRequest) -> Result<Vec<v1::OpenFolderResponse>, Error> {
    let mut stub = FolderServiceClient::new(core.channel()?.1);
    let mut stream = stub.open_folder(authorize(request, &core.session.token())).await?.into_inner();
    let mut pieces = Vec::new();
    while let Some(piece) = stream.message().await? {
        pieces.push(piece);
    }
    Ok(pieces)
}

/// Notices of one thing that is watched, whatever becomes of its subscriptions.
struct Notices {
    core: Arc<Core>,
    wanted: v1::Subscription,
    subscription: watch::Subscription,
    token: bytes::Bytes,
    retry: Retry,
}

impl Notices {
    fn new(core: &Arc<Core>, wanted: v1::Subscription) -> Self {
        Self {
            core: core.clone(),
            token: core.session.token(),
            subscription: subscribe(core, wanted.clone()),
            wanted,
            retry: Retry::new(FIRST_PAUSE, watch::LONGEST_PAUSE),
        }
    }

    /// The next one; `None`: everything must be read anew.
    async fn next(&mut self) -> Result<Option<Notice>, Error> {
        loop {
            let notice = tokio::select! {
                notice = self.subscription.next() => notice,
                () = self.core.session.ended.cancelled() => {
                    return Err(self.core.session.end_reason().unwrap_or_else(Error::closed));
                }
            };
            let refusal = match notice {
                None | Some(Notice::ResetReason(_)) => return Ok(None),
                Some(Notice::Rejected(status)) => Error::from_status(&status).unwrap_or_else(Error::closed),
                Some(notice) => {
                    let reached = match &notice {
                        Notice::Folder(changes) => changes.change_number,
                        Notice::Mailbox(changed) => changed.change_number,
                        _ => 0,
                    };
                    self.wanted.since_change_number = self.wanted.since_change_number.max(reached);
                    self.retry.worked();
                    return Ok(Some(notice));
                }
            };
            if refusal.reason() == ErrorReason::EpochChanged {
                return Ok(None);
            }
            self.refused(refusal).await?;
            self.token = self.core.session.token();
            self.subscription = subscribe(&self.core, self.wanted.clone());
        }
    }

    /// Does what helps before another subscription, or gives the refusal back. A session that is over may have been
    /// replaced by this client's own doing.
    async fn refused(&mut self, refusal: Error) -> Result<(), Error> {
        if refusal.is_over() && self.retry.renewal() {
            let renewed = self.core.renew(&self.token, self.core.deadline(None)).await;
            if let Some(failure) = renewed.as_ref().err().filter(|failure| failure.is_over()) {
                self.core.session.end(failure.clone());
            }
            return renewed;
        }
        if !refusal.is_temporary() {
            return Err(refusal);
        }
        tokio::time::sleep(self.retry.delay(refusal.retry_delay())).await;
        Ok(())
    }
}

async fn sync(
    core: Arc<Core>,
    mut wanted: v1::SyncMailboxRequest,
    told: Told<v1::SyncMailboxResponse>,
) -> Result<(), Error> {
    let mut retry = Retry::new(watch::FIRST_PAUSE, LONGEST_PAUSE);
    loop {
        let began = Instant::now();
        let mut resume = Resume::new(&core);
        let mut again = wanted.follow;
        while let Err(failure) = sync_once(&core, &mut wanted, &mut again, &told, &mut resume).await {
            resume.after(failure).await?;
        }
        if !again {
            return Ok(());
        }
        if began.elapsed() > LONGEST_PAUSE {
            retry.worked();
        }
        tokio::time::sleep(retry.delay(None)).await; // the server drains: it ends streams after a checkpoint
    }
}

async fn sync_once(
    core: &Core,
    wanted: &mut v1::SyncMailboxRequest,
    again: &mut bool,
    told: &Told<v1::SyncMailboxResponse>,
    resume: &mut Resume,
) -> Result<(), Error> {
    let mut stub = SyncServiceClient::new(core.channel()?.1);
    let request = authorize(wanted.clone(), &core.session.token());
    let mut stream = stub.sync_mailbox(request).await?.into_inner();
    while let Some(response) = stream.message().await? {
        resume.told();
        let cursor = match &response.change {
            Some(sync_mailbox_response::Change::Checkpoint(checkpoint)) => Some(checkpoint.cursor.clone()),
            Some(sync_mailbox_response::Change::ResetReason(_)) => {
                *again = true;
                Some(Vec::new())
            }
            _ => None,
        };
        told.tell(response).await;
        if let Some(cursor) = cursor {
            wanted.cursor = cursor;
        }
    }
    Ok(())
}
