//! The listener: connections, limits, who may call what, and the routes.

use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::warn;

use super::{Backend, Explain, Flush, NewOverride, Problem, ProblemKind, RemoveOverride, Rollback, Settings};
use crate::metrics;

/// Connections at once; further ones wait to be accepted.
const MAX_CONNECTIONS: usize = 128;
/// The largest request body.
const MAX_BODY: usize = 64 * 1024;
/// How long a client may take to send a request's head, the pause between two requests included, and how long to send
/// its body.
const SEND_TIMEOUT: Duration = Duration::from_secs(30);
/// How long one connection may last: above the longest compile that a caller waits for.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(600);
/// How long to leave `accept` alone after it has failed.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

type Reply = Response<Full<Bytes>>;

/// The address of the API cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("control.listen: {address}: cannot listen: {source}; choose another address or end what listens there")]
pub struct ControlError {
    address: SocketAddr,
    source: io::Error,
}

/// The listener, open and not yet served.
#[derive(Debug)]
pub struct Control {
    listener: TcpListener,
    address: SocketAddr,
}

impl Control {
    /// Opens the listener; port 0 takes a free one.
    ///
    /// # Errors
    ///
    /// When the address cannot be opened.
    pub async fn bind(settings: &Settings) -> Result<Self, ControlError> {
        let fault = |source| ControlError { address: settings.listen, source };
        let listener = TcpListener::bind(settings.listen).await.map_err(fault)?;
        let address = listener.local_addr().map_err(fault)?;
        Ok(Self { listener, address })
    }

