//! One listener.

use std::collections::BTreeSet;
use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket};
use jiff::Timestamp;
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep_until, timeout};
use ztna_proto::api::Role;
use ztna_proto::error::{ErrorBody, ErrorCode};
use ztna_proto::ids::OrgId;
use ztna_proto::realtime::{
    Channel, MAX_REALTIME_MESSAGE, MAX_REALTIME_MESSAGES, MAX_REALTIME_MISSED, RealtimeClose,
    RealtimeMessage, RealtimeRequest,
};

use super::feed::{Came, Full, News, Seat};
use super::row::{self, Row, admits, text};
use crate::app::State;
use crate::audit;
use crate::http::ApiError;
use crate::identity::{check_vouched, session_lives};
use crate::keys::Access;
use crate::orgs::{Right, authorise};

/// A write that takes longer means that the client is gone.
const WRITE_LIMIT: Duration = Duration::from_secs(10);
/// So many periods of pings without a word (every ping is answered) mean a dead connection.
const SILENT_PERIODS: u32 = 3;
/// Rows of the past that are read, and held while the client takes them, at once.
const PAGE: i64 = 50;
/// Telling again what was missed takes at most so long; a client that is slower reads everything anew.
const REPLAY_LIMIT: Duration = Duration::from_secs(30);
/// Messages of a client are counted over this time.
const MESSAGES_WINDOW: Duration = Duration::from_secs(60);

/// Who listens to what, on which word.
#[derive(Clone, Copy)]
pub(super) struct Caller {
    pub(super) org: OrgId,
    pub(super) access: Access,
    /// When the access token ends.
    pub(super) until: Timestamp,
}

impl Caller {
    /// The caller's role, if the session lives and the org lets it in.
    pub(super) async fn check(&self, state: &State) -> Result<Role, ApiError> {
        let Access {
            user,
            session,
            vouched_by,
        } = self.access;
        let mut connection = state.db.connect().await?;
        let tx = connection.person(user).await?;
        if !session_lives(&tx, user, session).await? {
            return Err(crate::http::refuse(
                ErrorCode::Unauthorized,
                "the session was ended; sign in again",
            ));
        }
        drop(tx);
        let tx = connection.org(self.org).await?;
        let role = authorise(&tx, self.org, user, Right::Belong).await?;
        check_vouched(&tx, self.org, user, vouched_by).await?;
        Ok(role)
    }
}

/// Why a connection ends.
enum End {
    /// The client said goodbye, or is gone.
    Left,
    /// We end it, and say why.
    Closed(RealtimeClose, ErrorBody),
}

impl End {
    fn closed(close: RealtimeClose, code: ErrorCode, message: impl Into<String>) -> Self {
        Self::Closed(close, ErrorBody::new(code, message))
    }

    fn stops() -> Self {
        Self::closed(
            RealtimeClose::GoingAway,
            ErrorCode::Unavailable,
            "this server stops; connect again",
        )
    }

    fn token() -> Self {
        Self::closed(
            RealtimeClose::TokenEnded,
            ErrorCode::Unauthorized,
            "the access token has ended; refresh the session and connect again, or send `token` in time",
        )
    }
}

impl From<ApiError> for End {
    fn from(error: ApiError) -> Self {
        let close = match &error {
            ApiError::Refused(_) => RealtimeClose::NotAllowed,
            _ => RealtimeClose::TryAgain,
        };
        Self::Closed(close, error.into_body())
    }
}

impl From<serde_json::Error> for End {
    fn from(error: serde_json::Error) -> Self {
        ApiError::Internal(format!("a message could not be written: {error}")).into()
    }
}

/// Tells a client that there are too many already.
pub(super) async fn turn_away(mut socket: WebSocket, full: Full) {
    let message = match full {
        Full::Org => "the org has as many connections as it may; ask by the ordinary calls",
        Full::Person => "you have as many connections to this org as you may; close one",
    };
    let error = ErrorBody::new(ErrorCode::RateLimited, message);
    say_goodbye(&mut socket, RealtimeClose::TooMany, error).await;
}

