//! `/apis/ironhook.dev/v1alpha1/netboot`: what runs (GET), a change of it (POST), why a machine gets what it gets
//! (`/machines/<mac>`), what is wrong with the network (`/doctor`), and Prometheus's `/metrics`.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Json, Path, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use netboot::doctor::{Finding, judge, probe};
use netboot::explain::{Explanation, explain};
use netboot::{Mode, Netboot};
use serde::{Deserialize, Serialize};
use spec::Mac;

use super::reply::Refusal;
use crate::machines::Machines;
use crate::netboot::control::ControlError;
use crate::netboot::{Change, Control, Moment, Seen, Status};

/// How long others on the link are listened to.
const LISTEN: Duration = Duration::from_secs(3);

/// What the handlers share.
#[derive(Clone)]
pub struct View {
    /// For explanations.
    pub netboot: Netboot,
    /// For changes.
    pub control: Control,
    /// For timelines.
    pub seen: Arc<Seen>,
    /// For the doctor.
    pub machines: Machines,
}

/// Why, and what happened so far.
#[derive(Debug, Serialize, Deserialize)]
pub struct Story {
    /// What the next boot would be.
    pub explanation: Explanation,
    /// Oldest first.
    pub timeline: Vec<Moment>,
}

/// What is wrong, and what could not be looked at.
#[derive(Debug, Serialize, Deserialize)]
pub struct Examination {
    /// Each with its remedy.
    pub findings: Vec<Finding>,
    /// Interfaces on which nobody could be asked, and why.
    pub unheard: Vec<(String, String)>,
}

/// All paths, to be merged.
pub fn router(view: View) -> Router {
    let base = "/apis/ironhook.dev/v1alpha1/netboot";
    Router::new()
        .route(base, get(status).post(change))
        .route(&format!("{base}/machines/{{mac}}"), get(machine))
        .route(&format!("{base}/doctor"), get(doctor))
        .route("/metrics", get(metrics))
        .with_state(view)
}

async fn status(State(view): State<View>) -> Result<Json<Status>, Refusal> {
    Ok(Json(view.control.status().await?))
}

async fn change(State(view): State<View>, body: Result<Json<Change>, JsonRejection>) -> Result<Json<Status>, Refusal> {
    let Json(change) = body.map_err(|rejection| Refusal::bad_request(rejection.body_text()))?;
    tracing::info!(?change, "netboot is changed");
    Ok(Json(view.control.change(change).await?))
}

async fn machine(State(view): State<View>, Path(said): Path<String>) -> Result<Json<Story>, Refusal> {
    let mac: Mac = said.parse().map_err(|error| Refusal::bad_request(format!("{error}")))?;
    Ok(Json(Story { explanation: explain(&view.netboot, mac), timeline: view.seen.timeline(mac) }))
}

async fn doctor(State(view): State<View>) -> Json<Examination> {
    let settings = view.netboot.settings();
    let asked = settings
        .interfaces
        .iter()
        .filter(|interface| interface.mode != Mode::Off)
        .map(|interface| async { (interface.name.clone(), probe(&interface.name, LISTEN).await) });
    let (mut heard, mut unheard) = (Vec::new(), Vec::new());
    for (name, answers) in futures_util::future::join_all(asked).await {
        match answers {
            Ok(answers) => heard.extend(answers),
            Err(error) => unheard.push((name, error.to_string())),
        }
    }
    let machines: Vec<Explanation> = view.machines.macs().into_iter().map(|mac| explain(&view.netboot, mac)).collect();
    Json(Examination { findings: judge(&settings, &heard, &view.seen.steps(), &machines), unheard })
}

async fn metrics(State(view): State<View>) -> Response {
    let text = view.netboot.counters.render();
    ([(axum::http::header::CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response()
}

impl From<ControlError> for Refusal {
    fn from(error: ControlError) -> Self {
        Self::bad_request(crate::chain(&error))
    }
}
