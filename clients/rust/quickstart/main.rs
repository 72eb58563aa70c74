//! Logs on, lists the Inbox, sends oneself a message with an attachment, and waits for it.
use restante::{Client, Config, WatchOptions, rows, v1};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    let user = "alice@example.test";
    let config = Config::new(&arguments[1]).trust_file(&arguments[2])?;
    let client = Client::log_on(config, user, "alice-demo").await?;

    let inbox = v1::GetFolderRequest { role: v1::FolderRole::Inbox.into(), ..Default::default() };
    let inbox = client.call(inbox).await?.folder.ok_or("there is no Inbox")?;
    let columns = vec![v1::MessageColumn::Summary.into()];
    let query = v1::QueryMessagesRequest { folder_id: inbox.folder_id, columns, ..Default::default() };
    let mut pages = client.pages(query);
    while let Some(page) = pages.next().await {
        for row in rows(&page?.rows.unwrap_or_default()) {
            println!("{} {}", row.message_id, row.summary.map_or("", |summary| &summary.subject));
        }
    }

    let (file_name, media_type) = ("hello.txt".into(), "text/plain".into());
    let file = v1::Attachment { file_name, media_type, content: b"Hello!\n".into(), ..Default::default() };
    let to = vec![v1::MailAddress { address: user.into(), ..Default::default() }];
    let subject = "Hello from Rust".into();
    let draft = v1::Draft { to, subject, attachments: vec![file], ..Default::default() };
    let source = Some(v1::submit_message_request::Source::Draft(draft));
    client.call(v1::SubmitMessageRequest { source, ..Default::default() }).await?;

    let options = WatchOptions { since: inbox.change_number, ..Default::default() };
    let mut events = client.watch(inbox.folder_id, options);
    while let Some(event) = events.next().await {
        if let Some(id) = event?.changes.message_ids.first() {
            println!("arrived: message {id}\n{}", String::from_utf8_lossy(&client.read_content(*id, None).await?));
            break;
        }
    }
    Ok(())
}
