//! Does commands.

use std::collections::HashMap;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use prost::Message;
use restante::rpc::{visit, visit_list};
use restante::{Client, Config, Error, Events, ExecuteOptions, OctetsCodec, WatchOptions, authorize, v1};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::metadata::AsciiMetadataValue;
use tonic::transport::Channel;

use crate::by_name::{Call, Execute, Outcome, Pages, Place};

/// A fault of this program, or of what the judge says.
type Fault = Box<dyn std::error::Error>;

pub enum Trouble {
    Sdk(Error),
    Runner(Fault),
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        Self::Sdk(error)
    }
}

impl From<tonic::Status> for Trouble {
    fn from(status: tonic::Status) -> Self {
        Self::Sdk(status.into())
    }
}

macro_rules! faults {
    ($($kind:ty),*) => {$(
        impl From<$kind> for Trouble {
            fn from(fault: $kind) -> Self {
                Self::Runner(fault.into())
            }
        }
    )*};
}
faults!(&str, String, base64::DecodeError, prost::DecodeError, std::num::ParseIntError);
faults!(tonic::codegen::http::uri::InvalidUri, tonic::metadata::errors::InvalidMetadataValue, tonic::transport::Error);

/// An error as a program that uses the SDK sees it.
pub fn shown_error(error: &Error) -> Value {
    let violations = error.violations().iter().map(|each| json!({"field": each.field, "problem": each.problem}));
    let mut shown = json!({
        "code": code_name(error.code()), "reason": error.reason_name(), "metadata": error.metadata(),
        "message": error.message(), "violations": violations.collect::<Vec<_>>(), "text": error.to_string(),
        "type": "restante::Error",
    });
    if let Some(delay) = error.retry_delay() {
        shown["retry_seconds"] = json!(delay.as_secs_f64());
    }
    shown
}

/// gRPC's name of a code, such as NOT_FOUND of `NotFound`.
fn code_name(code: restante::Code) -> String {
    let mut name = String::new();
    for letter in format!("{code:?}").chars() {
        if letter.is_uppercase() && !name.is_empty() {
            name.push('_');
        }
        name.push(letter.to_ascii_uppercase());
    }
    name
}

pub struct Runner {
    config: Config,
    core: Channel, // for bare calls
    gateways: Channel,
    clients: HashMap<String, Client>,
    streams: HashMap<String, Queue>,
}

/// A stream of the SDK that is read in the background.
struct Queue {
    events: mpsc::UnboundedReceiver<Option<Result<Value, Error>>>, // `None`: the end
    task: AbortHandle,
}

impl Drop for Queue {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Runner {
    pub fn new(hello: &Value) -> Result<Self, Fault> {
        let config = |target: &str| Config::new(hello[target].as_str().unwrap_or_default());
        let config = |target: &str| config(target).trust_file(hello["ca"].as_str().unwrap_or_default());
        let (core, gateways) = (config("target")?, config("gateway_target")?);
        Ok(Self {
            core: core.channel()?,
            gateways: gateways.channel()?,
            config: core,
            clients: HashMap::new(),
            streams: HashMap::new(),
        })
    }

    pub async fn answer(&mut self, asked: &Value) -> Result<Value, Trouble> {
        match text(asked, "do")? {
            "log_on" => self.log_on(asked).await,
            "resume" => self.resume(asked).await,
            "session" => self.session(asked),
            "renew" => {
                self.client(asked)?.renew().await?;
                self.session(asked)
            }
            "change_password" => {
                self.client(asked)?.change_password(text(asked, "old")?, text(asked, "new")?).await?;
                self.session(asked)
            }
            "log_off" => {
                self.client(asked)?.log_off().await?;
                Ok(json!({}))
            }
            "close" => {
                self.client(asked)?.close();
                self.clients.remove(text(asked, "session")?);
                Ok(json!({}))
            }
            "rpc" => self.rpc(asked).await,
            "call" => self.call(asked).await,
            "pages" => self.pages(asked).await,
            "execute" => self.execute(asked).await,
            "execute_once" => self.execute_once(asked).await,
            "upload" => self.upload(asked).await,
            "read" => self.read(asked).await,
            "watch" => self.watch(asked),
            "sync" => self.sync(asked),
            "next" => self.next(asked).await,
            "stop" => {
                self.streams.remove(text(asked, "stream")?);
                Ok(json!({}))
            }
            other => Err(format!("there is no command {other}").into()),
        }
    }

