//! Reads mail from a running server, by the SDK or by the bare generated stubs, and prints what a message costs this
//! process: see tests/bench/sdk.py for the loads.

use std::collections::HashMap;
use std::iter::Cycle;
use std::time::{Duration, Instant};

use cpu_time::ProcessTime;
use restante::v1::batch_service_client::BatchServiceClient;
use restante::v1::message_service_client::MessageServiceClient;
use restante::{Client, Config, Error, ExecuteOptions, authorize, v1};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::transport::Channel;

const BATCH_MESSAGES: usize = 20; // of one BatchGetMessages in the load batch_get
const WAITING: usize = 32; // operations that wait together in the load execute, each for one message

type Fault = Box<dyn std::error::Error>;

#[tokio::main]
async fn main() -> Result<(), Fault> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let arguments: HashMap<_, _> = words.chunks_exact(2).map(|pair| (pair[0].as_str(), pair[1].as_str())).collect();
    let argument = |name: &str| arguments.get(name).copied().ok_or_else(|| format!("{name} is missing"));
    let config = Config::new(argument("--target")?).trust_file(argument("--ca")?)?;
    let (mode, load) = (argument("--mode")?, argument("--load")?);
    let seconds: f64 = argument("--seconds")?.parse()?;

    let client = Client::log_on(config.clone(), argument("--user")?, argument("--password")?).await?;
    let ids = inbox(&client).await?;
    if ids.is_empty() {
        return Err("the Inbox is empty".into());
    }
    let mut load = Load::new(mode, load, client, config.channel()?, ids).await?;
    load.run(seconds / 5.0).await?; // warm-up
    let (cpu, began) = (ProcessTime::now(), Instant::now());
    let messages = load.run(seconds).await?;
    println!(
        r#"{{"language": "Rust", "mode": "{mode}", "load": "{}", "messages": {messages}, "seconds": {}, "cpu_seconds": {}}}"#,
        argument("--load")?,
        began.elapsed().as_secs_f64(),
        cpu.elapsed().as_secs_f64(),
    );
    Ok(())
}

/// The ids of the messages in the Inbox.
async fn inbox(client: &Client) -> Result<Vec<i64>, Fault> {
    let request = v1::GetFolderRequest { role: v1::FolderRole::Inbox.into(), ..Default::default() };
    let folder_id = client.call(request).await?.folder.ok_or("there is no Inbox")?.folder_id;
    let mut pages = client.pages(v1::QueryMessagesRequest { folder_id, page_size: 1_000, ..Default::default() });
    let mut ids = Vec::new();
    while let Some(page) = pages.next().await {
        ids.extend(page?.rows.unwrap_or_default().message_ids);
    }
    Ok(ids)
}

/// What is read again and again.
struct Load {
    kind: Kind,
    client: Client,
    channel: Channel, // of the bare stubs
    ids: Vec<i64>,
    turns: Cycle<std::vec::IntoIter<i64>>,
}

enum Kind {
    BatchGet,
    BareBatchGet,
    Execute,
    BareExecute(Box<BareExecute>),
    Stream,
    BareStream,
}

/// An Execute stream of the stub.
struct BareExecute {
    requests: mpsc::Sender<v1::ExecuteRequest>,
    answers: Streaming<v1::ExecuteResponse>,
    last_id: i64,
}

impl Load {
    async fn new(mode: &str, load: &str, client: Client, channel: Channel, ids: Vec<i64>) -> Result<Self, Fault> {
        let mut turns = ids.clone().into_iter().cycle();
        let kind = match (mode, load) {
            ("sdk", "batch_get") => Kind::BatchGet,
            ("bare", "batch_get") => Kind::BareBatchGet,
            ("sdk", "execute") => Kind::Execute,
            ("bare", "execute") => {
                let first = asked(&mut turns, 1);
                Kind::BareExecute(Box::new(BareExecute::new(&client, channel.clone(), first).await?))
            }
            ("sdk", "stream") => Kind::Stream,
            ("bare", "stream") => Kind::BareStream,
            _ => return Err(format!("there is no load {load} in mode {mode}").into()),
        };
        Ok(Self { kind, client, channel, ids, turns })
    }

    /// Reads for some seconds, and tells how many messages.
    async fn run(&mut self, seconds: f64) -> Result<usize, Fault> {
        let (until, mut messages) = (Instant::now() + Duration::from_secs_f64(seconds), 0);
        while Instant::now() < until {
            messages += self.once().await?;
        }
        Ok(messages)
    }