/// Serves a listener until either side ends it.
pub(super) async fn run(state: State, caller: Caller, role: Role, seat: Seat, socket: WebSocket) {
    let mut connection = Connection {
        news: seat.listen(),
        state,
        caller,
        role,
        seat,
        socket,
        channels: BTreeSet::new(),
        told: 0,
        checked: Instant::now(),
    };
    if let End::Closed(close, error) = connection.serve().await {
        tracing::debug!(org = %caller.org, code = close as u16, reason = %error, "a listener's connection ends");
        say_goodbye(&mut connection.socket, close, error).await;
    }
}

/// Best effort: the connection may be gone, which is what this would say.
async fn say_goodbye(socket: &mut WebSocket, close: RealtimeClose, error: ErrorBody) {
    let words = async {
        if let Ok(text) = text(&RealtimeMessage::Error(error)) {
            socket.send(Message::Text(text)).await?;
        }
        let frame = CloseFrame {
            code: close as u16,
            reason: Utf8Bytes::default(),
        };
        socket.send(Message::Close(Some(frame))).await?;
        // Until the client has read it and answers; a connection that is dropped before may take what
        // was said with it.
        while let Some(Ok(_)) = socket.recv().await {}
        Ok::<(), axum::Error>(())
    };
    let _ = timeout(WRITE_LIMIT, words).await;
}

struct Connection {
    state: State,
    caller: Caller,
    role: Role,
    seat: Seat,
    news: broadcast::Receiver<News>,
    socket: WebSocket,
    channels: BTreeSet<Channel>,
    /// The last row that was told, or was none of this listener's business.
    told: i64,
    /// When rights were last looked at.
    checked: Instant,
}

impl Connection {
    async fn serve(&mut self) -> End {
        match self.follow().await {
            Ok(never) => match never {},
            Err(end) => end,
        }
    }

    async fn follow(&mut self) -> Result<std::convert::Infallible, End> {
        self.told = self.head().await?;
        self.seat.begin_at(self.told);
        let ping = self.state.realtime_ping;
        let mut pings = interval_at(Instant::now() + ping, ping);
        pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut heard = Instant::now();
        let mut counted = (heard, 0);
        let state = self.state.clone();
        loop {
            tokio::select! {
                () = state.stopping.cancelled() => return Err(End::stops()),
                () = sleep_until(token_end(self.caller.until)) => return Err(End::token()),
                _ = pings.tick() => {
                    if heard.elapsed() >= ping * SILENT_PERIODS {
                        return Err(End::closed(
                            RealtimeClose::Silent, ErrorCode::Unavailable, "no ping was answered; connect again",
                        ));
                    }
                    self.check().await?;
                    self.write(Message::Ping(Vec::new().into())).await?;
                }
                news = self.news.recv() => match news {
                    Ok(News::Rows(rows)) => self.take(&rows).await?,
                    Ok(News::Presence(came)) => self.tell_presence(&came).await?,
                    // Rows that are missing show by their numbers.
                    Err(RecvError::Lagged(_)) => self.resync(&[Channel::Presence]).await?,
                    Err(RecvError::Closed) => return Err(End::Left),
                },
                message = self.socket.recv() => {
                    heard = Instant::now();
                    match message {
                        Some(Ok(Message::Text(text))) => {
                            if heard.duration_since(counted.0) >= MESSAGES_WINDOW {
                                counted = (heard, 0);
                            }
                            counted.1 += 1;
                            self.hear(&text, counted.1).await?;
                        }
                        Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                        Some(Ok(Message::Binary(_))) => return Err(misspoken("messages are text")),
                        Some(Ok(Message::Close(_)) | Err(_)) | None => return Err(End::Left),
                    }
                }
            }
        }
    }

    /// Where the org's log stands.
    async fn head(&mut self) -> Result<i64, End> {
        let org = self.caller.org;
        let mut connection = self.state.db.connect().await.map_err(End::from)?;
        let tx = connection.org(org).await?;
        Ok(audit::head(&tx, org).await?)
    }

