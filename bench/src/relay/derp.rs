//! A DERP client that costs as little as possible: it writes frames that lie ready and looks at no
//! more of what comes than it must. Handshake and frames are `ztna-derp`'s own.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result, bail};
use bytes::BytesMut;
use jiff::Timestamp;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};
use ztna_derp::frame::{Decoder, Frame, HEADER_LEN};
use ztna_derp::handshake::{ClientInfo, freshness_in, open_server_info, seal_client_info};
use ztna_proto::ticket::{TICKET_LIFETIME, TicketClaims, TicketSigner};
use ztna_proto::{MachineId, OrgId, WgPrivateKey, WgPublicKey};
use ztna_tls::{KeyExchange, ServerIdentity, client_config};

use super::packet::{Flow, PACKET, stamp, template};

/// A connection to a relay.
pub type Stream = TlsStream<TcpStream>;

/// A relay that speaks DERP, and whose clients we may be.
pub struct Target {
    pub address: SocketAddr,
    pub tls: Arc<ClientConfig>,
    pub signer: TicketSigner,
    pub org: OrgId,
    /// Clients so far.
    pub joined: AtomicU32,
}

/// A client that has been admitted.
pub struct Client {
    pub key: WgPublicKey,
    stream: Stream,
    /// Read beyond the handshake.
    early: BytesMut,
}

/// Client addresses before they repeat.
const SOURCES: u32 = 1 << 20;

/// What a client asks for.
pub const UPGRADE: &[u8] =
    b"GET /derp HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: DERP\r\n\r\n";

impl Target {
    /// An address of its own for every client, from 127.1.0.1 on: the relay bounds how many
    /// connections one address may open in a while.
    fn next_source(&self) -> Ipv4Addr {
        let number = self.joined.fetch_add(1, Ordering::Relaxed) % SOURCES;
        Ipv4Addr::from_bits(Ipv4Addr::new(127, 1, 0, 1).to_bits() + number)
    }

    fn ticket(&self, key: WgPublicKey) -> Result<String> {
        let issued_at = Timestamp::now();
        Ok(self.signer.sign(&TicketClaims {
            org: self.org,
            machine: MachineId::generate(),
            wg_key: key,
            regions: Vec::new(),
            issued_at,
            expires_at: issued_at.checked_add(TICKET_LIFETIME)?,
            bytes_per_second: None,
        }))
    }

    /// A TLS connection on which nothing was said.
    pub async fn connect(&self) -> Result<Stream> {
        let socket = TcpSocket::new_v4()?;
        socket.bind(SocketAddr::from((self.next_source(), 0)))?;
        let tcp = socket.connect(self.address).await?;
        tcp.set_nodelay(true)?;
        let name = ServerName::try_from("localhost")?;
        Ok(TlsConnector::from(Arc::clone(&self.tls))
            .connect(name, tcp)
            .await?
            .into())
    }

    /// A client with a ticket.
    pub async fn join(&self) -> Result<Client> {
        let key = WgPrivateKey::generate(&mut rand::rng());
        let mut stream = self.connect().await?;
        stream.write_all(UPGRADE).await?;
        let mut buf = BytesMut::with_capacity(2048);
        skip_head(&mut stream, &mut buf).await?;

        let mut decoder = Decoder::default();
        let Frame::ServerKey { key: relay, spare } =
            next(&mut stream, &mut buf, &mut decoder).await?
        else {
            bail!("the relay does not begin with ServerKey");
        };
        let info = ClientInfo::new(
            "ztna-bench".to_owned(),
            self.ticket(key.public())?,
            freshness_in(&spare).as_ref(),
        );
        let hello = seal_client_info(&key, &relay, &info, &mut rand::rng())?;
        stream.write_all(&hello.to_bytes()).await?;
        stream.flush().await?;
        loop {
            match next(&mut stream, &mut buf, &mut decoder).await? {
                Frame::ServerInfo { nonce, sealed } => {
                    open_server_info(&key, &relay, &nonce, &sealed)?;
                    break;
                }
                Frame::Health(reason) if !reason.is_empty() => bail!("refused: {reason}"),
                _ => {}
            }
        }
        Ok(Client {
            key: key.public(),
            stream,
            early: buf,
        })
    }
}

async fn skip_head(stream: &mut Stream, buf: &mut BytesMut) -> Result<()> {
    loop {
        if stream.read_buf(buf).await? == 0 {
            bail!("the relay closed the connection before it upgraded");
        }
        let Some(end) = buf.windows(4).position(|four| four == b"\r\n\r\n") else {
            continue;
        };
        let head = buf.split_to(end + 4);
        if !head.starts_with(b"HTTP/1.1 101") {
            let line = head
                .as_ref()
                .split(|&byte| byte == b'\r')
                .next()
                .unwrap_or_default();
            bail!("no upgrade: {}", String::from_utf8_lossy(line));
        }
        return Ok(());
    }
}

async fn next(stream: &mut Stream, buf: &mut BytesMut, decoder: &mut Decoder) -> Result<Frame> {
    loop {
        if let Some(frame) = decoder.decode(buf)? {
            return Ok(frame);
        }
        if stream.read_buf(buf).await? == 0 {
            bail!("the relay closed the connection during the handshake");
        }
    }
}

