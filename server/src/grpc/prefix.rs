//! The classic service under the name that workers of 0.6 to 0.8 call it by: the same methods and messages.

use std::convert::Infallible;
use std::task::{Context, Poll};

use proto::{CLASSIC_PREFIX, CLASSIC_PREFIX_OLD};
use tonic::body::Body;
use tonic::codegen::{Service, http};
use tonic::server::NamedService;

/// Renames the path of a request and passes it on.
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
        let renamed = request.uri().path().strip_prefix(CLASSIC_PREFIX_OLD).map(|m| format!("{CLASSIC_PREFIX}{m}"));
        // A path that came in as a URI is one when its prefix is changed; otherwise it stays and is not found.
        if let Some(uri) = renamed.and_then(|path| path.parse().ok()) {
            *request.uri_mut() = uri;
        }
        self.0.call(request)
    }
}