    // --- The session layer ---

    fn client(&self, asked: &Value) -> Result<&Client, Trouble> {
        let name = asked["as"]["session"].as_str().or(asked["session"].as_str()).ok_or("no session is named")?;
        Ok(self.clients.get(name).ok_or_else(|| format!("there is no session {name}"))?)
    }

    async fn log_on(&mut self, asked: &Value) -> Result<Value, Trouble> {
        self.drop_client(asked);
        let client = Client::log_on(self.config.clone(), text(asked, "user")?, text(asked, "password")?).await?;
        self.clients.insert(text(asked, "session")?.into(), client);
        self.session(asked)
    }

    async fn resume(&mut self, asked: &Value) -> Result<Value, Trouble> {
        self.drop_client(asked);
        let client = Client::resume(self.config.clone(), decoded(asked, "token")?).await?;
        self.clients.insert(text(asked, "session")?.into(), client);
        self.session(asked)
    }

    fn drop_client(&mut self, asked: &Value) {
        if let Some(client) = asked["session"].as_str().and_then(|name| self.clients.remove(name)) {
            client.close();
        }
    }

    fn session(&self, asked: &Value) -> Result<Value, Trouble> {
        Ok(json!({"session": shown(&self.client(asked)?.session())}))
    }

    // --- Calls ---

    /// A request and the channel for it, with who calls.
    fn authorized<T>(&self, asked: &Value, message: T) -> Result<(tonic::Request<T>, Channel), Trouble> {
        let caller = &asked["as"];
        if let Some(identity) = caller["identity"].as_str() {
            let mut request = tonic::Request::new(message);
            let secret = AsciiMetadataValue::try_from(text(caller, "secret")?)?;
            request.metadata_mut().insert("restante-identity", AsciiMetadataValue::try_from(identity)?);
            request.metadata_mut().insert("restante-secret", secret);
            return Ok((request, self.gateways.clone()));
        }
        let token = match caller {
            Value::Null => Bytes::new(),
            _ if caller["token"].is_string() => decoded(caller, "token")?.into(),
            _ => self.client(asked)?.session().session_token.into(),
        };
        Ok((authorize(message, &token), self.core.clone()))
    }

