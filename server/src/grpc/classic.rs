//! `proto.WorkflowService` as tink-worker 0.6 to 0.12 speaks it (wire reference §4.2, §4.3, §12.7 to §12.9).

use std::collections::BTreeMap;
use std::sync::Arc;

use proto::workflow::workflow_service_server::WorkflowService;
use proto::workflow::{
    Empty, GetWorkflowDataRequest, GetWorkflowDataResponse, State as WireState, UpdateWorkflowDataRequest,
    WorkflowAction, WorkflowActionList, WorkflowActionStatus, WorkflowActionsRequest, WorkflowContext,
    WorkflowContextList, WorkflowContextRequest,
};
use tokio_stream::Iter;
use tonic::{Request, Response, Status};

use super::{needed, status};
use crate::engine::{Engine, EngineError, Offer, uid};
use crate::ephemeral::Version;
use crate::objects::workflow::{Action, State, Task};
use crate::workflow::canonical_worker;
use crate::workflow::state::{News, Report};

/// The service.
pub struct Classic(pub Engine);

#[tonic::async_trait]
impl WorkflowService for Classic {
    type GetWorkflowContextsStream = Iter<std::vec::IntoIter<Result<WorkflowContext, Status>>>;

    async fn get_workflow_contexts(
        &self,
        request: Request<WorkflowContextRequest>,
    ) -> Result<Response<Self::GetWorkflowContextsStream>, Status> {
        let contexts: Vec<_> = self.contexts(&request.into_inner())?.into_iter().map(Ok).collect();
        Ok(Response::new(tokio_stream::iter(contexts)))
    }

    async fn get_workflow_context_list(
        &self,
        request: Request<WorkflowContextRequest>,
    ) -> Result<Response<WorkflowContextList>, Status> {
        let workflow_contexts = self.contexts(&request.into_inner())?;
        Ok(Response::new(WorkflowContextList { workflow_contexts }))
    }

    async fn get_workflow_actions(
        &self,
        request: Request<WorkflowActionsRequest>,
    ) -> Result<Response<WorkflowActionList>, Status> {
        let id = request.into_inner().workflow_id;
        needed("workflow_id", &id)?;
        let (_, workflow) = self.0.workflow(&id).map_err(|error| status(&error))?;
        let action_list = workflow.actions().map(|(task, action)| wire_action(task, action)).collect();
        Ok(Response::new(WorkflowActionList { action_list }))
    }

    async fn report_action_status(&self, request: Request<WorkflowActionStatus>) -> Result<Response<Empty>, Status> {
        let understands_late = request.metadata().contains_key(proto::AGENT_HEADER);
        let id = request.metadata().get(proto::ACTION_HEADER).and_then(|id| id.to_str().ok()).unwrap_or_default();
        let id = id.to_owned();
        let told = request.into_inner();
        needed("workflow_id", &told.workflow_id)?;
        needed("task_name", &told.task_name)?;
        needed("action_name", &told.action_name)?;
        let state = told.action_status();
        let message = told.message;
        let news = match state {
            WireState::Pending => return Err(Status::invalid_argument("an action cannot be reported as pending")),
            WireState::Running => News::Running,
            WireState::Success => News::Succeeded { message },
            WireState::Failed => News::Failed { message },
            WireState::Timeout => News::TimedOut { message },
        };
        let worker = canonical_worker(&told.worker_id);
        let report = Report { worker, task: told.task_name, action: told.action_name, id, news };
        match self.0.report(&told.workflow_id, &report).await {
            Ok(()) => Ok(Response::new(Empty {})),
            // A stock worker repeats what is refused for ever (wire reference §12.9), so news of an end is taken from it and
            // changes nothing; ours must know. To begin an action that has ended is nobody's to be told yes to.
            Err(EngineError::Refused(late)) if late.is_late() && state != WireState::Running && !understands_late => {
                tracing::warn!(workflow = told.workflow_id, "a late report changes nothing: {late}");
                Ok(Response::new(Empty {}))
            }
            Err(error) => Err(status(&error)),
        }
    }

    async fn get_workflow_data(
        &self,
        request: Request<GetWorkflowDataRequest>,
    ) -> Result<Response<GetWorkflowDataResponse>, Status> {
        let (data, _) = self.ephemeral(&request.into_inner())?;
        Ok(Response::new(data))
    }

