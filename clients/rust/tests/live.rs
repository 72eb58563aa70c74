//! What the conformance scenario, which knows no language, does not cover: against a demo that
//! tests/clients/rust/test_rust.py starts.

use std::collections::HashMap;
use std::io::Cursor;
use std::time::Duration;

use restante::v1::message_set::Messages;
use restante::v1::{self, ErrorReason};
use restante::{Client, Code, Config, Error, ExecuteOptions, WatchOptions, attachments, find_part, rows};
use tokio::time::timeout;

const PASSWORD: &str = "carol-demo";
const SOON: Duration = Duration::from_secs(20);

async fn live() -> (Client, v1::Folder) {
    let [target, ca] = ["RESTANTE_TEST_TARGET", "RESTANTE_TEST_CA"].map(|name| std::env::var(name).expect(name));
    let config = Config::new(target).trust_file(ca).unwrap();
    let client = Client::log_on(config, "carol@example.test", PASSWORD).await.unwrap();
    let request = v1::GetFolderRequest { role: v1::FolderRole::Inbox.into(), ..Default::default() };
    let inbox = client.call(request).await.unwrap().folder.unwrap();
    (client, inbox)
}

/// Adds a message of at least so many octets, and returns its id and octets.
async fn appended(client: &Client, folder: &v1::Folder, size: usize) -> (i64, Vec<u8>) {
    let mut octets = b"From: carol@example.test\r\nSubject: Kept\r\n\r\n".to_vec();
    for line in 0.. {
        if octets.len() >= size {
            break;
        }
        octets.extend_from_slice(format!("Line {line} of a message that is read again.\r\n").as_bytes());
    }
    let upload = client.upload(v1::UploadKind::Message, Cursor::new(octets.clone())).await.unwrap();
    let (folder_id, upload_id) = (folder.folder_id, upload.upload_id);
    let request = v1::AppendMessageRequest { folder_id, upload_id, ..Default::default() };
    (client.call(request).await.unwrap().message_id, octets)
}

fn folder_request(folder: &v1::Folder) -> v1::GetFolderRequest {
    v1::GetFolderRequest { folder_id: folder.folder_id, ..Default::default() }
}

#[tokio::test]
#[ignore = "needs a demo"]
async fn streamed_cells_are_whole() {
    let (client, inbox) = live().await;
    let mut wanted = HashMap::new();
    for size in [100, 700_000, 3_000, 2_000_000, 50] {
        let (id, octets) = appended(&client, &inbox, size).await;
        wanted.insert(id, octets);
    }
    let whole = v1::Section { kind: v1::SectionKind::Whole.into(), ..Default::default() };
    let missing = v1::Section { part: vec![7], ..whole.clone() };
    let ids = wanted.keys().copied().collect();
    let request = v1::StreamMessagesRequest {
        messages: Some(v1::MessageSet { messages: Some(Messages::Ids(v1::MessageIdSet { message_ids: ids })) }),
        sections: vec![whole, missing],
        ..Default::default()
    };
    let mut batches = client.stream_messages(request.clone());
    while let Some(batch) = batches.next().await {
        for row in rows(&batch.unwrap()) {
            let octets = wanted.remove(&row.message_id).expect("each message comes once");
            assert!(row.sections == [Some(octets.as_slice()), None], "message {}", row.message_id);
        }
    }
    assert!(wanted.is_empty(), "{} messages did not come", wanted.len());
    assert!(client.stream_messages(request).next().await.unwrap().is_ok()); // dropping it ends the call, too
}

#[tokio::test]
#[ignore = "needs a demo"]
async fn content_is_read_in_pieces() {
    let (client, inbox) = live().await;
    let (id, octets) = appended(&client, &inbox, 700_000).await;
    let (mut content, mut read, mut pieces) = (client.open_content(id, None), Vec::new(), 0);
    while let Some(chunk) = content.next().await {
        read.extend_from_slice(&chunk.unwrap());
        pieces += 1;
    }
    assert!(read == octets && pieces > 1, "{} of {} octets in {pieces} pieces", read.len(), octets.len());
    let missing = client.read_content(1 << 40, None).await.unwrap_err();
    assert_eq!(missing.reason(), ErrorReason::MessageNotFound);
}

