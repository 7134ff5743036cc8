//! The dashboard's files beside the API.

use std::fs;
use std::path::Path;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::common::Server;
use ztna_api::Dashboard;

/// What a build leaves: pages, parts with their hash in the name, some of them compressed too.
fn build() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let put = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
    fs::create_dir(folder.path().join("assets")).unwrap();
    fs::create_dir(folder.path().join(".vite")).unwrap();
    put("index.html", "<title>the dashboard</title>");
    put("theme.js", "theme");
    put("assets/index-1a2b.js", "script");
    put("assets/index-1a2b.js.br", "script by brotli");
    put("assets/index-1a2b.js.gz", "script by gzip");
    put("assets/font-3c.woff2", "font");
    put(".vite/manifest.json", "notes");
    folder
}

async fn serving(folder: &Path) -> Server {
    let dashboard = Dashboard::open(folder).unwrap();
    Server::start_with(|config| config.dashboard = Some(dashboard)).await
}

struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Answer {
    fn header(&self, name: &str) -> &str {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(": "));
        let line = lines.find(|(key, _)| key.eq_ignore_ascii_case(name));
        line.map_or("", |(_, value)| value)
    }
}

/// Asks for a path as it is written: clients tidy up what they send.
async fn ask(server: &Server, line: &str, headers: &str) -> Answer {
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let request = format!("{line} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{headers}\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    Answer {
        status: head.split(' ').nth(1).unwrap().parse().unwrap(),
        head: head.to_owned(),
        body: body.to_owned(),
    }
}

#[tokio::test]
async fn pages_are_the_dashboards_and_calls_are_the_apis() {
    let build = build();
    let server = serving(build.path()).await;
    for path in [
        "/",
        "/machines",
        "/machines/laptop.example?tab=routes",
        "/cli-login?port=1",
        "/verify-email?token=x",
        "/reset-password",
        "/accept-invitation?token=x",
        "/apiary",
    ] {
        let page = ask(&server, &format!("GET {path}"), "").await;
        assert_eq!(page.status, 200, "{path}");
        assert_eq!(page.body, "<title>the dashboard</title>", "{path}");
        assert_eq!(page.header("content-type"), "text/html; charset=utf-8");
        assert_eq!(page.header("cache-control"), "no-cache");
        let policy = page.header("content-security-policy");
        assert!(policy.contains("default-src 'none'; script-src 'self';"));
        assert!(policy.contains("frame-ancestors 'none'"), "{policy}");
        assert_eq!(page.header("x-content-type-options"), "nosniff");
        assert_eq!(page.header("x-frame-options"), "DENY");
        assert_eq!(page.header("referrer-policy"), "same-origin");
        assert_eq!(page.header("cross-origin-opener-policy"), "same-origin");
    }
    for (path, status) in [
        ("/api", 404),
        ("/api/nothing", 404),
        ("/api/auth/me", 401),
        ("/api/auth/login", 405),
        ("/derp/nothing", 404),
        ("/sign-in/a/b/c", 404),
        ("//api/auth/me", 404),
        ("/API/auth/me", 404),
        ("/api//auth/me", 404),
        ("//DERP", 404),
    ] {
        let refusal = ask(&server, &format!("GET {path}"), "").await;
        assert_eq!(refusal.status, status, "{path}");
        assert!(
            refusal.body.contains("\"success\":false"),
            "{path} {}",
            refusal.body
        );
        assert_eq!(refusal.header("cache-control"), "no-store");
    }
    let health = ask(&server, "GET /health", "").await;
    assert!(health.body.contains("\"version\""), "{}", health.body);
    let document = ask(&server, "GET /api/openapi.json", "").await;
    assert!(document.body.contains("\"openapi\""));
    let post = ask(&server, "POST /machines", "content-length: 0\r\n").await;
    assert_eq!(post.status, 404);
    // The plain pages' forms stay: what was opened before the dashboard was there can be sent.
    let form = ask(&server, "POST /cli-login", "content-length: 0\r\n").await;
    assert_eq!(form.status, 400);
}

#[tokio::test]
async fn files_are_cached_by_their_names_and_compressed_as_they_lie_there() {
    let build = build();
    let server = serving(build.path()).await;
    let script = "GET /assets/index-1a2b.js";
    let plain = ask(&server, script, "").await;
    assert_eq!((plain.status, plain.body.as_str()), (200, "script"));
    assert_eq!(
        plain.header("content-type"),
        "text/javascript; charset=utf-8"
    );
    let cache = plain.header("cache-control");
    assert_eq!(cache, "public, max-age=31536000, immutable");
    assert_eq!(plain.header("vary"), "accept-encoding");
    assert_eq!(plain.header("content-encoding"), "");
    let brotli = ask(&server, script, "accept-encoding: gzip, br\r\n").await;
    assert_eq!(brotli.body, "script by brotli");
    assert_eq!(brotli.header("content-encoding"), "br");
    assert_eq!(
        brotli.header("content-type"),
        "text/javascript; charset=utf-8"
    );
    let gzip = ask(&server, script, "accept-encoding: gzip, br;q=0\r\n").await;
    assert_eq!(gzip.body, "script by gzip");
    assert_ne!(gzip.header("etag"), brotli.header("etag"));

    let known = format!("if-none-match: {}\r\n", plain.header("etag"));
    let unchanged = ask(&server, script, &known).await;
    assert_eq!((unchanged.status, unchanged.body.as_str()), (304, ""));
    assert_eq!(unchanged.header("etag"), plain.header("etag"));
    let other = ask(&server, "GET /theme.js", &known).await;
    assert_eq!((other.status, other.body.as_str()), (200, "theme"));
    assert_eq!(other.header("cache-control"), "no-cache");

    let head = ask(&server, "HEAD /assets/index-1a2b.js", "").await;
    assert_eq!((head.status, head.body.as_str()), (200, ""));
    assert_eq!(head.header("content-length"), "6");
    let font = ask(
        &server,
        "GET /assets/font-3c.woff2",
        "accept-encoding: br\r\n",
    )
    .await;
    assert_eq!(font.header("content-type"), "font/woff2");
    assert_eq!(font.header("content-encoding"), "");
}

#[tokio::test]
async fn nothing_outside_of_the_folder_is_served() {
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("secret.txt"), "the secret").unwrap();
    let inside = outside.path().join("dist");
    fs::create_dir_all(inside.join("assets")).unwrap();
    fs::write(inside.join("index.html"), "the page").unwrap();
    let server = serving(&inside).await;
    // What comes into the folder later is not looked for.
    std::os::unix::fs::symlink(outside.path(), inside.join("assets/out")).unwrap();
    for path in [
        "/../secret.txt",
        "/assets/../../secret.txt",
        "/%2e%2e/secret.txt",
        "/..%2fsecret.txt",
        "/assets/..%5c..%5csecret.txt",
        "/assets/out/secret.txt",
        "//secret.txt",
        "/./../secret.txt%00",
    ] {
        let answer = ask(&server, &format!("GET {path}"), "").await;
        assert!(!answer.body.contains("the secret"), "{path}");
        match path.starts_with("/assets/") {
            true => assert_eq!(answer.status, 404, "{path}"),
            false => assert_eq!((answer.status, answer.body.as_str()), (200, "the page")),
        }
    }
    let notes = ask(&server, "GET /.vite/manifest.json", "").await;
    assert_eq!(notes.body, "the page");
}