    /// Ends the connection if the caller may not listen any more, and forgets channels that another role
    /// may not hear.
    async fn check(&mut self) -> Result<(), End> {
        self.checked = Instant::now();
        self.role = self.caller.check(&self.state).await?;
        let held = std::mem::take(&mut self.channels);
        let (kept, lost): (BTreeSet<_>, BTreeSet<_>) = held
            .into_iter()
            .partition(|channel| admits(*channel, self.role));
        self.channels = kept;
        if lost.is_empty() {
            return Ok(());
        }
        self.say_subscribed(lost.into_iter().collect()).await
    }

    async fn hear(&mut self, text: &str, count: u32) -> Result<(), End> {
        if count > MAX_REALTIME_MESSAGES {
            return Err(misspoken("more than 60 messages in a minute"));
        }
        if text.len() > MAX_REALTIME_MESSAGE {
            return Err(misspoken("a message is larger than 4096 bytes"));
        }
        let request: RealtimeRequest = serde_json::from_str(text)
            .map_err(|error| misspoken(format!("a message cannot be read: {error}")))?;
        match request {
            RealtimeRequest::Subscribe { channels, since } => self.subscribe(channels, since).await,
            RealtimeRequest::Unsubscribe { channels } => {
                self.channels.retain(|channel| !channels.contains(channel));
                let presence = self.channels.contains(&Channel::Presence);
                self.seat.hear_presence(&self.state, presence).await?;
                self.say_subscribed(Vec::new()).await
            }
            RealtimeRequest::Token { token } => self.renew(&token).await,
            RealtimeRequest::Unknown => Ok(()),
        }
    }

    async fn subscribe(&mut self, asked: Vec<Channel>, since: Option<i64>) -> Result<(), End> {
        self.check().await?;
        let asked: BTreeSet<Channel> = asked.into_iter().collect();
        let (added, refused): (BTreeSet<_>, BTreeSet<_>) = asked
            .into_iter()
            .partition(|channel| admits(*channel, self.role));
        if added.contains(&Channel::Presence) {
            self.seat.hear_presence(&self.state, true).await?;
        }
        self.channels.extend(added.iter().copied());
        self.say_subscribed(refused.into_iter().collect()).await?;
        match since {
            Some(since) if since < self.told => self.tell_again(since, &added).await,
            _ => Ok(()),
        }
    }

    /// Tells of these channels what came after `since`, up to where the others stand.
    async fn tell_again(&mut self, since: i64, channels: &BTreeSet<Channel>) -> Result<(), End> {
        let of_log: Vec<Channel> = channels
            .iter()
            .copied()
            .filter(|channel| *channel != Channel::Presence)
            .collect();
        if of_log.is_empty() {
            return Ok(());
        }
        match self
            .tell_between(since, self.told + 1, Some(channels))
            .await?
        {
            true => Ok(()),
            false => self.resync(&of_log).await,
        }
    }

    /// Tells the rows between two, a page after the other, and looks at rights before each. Whether it did:
    /// not if they are too many or gone, or the client takes too long.
    async fn tell_between(
        &mut self,
        above: i64,
        below: i64,
        only: Option<&BTreeSet<Channel>>,
    ) -> Result<bool, End> {
        if above < 0 || below.saturating_sub(above).saturating_sub(1) > MAX_REALTIME_MISSED {
            return Ok(false);
        }
        let deadline = Instant::now() + REPLAY_LIMIT;
        let mut told = above;
        while told + 1 < below {
            self.check().await?;
            let page = row::read(&self.state.db, self.caller.org, told, below, PAGE).await?;
            if page.is_empty() {
                return Ok(false);
            }
            for row in &page {
                if row.seq != told + 1 || Instant::now() >= deadline {
                    return Ok(false);
                }
                self.tell(row, only).await?;
                told = row.seq;
            }
        }
        Ok(true)
    }

    async fn renew(&mut self, token: &str) -> Result<(), End> {
        let fresh = self.state.keys.verify_access_until(token);
        let Some((access, until)) =
            fresh.filter(|(fresh, _)| fresh.user == self.caller.access.user)
        else {
            return Err(End::closed(
                RealtimeClose::TokenEnded,
                ErrorCode::Unauthorized,
                "the new access token is not valid, or another person's; refresh the session and connect again",
            ));
        };
        self.caller.access = access;
        self.caller.until = until;
        self.check().await?;
        self.say(&RealtimeMessage::TokenTaken { until }).await
    }

