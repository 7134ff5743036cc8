//! The envelope, and the one place where errors become answers.

use axum::extract::rejection::{JsonRejection, PathRejection, QueryRejection};
use axum::extract::{FromRequest, FromRequestParts, OptionalFromRequest, Request};
use axum::response::{IntoResponse, Response};
use http::request::Parts;
use http::{HeaderValue, StatusCode, header};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio_postgres::error::SqlState;
use ztna_proto::error::{Envelope, ErrorBody, ErrorCode};

use crate::kv::KvError;

/// What a handler returns.
pub(crate) type Answer<T> = Result<(StatusCode, axum::Json<Envelope<T>>), ApiError>;

/// An answer that says nothing but "done".
#[derive(Debug, Deserialize, Serialize, utoipa::ToSchema)]
pub(crate) struct Empty {}

pub(crate) fn ok<T>(data: T) -> Answer<T> {
    Ok((StatusCode::OK, axum::Json(Envelope::ok(data))))
}

pub(crate) fn created<T>(data: T) -> Answer<T> {
    Ok((StatusCode::CREATED, axum::Json(Envelope::ok(data))))
}

/// Why a call gets no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ApiError {
    /// The caller's fault, or nobody's; the caller is told.
    #[error(transparent)]
    Refused(#[from] ErrorBody),
    /// The database does not work.
    #[error("database: {0}")]
    Database(#[from] tokio_postgres::Error),
    /// No connection to the database.
    #[error("database: {0}")]
    Pool(#[from] deadpool_postgres::PoolError),
    /// The key-value store does not work.
    #[error(transparent)]
    Kv(#[from] KvError),
    /// Our fault.
    #[error("{0}")]
    Internal(String),
}

/// An error that the caller is told.
pub(crate) fn refuse(code: ErrorCode, message: impl Into<String>) -> ApiError {
    ApiError::Refused(ErrorBody::new(code, message))
}

impl ApiError {
    /// Whether the database refused the row for this constraint.
    pub(crate) fn violates(&self, constraint: &str) -> bool {
        let Self::Database(error) = self else {
            return false;
        };
        error.as_db_error().is_some_and(|error| {
            *error.code() == SqlState::UNIQUE_VIOLATION && error.constraint() == Some(constraint)
        })
    }

    /// What the caller is told. What is our fault is logged here, once.
    pub(crate) fn into_body(self) -> ErrorBody {
        match self {
            Self::Refused(body) => body,
            Self::Pool(_) | Self::Kv(_) => {
                tracing::error!(error = %self, "cannot serve");
                unavailable()
            }
            Self::Database(ref error) if error.is_closed() || is_temporary(error) => {
                tracing::error!(error = %self, "cannot serve");
                unavailable()
            }
            Self::Database(ref error) if is_unstorable(error) => ErrorBody::new(
                ErrorCode::ValidationError,
                "a text holds a character, or a time is one, that cannot be stored; correct it",
            ),
            Self::Database(ref error) => {
                let detail = error.as_db_error().map(ToString::to_string);
                tracing::error!(error = %self, detail, "a query failed");
                internal()
            }
            Self::Internal(_) => {
                tracing::error!(error = %self, "a call failed");
                internal()
            }
        }
    }
}

/// Whether the same query may succeed a moment later.
fn is_temporary(error: &tokio_postgres::Error) -> bool {
    // The connection broke in the middle: the server is gone, or going.
    if std::error::Error::source(error).is_some_and(|source| source.is::<std::io::Error>()) {
        return true;
    }
    let temporary = [
        SqlState::T_R_SERIALIZATION_FAILURE,
        SqlState::T_R_DEADLOCK_DETECTED,
        SqlState::QUERY_CANCELED,
        SqlState::ADMIN_SHUTDOWN,
        SqlState::CRASH_SHUTDOWN,
        SqlState::CANNOT_CONNECT_NOW,
        SqlState::TOO_MANY_CONNECTIONS,
        SqlState::DISK_FULL,
    ];
    error.code().is_some_and(|code| temporary.contains(code))
}

/// Whether a value was one that no column takes: texts of the database hold no NUL, and its years end.
fn is_unstorable(error: &tokio_postgres::Error) -> bool {
    let unstorable = [
        SqlState::CHARACTER_NOT_IN_REPERTOIRE,
        SqlState::UNTRANSLATABLE_CHARACTER,
        SqlState::DATETIME_FIELD_OVERFLOW,
    ];
    error.code().is_some_and(|code| unstorable.contains(code))
}

fn unavailable() -> ErrorBody {
    ErrorBody::new(
        ErrorCode::Unavailable,
        "the control plane cannot reach its database right now; try again in a moment",
    )
}

fn internal() -> ErrorBody {
    ErrorBody::new(
        ErrorCode::InternalError,
        "something went wrong on the server; try again, and if it stays, look into the control \
         plane's log for the answer's X-Request-Id",
    )
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let body = self.into_body();
        let status =
            StatusCode::from_u16(body.code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let challenge = status == StatusCode::UNAUTHORIZED;
        let mut response = (status, axum::Json(Envelope::<()>::err(body))).into_response();
        if challenge {
            // RFC 9110 §11.6.1 asks for it with every 401.
            response
                .headers_mut()
                .insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

/// A JSON body; what is wrong with it is told within the envelope.
pub(crate) struct Json<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Json<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let body = <axum::Json<T> as FromRequest<S>>::from_request(request, state).await;
        body.map(|axum::Json(body)| Self(body)).map_err(Into::into)
    }
}

/// A body that may be missing.
impl<S: Send + Sync, T: DeserializeOwned> OptionalFromRequest<S> for Json<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Option<Self>, ApiError> {
        let body = <axum::Json<T> as OptionalFromRequest<S>>::from_request(request, state).await?;
        Ok(body.map(|axum::Json(body)| Self(body)))
    }
}

impl From<JsonRejection> for ApiError {
    fn from(rejection: JsonRejection) -> Self {
        match rejection {
            JsonRejection::JsonDataError(error) => refuse(
                ErrorCode::ValidationError,
                format!("the body is not what this call takes: {}", reason(&error)),
            ),
            rejection => refuse(
                ErrorCode::InvalidJson,
                format!("the body cannot be read: {}", rejection.body_text()),
            ),
        }
    }
}

/// What serde found, without axum's words around it.
fn reason(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    // Where in the text means nothing to people, and the path before it says which value.
    let said = error.to_string();
    match said.split_once(" at line ") {
        Some((what, _)) => what.to_owned(),
        None => said,
    }
}

/// The parameters behind the path's question mark.
pub(crate) struct Query<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Query<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let query = axum::extract::Query::<T>::from_request_parts(parts, state).await;
        let query = query.map(|axum::extract::Query(query)| Self(query));
        query.map_err(|rejection: QueryRejection| {
            refuse(
                ErrorCode::ValidationError,
                format!(
                    "the parameters are not what this call takes: {}",
                    reason(&rejection)
                ),
            )
        })
    }
}

/// Parts of the path. One that is no id names nothing that is here.
pub(crate) struct Path<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for Path<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        match axum::extract::Path::from_request_parts(parts, state).await {
            Ok(axum::extract::Path(path)) => Ok(Self(path)),
            Err(PathRejection::FailedToDeserializePathParams(_)) => {
                Err(refuse(ErrorCode::NotFound, "nothing has that id"))
            }
            Err(rejection) => Err(ApiError::Internal(rejection.to_string())),
        }
    }
}
