//! Runs operations on one Execute stream.

use std::collections::{HashMap, VecDeque};
use std::mem::take;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::time::{Instant, Sleep};
use tokio_stream::{Stream, StreamExt};
use tokio_util::sync::CancellationToken;
use tonic::Code;

use crate::error::Error;
use crate::link::locked;
use crate::retry::jittered;
use crate::wire::{Answers, octets_of, put_cancel, put_operation};

// The bounds of Execute (protos/restante/v1/batch.proto).
const MAX_OPERATIONS: usize = 256;
pub(crate) const MAX_OCTETS: usize = 1 << 20;
const MAX_IN_FLIGHT: usize = 1_000; // of the 1024 at which the server stops reading
const MAX_SESSION_IN_FLIGHT: usize = 64; // beyond, the server answers TOO_MANY_OPERATIONS
const MAX_CANCELS: usize = 1_000; // in one message; 10 octets each

const GRACE: Duration = Duration::from_millis(250); // after the deadline, for the server's own answer
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Answers of an Execute stream.
pub(crate) type Incoming = Pin<Box<dyn Stream<Item = Result<Bytes, Error>> + Send>>;
/// An Execute stream that is being opened.
pub(crate) type Opening = Pin<Box<dyn Future<Output = Result<Incoming, Error>> + Send>>;

/// Opens Execute streams, of encoded messages.
pub(crate) trait Transport: Send + Sync + 'static {
    /// Opens one that sends what `outgoing` gives, on another connection than the one that drained. Also tells the
    /// number of the connection.
    fn open(&self, drained: Option<u64>, outgoing: Outgoing) -> (u64, Opening);
    /// The token to send now with operations of the session.
    fn token(&self) -> Bytes;
}

/// Who asks.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Caller {
    /// Nobody yet: no token goes along, and no bound of a session holds.
    Nobody = 0,
    /// The client's session.
    Session = 1,
}

/// Whatever waits when the stream can take it goes into one message; there is no timer. A stream that is lost is
/// replaced, and what it had not answered is sent again, in the order it was given. A stream that drains takes nothing
/// new and finishes what it has.
pub(crate) struct Multiplexer(Arc<Shared>);

struct Shared {
    transport: Box<dyn Transport>,
    patience: Duration,
    runtime: Handle,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    last_id: i64,
    lanes: [Lane; 2], // by Caller
    last_stream: u64,
    stream: Option<u64>,  // takes new operations
    drained: Option<u64>, // the connection of the last stream, where it drained
    streams: HashMap<u64, Live>,
    pause: Duration,
    resting: bool, // until the next stream is opened
    closed: bool,
    trouble: Option<Error>, // why the last stream never worked
}

/// The operations of one caller, in order.
#[derive(Default)]
struct Lane {
    pending: VecDeque<Operation>,
    in_flight: usize,
    // Order holds only on one stream and under one token: what is sent elsewhere waits until these have answered.
    ordered: usize,
    ordered_on: Option<(u64, Bytes)>,
}

/// One Execute stream.
struct Live {
    connection: Option<u64>,
    flying: HashMap<i64, Operation>,
    cancels: Vec<i64>,
    waker: Option<Waker>,
    retired: bool, // takes nothing new
    worked: bool,
    cancelled: CancellationToken,
}

struct Operation {
    id: i64,
    caller: Caller,
    asked: Asked,
    give_up_at: Option<Instant>, // set when a stream was lost: it is not sent again after this
    answer: oneshot::Sender<Result<Bytes, Error>>,
}

/// What is asked of the server.
pub(crate) struct Asked {
    /// Number of the request's field, and of the response's.
    pub place: u32,
    /// The request as that field, see `encode_request`.
    pub request: Bytes,
    /// It may begin before those handed over earlier have answered.
    pub independent: bool,
    /// It may be sent again when its answer was lost.
    pub repeatable: bool,
    /// When nobody waits for it any more.
    pub deadline: Instant,
}