    /// Takes rows that are new to the org's listeners.
    async fn take(&mut self, rows: &[Row]) -> Result<(), End> {
        let Some(first) = rows.first() else {
            return Ok(());
        };
        if first.seq > self.told + 1 {
            let whole = self.tell_between(self.told, first.seq, None).await?;
            self.told = first.seq - 1;
            if !whole {
                self.check().await?;
                let of_log: Vec<Channel> = self
                    .channels
                    .iter()
                    .copied()
                    .filter(|channel| *channel != Channel::Presence)
                    .collect();
                self.resync(&of_log).await?;
            }
        }
        self.tell_all(rows).await
    }

    async fn tell_all(&mut self, rows: &[Row]) -> Result<(), End> {
        let told = self.told;
        let fresh = || rows.iter().filter(|row| row.seq > told);
        // Before anything is told that came after.
        if fresh().any(|row| row.shakes_rights) {
            self.check().await?;
        }
        for row in fresh() {
            self.tell(row, None).await?;
            self.told = row.seq;
        }
        Ok(())
    }

    /// Tells a row, of the channels that are heard or, of them, only some. Many rows may take a slow client
    /// longer than what it was let in on holds.
    async fn tell(&mut self, row: &Row, only: Option<&BTreeSet<Channel>>) -> Result<(), End> {
        if self.state.stopping.is_cancelled() {
            return Err(End::stops());
        }
        if Timestamp::now() >= self.caller.until {
            return Err(End::token());
        }
        if self.checked.elapsed() >= self.state.realtime_ping {
            self.check().await?;
        }
        let heard = |channel| {
            self.channels.contains(&channel) && only.is_none_or(|only| only.contains(&channel))
        };
        for text in row.texts(heard, self.role, self.caller.access.user)? {
            self.write(Message::Text(text)).await?;
        }
        Ok(())
    }

    async fn tell_presence(&mut self, came: &[Came]) -> Result<(), End> {
        if !self.channels.contains(&Channel::Presence) {
            return Ok(());
        }
        let reads = Right::Read.given_to(self.role);
        for came in came {
            if reads || came.owner == Some(self.caller.access.user) {
                let (machine, online) = (came.machine, came.online);
                self.say(&RealtimeMessage::Presence { machine, online })
                    .await?;
            }
        }
        Ok(())
    }

    /// Has the client read anew what it shows of these channels, as far as it hears them.
    async fn resync(&mut self, channels: &[Channel]) -> Result<(), End> {
        let heard = channels
            .iter()
            .filter(|channel| self.channels.contains(channel));
        let channels: Vec<Channel> = heard.copied().collect();
        if channels.is_empty() {
            return Ok(());
        }
        let seq = self.told;
        self.say(&RealtimeMessage::Resync { channels, seq }).await
    }

    async fn say_subscribed(&mut self, refused: Vec<Channel>) -> Result<(), End> {
        let message = RealtimeMessage::Subscribed {
            channels: self.channels.iter().copied().collect(),
            refused,
            seq: self.told,
        };
        self.say(&message).await
    }

    async fn say(&mut self, message: &RealtimeMessage) -> Result<(), End> {
        self.write(Message::Text(text(message)?)).await
    }

    async fn write(&mut self, message: Message) -> Result<(), End> {
        match timeout(WRITE_LIMIT, self.socket.send(message)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(End::Left),
        }
    }
}

fn misspoken(message: impl Into<String>) -> End {
    let message = message.into();
    End::closed(
        RealtimeClose::Misspoken,
        ErrorCode::ValidationError,
        format!("{message}; see /api/openapi.json for what is understood"),
    )
}

/// On the clock that timers use.
fn token_end(until: Timestamp) -> Instant {
    let left = until.duration_since(Timestamp::now());
    Instant::now() + Duration::try_from(left).unwrap_or_default()
}
