//! The service that answers this machine's own programs, by UDP and TCP at 100.100.100.100.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream, UdpSocket};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::message::{Asked, MAX_MESSAGE, read, set_id};
use super::zone::{Answer, Zone};
use crate::platform::keep_outside;

/// Questions that are worked on at once; further ones wait, or are dropped by UDP.
const MAX_AT_ONCE: usize = 256;
/// How long one nameserver may take to answer.
const NAMESERVER_TIME: Duration = Duration::from_secs(2);
/// How long a connection may be silent (RFC 7766 §6.2.3).
const IDLE_TIME: Duration = Duration::from_secs(10);

/// What the service answers with.
#[derive(Clone, Debug, Default)]
pub struct Knowledge {
    /// The tailnet's names.
    pub zone: Zone,
    /// Who answered before for everything else.
    pub before: Vec<SocketAddr>,
    /// Names of servers that the tunnel needs, in lower case. Whoever was asked before it was up knows
    /// them, and is asked outside it: it may not be up without them.
    pub servers: BTreeSet<String>,
}

/// What the service knows, changed while it runs.
pub type Shared = Arc<RwLock<Knowledge>>;

/// A running service; dropped, it ends.
pub struct Server {
    _tasks: JoinSet<()>,
}

impl Server {
    /// Opens the ports at an address of this machine.
    ///
    /// # Errors
    /// They cannot be opened.
    pub async fn start(address: IpAddr, port: u16, knowledge: Shared) -> io::Result<Self> {
        let udp = Arc::new(UdpSocket::bind((address, port)).await?);
        let tcp = TcpListener::bind((address, udp.local_addr()?.port())).await?;
        let limit = Arc::new(Semaphore::new(MAX_AT_ONCE));
        let mut tasks = JoinSet::new();
        tasks.spawn(serve_udp(udp, Arc::clone(&knowledge), Arc::clone(&limit)));
        tasks.spawn(serve_tcp(tcp, knowledge, limit));
        Ok(Self { _tasks: tasks })
    }
}

/// Whether a sender is a program of this machine: what comes to the service's address from elsewhere
/// has a source that is not an address of ours, which the kernel sees to (martian sources).
fn is_own(sender: SocketAddr, service: SocketAddr) -> bool {
    sender.ip() == service.ip()
}

async fn serve_udp(socket: Arc<UdpSocket>, knowledge: Shared, limit: Arc<Semaphore>) {
    let Ok(service) = socket.local_addr() else {
        return;
    };
    let mut buffer = vec![0; MAX_MESSAGE];
    let mut answering = JoinSet::new();
    loop {
        while answering.try_join_next().is_some() {}
        let (length, from) = match socket.recv_from(&mut buffer).await {
            Ok(received) => received,
            Err(error) => {
                // Of an earlier answer that did not arrive.
                tracing::debug!(%error, "DNS receive");
                continue;
            }
        };
        // Who is dropped asks again.
        let Ok(permit) = Arc::clone(&limit).try_acquire_owned() else {
            continue;
        };
        if !is_own(from, service) {
            continue;
        }
        let (socket, knowledge) = (Arc::clone(&socket), Arc::clone(&knowledge));
        let question = buffer[..length].to_vec();
        answering.spawn(async move {
            let answer = match read(&question) {
                Err(refusal) => refusal,
                Ok(asked) => {
                    let answer = answer(&asked, &question, &knowledge, By::Udp).await;
                    match answer {
                        Some(long) if long.len() > asked.room => asked.truncated(),
                        answer => answer,
                    }
                }
            };
            if let Some(answer) = answer
                && let Err(error) = socket.send_to(&answer, from).await
            {
                tracing::debug!(%error, "DNS answer not sent");
            }
            drop(permit);
        });
    }
}

async fn serve_tcp(listener: TcpListener, knowledge: Shared, limit: Arc<Semaphore>) {
    let Ok(service) = listener.local_addr() else {
        return;
    };
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        // Never closed.
        let Ok(permit) = Arc::clone(&limit).acquire_owned().await else {
            return;
        };
        let (stream, from) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::debug!(%error, "DNS accept");
                tokio::time::sleep(NAMESERVER_TIME).await;
                continue;
            }
        };
        if !is_own(from, service) {
            continue;
        }
        let knowledge = Arc::clone(&knowledge);
        connections.spawn(async move {
            if let Err(error) = serve_connection(stream, &knowledge).await {
                tracing::debug!(%error, "DNS connection");
            }
            drop(permit);
        });
    }
}