#[tokio::test]
#[ignore = "needs a demo"]
async fn parts_are_read_decoded() {
    let (client, inbox) = live().await;
    let content = [
        "Subject: Parts",
        "MIME-Version: 1.0",
        "Content-Type: multipart/mixed; boundary=x",
        "",
        "--x",
        "Content-Type: text/plain; charset=iso-8859-1",
        "Content-Transfer-Encoding: quoted-printable",
        "",
        "Gr=FC=DFe",
        "Alice",
        "--x",
        "Content-Type: application/octet-stream",
        "Content-Disposition: attachment; filename=data.bin",
        "Content-Transfer-Encoding: base64",
        "",
        "AAECAw==",
        "--x--",
        "",
    ];
    let content = content.join("\r\n").into_bytes();
    let request = v1::AppendMessageRequest { folder_id: inbox.folder_id, content, ..Default::default() };
    let id = client.call(request).await.unwrap().message_id;
    let root = client.parts(id).await.unwrap();
    assert_eq!(root.media_type, "multipart/mixed");
    let text = find_part(&root, "text/plain").expect("it has a text");
    assert_eq!(client.read_text(id, text).await.unwrap(), "Grüße\nAlice");
    let files = attachments(&root);
    assert_eq!(files.iter().map(|part| part.file_name.as_str()).collect::<Vec<_>>(), ["data.bin"]);
    assert_eq!(client.read_part(id, files[0]).await.unwrap(), [0, 1, 2, 3]);
    let missing = client.parts(1 << 40).await.unwrap_err();
    assert_eq!(missing.reason(), ErrorReason::MessageNotFound);
    assert_eq!(missing.metadata()["message_id"], (1_i64 << 40).to_string());
}