    async fn rpc(&self, asked: &Value) -> Result<Value, Trouble> {
        let method = text(asked, "method")?;
        let (mut request, channel) = self.authorized(asked, Bytes::from(decoded(asked, "request")?))?;
        request.set_timeout(timeout(asked));
        let path = PathAndQuery::try_from(format!("/restante.v1.{method}"))?;
        let mut grpc = Grpc::new(channel);
        let calling = async {
            grpc.ready().await?;
            if visit(method, Place).is_some() {
                let response = grpc.unary(request, path, OctetsCodec).await?.into_inner();
                return Ok(json!({"response": STANDARD.encode(response)}));
            }
            let mut stream = grpc.server_streaming(request, path, OctetsCodec).await?.into_inner();
            let mut responses = Vec::new();
            while asked["take"].as_u64().is_none_or(|take| (responses.len() as u64) < take) {
                match stream.message().await? {
                    Some(response) => responses.push(STANDARD.encode(response)),
                    None => return Ok(json!({"responses": responses, "complete": true})),
                }
            }
            Ok(json!({"responses": responses, "complete": false}))
        };
        // A future is cancelled by being dropped, which then is all the error that its caller sees.
        let cancelled = async {
            match asked["cancel_after_milliseconds"].as_u64() {
                Some(after) => tokio::time::sleep(Duration::from_millis(after)).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            outcome = tokio::time::timeout(timeout(asked), calling) => {
                outcome.unwrap_or_else(|_| Err(tonic::Status::deadline_exceeded("The call's time ran out.").into()))
            }
            () = cancelled => Err(tonic::Status::cancelled("The call was cancelled.").into()),
        }
    }

    async fn call(&self, asked: &Value) -> Result<Value, Trouble> {
        let call = Call { client: self.client(asked)?, request: decoded(asked, "request")?, timeout: timeout(asked) };
        let method = text(asked, "method")?;
        let outcome = visit(method, call).ok_or_else(|| format!("there is no RPC {method}"))??;
        Ok(json!({"response": STANDARD.encode(outcome.await?)}))
    }

    async fn pages(&self, asked: &Value) -> Result<Value, Trouble> {
        let pages = Pages { client: self.client(asked)?, request: decoded(asked, "request")? };
        let method = text(asked, "method")?;
        let outcome = visit_list(method, pages).ok_or_else(|| format!("there is no list {method}"))??;
        let responses: Vec<_> = outcome.await?.iter().map(|page| STANDARD.encode(page)).collect();
        Ok(json!({"responses": responses}))
    }

    async fn execute(&self, asked: &Value) -> Result<Value, Trouble> {
        let client = self.client(asked)?;
        let mut operations: Vec<Outcome<Bytes>> = Vec::new();
        for each in list(asked, "operations")? {
            let options = ExecuteOptions {
                independent: each["independent"].as_bool().unwrap_or_default(),
                timeout: Some(timeout(each)),
            };
            let execute = Execute { client, request: decoded(each, "request")?, options };
            let method = text(each, "method")?;
            operations.push(visit(method, execute).ok_or_else(|| format!("there is no RPC {method}"))??);
        }
        let mut outcomes = Vec::new();
        for operation in operations {
            outcomes.push(match operation.await {
                Ok(response) => json!({"response": STANDARD.encode(response)}),
                Err(error) => json!({"error": shown_error(&error)}),
            });
        }
        Ok(json!({"outcomes": outcomes}))
    }

    async fn execute_once(&self, asked: &Value) -> Result<Value, Trouble> {
        let (mut operations, mut places) = (Vec::new(), Vec::new());
        let token = match asked["as"]["session"].as_str() {
            Some(_) => self.client(asked)?.session().session_token,
            None => Vec::new(),
        };
        for (index, each) in list(asked, "operations")?.iter().enumerate() {
            let place = visit(text(each, "method")?, Place).flatten().ok_or("it is no operation")?;
            let operation = v1::Operation {
                operation_id: index as i64 + 1,
                session_token: token.clone(),
                timeout_milliseconds: each["timeout_milliseconds"].as_i64().unwrap_or_default() as i32,
                independent: each["independent"].as_bool().unwrap_or_default(),
                ..Default::default()
            };
            let mut octets = operation.encode_to_vec();
            prost::encoding::bytes::encode(place, &decoded(each, "request")?, &mut octets);
            operations.push(v1::Operation::decode(octets.as_slice())?);
            places.push(place);
        }
        let (request, channel) = self.authorized(asked, v1::ExecuteOnceRequest { operations })?;
        let response = v1::batch_service_client::BatchServiceClient::new(channel).execute_once(request).await?;
        let mut outcomes = Vec::new();
        for (result, place) in response.into_inner().results.into_iter().zip(places) {
            outcomes.push(match result.status.as_ref().and_then(Error::from_status) {
                Some(error) => json!({"error": shown_error(&error)}),
                None => json!({"response": STANDARD.encode(response_of(&result, place)?)}),
            });
        }
        Ok(json!({"outcomes": outcomes}))
    }

    // --- Octets ---

    async fn upload(&self, asked: &Value) -> Result<Value, Trouble> {
        let kind = v1::UploadKind::from_str_name(text(asked, "kind")?).ok_or("no such kind")?;
        let response = self.client(asked)?.upload_file(kind, text(asked, "path")?).await?;
        Ok(json!({"response": shown(&response)}))
    }

    async fn read(&self, asked: &Value) -> Result<Value, Trouble> {
        let section = match asked["section"].as_str() {
            Some(_) => Some(v1::Section::decode(decoded(asked, "section")?.as_slice())?),
            None => None,
        };
        let octets = self.client(asked)?.read_content(text(asked, "message_id")?.parse()?, section).await?;
        Ok(json!({"octets": STANDARD.encode(octets)}))
    }

    // --- Streams ---

    fn watch(&mut self, asked: &Value) -> Result<Value, Trouble> {
        let options = WatchOptions { snapshot: true, ..Default::default() };
        let events = self.client(asked)?.watch(text(asked, "folder_id")?.parse()?, options);
        self.queue(asked, events, |event| json!({"fresh": event.fresh, "changes": shown(&event.changes)}))
    }

    fn sync(&mut self, asked: &Value) -> Result<Value, Trouble> {
        let columns = asked["columns"].as_array().into_iter().flatten();
        let columns = columns.filter_map(|name| v1::MessageColumn::from_str_name(name.as_str()?)).map(i32::from);
        let request = v1::SyncMailboxRequest {
            folder_id: asked["folder_id"].as_str().unwrap_or("0").parse()?,
            cursor: STANDARD.decode(asked["cursor"].as_str().unwrap_or_default())?,
            columns: columns.collect(),
            follow: asked["follow"].as_bool().unwrap_or_default(),
            ..Default::default()
        };
        let events = self.client(asked)?.sync(request);
        self.queue(asked, events, |change| json!(shown(&change)))
    }

    /// Keeps what a stream brings, for `next`.
    fn queue<T: Send + 'static>(
        &mut self,
        asked: &Value,
        mut events: Events<T>,
        show: impl Fn(T) -> Value + Send + 'static,
    ) -> Result<Value, Trouble> {
        let (queued, taken) = mpsc::unbounded_channel();
        let task = tokio::spawn(async move {
            while let Some(event) = events.next().await {
                if queued.send(Some(event.map(|event| json!({"event": show(event)})))).is_err() {
                    return;
                }
            }
            let _ = queued.send(None); // nobody may ask any more
        });
        self.streams.insert(text(asked, "stream")?.into(), Queue { events: taken, task: task.abort_handle() });
        Ok(json!({}))
    }

