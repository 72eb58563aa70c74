//! The multiplexer's bounds, order and losses, against a server that is the test itself.

use std::sync::atomic::{AtomicU64, Ordering};

use prost::Message;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::UnboundedReceiverStream;

use super::*;
use crate::Rpc;
use crate::v1::{self, ErrorReason, operation, operation_result};
use crate::wire::encode_request;

const SOON: Duration = Duration::from_secs(5);
const MINUTE: Duration = Duration::from_secs(60);
const PLACE: u32 = 32; // of GetFolder

/// Takes the calls of a multiplexer.
struct Server {
    calls: mpsc::UnboundedReceiver<Call>,
    drained: Arc<Mutex<Vec<u64>>>, // connections that were asked to be replaced
    token: Arc<Mutex<Bytes>>,
}

struct Fake {
    calls: mpsc::UnboundedSender<Call>,
    refused: Option<Error>, // instead of a call
    last: AtomicU64,
    drained: Arc<Mutex<Vec<u64>>>,
    token: Arc<Mutex<Bytes>>,
}

/// One Execute stream. It takes a message when the test does.
struct Call {
    connection: u64,
    outgoing: Outgoing,
    answers: mpsc::UnboundedSender<Result<Bytes, Error>>,
}

impl Transport for Fake {
    fn open(&self, drained: Option<u64>, outgoing: Outgoing) -> (u64, Opening) {
        locked(&self.drained).extend(drained);
        let connection = self.last.fetch_add(1, Ordering::Relaxed);
        if let Some(refused) = self.refused.clone() {
            return (connection, Box::pin(async { Err(refused) }));
        }
        let (answers, incoming) = mpsc::unbounded_channel();
        let _ = self.calls.send(Call { connection, outgoing, answers });
        (connection, Box::pin(async { Ok(Box::pin(UnboundedReceiverStream::new(incoming)) as Incoming) }))
    }

    fn token(&self) -> Bytes {
        locked(&self.token).clone()
    }
}

fn multiplexer(patience: Duration, refused: Option<Error>) -> (Multiplexer, Server) {
    let (calls, taken) = mpsc::unbounded_channel();
    let (drained, token) = (Arc::default(), Arc::new(Mutex::new(Bytes::from_static(b"token"))));
    let server = Server { calls: taken, drained: Arc::clone(&drained), token: Arc::clone(&token) };
    let fake = Fake { calls, refused, last: AtomicU64::new(1), drained, token };
    (Multiplexer::new(fake, patience), server)
}

impl Server {
    async fn call(&mut self) -> Call {
        timeout(SOON, self.calls.recv()).await.expect("a stream comes").expect("the multiplexer is there")
    }
}

impl Call {
    async fn request(&mut self) -> v1::ExecuteRequest {
        let octets = timeout(SOON, self.outgoing.next()).await.expect("a request comes").expect("the stream is open");
        assert!(octets.len() <= MAX_OCTETS, "{} octets in one message", octets.len());
        v1::ExecuteRequest::decode(octets).unwrap()
    }

    async fn operations(&mut self, count: usize) -> Vec<v1::Operation> {
        let mut found = Vec::new();
        while found.len() < count {
            found.extend(self.request().await.operations);
        }
        assert_eq!(found.len(), count);
        found
    }

    async fn is_quiet(&mut self) -> bool {
        timeout(Duration::from_millis(50), self.outgoing.next()).await.is_err()
    }

    /// Answers operations, each with the folder that it asked for.
    fn answer(&self, operations: &[&v1::Operation]) {
        let result = |asked: &&v1::Operation| {
            let folder = Some(v1::Folder { folder_id: number(asked), ..Default::default() });
            v1::OperationResult {
                operation_id: asked.operation_id,
                response: Some(operation_result::Response::GetFolder(v1::GetFolderResponse { folder })),
                ..Default::default()
            }
        };
        self.tell(v1::ExecuteResponse { results: operations.iter().map(result).collect(), draining: false });
    }

    fn drain(&self) {
        self.tell(v1::ExecuteResponse { results: Vec::new(), draining: true });
    }

    fn tell(&self, response: v1::ExecuteResponse) {
        self.answers.send(Ok(response.encode_to_vec().into())).expect("the stream is read");
    }

    fn cut(&self) {
        self.answers.send(Err(Error::unavailable("The line was cut."))).expect("the stream is read");
    }
}