/// An operation under way. Dropping it gives it up, at the server too.
pub(crate) struct Waiting {
    shared: Arc<Shared>,
    id: i64,
    caller: Caller,
    answer: oneshot::Receiver<Result<Bytes, Error>>,
    late: Pin<Box<Sleep>>,
    done: bool,
}

impl Multiplexer {
    pub fn new(transport: impl Transport, patience: Duration) -> Self {
        let state = Mutex::new(State { pause: FIRST_PAUSE, ..State::default() });
        Self(Arc::new(Shared { transport: Box::new(transport), patience, runtime: Handle::current(), state }))
    }

    /// Why no stream could be opened; `None` where one works, or none was tried.
    pub fn trouble(&self) -> Option<Error> {
        locked(&self.0.state).trouble.clone()
    }

    /// Hands an operation over. Those of one caller are sent in the order of these calls.
    pub fn start(&self, asked: Asked, caller: Caller) -> Waiting {
        let (answer, receiver) = oneshot::channel();
        let late = Box::pin(tokio::time::sleep_until(asked.deadline + GRACE));
        let mut state = locked(&self.0.state);
        state.last_id += 1;
        let id = state.last_id;
        let operation = Operation { id, caller, asked, give_up_at: None, answer };
        if octets_of(&operation.asked.request) > MAX_OCTETS {
            operation.fail(&Error::new(Code::ResourceExhausted, "The request is larger than a batch may be (1 MiB)."));
        } else if state.closed {
            operation.fail(&Error::closed());
        } else {
            state.lanes[caller as usize].pending.push_back(operation);
            self.0.kick(&mut state);
        }
        drop(state);
        Waiting { shared: self.0.clone(), id, caller, answer: receiver, late, done: false }
    }

    /// Fails whatever has not been answered, and everything from now on.
    pub fn close(&self) {
        let mut state = locked(&self.0.state);
        state.closed = true;
        state.stream = None;
        let pending: Vec<_> = state.lanes.iter_mut().flat_map(|lane| take(&mut lane.pending)).collect();
        let flying = state.streams.drain().flat_map(|(_, live)| {
            live.cancelled.cancel();
            live.flying.into_values()
        });
        for operation in flying.collect::<Vec<_>>().into_iter().chain(pending) {
            operation.fail(&Error::closed());
        }
    }
}

impl Future for Waiting {
    type Output = Result<Bytes, Error>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if let Poll::Ready(answer) = Pin::new(&mut self.answer).poll(context) {
            self.done = true;
            return Poll::Ready(answer.unwrap_or_else(|_| Err(Error::closed())));
        }
        match self.late.as_mut().poll(context) {
            Poll::Ready(()) => Poll::Ready(Err(Error::too_late())), // dropping it gives it up
            Poll::Pending => Poll::Pending,
        }
    }
}

impl Drop for Waiting {
    /// What was sent keeps its place until it is answered, since the server counts it.
    fn drop(&mut self) {
        if self.done {
            return;
        }
        let mut state = locked(&self.shared.state);
        if let Some(live) = state.streams.values_mut().find(|live| live.flying.contains_key(&self.id)) {
            live.cancels.push(self.id);
            live.nudge();
        } else {
            let id = self.id;
            state.lanes[self.caller as usize].pending.retain(|each| each.id != id);
        }
    }
}

impl Operation {
    fn fail(self, error: &Error) {
        let _ = self.answer.send(Err(error.clone())); // nobody may wait any more
    }

    /// Whether it waits for another stream.
    fn is_patient(&mut self, now: Instant, patience: Duration) -> bool {
        now < *self.give_up_at.get_or_insert(now + patience)
    }
}

impl Lane {
    fn may_send(&self, next: &Operation, stream: u64, token: &Bytes) -> bool {
        if next.caller == Caller::Session && self.in_flight >= MAX_SESSION_IN_FLIGHT {
            return false;
        }
        next.asked.independent
            || self.ordered == 0
            || self.ordered_on.as_ref().is_some_and(|on| (on.0, &on.1) == (stream, token))
    }

