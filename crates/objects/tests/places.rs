//! Both places keep the same promises; the bucket is a real S3 server's, in this process.

// Clippy allows these in test functions, not in their helpers.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use hyper_util::rt::{TokioExecutor, TokioIo};
use s3s::auth::SimpleAuth;
use s3s::service::S3ServiceBuilder;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use ztna_objects::{Objects, ObjectsError, S3Settings};

const ACCESS_KEY: &str = "AKIAIOSFODNN7EXAMPLE";
const SECRET_KEY: &str = "secret";

/// An S3 server over a folder, and what is needed to reach it.
async fn s3(folder: &Path) -> S3Settings {
    let files = s3s_fs::FileSystem::new(folder).unwrap();
    let mut builder = S3ServiceBuilder::new(files);
    builder.set_auth(SimpleAuth::from_single(ACCESS_KEY, SECRET_KEY));
    let service = builder.build();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let service = service.clone();
            tokio::spawn(async move {
                let server = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
                // A client that hangs up is no failure.
                let _ = server.serve_connection(TokioIo::new(stream), service).await;
            });
        }
    });
    S3Settings {
        access_key: ACCESS_KEY.to_owned(),
        secret_key: SECRET_KEY.to_owned(),
        session_token: None,
        region: "us-east-1".to_owned(),
        endpoint: Some(format!("http://{address}")),
    }
}

async fn conforms(objects: &Objects) {
    let work = tempfile::tempdir().unwrap();
    let file = |name: &str| work.path().join(name);
    assert!(objects.list().await.unwrap().is_empty());
    std::fs::write(file("in"), b"one").unwrap();
    objects.put("a/b/one", &file("in")).await.unwrap();
    std::fs::write(file("in"), b"two").unwrap();
    objects.put("a/two", &file("in")).await.unwrap();
    objects.put("a/b/one", &file("in")).await.unwrap();
    assert_eq!(objects.list().await.unwrap(), ["a/b/one", "a/two"]);
    objects.get("a/b/one", &file("out"), 3).await.unwrap();
    assert_eq!(std::fs::read(file("out")).unwrap(), b"two");

    let large = objects.get("a/b/one", &file("cut"), 2).await.unwrap_err();
    assert!(
        matches!(large, ObjectsError::TooLarge { limit: 2, .. }),
        "{large}"
    );
    let missing = objects.get("a/three", &file("none"), 3).await.unwrap_err();
    assert!(matches!(missing, ObjectsError::Missing { .. }), "{missing}");
    assert!(!file("none").exists());
    for name in ["", "/etc/passwd", "a/../../b", "a//b", "."] {
        let refused = objects.put(name, &file("in")).await.unwrap_err();
        assert!(matches!(refused, ObjectsError::Name(_)), "{refused}");
    }
}

#[tokio::test]
async fn a_folder_conforms_and_is_its_owners_alone() {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("backups");
    let location = format!("file://{}", folder.display());
    let objects = Objects::open(&location, S3Settings::default()).unwrap();
    conforms(&objects).await;
    let mode = |path: &str| {
        let path = folder.join(path);
        std::fs::metadata(path).unwrap().permissions().mode() & 0o777
    };
    assert_eq!((mode("a/two"), mode("a")), (0o600, 0o700));

    // A link, to a file or on the way to one, leads nowhere; nor does anything else that is no file.
    let outside = root.path().join("outside");
    std::fs::create_dir(&outside).unwrap();
    std::fs::write(outside.join("secret"), "words").unwrap();
    let link = |to: &Path, name: &str| std::os::unix::fs::symlink(to, folder.join(name)).unwrap();
    link(&outside.join("secret"), "a/link");
    link(&outside, "linked");
    std::os::unix::net::UnixListener::bind(folder.join("socket")).unwrap();
    let out = root.path().join("out");
    for name in ["a/link", "linked/secret", "linked/more", "a", "a/two/three"] {
        let refused = objects.get(name, &out, 100).await.unwrap_err();
        assert!(matches!(refused, ObjectsError::NoFile { .. }), "{refused}");
    }
    assert!(objects.get("socket", &out, 100).await.is_err());
    assert!(!out.exists());
    std::fs::write(&out, "ours").unwrap();
    let refused = objects.put("linked/secret", &out).await.unwrap_err();
    assert!(matches!(refused, ObjectsError::NoFile { .. }), "{refused}");
    // Over a link, what is stored takes its place.
    objects.put("a/link", &out).await.unwrap();
    assert_eq!(
        std::fs::read_to_string(outside.join("secret")).unwrap(),
        "words"
    );
    let names = objects.list().await.unwrap();
    assert_eq!(names, ["a/b/one", "a/link", "a/two"]);
}

