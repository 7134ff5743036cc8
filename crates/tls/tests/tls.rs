//! Clients and servers of this crate against each other, over loopback.

// Helpers of tests: a failed unwrap is a failed test.
#![allow(clippy::unwrap_used)]
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::routing::get;
use axum::{Extension, Router};
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::crypto::aws_lc_rs::{default_provider, kx_group};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, NamedGroup, RootCertStore, ServerConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;
use ztna_proto::relay::CertificatePin;
use ztna_tls::{
    ACME_TLS_ALPN, AcceptLimits, ClientAddr, IdentityFiles, KeyExchange, LiveCertificate, Security,
    ServerIdentity, client_config, parse_pin, serve, serve_http, watch_files,
};

struct Server {
    address: SocketAddr,
    shutdown: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

async fn echo_address(config: Arc<ServerConfig>, limits: AcceptLimits) -> Server {
    echo_address_with(config.into(), limits).await
}

async fn echo_address_with(security: Security, limits: AcceptLimits) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let shutdown = CancellationToken::new();
    let router =
        Router::new().route(
            "/",
            get(
                |Extension(ClientAddr(address)): Extension<ClientAddr>| async move {
                    address.to_string()
                },
            ),
        );
    let stop = shutdown.clone();
    let handler = move |stream, peer| {
        let (router, stop) = (router.clone(), stop.clone());
        async move { serve_http(stream, peer, router, &stop).await }
    };
    let task = tokio::spawn(serve(listener, security, limits, shutdown.clone(), handler));
    Server {
        address,
        shutdown,
        task,
    }
}

async fn connect(
    address: SocketAddr,
    config: Arc<ClientConfig>,
) -> std::io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
    let stream = TcpStream::connect(address).await?;
    let name = ServerName::try_from("localhost").unwrap();
    TlsConnector::from(config).connect(name, stream).await
}

async fn request(stream: &mut (impl AsyncReadExt + AsyncWriteExt + Unpin)) -> String {
    stream
        .write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        .await
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

fn identity(dir: &tempfile::TempDir) -> ServerIdentity {
    ServerIdentity::load_or_create(
        dir.path(),
        &["localhost".to_owned(), "127.0.0.1".to_owned()],
    )
    .unwrap()
}

fn certificate(dir: &tempfile::TempDir) -> CertificateDer<'static> {
    CertificateDer::from_pem_file(dir.path().join("tls.pem")).unwrap()
}

fn private_key(dir: &tempfile::TempDir) -> PrivateKeyDer<'static> {
    PrivateKeyDer::from_pem_file(dir.path().join("tls.pem")).unwrap()
}

#[tokio::test]
async fn the_pinned_server_is_believed_and_the_group_is_hybrid() {
    let dir = tempfile::tempdir().unwrap();
    let identity = identity(&dir);
    let server = echo_address(identity.server_config().unwrap(), AcceptLimits::default()).await;
    let pin = parse_pin(&identity.pin()).unwrap();
    for wanted in [
        KeyExchange::RequirePostQuantum,
        KeyExchange::PreferPostQuantum,
    ] {
        let mut stream = connect(server.address, client_config(&pin, wanted).unwrap())
            .await
            .unwrap();
        let group = stream.get_ref().1.negotiated_key_exchange_group().unwrap();
        assert_eq!(group.name(), NamedGroup::X25519MLKEM768);
        let here = stream.get_ref().0.local_addr().unwrap().to_string();
        let answer = request(&mut stream).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        assert!(answer.ends_with(&here), "{answer} has not {here}");
    }
}

#[tokio::test]
async fn another_certificate_is_refused_with_its_pin() {
    let (ours, theirs) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let theirs = identity(&theirs);
    let server = echo_address(theirs.server_config().unwrap(), AcceptLimits::default()).await;
    let pin = identity(&ours).certificate_pin();
    let config = client_config(&pin, KeyExchange::PreferPostQuantum).unwrap();
    let error = connect(server.address, config).await.unwrap_err();
    let text = error.to_string();
    assert!(text.contains(&theirs.pin()), "{text}");

    let config = client_config(&CertificatePin::WebPki, KeyExchange::PreferPostQuantum).unwrap();
    assert!(connect(server.address, config).await.is_err());
}