#[tokio::test]
#[ignore = "needs a demo"]
async fn a_source_that_breaks_is_the_cause_of_the_error() {
    let (client, _) = live().await;
    let error = client.upload_file(v1::UploadKind::Message, "/nowhere/at-all").await.unwrap_err();
    let cause = std::error::Error::source(&error).and_then(|cause| cause.downcast_ref::<std::io::Error>());
    assert_eq!(cause.expect("it has a cause").kind(), std::io::ErrorKind::NotFound);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a demo"]
async fn tasks_share_the_stream_beyond_the_sessions_bound() {
    let (client, inbox) = live().await;
    let calls: Vec<_> = (0..500).map(|_| tokio::spawn(client.call(folder_request(&inbox)).into_future())).collect();
    for call in calls {
        assert_eq!(call.await.unwrap().unwrap().folder.unwrap().folder_id, inbox.folder_id);
    }
}

#[tokio::test]
#[ignore = "needs a demo"]
async fn operations_are_answered_in_the_order_they_were_handed_over() {
    let (client, inbox) = live().await;
    let operations: Vec<_> =
        (0..300).map(|_| client.execute(folder_request(&inbox), ExecuteOptions::default())).collect();
    for operation in operations {
        assert!(operation.await.is_ok());
    }
}

#[tokio::test]
#[ignore = "needs a demo"]
async fn large_requests_have_calls_of_their_own() {
    let (client, inbox) = live().await;
    let request =
        v1::AppendMessageRequest { folder_id: inbox.folder_id, content: vec![b'x'; 2 << 20], ..Default::default() };
    let error = client.call(request).await.unwrap_err();
    assert!(matches!(error.code(), Code::InvalidArgument | Code::ResourceExhausted), "{error}");
}

#[tokio::test]
#[ignore = "needs a demo"]
async fn a_deadline_and_a_dropped_call() {
    let (client, _) = live().await;
    let mailbox_id = client.session().mailbox_id;
    let never = v1::CommitToken { mailbox_id, change_number: 1 << 40, epoch: 1 };
    let request = v1::GetMailboxRequest { min_commit: Some(never), ..Default::default() };
    let error = client.call(request).timeout(Duration::from_millis(300)).await.unwrap_err();
    assert!(error.code() == Code::DeadlineExceeded || error.reason() == ErrorReason::CommitNotReached, "{error}");
    assert!(timeout(Duration::from_millis(200), client.call(request).into_future()).await.is_err());
    client.call(v1::GetMailboxRequest::default()).await.expect("the stream goes on");
}

#[tokio::test]
#[ignore = "needs a demo"]
async fn stubs_work_on_the_clients_channel() -> Result<(), Error> {
    let (client, inbox) = live().await;
    let mut stub = v1::folder_service_client::FolderServiceClient::new(client.channel()?);
    let answer = stub.get_folder(client.authorized(folder_request(&inbox))).await?.into_inner();
    assert_eq!(answer.folder.unwrap().folder_id, inbox.folder_id);
    let refused = stub.get_folder(folder_request(&inbox)).await.unwrap_err();
    assert_eq!(Error::from(refused).reason(), ErrorReason::InvalidSession);
    Ok(())
}

#[tokio::test]
#[ignore = "needs a demo"]
async fn a_watch_outlives_a_change_of_ones_own_password() {
    let (client, inbox) = live().await;
    let mut events = client.watch(inbox.folder_id, WatchOptions { snapshot: true, ..Default::default() });
    assert!(events.next().await.unwrap().unwrap().fresh);
    client.change_password(PASSWORD, "carol-demo-2").await.unwrap();
    tokio::time::sleep(Duration::from_millis(500)).await; // for the end of the old session to be told
    let (id, _) = appended(&client, &inbox, 100).await;
    let told = timeout(SOON, async {
        loop {
            let event = events.next().await.expect("it goes on").expect("it goes on well");
            assert!(!event.fresh || event.changes.message_ids != [id], "the folder was read anew");
            if event.changes.message_ids == [id] {
                return;
            }
        }
    });
    let told = told.await;
    client.change_password("carol-demo-2", PASSWORD).await.unwrap();
    told.expect("the message is told");
}

#[tokio::test]
#[ignore = "needs a demo"]
async fn a_mailbox_is_watched_until_the_session_ends() {
    let (client, inbox) = live().await;
    let mut events = client.watch_mailbox(0);
    let told = timeout(SOON, async {
        loop {
            appended(&client, &inbox, 100).await; // the first may come before the watch
            if let Ok(event) = timeout(Duration::from_millis(300), events.next()).await {
                return event.unwrap().unwrap().change_number;
            }
        }
    });
    assert!(told.await.expect("a change is told") > inbox.change_number);
    client.log_off().await.unwrap();
    let last = timeout(SOON, async {
        loop {
            if let Err(error) = events.next().await.expect("an error is the last") {
                return error;
            }
        }
    });
    assert_eq!(last.await.expect("the watch ends").reason(), ErrorReason::SessionRevoked);
    assert_eq!(client.ended().await.reason(), ErrorReason::SessionRevoked);
    assert!(events.next().await.is_none());
    let after = client.call(v1::ListFoldersRequest::default()).await.unwrap_err();
    assert_eq!(after.reason(), ErrorReason::SessionRevoked);
}

#[tokio::test]
#[ignore = "needs a demo"]
async fn a_closed_client_fails_calls_and_ends_streams() {
    let (client, inbox) = live().await;
    let mut events = client.watch(inbox.folder_id, WatchOptions { snapshot: true, ..Default::default() });
    assert!(events.next().await.unwrap().is_ok());
    client.close();
    assert_eq!(client.call(folder_request(&inbox)).await.unwrap_err().code(), Code::Cancelled);
    let ended = timeout(SOON, events.next()).await.expect("the stream ends").unwrap();
    assert_eq!(ended.unwrap_err().code(), Code::Cancelled);
}

#[tokio::test]
#[ignore = "needs a demo"]
async fn a_job_is_watched_to_its_end() {
    let [target, ca] = ["RESTANTE_TEST_TARGET", "RESTANTE_TEST_CA"].map(|name| std::env::var(name).expect(name));
    let config = Config::new(target).trust_file(ca).unwrap();
    let admin = Client::log_on(config, "alice@example.test", "alice-demo").await.unwrap();
    let begun = admin.call(v1::CheckStoreRequest { digests: true, ..Default::default() }).await.unwrap().job.unwrap();
    let request = v1::WatchJobRequest { job_id: begun.job_id, ..Default::default() };
    let (mut steps, mut last) = (admin.watch_job(request), None);
    while let Some(step) = timeout(SOON, steps.next()).await.unwrap() {
        last = step.unwrap().job;
    }
    assert_eq!(last.unwrap().state(), v1::JobState::Succeeded);

    let (carol, _) = live().await;
    let refused = carol.watch_job(request).next().await.unwrap().unwrap_err();
    assert_eq!(refused.reason(), ErrorReason::PermissionDenied);
}
