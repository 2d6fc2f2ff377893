//! `ironhook.v1.Machine`: what the classic service cannot carry.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use proto::ironhook::machine_server::Machine as Service;
use proto::ironhook::{
    ActionRef, ClaimRequest, ClaimResponse, FailureDetail, FailureDetailResponse, HelloRequest, HelloResponse,
    Inventory, InventoryResponse, LeaseRequest, LeaseResponse, LogLines, LogResponse, Progress, ProgressResponse,
    Timeline, TimelineResponse,
};
use serde_json::json;
use spec::activity::What;
use spec::{Failure, event, phase};
use tonic::{Request, Response, Status};

use super::{attributes, devices, needed, status};
use crate::engine::{Engine, Named};
use crate::workflow::canonical_worker;
use crate::workflow::state::{News, Report};

/// A timeline has a few dozen phases; more is a mistake.
const MAX_PHASES: usize = 1000;

/// How often an agent asks whether it should go on; an operator's cancel arrives within this.
const RENEW_MS: u32 = 2000;

/// The service.
pub struct Machine {
    engine: Engine,
    /// Of each worker its boot, and how many of its phases were told: a timeline that grows is told once.
    told: Mutex<HashMap<String, (String, usize)>>,
}

impl Machine {
    /// Speaks for this engine.
    pub fn new(engine: Engine) -> Self {
        Self { engine, told: Mutex::default() }
    }
}

#[tonic::async_trait]
impl Service for Machine {
    async fn hello(&self, request: Request<HelloRequest>) -> Result<Response<HelloResponse>, Status> {
        let hello = request.into_inner();
        needed("worker_id", &hello.worker_id)?;
        tracing::info!(worker = hello.worker_id, version = hello.agent_version, "an agent says hello");
        Ok(Response::new(HelloResponse { server_version: env!("CARGO_PKG_VERSION").into() }))
    }

    async fn report_progress(&self, request: Request<Progress>) -> Result<Response<ProgressResponse>, Status> {
        let Progress { action, done, total, unit, message } = request.into_inner();
        let who = named(action)?;
        let progress = event::Progress { done, total, unit, message };
        self.engine.progress(&who, progress).map_err(|error| status(&error))?;
        Ok(Response::new(ProgressResponse {}))
    }

    async fn claim(&self, request: Request<ClaimRequest>) -> Result<Response<ClaimResponse>, Status> {
        let who = named(request.into_inner().action)?;
        let action = self.engine.claim(&who).map_err(|error| status(&error))?;
        let network = action.namespaces.map_or_else(String::new, |namespaces| namespaces.network);
        let attempt = action.attempt.max(1);
        Ok(Response::new(ClaimResponse { action_id: action.id, attempt, background: action.background, network }))
    }

    async fn lease(&self, request: Request<LeaseRequest>) -> Result<Response<LeaseResponse>, Status> {
        let who = named(request.into_inner().action)?;
        let reason = self.engine.lease(&who).map_err(|error| status(&error))?;
        let cancelled = reason.is_some();
        Ok(Response::new(LeaseResponse { cancelled, reason: reason.unwrap_or_default(), renew_ms: RENEW_MS }))
    }

    async fn report_log(&self, request: Request<LogLines>) -> Result<Response<LogResponse>, Status> {
        let LogLines { action, lines, dropped } = request.into_inner();
        self.engine.log(&named(action)?, lines, dropped).map_err(|error| status(&error))?;
        Ok(Response::new(LogResponse {}))
    }

    async fn report_inventory(&self, request: Request<Inventory>) -> Result<Response<InventoryResponse>, Status> {
        let Inventory { worker_id, attributes, devices } = request.into_inner();
        needed("worker_id", &worker_id)?;
        let devices = devices::parse(&devices)?;
        let worker = canonical_worker(&worker_id);
        // Anyone can reach this port; only what is told of machines that exist is remembered.
        if let Some(record) = self.engine.machines.record_by_worker(&worker) {
            let (id, mut what) = (record.key.id(), attributes::to_json(&attributes));
            what["devices"] = json!(devices);
            // Once, not with every restart of an agent.
            let known = self.engine.soft.inventory_of(&id).is_some_and(|before| before["devices"] == what["devices"]);
            if let Some(line) = devices.as_ref().and_then(devices::line).filter(|_| !known) {
                tracing::warn!(machine = id, devices = line, "not all of a machine is at work");
            }
            self.engine.soft.inventory(&id, what);
        }
        Ok(Response::new(InventoryResponse {}))
    }

    async fn report_failure(&self, request: Request<FailureDetail>) -> Result<Response<FailureDetailResponse>, Status> {
        let detail = request.into_inner();
        let who = named(detail.action)?;
        needed("code", &detail.code)?;
        let failure = Failure {
            code: detail.code,
            message: detail.message,
            causes: detail.causes,
            exit_status: detail.exit_status,
            log_tail: detail.log_tail,
        };
        let Named { workflow, task, action, id, worker } = who;
        let report = Report { worker, task, action, id, news: News::Detail(failure) };
        self.engine.report(&workflow, &report).await.map_err(|error| status(&error))?;
        Ok(Response::new(FailureDetailResponse {}))
    }

    async fn report_timeline(&self, request: Request<Timeline>) -> Result<Response<TimelineResponse>, Status> {
        let timeline = request.into_inner();
        needed("worker_id", &timeline.worker_id)?;
        if timeline.phases.len() > MAX_PHASES {
            return Err(Status::invalid_argument(format!("a timeline has at most {MAX_PHASES} phases")));
        }
        let worker = canonical_worker(&timeline.worker_id);
        // Anyone can reach this port; only what is told of machines that exist is remembered.
        if self.engine.machines.record_by_worker(&worker).is_none() {
            return Ok(Response::new(TimelineResponse {}));
        }
        let known = {
            let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
            let now = (timeline.boot_id.clone(), timeline.phases.len());
            let before = told.insert(worker.clone(), now);
            before.filter(|(boot, _)| *boot == timeline.boot_id).map_or(0, |(_, count)| count)
        };
        for phase in timeline.phases.into_iter().skip(known) {
            let phase = phase::Phase { name: phase.name, start_ms: phase.start_ms, duration_ms: phase.duration_ms };
            self.engine.tell(&worker, What::Phase { phase });
        }
        Ok(Response::new(TimelineResponse {}))
    }
}

// tonic's own error type; its size is not ours to choose.
#[allow(clippy::result_large_err)]
fn named(action: Option<ActionRef>) -> Result<Named, Status> {
    let action = action.ok_or_else(|| Status::invalid_argument("action is missing"))?;
    needed("workflow_id", &action.workflow_id)?;
    needed("task_name", &action.task_name)?;
    needed("action_name", &action.action_name)?;
    Ok(Named {
        worker: canonical_worker(&action.worker_id),
        workflow: action.workflow_id,
        task: action.task_name,
        action: action.action_name,
        id: action.action_id,
    })
}
