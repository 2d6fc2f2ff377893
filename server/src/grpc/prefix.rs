//! One door for the workflow services: the classic one under both of its names, and the newer one, which shares the
//! name and one path of the classic one. Renames paths and passes on; decides by the module `shape` only.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use proto::{CLASSIC_PREFIX, CLASSIC_PREFIX_OLD};
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::{Service, http};
use tonic::server::NamedService;

use super::{MAX_MESSAGE, shape};

/// How the newer service is called inside.
const NEWER: &str = "/tinkerbell.v2.WorkflowService/";

type Answer = Pin<Box<dyn Future<Output = Result<http::Response<Body>, Infallible>> + Send>>;

/// The classic service under the name that workers of 0.6 to 0.8 call it by.
#[derive(Clone)]
pub struct OldName<S>(pub S);

impl<S> NamedService for OldName<S> {
    const NAME: &'static str = "github.com.tinkerbell.tink.protos.workflow.WorkflowService";
}

impl<S> Service<http::Request<Body>> for OldName<S>
where
    S: Service<http::Request<Body>, Error = Infallible>,
{
    type Response = S::Response;
    type Error = Infallible;
    type Future = S::Future;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, mut request: http::Request<Body>) -> S::Future {
        rename(&mut request, CLASSIC_PREFIX_OLD, CLASSIC_PREFIX);
        self.0.call(request)
    }
}

/// Both services under the name that they share.
#[derive(Clone)]
pub struct Shared<C, N> {
    /// The classic one.
    pub classic: C,
    /// The newer one.
    pub newer: N,
}

impl<C, N> NamedService for Shared<C, N> {
    const NAME: &'static str = "proto.WorkflowService";
}

impl<C, N> Service<http::Request<Body>> for Shared<C, N>
where
    C: Service<http::Request<Body>, Response = http::Response<Body>, Error = Infallible> + Clone + Send + 'static,
    N: Service<http::Request<Body>, Response = http::Response<Body>, Error = Infallible> + Clone + Send + 'static,
    C::Future: Send,
    N::Future: Send,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Answer;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        match self.classic.poll_ready(context) {
            Poll::Ready(Ok(())) => self.newer.poll_ready(context),
            other => other,
        }
    }

    fn call(&mut self, mut request: http::Request<Body>) -> Answer {
        let method = request.uri().path().strip_prefix(CLASSIC_PREFIX).unwrap_or_default();
        match method {
            "GetAction" => {
                rename(&mut request, CLASSIC_PREFIX, NEWER);
                Box::pin(self.newer.call(request))
            }
            "ReportActionStatus" => {
                // What was asked for readiness stays here; the copy goes on as it may.
                let (mut classic, mut newer) = (self.classic.clone(), self.newer.clone());
                std::mem::swap(&mut classic, &mut self.classic);
                std::mem::swap(&mut newer, &mut self.newer);
                Box::pin(report(request, classic, newer))
            }
            _ => Box::pin(self.classic.call(request)),
        }
    }
}

async fn report<C, N>(
    request: http::Request<Body>,
    mut classic: C,
    mut newer: N,
) -> Result<http::Response<Body>, Infallible>
where
    C: Service<http::Request<Body>, Response = http::Response<Body>, Error = Infallible>,
    N: Service<http::Request<Body>, Response = http::Response<Body>, Error = Infallible>,
{
    let (head, body) = request.into_parts();
    let body = match axum::body::to_bytes(axum::body::Body::new(body), MAX_MESSAGE).await {
        Ok(body) => body,
        Err(error) => return Ok(Status::out_of_range(format!("the report cannot be read: {error}")).into_http()),
    };
    let is_newer = shape::is_newer(&body);
    let mut request = http::Request::from_parts(head, Body::new(axum::body::Body::from(body)));
    if is_newer {
        rename(&mut request, CLASSIC_PREFIX, NEWER);
        newer.call(request).await
    } else {
        classic.call(request).await
    }
}

fn rename(request: &mut http::Request<Body>, from: &str, to: &str) {
    let renamed = request.uri().path().strip_prefix(from).map(|method| format!("{to}{method}"));
    // A path that came in as a URI is one when its prefix is changed; otherwise it stays and is not found.
    if let Some(uri) = renamed.and_then(|path| path.parse().ok()) {
        *request.uri_mut() = uri;
    }
}
