//! A dashboard's end of `/api/realtime`.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{self, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};
use ztna_proto::error::ErrorBody;
use ztna_proto::ids::OrgId;
use ztna_proto::realtime::{Channel, RealtimeEvent, RealtimeMessage};

use super::{Client, Server};

/// Longer than anything here takes; a test that waits so long has failed.
const LIMIT: Duration = Duration::from_secs(30);

pub struct Listener(WebSocketStream<MaybeTlsStream<TcpStream>>);

/// Opens a connection with these headers; an error is the HTTP status and the answer's body.
pub async fn open(
    server: &Server,
    query: &str,
    headers: &[(&'static str, String)],
) -> Result<(Listener, Option<String>), (u16, String)> {
    let mut request = format!("ws://{}/api/realtime{query}", server.address)
        .into_client_request()
        .unwrap();
    for (name, value) in headers {
        request.headers_mut().insert(*name, value.parse().unwrap());
    }
    match connect_async(request).await {
        Ok((socket, response)) => {
            let chosen = response.headers().get("sec-websocket-protocol");
            let chosen = chosen.map(|value| value.to_str().unwrap().to_owned());
            Ok((Listener(socket), chosen))
        }
        Err(tungstenite::Error::Http(response)) => {
            let body = response.body().clone().unwrap_or_default();
            Err((response.status().as_u16(), String::from_utf8(body).unwrap()))
        }
        Err(error) => panic!("{error}"),
    }
}

impl Listener {
    /// Opens one as a browser does.
    pub async fn open(server: &Server, org: OrgId, client: &Client) -> Self {
        let offered = format!("ztna.realtime, access_token.{}", client.token());
        let headers = [
            ("sec-websocket-protocol", offered),
            ("origin", format!("http://{}", server.address)),
        ];
        let opened = open(server, &format!("?org={org}"), &headers).await;
        let (listener, chosen) = opened.unwrap_or_else(|refused| panic!("{refused:?}"));
        assert_eq!(chosen.as_deref(), Some("ztna.realtime"));
        listener
    }

    /// Opens one, and hears these channels; what was refused.
    pub async fn on(
        server: &Server,
        org: OrgId,
        client: &Client,
        channels: &[Channel],
    ) -> (Self, Vec<Channel>) {
        let mut listener = Self::open(server, org, client).await;
        let refused = listener.subscribe(channels, None).await.0;
        (listener, refused)
    }

    /// Asks for channels; what was refused, and where the log stands.
    pub async fn subscribe(
        &mut self,
        channels: &[Channel],
        since: Option<i64>,
    ) -> (Vec<Channel>, i64) {
        let ask = json!({"type": "subscribe", "channels": channels, "since": since});
        self.send(ask).await;
        loop {
            if let RealtimeMessage::Subscribed { refused, seq, .. } = self.next().await {
                return (refused, seq);
            }
        }
    }

    pub async fn send(&mut self, message: Value) {
        let text = message.to_string();
        self.0.send(Message::Text(text.into())).await.unwrap();
    }

    /// The next message.
    pub async fn next(&mut self) -> RealtimeMessage {
        loop {
            let message = tokio::time::timeout(LIMIT, self.0.next())
                .await
                .expect("no message came")
                .expect("the connection ended")
                .unwrap();
            match message {
                Message::Text(text) => return serde_json::from_str(&text).unwrap(),
                Message::Ping(_) | Message::Pong(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    /// The next event, of whatever channel.
    pub async fn event(&mut self) -> RealtimeEvent {
        match self.next().await {
            RealtimeMessage::Event(event) => event,
            other => panic!("no event: {other:?}"),
        }
    }

    /// The events until one of that action, with it.
    pub async fn until(&mut self, action: &str) -> Vec<RealtimeEvent> {
        let mut events = Vec::new();
        loop {
            if let RealtimeMessage::Event(event) = self.next().await {
                let found = event.action == action;
                events.push(event);
                if found {
                    return events;
                }
            }
        }
    }

    /// With which code the server closes the connection, and what it says of it.
    pub async fn closed(mut self) -> (u16, Option<ErrorBody>) {
        let mut said = None;
        loop {
            let message = tokio::time::timeout(LIMIT, self.0.next())
                .await
                .expect("the connection stays open");
            match message {
                Some(Ok(Message::Text(text))) => {
                    if let RealtimeMessage::Error(error) = serde_json::from_str(&text).unwrap() {
                        said = Some(error);
                    }
                }
                Some(Ok(Message::Close(Some(frame)))) => return (frame.code.into(), said),
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                other => panic!("{other:?}"),
            }
        }
    }
}