/// The folder that an operation asks for, which tells it apart.
fn number(asked: &v1::Operation) -> i64 {
    match &asked.request {
        Some(operation::Request::GetFolder(request)) => request.folder_id,
        other => panic!("{other:?} was sent"),
    }
}

fn numbers(operations: &[v1::Operation]) -> Vec<i64> {
    operations.iter().map(number).collect()
}

fn asked(request: &v1::GetFolderRequest, independent: bool) -> Asked {
    Asked {
        place: PLACE,
        request: encode_request(PLACE, &request.encode_to_vec()),
        independent,
        repeatable: true,
        deadline: Instant::now() + MINUTE,
    }
}

fn folder(number: i64) -> v1::GetFolderRequest {
    v1::GetFolderRequest { folder_id: number, ..Default::default() }
}

fn start(m: &Multiplexer, number: i64, independent: bool) -> Waiting {
    m.start(asked(&folder(number), independent), Caller::Session)
}

fn start_anonymous(m: &Multiplexer, count: i64) -> Vec<Waiting> {
    (0..count).map(|number| m.start(asked(&folder(number), true), Caller::Nobody)).collect()
}

async fn found(waiting: Waiting) -> i64 {
    let octets = timeout(SOON, waiting).await.expect("the answer comes").unwrap();
    v1::GetFolderResponse::decode(octets).unwrap().folder.unwrap().folder_id
}

async fn failed(waiting: Waiting) -> Error {
    timeout(SOON, waiting).await.expect("the end comes").unwrap_err()
}

