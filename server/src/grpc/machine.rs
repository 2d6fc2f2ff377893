//! `ironhook.v1.Machine`: what the classic service cannot carry.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use proto::ironhook::machine_server::Machine as Service;
use proto::ironhook::{
    ActionRef, FailureDetail, FailureDetailResponse, HelloRequest, HelloResponse, Progress, ProgressResponse, Timeline,
    TimelineResponse,
};
use spec::activity::What;
use spec::{Failure, event, phase};
use tonic::{Request, Response, Status};

use super::{needed, status};
use crate::engine::Engine;
use crate::workflow::canonical_worker;
use crate::workflow::state::{News, Report};

/// A timeline has a few dozen phases; more is a mistake.
const MAX_PHASES: usize = 1000;

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
        let action = named(action)?;
        let progress = event::Progress { done, total, unit, message };
        let worker = canonical_worker(&action.worker_id);
        self.engine.progress(&action.workflow_id, action.action_name, &worker, progress);
        Ok(Response::new(ProgressResponse {}))
    }

    async fn report_failure(&self, request: Request<FailureDetail>) -> Result<Response<FailureDetailResponse>, Status> {
        let detail = request.into_inner();
        let action = named(detail.action)?;
        needed("code", &detail.code)?;
        let failure = Failure {
            code: detail.code,
            message: detail.message,
            causes: detail.causes,
            exit_status: detail.exit_status,
            log_tail: detail.log_tail,
        };
        let worker = canonical_worker(&action.worker_id);
        let report = Report { worker, task: action.task_name, action: action.action_name, news: News::Detail(failure) };
        self.engine.report(&action.workflow_id, &report).await.map_err(|error| status(&error))?;
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
fn named(action: Option<ActionRef>) -> Result<ActionRef, Status> {
    let action = action.ok_or_else(|| Status::invalid_argument("action is missing"))?;
    needed("workflow_id", &action.workflow_id)?;
    needed("task_name", &action.task_name)?;
    needed("action_name", &action.action_name)?;
    Ok(action)
}