async fn serve_connection(mut stream: TcpStream, knowledge: &Shared) -> io::Result<()> {
    loop {
        let Ok(question) = timeout(IDLE_TIME, read_framed(&mut stream)).await else {
            return Ok(());
        };
        let question = match question {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            question => question?,
        };
        let answer = match read(&question) {
            Err(refusal) => refusal,
            Ok(asked) => answer(&asked, &question, knowledge, By::Tcp).await,
        };
        let Some(answer) = answer else { return Ok(()) };
        timeout(IDLE_TIME, write_framed(&mut stream, &answer)).await??;
    }
}

/// By what a question came, and is passed on.
#[derive(Clone, Copy)]
enum By {
    Udp,
    Tcp,
}

async fn answer(asked: &Asked, question: &[u8], knowledge: &Shared, by: By) -> Option<Vec<u8>> {
    let (answer, outside) = {
        let knowledge = knowledge.read().unwrap_or_else(PoisonError::into_inner);
        let Knowledge {
            zone,
            before,
            servers,
        } = &*knowledge;
        let outside = match servers.contains(&asked.name) {
            true => before.clone(),
            false => Vec::new(),
        };
        (zone.look_up(&asked.name, asked.kind, before), outside)
    };
    let Answer::Ask(nameservers) = answer else {
        return asked.answer(&answer);
    };
    let outside = outside.into_iter().map(|nameserver| (nameserver, true));
    let nameservers = nameservers
        .into_iter()
        .map(|nameserver| (nameserver, false));
    for (nameserver, is_outside) in outside.chain(nameservers) {
        let passed_on = async {
            match by {
                By::Udp => ask_by_udp(asked, question, nameserver, is_outside).await,
                By::Tcp => ask_by_tcp(asked, question, nameserver, is_outside).await,
            }
        };
        match timeout(NAMESERVER_TIME, passed_on).await {
            Ok(Ok(answer)) => return Some(answer),
            Ok(Err(error)) => tracing::debug!(%nameserver, %error, "a nameserver fails"),
            Err(_) => tracing::debug!(%nameserver, "a nameserver does not answer"),
        }
    }
    asked.failure()
}

/// Asks under a number and from a port that nobody else knows (RFC 5452 §9.2).
async fn ask_by_udp(
    asked: &Asked,
    question: &[u8],
    nameserver: SocketAddr,
    is_outside: bool,
) -> io::Result<Vec<u8>> {
    let any: IpAddr = match nameserver {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0)).await?;
    if is_outside {
        keep_outside(&SockRef::from(&socket))?;
    }
    socket.connect(nameserver).await?;
    let id: u16 = rand::random();
    let mut question = question.to_vec();
    set_id(&mut question, id);
    socket.send(&question).await?;
    let mut buffer = vec![0; MAX_MESSAGE];
    loop {
        let length = socket.recv(&mut buffer).await?;
        if asked.is_answered_by(&buffer[..length], id) {
            buffer.truncate(length);
            set_id(&mut buffer, asked.id());
            return Ok(buffer);
        }
    }
}

async fn ask_by_tcp(
    asked: &Asked,
    question: &[u8],
    nameserver: SocketAddr,
    is_outside: bool,
) -> io::Result<Vec<u8>> {
    let socket = match nameserver {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    if is_outside {
        keep_outside(&SockRef::from(&socket))?;
    }
    let mut stream = socket.connect(nameserver).await?;
    write_framed(&mut stream, question).await?;
    let answer = read_framed(&mut stream).await?;
    match asked.is_answered_by(&answer, asked.id()) {
        true => Ok(answer),
        false => Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "it answers another question",
        )),
    }
}

/// Two bytes of length before each message (RFC 1035 §4.2.2).
async fn read_framed(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let length = stream.read_u16().await?;
    let mut message = vec![0; usize::from(length)];
    stream.read_exact(&mut message).await?;
    Ok(message)
}

async fn write_framed(stream: &mut TcpStream, message: &[u8]) -> io::Result<()> {
    let length = u16::try_from(message.len()).map_err(io::Error::other)?;
    let mut framed = length.to_be_bytes().to_vec();
    framed.extend_from_slice(message);
    stream.write_all(&framed).await
}

#[cfg(test)]
#[cfg(target_os = "linux")]
#[path = "server_tests.rs"]
mod tests;