impl Client {
    /// The two halves, the first of which sends to `to`.
    pub fn split(self, to: WgPublicKey, burst: usize) -> (Sender, Receiver) {
        let (read, write) = tokio::io::split(self.stream);
        (Sender::new(write, to, burst), Receiver::new(read))
    }

    /// Sends bytes, whether they are frames or not.
    pub async fn write(&mut self, bytes: &[u8]) -> Result<()> {
        write_all(&mut self.stream, bytes).await
    }

    /// Stays, answers Pings, and otherwise does nothing, until the relay closes the connection.
    pub async fn idle(mut self) -> Result<()> {
        let mut decoder = Decoder::default();
        loop {
            while let Some(frame) = decoder.decode(&mut self.early)? {
                if let Frame::Ping(data) = frame {
                    self.stream.write_all(&Frame::Pong(data).to_bytes()).await?;
                    self.stream.flush().await?;
                }
            }
            self.early = BytesMut::with_capacity(256);
            if self.stream.read_buf(&mut self.early).await? == 0 {
                bail!("the relay closed an idle connection");
            }
        }
    }
}

/// A sender and a receiver with TLS between them and no relay: the way that a relay adds to.
pub async fn without_relay(burst: usize) -> Result<(Sender, Receiver)> {
    let dir = tempfile::tempdir()?;
    let identity = ServerIdentity::load_or_create(dir.path(), &["localhost".to_owned()])?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let address = listener.local_addr()?;
    let server = async {
        let (tcp, _) = listener.accept().await?;
        tcp.set_nodelay(true)?;
        anyhow::Ok(
            TlsAcceptor::from(identity.server_config()?)
                .accept(tcp)
                .await?,
        )
    };
    let client = async {
        let tcp = TcpStream::connect(address).await?;
        tcp.set_nodelay(true)?;
        let tls = client_config(&identity.certificate_pin(), KeyExchange::PreferPostQuantum)?;
        let name = ServerName::try_from("localhost")?;
        anyhow::Ok(TlsConnector::from(tls).connect(name, tcp).await?)
    };
    let (server, client) = tokio::try_join!(server, client)?;
    let (_, write) = tokio::io::split(Stream::from(client));
    let (read, _) = tokio::io::split(Stream::from(server));
    let mut sender = Sender::new(write, WgPublicKey([0; 32]), burst);
    for frame in sender.frames.chunks_exact_mut(FRAME) {
        frame[0] = RECV_PACKET;
    }
    Ok((sender, Receiver::new(read)))
}

/// Type of the frame that carries a packet to its receiver.
const RECV_PACKET: u8 = 0x05;

/// Length of a SendPacket frame: header, destination, packet.
const FRAME: usize = HEADER_LEN + 32 + PACKET;

/// Sends packets to one client.
pub struct Sender {
    write: WriteHalf<Stream>,
    /// Frames that lie ready but for number and time.
    frames: Vec<u8>,
}

impl Sender {
    fn new(write: WriteHalf<Stream>, to: WgPublicKey, burst: usize) -> Self {
        let frame = Frame::SendPacket {
            to,
            packet: template().to_vec().into(),
        };
        Self {
            write,
            frames: frame.to_bytes().repeat(burst),
        }
    }

    /// Sends `count` packets, at most the burst of [`Client::split`].
    pub async fn send(&mut self, flow: &Flow, count: usize) -> Result<()> {
        let first = flow.leave(count as u64);
        let now = flow.clock().nanos();
        let bytes = self
            .frames
            .get_mut(..count * FRAME)
            .context("a burst that is too large")?;
        for (frame, number) in bytes.chunks_exact_mut(FRAME).zip(first..) {
            stamp(&mut frame[HEADER_LEN + 32..], number, now);
        }
        write_all(&mut self.write, bytes).await
    }
}

async fn write_all(write: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) -> Result<()> {
    write.write_all(bytes).await?;
    write.flush().await?;
    Ok(())
}

/// Bytes read at once, and room for what was left of the frame before.
const READ: usize = 256 * 1024;

/// Receives.
pub struct Receiver {
    read: ReadHalf<Stream>,
    buf: Vec<u8>,
    len: usize,
}

impl Receiver {
    fn new(read: ReadHalf<Stream>) -> Self {
        Self {
            read,
            buf: vec![0; READ],
            len: 0,
        }
    }

    /// Waits for packets and notes them.
    pub async fn receive(&mut self, flow: &Flow) -> Result<()> {
        let count = read(&mut self.read, &mut self.buf[self.len..]).await?;
        self.len += count;
        let mut at = 0;
        while let Some(head) = self.buf[at..self.len].first_chunk::<HEADER_LEN>() {
            let len = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
            let end = at + HEADER_LEN + len;
            if end > self.len {
                break;
            }
            if head[0] == RECV_PACKET {
                flow.arrived(&self.buf[at + HEADER_LEN + 32..end]);
            }
            at = end;
        }
        self.buf.copy_within(at..self.len, 0);
        self.len -= at;
        flow.wake();
        Ok(())
    }
}

async fn read(read: &mut (impl AsyncRead + Unpin), buf: &mut [u8]) -> Result<usize> {
    match read.read(buf).await? {
        0 => bail!("the relay closed the connection"),
        count => Ok(count),
    }
}