    async fn next(&mut self, asked: &Value) -> Result<Value, Trouble> {
        let queue = self.streams.get_mut(text(asked, "stream")?).ok_or("there is no such stream")?;
        match tokio::time::timeout(timeout(asked), queue.events.recv()).await {
            Err(_) => Ok(json!({"event": null})),
            Ok(Some(Some(event))) => Ok(event?),
            Ok(Some(None) | None) => Ok(json!({"end": true})),
        }
    }
}

/// The response of a result, encoded as it came.
fn response_of(result: &v1::OperationResult, place: u32) -> Result<Vec<u8>, Trouble> {
    use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};
    let encoded = result.encode_to_vec();
    let mut octets = encoded.as_slice();
    while !octets.is_empty() {
        let (number, kind) = decode_key(&mut octets)?;
        if number == place && kind == WireType::LengthDelimited {
            let length = decode_varint(&mut octets)? as usize;
            return Ok(octets[..length].to_vec());
        }
        skip_field(kind, number, &mut octets, DecodeContext::default())?;
    }
    Err("the result holds no response".into())
}

fn text<'a>(asked: &'a Value, name: &str) -> Result<&'a str, Trouble> {
    Ok(asked[name].as_str().ok_or_else(|| format!("{name} is missing"))?)
}

fn list<'a>(asked: &'a Value, name: &str) -> Result<&'a Vec<Value>, Trouble> {
    Ok(asked[name].as_array().ok_or_else(|| format!("{name} is missing"))?)
}

fn decoded(asked: &Value, name: &str) -> Result<Vec<u8>, Trouble> {
    Ok(STANDARD.decode(text(asked, name)?)?)
}

fn timeout(asked: &Value) -> Duration {
    Duration::from_millis(asked["timeout_milliseconds"].as_u64().unwrap_or(30_000))
}

fn shown(message: &impl Message) -> String {
    STANDARD.encode(message.encode_to_vec())
}