    /// The address, with the port that the system chose.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `stop`, then lets requests under way end.
    pub async fn serve(self, settings: Settings, backend: Arc<dyn Backend>, stop: CancellationToken) {
        let settings = Arc::new(settings);
        let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        let tasks = TaskTracker::new();
        loop {
            let permit = tokio::select! {
                () = stop.cancelled() => break,
                permit = Arc::clone(&room).acquire_owned() => permit.expect("nobody closes the semaphore"),
            };
            let accepted = tokio::select! {
                () = stop.cancelled() => break,
                accepted = self.listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, client)) => {
                    let (settings, backend, stop) = (Arc::clone(&settings), Arc::clone(&backend), stop.clone());
                    tasks.spawn(async move {
                        serve_connection(stream, client.ip().to_canonical(), &settings, backend, stop).await;
                        drop(permit);
                    });
                }
                Err(error) => {
                    warn!(%error, "the control listener could not accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        tasks.close();
        tasks.wait().await;
    }
}

async fn serve_connection(
    stream: TcpStream,
    client: IpAddr,
    settings: &Settings,
    backend: Arc<dyn Backend>,
    stop: CancellationToken,
) {
    let service = service_fn(|request| {
        let backend = Arc::clone(&backend);
        async move { Ok::<_, Infallible>(answer(request, client, settings, &*backend).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(SEND_TIMEOUT)
        .max_headers(64)
        .max_buf_size(MAX_BODY)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(tokio::time::timeout(CONNECTION_TIMEOUT, connection));
    // A client that breaks off or speaks no HTTP is its own affair.
    tokio::select! {
        _ = &mut connection => return,
        () = stop.cancelled() => {}
    }
    // What is asked already is answered; a connection that is idle is closed by the process's end.
    let _ = tokio::time::timeout(Duration::from_secs(1), connection).await;
}

async fn answer(request: Request<Incoming>, client: IpAddr, settings: &Settings, backend: &dyn Backend) -> Reply {
    let path = request.uri().path().to_owned();
    let Some(allowed) = methods(&path) else {
        let here = "here are /metrics, /healthz, /readyz and /api/v1/";
        return match path.starts_with("/api/") {
            true => refusal(&Problem::new(ProblemKind::NotFound, format!("there is no {path}; {here}"))),
            false => plain(StatusCode::NOT_FOUND, format!("{here}\n")),
        };
    };
    // What can be read can be asked about (RFC 9110, section 9.3.2).
    let method = if request.method() == Method::HEAD { &Method::GET } else { request.method() };
    if !allowed.contains(method) {
        let allow = allowed.iter().map(Method::as_str).collect::<Vec<_>>().join(", ");
        let mut reply = match path.starts_with("/api/") {
            true => json(StatusCode::METHOD_NOT_ALLOWED, &Problem::new(ProblemKind::Usage, format!("only {allow}"))),
            false => plain(StatusCode::METHOD_NOT_ALLOWED, format!("only {allow}\n")),
        };
        reply.headers_mut().insert(header::ALLOW, HeaderValue::from_str(&allow).expect("methods are plain words"));
        return reply;
    }
    match path.as_str() {
        "/metrics" => text(StatusCode::OK, metrics::CONTENT_TYPE, backend.metrics()),
        "/healthz" => plain(StatusCode::OK, "ok\n"),
        "/readyz" => match backend.ready() {
            Ok(()) => plain(StatusCode::OK, "ready\n"),
            Err(reason) => plain(StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")),
        },
        _ => {
            let outcome = match refuse(&request, client, settings) {
                Some(problem) => Err(problem),
                None => call(request, &path, backend).await,
            };
            outcome.unwrap_or_else(|problem| refusal(&problem))
        }
    }
}

/// What may be done with what is at `path`; `None` when there is nothing.
fn methods(path: &str) -> Option<&'static [Method]> {
    Some(match path {
        "/metrics" | "/healthz" | "/readyz" | "/api/v1/status" => &[Method::GET],
        "/api/v1/reload" | "/api/v1/rollback" | "/api/v1/flush" | "/api/v1/explain" => &[Method::POST],
        "/api/v1/overrides" => &[Method::GET, Method::POST, Method::DELETE],
        _ => return None,
    })
}

/// Carries out a request to the API that may be made.
async fn call(request: Request<Incoming>, path: &str, backend: &dyn Backend) -> Result<Reply, Problem> {
    match (request.method(), path) {
        (_, "/api/v1/status") => Ok(ok(&backend.status())),
        (_, "/api/v1/reload") => backend.reload().await.map(|done| ok(&done)),
        (_, "/api/v1/rollback") => {
            let Rollback { generation } = body(request).await?;
            backend.rollback(generation).await.map(|done| ok(&done))
        }
        (_, "/api/v1/flush") => {
            let flush: Flush = body(request).await?;
            backend.flush(flush).await.map(|done| ok(&done))
        }
        (_, "/api/v1/explain") => {
            let what: Explain = body(request).await?;
            what.record_type().map_err(|error| Problem::new(ProblemKind::Usage, error.to_string()))?;
            Ok(ok(&backend.explain(&what)))
        }
        (&Method::POST, _) => {
            let new: NewOverride = body(request).await?;
            backend.add_override(new).map(|done| json(StatusCode::CREATED, &done))
        }
        (&Method::DELETE, _) => {
            let RemoveOverride { name } = body(request).await?;
            backend.remove_override(&name).map(|()| ok(&serde_json::json!({ "removed": name })))
        }
        _ => Ok(ok(&backend.overrides())),
    }
}

/// Why the request is not let through to the API, if it is not.
///
/// A page in a browser on this machine can send requests here. It cannot choose the `Host` and `Origin` that the
/// browser writes, nor send JSON to another site without asking first, which we never allow. A name that the page's
/// owner points at this address (DNS rebinding) shows in `Host`.
fn refuse(request: &Request<Incoming>, client: IpAddr, settings: &Settings) -> Option<Problem> {
    let headers = request.headers();
    let forbidden = |message: String| Some(Problem::new(ProblemKind::Forbidden, message));
    if !settings.allow_clients.iter().any(|prefix| prefix.contains(&client)) {
        return forbidden("this client may not use the API; see control.allow-clients".to_owned());
    }
    let host = headers.get(header::HOST).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if !host_is_known(host, settings) {
        return forbidden(format!("{host:?} is not known as a name of this server; see control.hosts"));
    }
    if let Some(origin) = headers.get(header::ORIGIN)
        && origin.to_str().ok().and_then(|origin| origin.strip_prefix("http://")) != Some(host)
    {
        return forbidden("requests from web pages of other sites are refused".to_owned());
    }
    let is_reading = matches!(*request.method(), Method::GET | Method::HEAD);
    if !is_reading && !is_json(headers) {
        return Some(Problem::new(ProblemKind::Usage, "send JSON: Content-Type must be application/json"));
    }
    None
}

fn host_is_known(host: &str, settings: &Settings) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|octet| octet.is_ascii_digit()) => name,
        _ => host,
    };
    let address = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(name);
    address.parse::<IpAddr>().is_ok()
        || name.eq_ignore_ascii_case("localhost")
        || settings.hosts.iter().any(|known| known.eq_ignore_ascii_case(name))
}

fn is_json(headers: &HeaderMap) -> bool {
    let value = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    value.split(';').next().is_some_and(|media| media.trim().eq_ignore_ascii_case("application/json"))
}

/// Reads a JSON body; none at all is an empty object.
async fn body<T: DeserializeOwned>(request: Request<Incoming>) -> Result<T, Problem> {
    let usage = |message: String| Problem::new(ProblemKind::Usage, message);
    let bytes = tokio::time::timeout(SEND_TIMEOUT, Limited::new(request.into_body(), MAX_BODY).collect())
        .await
        .map_err(|_| usage("the body does not come to its end".to_owned()))?
        .map_err(|error| usage(format!("the body cannot be read: {error}")))?
        .to_bytes();
    let bytes = if bytes.is_empty() { Bytes::from_static(b"{}") } else { bytes };
    serde_json::from_slice(&bytes).map_err(|error| usage(format!("the body does not make sense: {error}")))
}

fn refusal(problem: &Problem) -> Reply {
    let status = match problem.kind {
        ProblemKind::Usage => StatusCode::BAD_REQUEST,
        ProblemKind::Forbidden => StatusCode::FORBIDDEN,
        ProblemKind::NotFound => StatusCode::NOT_FOUND,
        ProblemKind::Refused => StatusCode::CONFLICT,
        ProblemKind::Failed => StatusCode::INTERNAL_SERVER_ERROR,
    };
    json(status, problem)
}

fn ok(value: &impl Serialize) -> Reply {
    json(StatusCode::OK, value)
}

fn json(status: StatusCode, value: &impl Serialize) -> Reply {
    let mut body = serde_json::to_string(value).expect("structs of strings and numbers have a JSON form");
    body.push('\n');
    text(status, "application/json", body)
}

fn plain(status: StatusCode, body: impl Into<Bytes>) -> Reply {
    text(status, "text/plain; charset=utf-8", body)
}

fn text(status: StatusCode, media: &'static str, body: impl Into<Bytes>) -> Reply {
    let mut reply = Response::new(Full::new(body.into()));
    *reply.status_mut() = status;
    let headers = reply.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    reply
}