/// The pin alone is public: whoever shows the certificate must hold its key.
#[tokio::test]
async fn a_server_without_the_certificates_key_is_refused() {
    let (shown, held) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let shown_identity = identity(&shown);
    drop(identity(&held));
    let key = any_supported_type(&private_key(&held)).unwrap();
    // `with_single_cert` refuses a pair that does not match, a resolver does not look.
    let pair = SingleCertAndKey::from(CertifiedKey::new(vec![certificate(&shown)], key));
    let impostor = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(pair));
    let server = echo_address(Arc::new(impostor), AcceptLimits::default()).await;
    let pin = shown_identity.certificate_pin();
    let config = client_config(&pin, KeyExchange::PreferPostQuantum).unwrap();
    let error = connect(server.address, config).await.unwrap_err();
    assert!(error.to_string().contains("BadSignature"), "{error}");
}

#[tokio::test]
async fn a_classic_server_is_refused_where_post_quantum_is_required() {
    let dir = tempfile::tempdir().unwrap();
    let identity = identity(&dir);
    let classic = CryptoProvider {
        kx_groups: vec![kx_group::X25519],
        ..default_provider()
    };
    let classic = ServerConfig::builder_with_provider(Arc::new(classic))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate(&dir)], private_key(&dir))
        .unwrap();
    let server = echo_address(Arc::new(classic), AcceptLimits::default()).await;
    let pin = identity.certificate_pin();
    let strict = client_config(&pin, KeyExchange::RequirePostQuantum).unwrap();
    assert!(connect(server.address, strict).await.is_err());
    let lenient = client_config(&pin, KeyExchange::PreferPostQuantum).unwrap();
    assert!(connect(server.address, lenient).await.is_ok());
}

/// Other tools that trust the certificate as an authority check its names.
#[tokio::test]
async fn the_self_signed_certificate_carries_its_names() {
    let dir = tempfile::tempdir().unwrap();
    let identity = identity(&dir);
    let server = echo_address(identity.server_config().unwrap(), AcceptLimits::default()).await;
    let mut roots = RootCertStore::empty();
    roots.add(certificate(&dir)).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    connect(server.address, Arc::new(config)).await.unwrap();
}

#[test]
fn an_identity_stays_and_is_private() {
    let dir = tempfile::tempdir().unwrap();
    let first = identity(&dir);
    let again = ServerIdentity::load_or_create(dir.path(), &["other.example".to_owned()]).unwrap();
    assert_eq!(first.pin(), again.pin());
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = std::fs::metadata(dir.path().join("tls.pem"))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}

#[test]
fn a_damaged_identity_is_an_error_and_not_overwritten() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("tls.pem");
    std::fs::write(&file, "nonsense").unwrap();
    let Err(error) = ServerIdentity::load_or_create(dir.path(), &[]) else {
        panic!("nonsense was taken for a certificate");
    };
    assert!(error.to_string().contains("tls.pem"), "{error}");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "nonsense");
}

#[test]
fn malformed_pins_make_no_configuration() {
    let pin = CertificatePin::Sha256("00".to_owned());
    assert!(client_config(&pin, KeyExchange::RequirePostQuantum).is_err());
}

#[tokio::test]
async fn a_silent_connection_does_not_hold_up_others() {
    let dir = tempfile::tempdir().unwrap();
    let identity = identity(&dir);
    let limits = AcceptLimits {
        handshake_timeout: Duration::from_millis(200),
        handshakes: 1,
        ..AcceptLimits::default()
    };
    let server = echo_address(identity.server_config().unwrap(), limits).await;
    let mut silent = TcpStream::connect(server.address).await.unwrap();
    let config =
        client_config(&identity.certificate_pin(), KeyExchange::RequirePostQuantum).unwrap();
    let mut stream = connect(server.address, config).await.unwrap();
    assert!(request(&mut stream).await.starts_with("HTTP/1.1 200"));
    let mut rest = Vec::new();
    // The server has closed it: end of file or reset, both are fine, waiting is not.
    let _ = silent.read_to_end(&mut rest).await;
}

#[tokio::test]
async fn shutdown_ends_the_loop_and_idle_connections() {
    let dir = tempfile::tempdir().unwrap();
    let identity = identity(&dir);
    let server = echo_address(identity.server_config().unwrap(), AcceptLimits::default()).await;
    let config =
        client_config(&identity.certificate_pin(), KeyExchange::RequirePostQuantum).unwrap();
    let mut idle = connect(server.address, config).await.unwrap();
    // TLS 1.3: the client may be done before the server is.
    idle.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .await
        .unwrap();
    let mut byte = [0];
    idle.read_exact(&mut byte).await.unwrap();
    server.shutdown.cancel();
    server.task.await.unwrap();
    let mut rest = Vec::new();
    let _ = idle.read_to_end(&mut rest).await;
    assert!(TcpStream::connect(server.address).await.is_err());
}