#[tokio::test]
async fn a_bucket_conforms() {
    let root = tempfile::tempdir().unwrap();
    std::fs::create_dir(root.path().join("bucket")).unwrap();
    let settings = s3(root.path()).await;
    let objects = Objects::open("s3://bucket/some/prefix", settings.clone()).unwrap();
    conforms(&objects).await;
    let whole = Objects::open("s3://bucket", settings.clone()).unwrap();
    let names = whole.list().await.unwrap();
    assert_eq!(names, ["some/prefix/a/b/one", "some/prefix/a/two"]);

    // More than fits into one part.
    let work = tempfile::tempdir().unwrap();
    let large: Vec<u8> = (0..66u32 * 1024 * 1024 / 4)
        .flat_map(u32::to_le_bytes)
        .collect();
    std::fs::write(work.path().join("in"), &large).unwrap();
    objects.put("large", &work.path().join("in")).await.unwrap();
    objects
        .get("large", &work.path().join("out"), large.len() as u64)
        .await
        .unwrap();
    assert!(std::fs::read(work.path().join("out")).unwrap() == large);

    let stranger = S3Settings {
        secret_key: "wrong".to_owned(),
        ..settings
    };
    let stranger = Objects::open("s3://bucket", stranger).unwrap();
    let refused = stranger.list().await.unwrap_err();
    assert!(matches!(refused, ObjectsError::Store { .. }), "{refused}");
}

/// Passes on `budget` bytes of what is sent to a server, and then nothing.
async fn cut_after(mut budget: usize, endpoint: &str) -> String {
    let server = endpoint.strip_prefix("http://").unwrap().to_owned();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let mut piece = vec![0; 64 * 1024];
        while budget > 0 {
            let (mut from, _) = listener.accept().await.unwrap();
            let mut to = TcpStream::connect(&server).await.unwrap();
            let (mut answers, mut requests) = to.split();
            let (mut calls, mut caller) = from.split();
            let there = async {
                while budget > 0 {
                    let count = calls.read(&mut piece).await.unwrap_or(0);
                    if count == 0 || requests.write_all(&piece[..count]).await.is_err() {
                        break;
                    }
                    budget = budget.saturating_sub(count);
                }
            };
            tokio::select! {
                () = there => {}
                _ = tokio::io::copy(&mut answers, &mut caller) => {}
            }
        }
    });
    format!("http://{address}")
}

#[tokio::test]
async fn an_upload_that_is_cut_off_is_no_object() {
    let root = tempfile::tempdir().unwrap();
    std::fs::create_dir(root.path().join("bucket")).unwrap();
    let settings = s3(root.path()).await;
    let good = Objects::open("s3://bucket/p", settings.clone()).unwrap();
    let work = tempfile::tempdir().unwrap();
    let file = work.path().join("in");
    // One part, and more than one: cut off in the second.
    for (size, budget) in [(1 << 20, 1 << 19), (66 << 20, 65 << 20)] {
        std::fs::write(&file, vec![7; size]).unwrap();
        let endpoint = cut_after(budget, settings.endpoint.as_ref().unwrap()).await;
        let cut = S3Settings {
            endpoint: Some(endpoint),
            ..settings.clone()
        };
        let cut = Objects::open("s3://bucket/p", cut).unwrap();
        let error = cut.put("big", &file).await.unwrap_err();
        assert!(matches!(error, ObjectsError::Store { .. }), "{error}");
        assert!(good.list().await.unwrap().is_empty(), "{size}");
    }
    good.put("big", &file).await.unwrap();
    assert_eq!(good.list().await.unwrap(), ["big"]);
}

#[tokio::test]
async fn what_the_store_refuses_is_said_by_name() {
    let root = tempfile::tempdir().unwrap();
    let settings = s3(root.path()).await;
    let objects = Objects::open("s3://nowhere/p", settings.clone()).unwrap();
    let file = root.path().join("in");
    std::fs::write(&file, b"one").unwrap();
    let text = objects.list().await.unwrap_err().to_string();
    assert!(text.contains("s3://nowhere/p"), "{text}");
    assert!(text.ends_with("NoSuchBucket"), "{text}");
    let strange = S3Settings {
        access_key: "nobody".to_owned(),
        ..settings
    };
    let strange = Objects::open("s3://nowhere/p", strange).unwrap();
    let text = strange.put("a", &file).await.unwrap_err().to_string();
    assert!(text.contains("NotSignedUp: Your account"), "{text}");
    // A store that is not there.
    let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let away = S3Settings {
        access_key: ACCESS_KEY.to_owned(),
        secret_key: SECRET_KEY.to_owned(),
        endpoint: Some(format!("http://{}", free.local_addr().unwrap())),
        region: "us-east-1".to_owned(),
        session_token: None,
    };
    drop(free);
    let away = Objects::open("s3://bucket", away).unwrap();
    let text = away.list().await.unwrap_err().to_string();
    assert!(text.contains("refused"), "{text}");
}

#[tokio::test]
async fn locations_that_are_none_are_refused() {
    for bad in ["", "s3://", "s3:///x", "http://bucket", "s3://bucket"] {
        assert!(Objects::open(bad, S3Settings::default()).is_err(), "{bad}");
    }
}
