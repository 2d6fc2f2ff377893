//! The newer workflow service, as agents of the monorepo speak it (wire reference §4.5). Answers at once instead of
//! holding a question back. A report of an end is never refused: the field's agent would leave for good (§12.5).

use std::collections::BTreeMap;

use proto::agent::workflow_service_server::WorkflowService;
use proto::agent::{ActionRequest, ActionResponse, ActionStatusRequest, ActionStatusResponse, Namespaces, StateType};
use tonic::{Request, Response, Status};

use super::{attributes, needed, status};
use crate::engine::{Engine, EngineError};
use crate::objects::workflow::{Action, Task};
use crate::workflow::canonical_worker;
use crate::workflow::state::{News, Report};

/// The service.
pub struct Newer(pub Engine);

#[tonic::async_trait]
impl WorkflowService for Newer {
    async fn get_action(&self, request: Request<ActionRequest>) -> Result<Response<ActionResponse>, Status> {
        let asked = request.into_inner();
        needed("agent_id", &asked.agent_id)?;
        let worker = canonical_worker(&asked.agent_id);
        let record = self.0.machines.record_by_worker(&worker).filter(|_| !asked.agent_attributes.is_empty());
        if let Some(record) = record {
            self.0.soft.inventory(&record.key.id(), attributes::to_json(&asked.agent_attributes));
        }
        let offers = self.0.offers(&worker).map_err(|error| status(&error))?;
        let offer = offers.into_iter().next();
        let offer =
            offer.ok_or_else(|| Status::not_found(format!("there is no workflow for agent {}", asked.agent_id)))?;
        let next = offer.status.actions().nth(offer.next);
        let (task, action) = next.ok_or_else(|| Status::not_found("the workflow has no further action"))?;
        Ok(Response::new(wire_action(offer.id.clone(), asked.agent_id, task, action)))
    }

    async fn report_action_status(
        &self,
        request: Request<ActionStatusRequest>,
    ) -> Result<Response<ActionStatusResponse>, Status> {
        let told = request.into_inner();
        needed("workflow_id", &told.workflow_id)?;
        needed("task_id", &told.task_id)?;
        needed("action_id", &told.action_id)?;
        let state = told.action_state();
        let message = told.message.unwrap_or_default().message;
        let news = match state {
            StateType::Running => News::Running,
            StateType::Success => News::Succeeded { message },
            StateType::Failed => News::Failed { message },
            StateType::Timeout => News::TimedOut { message },
            StateType::Unspecified | StateType::Pending => {
                return Err(Status::invalid_argument("an action cannot be reported as pending"));
            }
        };
        let worker = canonical_worker(&told.agent_id);
        let report = Report { worker, task: String::new(), action: told.action_name, id: told.action_id, news };
        match self.0.report(&told.workflow_id, &report).await {
            Ok(()) => Ok(Response::new(ActionStatusResponse {})),
            Err(error @ (EngineError::Refused(_) | EngineError::NoSuchWorkflow(_))) if state != StateType::Running => {
                let why = crate::chain(&error);
                tracing::warn!(
                    workflow = told.workflow_id,
                    action = report.id,
                    "the report of an end changes nothing: {why}"
                );
                Ok(Response::new(ActionStatusResponse {}))
            }
            Err(error) => Err(status(&error)),
        }
    }
}

/// Environment: the action's over the task's, sorted. Volumes: the task's, then the action's. A timeout is always there.
fn wire_action(workflow_id: String, agent_id: String, task: &Task, action: &Action) -> ActionResponse {
    let mut environment: BTreeMap<&String, &String> = task.environment.iter().collect();
    environment.extend(&action.environment);
    let namespaces = action.namespaces.clone();
    ActionResponse {
        workflow_id,
        task_id: task.id.clone(),
        agent_id,
        action_id: action.id.clone(),
        name: action.name.clone(),
        image: action.image.clone(),
        timeout: action.timeout,
        command: action.command.clone(),
        volumes: task.volumes.iter().chain(&action.volumes).cloned().collect(),
        environment: environment.into_iter().map(|(key, value)| format!("{key}={value}")).collect(),
        pid: action.pid.clone(),
        namespaces: namespaces.map(|own| Namespaces { network: own.network, pid: own.pid }),
    }
}