    async fn once(&mut self) -> Result<usize, Fault> {
        match &mut self.kind {
            Kind::BatchGet => Ok(count(self.client.call(asked(&mut self.turns, BATCH_MESSAGES)).await?.rows)),
            Kind::BareBatchGet => {
                let request = self.client.authorized(asked(&mut self.turns, BATCH_MESSAGES));
                let answer = MessageServiceClient::new(self.channel.clone()).batch_get_messages(request).await?;
                Ok(count(answer.into_inner().rows))
            }
            Kind::Execute => {
                let options = ExecuteOptions { independent: true, ..Default::default() };
                let operations: Vec<_> =
                    (0..WAITING).map(|_| self.client.execute(asked(&mut self.turns, 1), options)).collect();
                let mut messages = 0;
                for operation in operations {
                    messages += count(operation.await?.rows);
                }
                Ok(messages)
            }
            Kind::BareExecute(stream) => {
                let token = self.client.session().session_token;
                let requests = (0..WAITING).map(|_| asked(&mut self.turns, 1)).collect();
                stream.run(&token, requests).await
            }
            Kind::Stream => {
                let mut batches = self.client.stream_messages(streamed(&self.ids));
                let mut messages = 0;
                while let Some(batch) = batches.next().await {
                    messages += batch?.message_ids.len();
                }
                Ok(messages)
            }
            Kind::BareStream => {
                let request = self.client.authorized(streamed(&self.ids));
                let mut stub = MessageServiceClient::new(self.channel.clone());
                let mut stream = stub.stream_messages(request).await?.into_inner();
                let mut messages = 0;
                while let Some(response) = stream.message().await? {
                    messages += count(response.rows);
                }
                Ok(messages)
            }
        }
    }
}

impl BareExecute {
    /// A stream answers nothing, its header included, before it has a request.
    async fn new(client: &Client, channel: Channel, first: v1::BatchGetMessagesRequest) -> Result<Self, Fault> {
        let (requests, outgoing) = mpsc::channel(1);
        let token = client.session().session_token;
        requests
            .send(v1::ExecuteRequest { operations: vec![operation(1, &token, first)], ..Default::default() })
            .await?;
        let request = authorize(ReceiverStream::new(outgoing), &token);
        let mut answers = BatchServiceClient::new(channel).execute(request).await?.into_inner();
        answers.message().await?.ok_or("the stream has ended")?;
        Ok(Self { requests, answers, last_id: 1 })
    }

    async fn run(&mut self, token: &[u8], asked: Vec<v1::BatchGetMessagesRequest>) -> Result<usize, Fault> {
        let mut waiting = asked.len();
        let operations = asked.into_iter().map(|each| {
            self.last_id += 1;
            operation(self.last_id, token, each)
        });
        let request = v1::ExecuteRequest { operations: operations.collect(), ..Default::default() };
        self.requests.send(request).await?;
        let mut messages = 0;
        while waiting > 0 {
            for result in self.answers.message().await?.ok_or("the stream has ended")?.results {
                if let Some(error) = result.status.as_ref().and_then(Error::from_status) {
                    return Err(error.into());
                }
                if let Some(v1::operation_result::Response::BatchGetMessages(answer)) = result.response {
                    messages += count(answer.rows);
                }
                waiting -= 1;
            }
        }
        Ok(messages)
    }
}

fn operation(id: i64, token: &[u8], request: v1::BatchGetMessagesRequest) -> v1::Operation {
    v1::Operation {
        operation_id: id,
        session_token: token.to_vec(),
        independent: true,
        timeout_milliseconds: 30_000,
        request: Some(v1::operation::Request::BatchGetMessages(request)),
        ..Default::default()
    }
}

fn columns() -> Vec<i32> {
    [v1::MessageColumn::Flags, v1::MessageColumn::Size, v1::MessageColumn::Summary].map(i32::from).to_vec()
}

fn by_id(message_ids: Vec<i64>) -> v1::MessageSet {
    v1::MessageSet { messages: Some(v1::message_set::Messages::Ids(v1::MessageIdSet { message_ids })) }
}

fn asked(turns: &mut impl Iterator<Item = i64>, count: usize) -> v1::BatchGetMessagesRequest {
    let messages = Some(by_id(turns.take(count).collect()));
    v1::BatchGetMessagesRequest { messages, columns: columns(), ..Default::default() }
}

fn streamed(ids: &[i64]) -> v1::StreamMessagesRequest {
    v1::StreamMessagesRequest {
        messages: Some(by_id(ids.iter().copied().take(1_000).collect())),
        columns: columns(),
        sections: vec![v1::Section { kind: v1::SectionKind::Whole.into(), ..Default::default() }],
        ..Default::default()
    }
}

fn count(rows: Option<v1::MessageRows>) -> usize {
    rows.map_or(0, |rows| rows.message_ids.len())
}
