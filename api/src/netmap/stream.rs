//! `GET /api/machine-stream`: one WebSocket per machine.

use std::net::IpAddr;
use std::time::Duration;

use axum::extract;
use axum::response::Response;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep_until, timeout};
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use ztna_proto::error::{ErrorBody, ErrorCode};
use ztna_proto::netmap::{
    ClientMessage, KEEP_ALIVE_SECONDS, Resume, ServerMessage, VolatileReport,
};
use ztna_proto::tokens::TokenHash;
use ztna_proto::{CAPABILITY, MIN_CAPABILITY};

use super::check_report;
use super::hub::Subscription;
use super::socket::{Socket, Upgrade};
use crate::app::State;
use crate::http::{ApiError, Call, ClientIp, KnownMachine, Machine, around};
use crate::machines;

/// The first message comes within this time.
const HELLO_LIMIT: Duration = Duration::from_secs(10);
/// A write that takes longer means that the machine is gone.
const WRITE_LIMIT: Duration = Duration::from_secs(30);
const KEEP_ALIVE: Duration = Duration::from_secs(KEEP_ALIVE_SECONDS);
/// So many periods without a word (every ping is answered) mean a dead connection.
const SILENT_PERIODS: u32 = 3;
/// How often a machine gets a fresh relay ticket.
const TICKET_PERIOD: Duration = Duration::from_secs(60 * 60);
/// Reports of one machine are passed on at most so often; of those between, the last counts.
const REPORT_PAUSE: Duration = Duration::from_millis(200);
/// A machine whose map never fits asks for full maps without end; at most so many …
const MAX_RESYNCS: u32 = 10;
/// … within this time.
const RESYNC_WINDOW: Duration = Duration::from_secs(60);

pub(crate) fn routes() -> OpenApiRouter<State> {
    OpenApiRouter::new().routes(routes!(machine_stream))
}

/// The machine stream (WebSocket). Bearer: machine token. The messages are `ServerMessage` and
/// `ClientMessage` of the contract crate, one JSON object per text frame.
#[utoipa::path(get, path = "/api/machine-stream", tag = "machines", responses(
    (status = 101, description = "The stream begins; the machine says hello."), (status = 401, body = ErrorBody),
    (status = 403, body = ErrorBody), (status = 410, body = ErrorBody),
))]
async fn machine_stream(
    extract::State(state): extract::State<State>,
    KnownMachine { machine, token }: KnownMachine,
    ClientIp(address): ClientIp,
    upgrade: Upgrade,
) -> Response {
    // The stream goes on beside the call.
    let call = Call::current();
    upgrade.accept(async move |socket| {
        let mut stream = Stream {
            state,
            machine,
            token,
            address,
            socket,
        };
        if let End::Refused(error) = around(call, stream.run()).await {
            stream.say_error(error).await;
        }
    })
}

/// Why a stream ends.
enum End {
    /// The machine said goodbye.
    Left,
    /// The connection broke, the outbox closed, or we stop.
    Broken,
    /// We end it, and say why.
    Refused(ErrorBody),
}

impl From<ApiError> for End {
    fn from(error: ApiError) -> Self {
        Self::Refused(error.into_body())
    }
}

struct Stream {
    state: State,
    machine: Machine,
    token: TokenHash,
    /// Where it calls from.
    address: IpAddr,
    socket: Socket,
}

impl Stream {
    async fn run(&mut self) -> End {
        let (agent_version, resume) = match Box::pin(self.hello()).await {
            Ok(hello) => hello,
            Err(end) => return end,
        };
        let hub = self.state.hub.clone();
        let connecting = hub.connect(&self.machine, &self.token, resume);
        let subscription = match Box::pin(connecting).await {
            Ok(Some(subscription)) => subscription,
            // Deleted or expired since the token was checked: the next call is told which.
            Ok(None) => return machines::unknown_token().into(),
            Err(error) => return error.into(),
        };
        let serial = subscription.serial;
        tracing::debug!(machine = %self.machine.id, "a machine stream began");
        // The org is in memory now, and mostly knows this version.
        let noted = machines::set_agent_version(&self.state, &self.machine, &agent_version);
        if let Err(error) = Box::pin(noted).await {
            tracing::error!(machine = %self.machine.id, %error, "an agent's version could not be written down");
        }
        let end = self.serve(subscription).await;
        let leaving = matches!(end, End::Left);
        let id = self.machine.id;
        let left = self
            .state
            .hub
            .with(&self.machine, |org| org.disconnect(id, serial, leaving));
        if let Err(error) = left {
            tracing::error!(%error, "a stream's end could not be told");
        }
        tracing::debug!(machine = %id, leaving, "a machine stream ended");
        end
    }

    /// The agent's version, and where the machine stands, if it says so.
    async fn hello(&mut self) -> Result<(String, Option<Resume>), End> {
        let first = timeout(HELLO_LIMIT, self.socket.recv()).await;
        let Ok(Some(Message::Text(text))) = first else {
            return Err(End::Broken);
        };
        let Ok(ClientMessage::Hello {
            capability,
            agent_version,
            resume,
        }) = serde_json::from_str(&text)
        else {
            return Err(End::Refused(ErrorBody::new(
                ErrorCode::ValidationError,
                "the first message of a stream is `hello`",
            )));
        };
        if capability < MIN_CAPABILITY {
            return Err(End::Refused(ErrorBody::new(
                ErrorCode::UpgradeRequired,
                format!(
                    "this agent speaks version {capability} of the stream, the control plane \
                     {MIN_CAPABILITY} to {CAPABILITY}; update the agent"
                ),
            )));
        }
        machines::check_text("agent_version", &agent_version)?;
        machines::called_from(&self.state, &self.machine, self.address).await?;
        Ok((agent_version, resume))
    }