/// Waits until the multiplexer has taken the news.
async fn until(m: &Multiplexer, so: impl Fn(&State) -> bool) {
    let looking = async {
        while !so(&locked(&m.0.state)) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(SOON, looking).await.expect("it comes so");
}

#[tokio::test]
async fn an_answer_reaches_who_asked() {
    assert_eq!(v1::GetFolderRequest::PLACE, Some(PLACE));
    let (m, mut server) = multiplexer(SOON, None);
    let first = start(&m, 1, false);
    let mut call = server.call().await;
    let one = call.operations(1).await.remove(0);
    assert_eq!((one.session_token.as_slice(), one.independent), (&b"token"[..], false));
    assert!((50_000..=60_000).contains(&one.timeout_milliseconds), "{}", one.timeout_milliseconds);
    let second = start(&m, 2, true);
    let other = call.operations(1).await.remove(0);
    assert!(other.independent);
    call.answer(&[&other, &one]);
    assert_eq!((found(first).await, found(second).await), (1, 2));
}

#[tokio::test]
async fn nobodys_operations_carry_no_token() {
    let (m, mut server) = multiplexer(SOON, None);
    let _waiting = start_anonymous(&m, 1);
    assert!(server.call().await.operations(1).await[0].session_token.is_empty());
}

#[tokio::test]
async fn a_message_holds_at_most_256_operations_in_order() {
    let (m, mut server) = multiplexer(SOON, None);
    let _waiting = start_anonymous(&m, 600);
    let (mut call, mut sent) = (server.call().await, Vec::new());
    for wanted in [256, 256, 88] {
        let request = call.request().await;
        assert_eq!(request.operations.len(), wanted);
        sent.extend(numbers(&request.operations));
    }
    assert_eq!(sent, (0..600).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_message_holds_at_most_1_mib() {
    let (m, mut server) = multiplexer(SOON, None);
    let request = v1::GetFolderRequest { path: vec!["x".repeat(300_000)], ..Default::default() };
    let _waiting: Vec<_> = (0..7).map(|_| start_request(&m, &request)).collect();
    let mut call = server.call().await;
    for wanted in [3, 3, 1] {
        assert_eq!(call.request().await.operations.len(), wanted);
    }
}

fn start_request(m: &Multiplexer, request: &v1::GetFolderRequest) -> Waiting {
    m.start(asked(request, true), Caller::Nobody)
}

#[tokio::test]
async fn an_operation_above_1_mib_is_refused_and_hurts_no_other() {
    let (m, mut server) = multiplexer(SOON, None);
    let large = v1::GetFolderRequest { path: vec!["x".repeat(MAX_OCTETS)], ..Default::default() };
    assert_eq!(failed(start_request(&m, &large)).await.code(), Code::ResourceExhausted);
    let small = start(&m, 1, true);
    let mut call = server.call().await;
    let sent = call.operations(1).await;
    call.answer(&[&sent[0]]);
    assert_eq!(found(small).await, 1);
}

#[tokio::test]
async fn a_stream_has_at_most_1000_in_flight() {
    let (m, mut server) = multiplexer(SOON, None);
    let _waiting = start_anonymous(&m, 1_005);
    let mut call = server.call().await;
    let sent = call.operations(MAX_IN_FLIGHT).await;
    assert!(call.is_quiet().await);
    call.answer(&[&sent[7], &sent[3]]);
    assert_eq!(numbers(&call.operations(2).await), [1_000, 1_001]);
}

#[tokio::test]
async fn a_session_has_at_most_64_in_flight_and_keeps_its_order() {
    let (m, mut server) = multiplexer(SOON, None);
    let waiting: Vec<_> = (0..200).map(|number| start(&m, number, false)).collect();
    let mut call = server.call().await;
    let mut sent = VecDeque::from(call.operations(MAX_SESSION_IN_FLIGHT).await);
    assert!(call.is_quiet().await);
    let _other = start_anonymous(&m, 1);
    assert_eq!(numbers(&call.operations(1).await), [0], "another caller's was held back");
    for wanted in 0..200 {
        let next = sent.pop_front().unwrap();
        assert_eq!(number(&next), wanted);
        call.answer(&[&next]);
        if wanted < 200 - MAX_SESSION_IN_FLIGHT as i64 {
            sent.extend(call.operations(1).await);
        }
    }
    for (wanted, each) in waiting.into_iter().enumerate() {
        assert_eq!(found(each).await, wanted as i64);
    }
}

#[tokio::test]
async fn a_draining_stream_finishes_and_new_operations_go_by_a_fresh_connection() {
    let (m, mut server) = multiplexer(SOON, None);
    let old = start(&m, 1, true);
    let mut first = server.call().await;
    let sent = first.operations(1).await;
    first.drain();
    until(&m, |state| state.stream.is_none()).await;
    let fresh = start(&m, 2, true);
    let mut second = server.call().await;
    let other = second.operations(1).await;
    second.answer(&[&other[0]]);
    assert_eq!(found(fresh).await, 2);
    first.answer(&[&sent[0]]);
    assert_eq!(found(old).await, 1);
    assert!(timeout(SOON, first.outgoing.next()).await.expect("the old stream ends").is_none());
    assert_eq!(*locked(&server.drained), [first.connection]);
}

#[tokio::test]
async fn order_holds_from_one_stream_to_the_next() {
    let (m, mut server) = multiplexer(SOON, None);
    let _one = start(&m, 1, false);
    let mut first = server.call().await;
    let sent = first.operations(1).await;
    first.drain();
    until(&m, |state| state.stream.is_none()).await;
    let _two = start(&m, 2, false);
    let mut second = server.call().await;
    assert!(second.is_quiet().await);
    first.answer(&[&sent[0]]);
    assert_eq!(numbers(&second.operations(1).await), [2]);
}

#[tokio::test]
async fn order_holds_from_one_token_to_the_next() {
    let (m, mut server) = multiplexer(SOON, None);
    let _one = start(&m, 1, false);
    let mut call = server.call().await;
    let sent = call.operations(1).await;
    *locked(&server.token) = Bytes::from_static(b"fresh"); // the server takes it for another session
    let _two = start(&m, 2, false);
    assert!(call.is_quiet().await);
    call.answer(&[&sent[0]]);
    assert_eq!(call.operations(1).await[0].session_token, b"fresh");
}

#[tokio::test]
async fn what_a_lost_stream_did_not_answer_is_sent_again_in_order() {
    let (m, mut server) = multiplexer(MINUTE, None);
    let mut waiting: VecDeque<_> = (0..100).map(|number| start(&m, number, false)).collect();
    let mut first = server.call().await;
    let sent = first.operations(MAX_SESSION_IN_FLIGHT).await;
    first.answer(&[&sent[0]]);
    assert_eq!(found(waiting.pop_front().unwrap()).await, 0);
    drop(waiting.remove(4)); // number 5: nobody waits for it any more
    first.cut();
    let mut second = server.call().await;
    let wanted: Vec<_> = (1..100).filter(|number| *number != 5).collect();
    let next = second.operations(MAX_SESSION_IN_FLIGHT).await;
    second.answer(&next.iter().collect::<Vec<_>>());
    let rest = second.operations(34).await;
    second.answer(&rest.iter().collect::<Vec<_>>());
    assert_eq!([numbers(&next), numbers(&rest)].concat(), wanted);
    for (each, wanted) in waiting.into_iter().zip(wanted) {
        assert_eq!(found(each).await, wanted);
    }
}

#[tokio::test]
async fn what_is_good_once_is_not_sent_again() {
    let (m, mut server) = multiplexer(MINUTE, None);
    let once = m.start(Asked { repeatable: false, ..asked(&folder(1), true) }, Caller::Nobody);
    let mut call = server.call().await;
    call.operations(1).await;
    call.cut();
    assert_eq!(failed(once).await.code(), Code::Unavailable);
}

#[tokio::test]
async fn a_server_that_cannot_be_reached_fails_operations_when_patience_ends() {
    let patience = Duration::from_millis(200);
    let (m, _server) = multiplexer(patience, Some(Error::unavailable("Nobody is there.")));
    let began = Instant::now();
    assert_eq!(failed(start(&m, 1, true)).await.code(), Code::Unavailable);
    assert!(began.elapsed() >= patience);
}

#[tokio::test]
async fn a_stream_that_is_refused_for_good_fails_what_waits() {
    let refused = Error::of_reason(Code::Unauthenticated, ErrorReason::InvalidSession, "No.");
    let (m, _server) = multiplexer(MINUTE, Some(refused));
    assert_eq!(failed(start(&m, 1, true)).await.reason(), ErrorReason::InvalidSession);
}

#[tokio::test]
async fn what_is_dropped_is_given_up_and_keeps_its_place_until_it_is_answered() {
    let (m, mut server) = multiplexer(SOON, None);
    let dropped = start(&m, 1, false);
    let mut call = server.call().await;
    let sent = call.operations(1).await;
    let _others: Vec<_> = (0..64).map(|number| start(&m, 2 + number, false)).collect();
    call.operations(MAX_SESSION_IN_FLIGHT - 1).await;
    drop(dropped);
    let told = call.request().await;
    assert_eq!((told.cancel_operation_ids, told.operations.len()), (vec![sent[0].operation_id], 0));
    assert!(call.is_quiet().await);
    call.answer(&[&sent[0]]);
    assert_eq!(numbers(&call.operations(1).await), [65]);
}

#[tokio::test]
async fn what_is_dropped_before_it_was_sent_never_is() {
    let (m, mut server) = multiplexer(SOON, None);
    let _one = start(&m, 1, true);
    drop(start(&m, 2, true));
    let _three = start(&m, 3, true);
    let late = m.start(Asked { deadline: Instant::now(), ..asked(&folder(4), true) }, Caller::Session);
    assert_eq!(numbers(&server.call().await.operations(2).await), [1, 3]);
    assert_eq!(failed(late).await.code(), Code::DeadlineExceeded);
}

#[tokio::test]
async fn an_operation_that_nobody_answers_ends_after_its_deadline() {
    let (m, mut server) = multiplexer(SOON, None);
    let deadline = Instant::now() + Duration::from_millis(100);
    let silent = m.start(Asked { deadline, ..asked(&folder(1), true) }, Caller::Session);
    let mut call = server.call().await;
    let sent = call.operations(1).await;
    assert_eq!(failed(silent).await.code(), Code::DeadlineExceeded);
    assert!(Instant::now() >= deadline + GRACE);
    assert_eq!(call.request().await.cancel_operation_ids, [sent[0].operation_id]);
}

#[tokio::test]
async fn closing_fails_what_is_unanswered() {
    let (m, mut server) = multiplexer(SOON, None);
    let flying = start(&m, 1, true);
    let mut call = server.call().await;
    call.operations(1).await;
    m.close();
    for each in [flying, start(&m, 2, true)] {
        assert_eq!(failed(each).await.code(), Code::Cancelled);
    }
    timeout(SOON, call.answers.closed()).await.expect("the stream ends");
}

#[tokio::test]
async fn an_answer_of_another_kind_is_an_error() {
    let (m, mut server) = multiplexer(SOON, None);
    let waiting = start(&m, 1, true);
    let mut call = server.call().await;
    let sent = call.operations(1).await;
    let response = Some(operation_result::Response::Logoff(v1::LogoffResponse {}));
    let result = v1::OperationResult { operation_id: sent[0].operation_id, response, ..Default::default() };
    call.tell(v1::ExecuteResponse { results: vec![result], draining: false });
    assert_eq!(failed(waiting).await.code(), Code::Internal);
}
