//! A bucket.

use std::path::Path;

use aws_sdk_s3::Client;
use aws_sdk_s3::config::{
    BehaviorVersion, Config, Credentials, Region, RequestChecksumCalculation,
    ResponseChecksumValidation,
};
use aws_sdk_s3::error::ProvideErrorMetadata;
use aws_sdk_s3::primitives::{ByteStream, ByteStreamError, Length};
use aws_sdk_s3::types::{CompletedMultipartUpload, CompletedPart};
use tokio::io::AsyncReadExt;

use crate::{ObjectsError, S3Settings, io};

/// Larger files go in parts of this size: a store takes 5 GiB at once, and a part that fails is sent
/// again by itself.
const PART: u64 = 64 * 1024 * 1024;

pub(crate) struct Bucket {
    client: Client,
    bucket: String,
    prefix: String,
}

impl Bucket {
    pub(crate) fn new(bucket: &str, prefix: &str, settings: S3Settings) -> Self {
        let credentials = Credentials::new(
            settings.access_key,
            settings.secret_key,
            settings.session_token,
            None,
            "environment",
        );
        let mut config = Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .credentials_provider(credentials)
            .region(Region::new(settings.region))
            // Not every store knows the newer checksums; TLS and the caller's own hashes do it.
            .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
            .response_checksum_validation(ResponseChecksumValidation::WhenRequired);
        if let Some(endpoint) = settings.endpoint {
            // Stores under a name of one's own seldom have names for their buckets.
            config = config.endpoint_url(endpoint).force_path_style(true);
        }
        Self {
            client: Client::from_conf(config.build()),
            bucket: bucket.to_owned(),
            prefix: prefix.to_owned(),
        }
    }

    fn key(&self, name: &str) -> String {
        match self.prefix.as_str() {
            "" => name.to_owned(),
            prefix => format!("{prefix}/{name}"),
        }
    }

    fn place(&self) -> String {
        format!("s3://{}/{}", self.bucket, self.prefix)
    }

    fn failed<E: std::error::Error + ProvideErrorMetadata>(
        &self,
        what: &'static str,
        name: &str,
    ) -> impl Fn(E) -> ObjectsError {
        let (name, place) = (name.to_owned(), self.place());
        move |error| ObjectsError::Store {
            what,
            name: name.clone(),
            place: place.clone(),
            why: match (error.code(), error.message()) {
                (Some(code), Some(message)) => format!("{code}: {message}"),
                (Some(code), None) => code.to_owned(),
                (None, _) => with_causes(&error),
            },
        }
    }

    fn unread(&self, name: &str) -> impl Fn(ByteStreamError) -> ObjectsError {
        let (name, place) = (name.to_owned(), self.place());
        move |error| ObjectsError::Store {
            what: "cannot read what is to be stored as",
            name: name.clone(),
            place: place.clone(),
            why: with_causes(&error),
        }
    }

    pub(crate) async fn put(&self, name: &str, file: &Path) -> Result<(), ObjectsError> {
        let size = tokio::fs::metadata(file)
            .await
            .map_err(io("cannot read", file))?
            .len();
        if size > PART {
            return self.put_in_parts(name, file, size).await;
        }
        let body = ByteStream::from_path(file)
            .await
            .map_err(self.unread(name))?;
        self.client
            .put_object()
            .bucket(&self.bucket)
            .key(self.key(name))
            .body(body)
            .send()
            .await
            .map_err(self.failed("cannot store", name))?;
        Ok(())
    }

    async fn put_in_parts(&self, name: &str, file: &Path, size: u64) -> Result<(), ObjectsError> {
        let begun = self
            .client
            .create_multipart_upload()
            .bucket(&self.bucket)
            .key(self.key(name))
            .send()
            .await
            .map_err(self.failed("cannot begin to store", name))?;
        let upload = begun.upload_id().unwrap_or_default();
        let stored = self.put_parts(name, upload, file, size).await;
        if stored.is_err() {
            let ended = self
                .client
                .abort_multipart_upload()
                .bucket(&self.bucket)
                .key(self.key(name))
                .upload_id(upload)
                .send()
                .await;
            // The store's own rules remove what is left.
            drop(ended);
        }
        stored
    }

    async fn put_parts(
        &self,
        name: &str,
        upload: &str,
        file: &Path,
        size: u64,
    ) -> Result<(), ObjectsError> {
        let mut parts = Vec::new();
        for (number, offset) in (1..).zip((0..size).step_by(PART as usize)) {
            let body = ByteStream::read_from()
                .path(file)
                .offset(offset)
                .length(Length::Exact(PART.min(size - offset)))
                .build()
                .await
                .map_err(self.unread(name))?;
            let part = self
                .client
                .upload_part()
                .bucket(&self.bucket)
                .key(self.key(name))
                .upload_id(upload)
                .part_number(number)
                .body(body)
                .send()
                .await
                .map_err(self.failed("cannot store a part of", name))?;
            let part = CompletedPart::builder()
                .part_number(number)
                .set_e_tag(part.e_tag)
                .build();
            parts.push(part);
        }
        let parts = CompletedMultipartUpload::builder()
            .set_parts(Some(parts))
            .build();
        self.client
            .complete_multipart_upload()
            .bucket(&self.bucket)
            .key(self.key(name))
            .upload_id(upload)
            .multipart_upload(parts)
            .send()
            .await
            .map_err(self.failed("cannot finish", name))?;
        Ok(())
    }

    pub(crate) async fn get(
        &self,
        name: &str,
        file: &Path,
        limit: u64,
    ) -> Result<(), ObjectsError> {
        let found = self
            .client
            .get_object()
            .bucket(&self.bucket)
            .key(self.key(name))
            .send()
            .await
            .map_err(|error| match error.code() {
                Some("NoSuchKey") => ObjectsError::Missing {
                    name: name.to_owned(),
                    place: self.place(),
                },
                _ => self.failed("cannot read", name)(error),
            })?;
        let mut to = tokio::fs::File::create(file)
            .await
            .map_err(io("cannot create", file))?;
        // One byte more tells that there is more, whatever the store says of the length.
        let mut from = found.body.into_async_read().take(limit.saturating_add(1));
        let copied = tokio::io::copy(&mut from, &mut to)
            .await
            .map_err(io("cannot write", file))?;
        if copied > limit {
            return Err(ObjectsError::TooLarge {
                name: name.to_owned(),
                place: self.place(),
                limit,
            });
        }
        to.sync_all().await.map_err(io("cannot write", file))
    }

    pub(crate) async fn list(&self) -> Result<Vec<String>, ObjectsError> {
        let prefix = match self.prefix.as_str() {
            "" => String::new(),
            prefix => format!("{prefix}/"),
        };
        let mut pages = self
            .client
            .list_objects_v2()
            .bucket(&self.bucket)
            .prefix(&prefix)
            .into_paginator()
            .send();
        let mut names = Vec::new();
        while let Some(page) = pages.next().await {
            let page = page.map_err(self.failed("cannot list", &prefix))?;
            let keys = page.contents().iter().filter_map(|object| object.key());
            names.extend(keys.filter_map(|key| Some(key.strip_prefix(&prefix)?.to_owned())));
        }
        Ok(names)
    }
}

/// An error with what led to it, each once.
fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        let said = next.to_string();
        if !text.contains(&said) {
            text = format!("{text}: {said}");
        }
        cause = next.source();
    }
    text
}