    async fn serve(&mut self, mut subscription: Subscription) -> End {
        let hub = self.state.hub.clone();
        let (machine, serial) = (self.machine, subscription.serial);
        let start = Instant::now();
        let mut keep_alive = interval_at(start + KEEP_ALIVE, KEEP_ALIVE);
        keep_alive.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut tickets = interval_at(start + TICKET_PERIOD, TICKET_PERIOD);
        let mut heard = start;
        let mut reports = Reports::new(start);
        let mut resyncs = Resyncs {
            since: start,
            count: 0,
        };
        loop {
            tokio::select! {
                () = self.state.stopping.cancelled() => return End::Broken,
                message = subscription.inbox.recv() => {
                    let Some(text) = message else {
                        // What ended the stream was the last message. A failure changes nothing.
                        let _ = self.write(Message::Close(None)).await;
                        return End::Broken;
                    };
                    if self.write(Message::Text(text)).await.is_err() {
                        return End::Broken;
                    }
                }
                message = self.socket.recv() => {
                    heard = Instant::now();
                    let text = match message {
                        Some(Message::Text(text)) => text,
                        Some(Message::Close(_)) => return End::Left,
                        Some(_) => continue,
                        None => return End::Broken,
                    };
                    match read(&text) {
                        Ok(ClientMessage::Report(report)) => reports.put(report),
                        Ok(ClientMessage::Resync) => {
                            if !resyncs.admit(heard) {
                                return End::Refused(too_many_resyncs());
                            }
                            if let Err(error) = hub.with(&machine, |org| org.resync(machine.id, serial)) {
                                return error.into();
                            }
                        }
                        Ok(ClientMessage::Hello { .. } | ClientMessage::Unknown) => {}
                        Err(refusal) => return End::Refused(refusal),
                    }
                }
                () = reports.due() => {
                    let now = std::time::Instant::now();
                    if let Some(report) = reports.take()
                        && let Err(error) = hub.with(&machine, |org| org.report(machine.id, report, now))
                    {
                        return error.into();
                    }
                }
                _ = keep_alive.tick() => {
                    if heard.elapsed() > KEEP_ALIVE * SILENT_PERIODS {
                        return End::Broken;
                    }
                    if self.write(Message::Ping(Vec::new().into())).await.is_err() {
                        return End::Broken;
                    }
                    let alive = heard.elapsed() <= KEEP_ALIVE * 2;
                    let told = hub.with(&machine, |org| {
                        if alive {
                            org.hear(machine.id, std::time::Instant::now())?;
                        }
                        org.keep_alive(machine.id, serial)
                    });
                    if let Err(error) = told {
                        return error.into();
                    }
                }
                _ = tickets.tick() => {
                    // The one that it has holds on; the next hour brings the next try.
                    if let Err(error) = Box::pin(hub.renew_ticket(&machine, serial)).await {
                        tracing::error!(machine = %machine.id, %error, "no fresh relay ticket");
                    }
                }
            }
        }
    }

    async fn say_error(&mut self, error: ErrorBody) {
        let Ok(text) = ServerMessage::Error(error).encode() else {
            return;
        };
        // Best effort: the connection may be gone, which is what the error would have said.
        let _ = self.write(Message::Text(text.into())).await;
        let _ = self.write(Message::Close(None)).await;
    }

    async fn write(&mut self, message: Message) -> Result<(), ()> {
        match timeout(WRITE_LIMIT, self.socket.send(message)).await {
            Ok(sent) => sent,
            Err(_) => Err(()),
        }
    }
}

fn read(text: &Utf8Bytes) -> Result<ClientMessage, ErrorBody> {
    let message = serde_json::from_str(text).map_err(|error| {
        ErrorBody::new(
            ErrorCode::InvalidJson,
            format!("a message of the stream cannot be read: {error}"),
        )
    })?;
    if let ClientMessage::Report(report) = &message {
        check_report(report).map_err(ApiError::into_body)?;
    }
    Ok(message)
}

fn too_many_resyncs() -> ErrorBody {
    ErrorBody::new(
        ErrorCode::RateLimited,
        "the machine asks for full maps again and again; update the agent or report a fault",
    )
}

/// Reports that wait for their turn.
struct Reports {
    waiting: Option<VolatileReport>,
    next: Instant,
}

impl Reports {
    fn new(now: Instant) -> Self {
        Self {
            waiting: None,
            next: now,
        }
    }

    fn put(&mut self, report: VolatileReport) {
        self.waiting = Some(report);
    }

    /// Waits until a report may be passed on; for ever if there is none.
    async fn due(&self) {
        match self.waiting {
            Some(_) => sleep_until(self.next).await,
            None => std::future::pending().await,
        }
    }

    fn take(&mut self) -> Option<VolatileReport> {
        self.next = Instant::now() + REPORT_PAUSE;
        self.waiting.take()
    }
}

struct Resyncs {
    since: Instant,
    count: u32,
}

impl Resyncs {
    fn admit(&mut self, now: Instant) -> bool {
        if now.duration_since(self.since) >= RESYNC_WINDOW {
            *self = Self {
                since: now,
                count: 0,
            };
        }
        self.count += 1;
        self.count <= MAX_RESYNCS
    }
}