    fn sent(&mut self, operation: &Operation, stream: u64, token: &Bytes) {
        self.in_flight += 1;
        if !operation.asked.independent {
            self.ordered += 1;
            self.ordered_on = Some((stream, token.clone()));
        }
    }

    /// The opposite of `sent`.
    fn settled(&mut self, operation: &Operation) {
        self.in_flight -= 1;
        if !operation.asked.independent {
            self.ordered -= 1;
        }
    }
}

impl Live {
    /// Has the sending side look again.
    fn nudge(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

impl State {
    /// Takes what one message may carry.
    fn collect(&mut self, stream: u64, token: impl Fn() -> Bytes, octets: &mut Vec<u8>) {
        let Some(live) = self.streams.get_mut(&stream) else { return };
        let (now, mut count) = (Instant::now(), 0);
        for (lane, caller) in self.lanes.iter_mut().zip([Caller::Nobody, Caller::Session]) {
            if lane.pending.is_empty() {
                continue;
            }
            let token = if caller == Caller::Session { token() } else { Bytes::new() };
            while let Some(next) = lane.pending.front() {
                let full = count == MAX_OPERATIONS || live.flying.len() == MAX_IN_FLIGHT;
                if full || count > 0 && octets.len() + octets_of(&next.asked.request) > MAX_OCTETS {
                    return;
                }
                if !lane.may_send(next, stream, &token) {
                    break;
                }
                let Some(next) = lane.pending.pop_front() else { break };
                if next.asked.deadline <= now {
                    next.fail(&Error::too_late());
                    continue;
                }
                let milliseconds = (next.asked.deadline - now).as_millis() as u64;
                put_operation(next.id, &token, milliseconds, next.asked.independent, &next.asked.request, octets);
                lane.sent(&next, stream, &token);
                live.flying.insert(next.id, next);
                count += 1;
            }
        }
    }

    fn settle(&mut self, operation: &Operation) {
        self.lanes[operation.caller as usize].settled(operation);
    }

    fn has_pending(&self) -> bool {
        self.lanes.iter().any(|lane| !lane.pending.is_empty())
    }
}

impl Shared {
    /// Has what waits sent: by the stream that is open, or by a new one.
    fn kick(self: &Arc<Self>, state: &mut State) {
        if let Some(live) = state.stream.and_then(|id| state.streams.get_mut(&id)) {
            live.nudge();
            return;
        }
        if state.resting || state.closed || !state.has_pending() {
            return;
        }
        state.last_stream += 1;
        let (id, cancelled) = (state.last_stream, CancellationToken::new());
        let live = Live {
            connection: None,
            flying: HashMap::new(),
            cancels: Vec::new(),
            waker: None,
            retired: false,
            worked: false,
            cancelled: cancelled.clone(),
        };
        state.streams.insert(id, live);
        state.stream = Some(id);
        let (shared, drained) = (self.clone(), state.drained.take());
        self.runtime.spawn(async move {
            let ended = shared.run(id, drained);
            tokio::select! {
                cause = ended => shared.lost(id, &cause),
                () = cancelled.cancelled() => {}
            }
        });
    }

    /// Opens a stream and hands out its answers until it ends.
    async fn run(self: &Arc<Self>, id: u64, drained: Option<u64>) -> Error {
        let (connection, opening) = self.transport.open(drained, Outgoing { shared: self.clone(), stream: id });
        if let Some(live) = locked(&self.state).streams.get_mut(&id) {
            live.connection = Some(connection);
        }
        let mut incoming = match opening.await {
            Ok(incoming) => incoming,
            Err(cause) => return cause,
        };
        loop {
            match incoming.next().await {
                Some(Ok(octets)) => match Answers::read(octets) {
                    Ok(answers) => self.answered(id, answers),
                    Err(cause) => return cause,
                },
                Some(Err(cause)) => return cause,
                None => return Error::unavailable("The server ended the stream."),
            }
        }
    }

    fn answered(self: &Arc<Self>, id: u64, answers: Answers) {
        let mut guard = locked(&self.state);
        let state = &mut *guard;
        state.pause = FIRST_PAUSE;
        let Some(live) = state.streams.get_mut(&id) else { return };
        live.worked = true;
        state.trouble = None;
        for answer in answers.results {
            if let Some(operation) = live.flying.remove(&answer.id) {
                state.lanes[operation.caller as usize].settled(&operation);
                let outcome = answer.outcome(operation.asked.place);
                let _ = operation.answer.send(outcome); // nobody may wait any more
            }
        }
        if answers.draining {
            live.retired = true;
            if state.stream == Some(id) {
                state.stream = None;
                state.drained = live.connection;
            }
        }
        if live.retired {
            live.nudge();
        }
        if state.has_pending() {
            self.kick(state);
        }
    }

    /// Takes back what a stream that has ended did not answer: it is sent again by the next one, or fails.
    fn lost(self: &Arc<Self>, id: u64, cause: &Error) {
        let mut guard = locked(&self.state);
        let state = &mut *guard;
        let Some(live) = state.streams.remove(&id) else { return };
        let mut left: Vec<_> = live.flying.into_values().collect();
        left.sort_by_key(|operation| operation.id);
        let (now, again) = (Instant::now(), cause.is_loss());
        for mut operation in left.into_iter().rev() {
            // From the last on, each before what is there.
            state.settle(&operation);
            let wanted = !operation.answer.is_closed();
            if wanted && again && operation.asked.repeatable && operation.is_patient(now, self.patience) {
                state.lanes[operation.caller as usize].pending.push_front(operation);
            } else {
                operation.fail(cause);
            }
        }
        if state.stream != Some(id) {
            self.kick(state);
            return;
        }
        state.stream = None;
        if !live.worked {
            state.trouble = Some(cause.clone());
            // Who has waited too long for a stream fails, and everybody does where another will not help.
            for lane in &mut state.lanes {
                for mut operation in take(&mut lane.pending) {
                    if again && operation.is_patient(now, self.patience) {
                        lane.pending.push_back(operation);
                    } else {
                        operation.fail(cause);
                    }
                }
            }
        }
        self.rest(state);
    }

    /// Opens the next stream after a pause, which grows while none works.
    fn rest(self: &Arc<Self>, state: &mut State) {
        if state.resting || state.closed {
            return;
        }
        state.resting = true;
        let (shared, pause) = (self.clone(), jittered(state.pause));
        state.pause = (state.pause * 2).min(LONGEST_PAUSE);
        self.runtime.spawn(async move {
            tokio::time::sleep(pause).await;
            let mut state = locked(&shared.state);
            state.resting = false;
            shared.kick(&mut state);
        });
    }
}

/// What an Execute stream sends: a message whenever gRPC can take one and something waits.
pub(crate) struct Outgoing {
    shared: Arc<Shared>,
    stream: u64,
}

impl Stream for Outgoing {
    type Item = Bytes;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Bytes>> {
        let mut state = locked(&self.shared.state);
        let mut octets = Vec::new();
        let Some(live) = state.streams.get_mut(&self.stream) else { return Poll::Ready(None) };
        let some = live.cancels.len().min(MAX_CANCELS);
        for id in live.cancels.drain(..some) {
            put_cancel(id, &mut octets);
        }
        if !live.retired {
            state.collect(self.stream, || self.shared.transport.token(), &mut octets);
        }
        let Some(live) = state.streams.get_mut(&self.stream) else { return Poll::Ready(None) };
        if !octets.is_empty() {
            return Poll::Ready(Some(octets.into()));
        }
        if live.retired && live.flying.is_empty() {
            return Poll::Ready(None);
        }
        live.waker = Some(context.waker().clone());
        Poll::Pending
    }
}

#[cfg(test)]
mod tests;