fn write_pair(dir: &std::path::Path, from: &tempfile::TempDir) -> IdentityFiles {
    let files = IdentityFiles {
        certificate: dir.join("cert.pem"),
        key: dir.join("key.pem"),
    };
    let pem = std::fs::read(from.path().join("tls.pem")).unwrap();
    std::fs::write(&files.certificate, &pem).unwrap();
    std::fs::write(&files.key, &pem).unwrap();
    files
}

#[tokio::test]
async fn new_files_are_shown_and_broken_ones_are_not() {
    let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (old, new) = (identity(&first), identity(&second));
    let dir = tempfile::tempdir().unwrap();
    let files = write_pair(dir.path(), &first);
    let live = LiveCertificate::new(&files.load().unwrap(), Vec::new()).unwrap();
    let server = echo_address(live.server_config().unwrap(), AcceptLimits::default()).await;
    let reload = Arc::new(tokio::sync::Notify::new());
    let stop = CancellationToken::new();
    let watch = watch_files(live, files.clone(), Arc::clone(&reload), stop.clone());
    let watch = tokio::spawn(watch);
    let shows = async |identity: &ServerIdentity| {
        let pin = identity.certificate_pin();
        let config = client_config(&pin, KeyExchange::RequirePostQuantum).unwrap();
        connect(server.address, config).await.is_ok()
    };
    assert!(shows(&old).await);

    // A key that is not the certificate's.
    std::fs::copy(second.path().join("tls.pem"), &files.key).unwrap();
    reload.notify_one();
    // The watcher has looked once it waits for the next notice.
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(shows(&old).await && !shows(&new).await);

    // Nobody says so: the change is noticed.
    std::fs::copy(second.path().join("tls.pem"), &files.certificate).unwrap();
    let noticed = async {
        while !shows(&new).await {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), noticed)
        .await
        .unwrap();
    stop.cancel();
    watch.await.unwrap();
}

/// A self-signed certificate at the end of the chain disturbs neither kind of client.
#[tokio::test]
async fn an_extra_certificate_goes_with_pin_and_with_authority() {
    let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (identity, _) = (identity(&dir), identity(&other));
    let extra = certificate(&other);
    let live = LiveCertificate::new(&identity, vec![extra.clone()]).unwrap();
    let server = echo_address(live.server_config().unwrap(), AcceptLimits::default()).await;
    let pinned =
        client_config(&identity.certificate_pin(), KeyExchange::RequirePostQuantum).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(certificate(&dir)).unwrap();
    let by_authority = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    for config in [pinned, Arc::new(by_authority)] {
        let stream = connect(server.address, config).await.unwrap();
        let shown = stream.get_ref().1.peer_certificates().unwrap();
        assert_eq!(shown, [certificate(&dir), extra.clone()]);
    }
}

#[tokio::test]
async fn a_plain_listener_serves_without_tls() {
    let server = echo_address_with(Security::Plain, AcceptLimits::default()).await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    assert!(request(&mut stream).await.starts_with("HTTP/1.1 200"));
}

/// RFC 8737: the authority's handshake finds the challenge's certificate, and nothing is served.
#[tokio::test]
async fn who_asks_for_a_challenge_gets_that_and_nothing_else() {
    let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (ours, challenge) = (identity(&dir), identity(&other));
    let mut challenges = (*challenge.server_config().unwrap()).clone();
    challenges.alpn_protocols = vec![ACME_TLS_ALPN.to_vec()];
    let security = Security::TlsWithChallenges {
        tls: ours.server_config().unwrap(),
        challenges: Arc::new(challenges),
    };
    let server = echo_address_with(security, AcceptLimits::default()).await;
    let config = |identity: &ServerIdentity, alpn: &[&[u8]]| {
        let pin = identity.certificate_pin();
        let mut config = (*client_config(&pin, KeyExchange::PreferPostQuantum).unwrap()).clone();
        config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
        Arc::new(config)
    };
    let asks = config(&challenge, &[ACME_TLS_ALPN]);
    let mut stream = connect(server.address, asks).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(ACME_TLS_ALPN));
    let mut answer = Vec::new();
    let _ = stream.write_all(b"GET / HTTP/1.1\r\n\r\n").await;
    let _ = stream.read_to_end(&mut answer).await;
    assert!(answer.is_empty());
    for alpn in [&[] as &[&[u8]], &[b"h2", b"http/1.1"]] {
        let mut stream = connect(server.address, config(&ours, alpn)).await.unwrap();
        assert!(request(&mut stream).await.starts_with("HTTP/1.1 200"));
    }
}
