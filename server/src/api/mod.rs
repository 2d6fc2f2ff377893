//! The operator's API on loopback: Kubernetes-shaped objects, `apply`, and what happens. Translates between HTTP and
//! the store; checks of objects are those of `apply`.

mod activity;
mod apply;
pub mod netboot;
mod objects;
mod reply;
#[cfg(test)]
mod tests;
mod watch;
mod workflow;

use std::sync::Arc;

use axum::Router;
use axum::routing::{get, post};
use tokio::sync::Mutex;

use crate::engine::Engine;
use crate::shutdown::Shutdown;

/// What the handlers share.
#[derive(Clone)]
pub struct Api {
    engine: Engine,
    /// Ends streams that would go on for ever.
    shutdown: Shutdown,
    /// Held from the checks of a change to its commit: what a check saw of other objects is then still so.
    writing: Arc<Mutex<()>>,
}

/// All paths.
pub fn router(engine: Engine, shutdown: Shutdown) -> Router {
    let all = "/apis/tinkerbell.org/v1alpha1/{kind}";
    let of_namespace = "/apis/tinkerbell.org/v1alpha1/namespaces/{namespace}/{kind}";
    let own = "/apis/ironhook.dev/v1alpha1/namespaces/{namespace}/workflows/{name}/cancel";
    let one = "/apis/tinkerbell.org/v1alpha1/namespaces/{namespace}/{kind}/{name}";
    Router::new()
        .route("/healthz", get(|| async { "ok" }))
        .route("/apis/ironhook.dev/v1alpha1/apply", post(apply::apply))
        .route("/apis/ironhook.dev/v1alpha1/activity", get(activity::activity))
        .route(all, get(objects::list_all))
        .route(of_namespace, get(objects::list).post(objects::create))
        .route(one, get(objects::get).put(objects::replace).delete(objects::delete))
        .route(&format!("{one}/{{part}}"), get(workflow::part))
        .route(own, post(workflow::cancel))
        .with_state(Api { engine, shutdown, writing: Arc::default() })
}