    async fn get_workflow_metadata(
        &self,
        request: Request<GetWorkflowDataRequest>,
    ) -> Result<Response<GetWorkflowDataResponse>, Status> {
        let (data, metadata) = self.ephemeral(&request.into_inner())?;
        Ok(Response::new(GetWorkflowDataResponse { data: metadata, version: data.version }))
    }

    async fn get_workflow_data_version(
        &self,
        request: Request<GetWorkflowDataRequest>,
    ) -> Result<Response<GetWorkflowDataResponse>, Status> {
        let (data, _) = self.ephemeral(&GetWorkflowDataRequest { version: 0, ..request.into_inner() })?;
        Ok(Response::new(GetWorkflowDataResponse { data: Vec::new(), version: data.version }))
    }

    async fn update_workflow_data(
        &self,
        request: Request<UpdateWorkflowDataRequest>,
    ) -> Result<Response<Empty>, Status> {
        let told = request.into_inner();
        let (workflow, _) = self.0.workflow(&told.workflow_id).map_err(|error| status(&error))?;
        let (data, soft) = (Version { metadata: told.metadata, data: told.data }, Arc::clone(&self.0.ephemeral));
        let stored = tokio::task::spawn_blocking(move || soft.add(&uid(&workflow), &data)).await;
        stored.map_err(|error| Status::internal(error.to_string()))?.map_err(|error| {
            let message = crate::chain(&error);
            tracing::warn!(message, "ephemeral data of a workflow is not kept");
            Status::unavailable(message)
        })?;
        Ok(Response::new(Empty {}))
    }
}

impl Classic {
    // tonic's own error type; its size is not ours to choose.
    #[allow(clippy::result_large_err)]
    fn contexts(&self, request: &WorkflowContextRequest) -> Result<Vec<WorkflowContext>, Status> {
        let asked = &request.worker_id;
        needed("worker_id", asked)?;
        let offers = self.0.offers(&canonical_worker(asked)).map_err(|error| status(&error))?;
        Ok(offers.iter().filter_map(|offer| context(offer, asked)).collect())
    }

    /// A version of a workflow's data, and its metadata; before the first one there is nothing, as version 0.
    #[allow(clippy::result_large_err)]
    fn ephemeral(&self, asked: &GetWorkflowDataRequest) -> Result<(GetWorkflowDataResponse, Vec<u8>), Status> {
        let (workflow, _) = self.0.workflow(&asked.workflow_id).map_err(|error| status(&error))?;
        match self.0.ephemeral.get(&uid(&workflow), asked.version) {
            Ok(Some((version, found))) => Ok((GetWorkflowDataResponse { data: found.data, version }, found.metadata)),
            Ok(None) if asked.version == 0 => Ok((GetWorkflowDataResponse::default(), Vec::new())),
            Ok(None) => Err(Status::not_found(format!("there is no version {} of the data", asked.version))),
            Err(error) => Err(Status::unavailable(crate::chain(&error))),
        }
    }
}

/// The next action, in the pairing of index and state that every generation of workers reads the same way.
fn context(offer: &Offer, worker: &str) -> Option<WorkflowContext> {
    let (task, action) = offer.status.actions().nth(offer.next)?;
    let fresh = offer.next == 0 && action.state == State::Pending;
    let state = if action.state == State::Running { WireState::Running } else { WireState::Pending };
    Some(WorkflowContext {
        workflow_id: offer.id.clone(),
        current_worker: worker.to_owned(),
        current_task: task.name.clone(),
        current_action: if fresh { String::new() } else { action.name.clone() },
        current_action_index: i64::try_from(offer.next).ok()?,
        current_action_state: state.into(),
        total_number_of_actions: i64::try_from(offer.status.actions().count()).ok()?,
    })
}

/// Environment: the action's over the task's, sorted. Volumes: the task's, then the action's.
fn wire_action(task: &Task, action: &Action) -> WorkflowAction {
    let mut environment: BTreeMap<&String, &String> = task.environment.iter().collect();
    environment.extend(&action.environment);
    WorkflowAction {
        task_name: task.name.clone(),
        name: action.name.clone(),
        image: action.image.clone(),
        timeout: action.timeout,
        command: action.command.clone(),
        on_timeout: action.on_timeout.clone(),
        on_failure: action.on_failure.clone(),
        worker_id: task.agent_id.clone(),
        volumes: task.volumes.iter().chain(&action.volumes).cloned().collect(),
        environment: environment.into_iter().map(|(key, value)| format!("{key}={value}")).collect(),
        pid: action.pid.clone(),
    }
}
