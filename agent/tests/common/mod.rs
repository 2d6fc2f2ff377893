//! A workflow server for tests: the real wire, in this process, on a port of its own, with faults on demand.
//! It keeps workflows as the field's newer classic servers do: the index is the next action, duplicates are refused.

#![allow(dead_code)]

pub mod certificates;

use std::collections::VecDeque;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use proto::ironhook::machine_server::{Machine, MachineServer};
use proto::ironhook::{
    ClaimRequest, ClaimResponse, FailureDetail, FailureDetailResponse, HelloRequest, HelloResponse, Inventory,
    InventoryResponse, LeaseRequest, LeaseResponse, LogLines, LogResponse, Progress, ProgressResponse, Timeline,
    TimelineResponse,
};
use proto::workflow::workflow_service_server::{WorkflowService, WorkflowServiceServer};
use proto::workflow::{
    Empty, GetWorkflowDataRequest, GetWorkflowDataResponse, State, UpdateWorkflowDataRequest, WorkflowAction,
    WorkflowActionList, WorkflowActionStatus, WorkflowActionsRequest, WorkflowContext, WorkflowContextList,
    WorkflowContextRequest,
};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tonic::body::Body;
use tonic::codegen::Service;
use tonic::codegen::http;
use tonic::codegen::tokio_stream::{Iter, iter};
use tonic::server::NamedService;
use tonic::transport::ServerTlsConfig;
use tonic::{Code, Request, Response, Status};

pub const WORKER: &str = "52:54:00:00:00:01";

/// What goes wrong with a report, once.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fault {
    /// Not recorded, and the answer says that the server is not available.
    Unavailable,
    /// Recorded, but the answer is lost.
    AnswerLost,
    /// Not recorded, and never will be.
    Refused(Code),
}

/// Which services there are.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Speaks {
    Classic,
    ClassicOldPrefix,
    Both,
}

#[derive(Clone, Debug)]
pub struct Workflow {
    pub id: String,
    pub actions: Vec<WorkflowAction>,
    pub states: Vec<State>,
}

/// Everything the server has seen.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    pub workflows: Vec<Workflow>,
    pub faults: VecDeque<Fault>,
    /// Names of calls, in order; reports with action and state.
    pub calls: Vec<String>,
    pub reports: Vec<WorkflowActionStatus>,
    pub details: Vec<FailureDetail>,
    pub progress: Vec<Progress>,
    pub timelines: Vec<Timeline>,
    pub inventories: Vec<Inventory>,
    pub log: Vec<String>,
    /// What came with each greeting.
    pub tickets: Vec<String>,
    /// The server's own ids that came with reports.
    pub ids: Vec<String>,
    /// Why leases are to end.
    pub cancelled: Option<String>,
    /// What details are answered with instead of being taken.
    pub details_refused: Option<Code>,
    /// A report came with the agent's own header.
    pub ours: bool,
}

impl Seen {
    /// The terminal state of a workflow's action, and its message.
    pub fn end(&self, workflow: &str) -> Option<&WorkflowActionStatus> {
        self.reports.iter().find(|report| report.workflow_id == workflow && report.action_status() != State::Running)
    }
}

/// Shared by all connections; changes can be waited for.
#[derive(Clone)]
pub struct Server(Arc<watch::Sender<Seen>>, Arc<Mutex<()>>);

/// A server that runs; on a runtime of its own, so that stopping it also cuts its connections.
pub struct Serving {
    pub address: SocketAddr,
    runtime: Option<tokio::runtime::Runtime>,
}

impl Drop for Serving {
    fn drop(&mut self) {
        let runtime = self.runtime.take();
        std::thread::spawn(move || drop(runtime)).join().unwrap();
    }
}

pub fn action(name: &str, image: &str) -> WorkflowAction {
    WorkflowAction {
        task_name: "os".into(),
        name: name.into(),
        image: image.into(),
        timeout: 60,
        worker_id: WORKER.into(),
        ..Default::default()
    }
}

impl Server {
    pub fn new() -> Self {
        Self(Arc::new(watch::channel(Seen::default()).0), Arc::default())
    }

    pub fn add(&self, id: &str, actions: Vec<WorkflowAction>) {
        let states = vec![State::Pending; actions.len()];
        self.0.send_modify(|seen| seen.workflows.push(Workflow { id: id.into(), actions, states }));
    }

    pub fn fail_next(&self, faults: &[Fault]) {
        self.0.send_modify(|seen| seen.faults.extend(faults));
    }

    pub fn cancel(&self, reason: &str) {
        self.0.send_modify(|seen| seen.cancelled = Some(reason.to_owned()));
    }

    pub fn refuse_details(&self, code: Code) {
        self.0.send_modify(|seen| seen.details_refused = Some(code));
    }

    /// As if an earlier life of the worker had begun the workflow's first action.
    pub fn begin(&self, id: &str, actions: Vec<WorkflowAction>) {
        let mut states = vec![State::Pending; actions.len()];
        states[0] = State::Running;
        self.0.send_modify(|seen| seen.workflows.push(Workflow { id: id.into(), actions, states }));
    }

    pub fn seen(&self) -> Seen {
        self.0.borrow().clone()
    }

    /// Waits until something has happened.
    pub async fn wait(&self, what: &str, condition: impl Fn(&Seen) -> bool) -> Seen {
        let mut seen = self.0.subscribe();
        let waited = tokio::time::timeout(Duration::from_secs(90), seen.wait_for(|seen| condition(seen))).await;
        match waited {
            Ok(seen) => seen.unwrap().clone(),
            Err(_) => panic!("{what} has not happened; calls: {:#?}", self.seen().calls),
        }
    }

    /// Serves on this address, 0 for any port, until the answer is stopped.
    pub fn serve(&self, address: &str, speaks: Speaks) -> Serving {
        self.serve_over(address, speaks, None)
    }

    /// The same, over TLS if that is given.
    pub fn serve_over(&self, address: &str, speaks: Speaks, tls: Option<ServerTlsConfig>) -> Serving {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = std::net::TcpListener::bind(address).unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let server = self.clone();
        runtime.spawn(async move {
            let incoming = tonic::transport::server::TcpIncoming::from(TcpListener::from_std(listener).unwrap());
            let mut builder = tonic::transport::Server::builder();
            if let Some(tls) = tls {
                builder = builder.tls_config(tls).unwrap();
            }
            let classic = WorkflowServiceServer::new(server.clone());
            let router = match speaks {
                Speaks::Classic => builder.add_service(classic),
                Speaks::ClassicOldPrefix => builder.add_service(OldPrefix(classic)),
                Speaks::Both => builder.add_service(classic).add_service(MachineServer::new(server)),
            };
            router.serve_with_incoming(incoming).await.unwrap();
        });
        Serving { address, runtime: Some(runtime) }
    }

    fn note(&self, call: impl Into<String>, change: impl FnOnce(&mut Seen)) {
        self.0.send_modify(|seen| {
            seen.calls.push(call.into());
            change(seen);
        });
    }

    fn report(&self, status: WorkflowActionStatus) -> Result<(), Status> {
        let _one_at_a_time = self.1.lock().unwrap();
        let call = format!("{} {}", status.action_name, status.action_status().as_str_name());
        let mut fault = None;
        self.note(call, |seen| fault = seen.faults.pop_front());
        match fault {
            Some(Fault::Unavailable) => return Err(Status::unavailable("the server restarts")),
            Some(Fault::Refused(code)) => return Err(Status::new(code, "as the test wants it")),
            Some(Fault::AnswerLost) | None => {}
        }
        let mut result = Ok(());
        self.0.send_modify(|seen| result = record(seen, status));
        if fault == Some(Fault::AnswerLost) { Err(Status::unavailable("the answer was lost")) } else { result }
    }
}

fn record(seen: &mut Seen, status: WorkflowActionStatus) -> Result<(), Status> {
    let workflow = seen.workflows.iter_mut().find(|workflow| workflow.id == status.workflow_id);
    let workflow = workflow.ok_or_else(|| Status::invalid_argument("invalid workflow id"))?;
    let current = workflow.states.iter().position(|state| *state != State::Success);
    match current {
        Some(i) if workflow.actions[i].name == status.action_name => {
            if matches!(workflow.states[i], State::Failed | State::Timeout) {
                return Err(Status::invalid_argument("the workflow has failed"));
            }
            workflow.states[i] = status.action_status();
        }
        _ => return Err(Status::invalid_argument("reported action name does not match the current action details")),
    }
    seen.reports.push(status);
    Ok(())
}

#[tonic::async_trait]
impl WorkflowService for Server {
    type GetWorkflowContextsStream = Iter<std::vec::IntoIter<Result<WorkflowContext, Status>>>;

    async fn get_workflow_contexts(
        &self,
        request: Request<WorkflowContextRequest>,
    ) -> Result<Response<Self::GetWorkflowContextsStream>, Status> {
        assert_eq!(request.into_inner().worker_id, WORKER);
        self.note("GetWorkflowContexts", |_| {});
        let context = |workflow: &Workflow| {
            let i = workflow.states.iter().position(|state| *state != State::Success)?;
            let live = matches!(workflow.states[i], State::Pending | State::Running);
            live.then(|| WorkflowContext {
                workflow_id: workflow.id.clone(),
                current_worker: workflow.actions[i].worker_id.clone(),
                current_task: workflow.actions[i].task_name.clone(),
                current_action: workflow.actions[i].name.clone(),
                current_action_index: i as i64,
                current_action_state: workflow.states[i].into(),
                total_number_of_actions: workflow.actions.len() as i64,
            })
        };
        let contexts: Vec<_> = self.seen().workflows.iter().filter_map(context).map(Ok).collect();
        Ok(Response::new(iter(contexts)))
    }

    async fn get_workflow_actions(
        &self,
        request: Request<WorkflowActionsRequest>,
    ) -> Result<Response<WorkflowActionList>, Status> {
        self.note("GetWorkflowActions", |_| {});
        let id = request.into_inner().workflow_id;
        let workflow = self.seen().workflows.into_iter().find(|workflow| workflow.id == id);
        let workflow = workflow.ok_or_else(|| Status::invalid_argument("invalid workflow id"))?;
        Ok(Response::new(WorkflowActionList { action_list: workflow.actions }))
    }

    async fn report_action_status(&self, request: Request<WorkflowActionStatus>) -> Result<Response<Empty>, Status> {
        let ours = request.metadata().contains_key(proto::AGENT_HEADER);
        let id = request.metadata().get(proto::ACTION_HEADER).map(|id| id.to_str().unwrap().to_owned());
        self.0.send_modify(|seen| {
            seen.ours |= ours;
            seen.ids.extend(id);
        });
        self.report(request.into_inner()).map(|()| Response::new(Empty {}))
    }

    async fn get_workflow_context_list(
        &self,
        _: Request<WorkflowContextRequest>,
    ) -> Result<Response<WorkflowContextList>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn get_workflow_metadata(
        &self,
        _: Request<GetWorkflowDataRequest>,
    ) -> Result<Response<GetWorkflowDataResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn get_workflow_data_version(
        &self,
        _: Request<GetWorkflowDataRequest>,
    ) -> Result<Response<GetWorkflowDataResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn get_workflow_data(
        &self,
        _: Request<GetWorkflowDataRequest>,
    ) -> Result<Response<GetWorkflowDataResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn update_workflow_data(&self, _: Request<UpdateWorkflowDataRequest>) -> Result<Response<Empty>, Status> {
        Err(Status::unimplemented(""))
    }
}

#[tonic::async_trait]
impl Machine for Server {
    async fn hello(&self, request: Request<HelloRequest>) -> Result<Response<HelloResponse>, Status> {
        self.note("Hello", |seen| seen.tickets.push(request.into_inner().ticket));
        Ok(Response::new(HelloResponse { server_version: "test".into() }))
    }

    async fn claim(&self, request: Request<ClaimRequest>) -> Result<Response<ClaimResponse>, Status> {
        let action = request.into_inner().action.unwrap_or_default();
        self.note("Claim", |_| {});
        let action_id = format!("id of {}/{}", action.workflow_id, action.action_name);
        Ok(Response::new(ClaimResponse { action_id, attempt: 1, ..ClaimResponse::default() }))
    }

    async fn lease(&self, _: Request<LeaseRequest>) -> Result<Response<LeaseResponse>, Status> {
        let mut cancelled = None;
        self.note("Lease", |seen| cancelled = seen.cancelled.clone());
        let reason = cancelled.clone().unwrap_or_default();
        Ok(Response::new(LeaseResponse { renew_ms: 100, cancelled: cancelled.is_some(), reason }))
    }

    async fn report_log(&self, request: Request<LogLines>) -> Result<Response<LogResponse>, Status> {
        self.note("ReportLog", |seen| seen.log.extend(request.into_inner().lines));
        Ok(Response::new(LogResponse {}))
    }

    async fn report_inventory(&self, request: Request<Inventory>) -> Result<Response<InventoryResponse>, Status> {
        self.note("ReportInventory", |seen| seen.inventories.push(request.into_inner()));
        Ok(Response::new(InventoryResponse {}))
    }

    async fn report_progress(&self, request: Request<Progress>) -> Result<Response<ProgressResponse>, Status> {
        self.note("ReportProgress", |seen| seen.progress.push(request.into_inner()));
        Ok(Response::new(ProgressResponse {}))
    }

    async fn report_failure(&self, request: Request<FailureDetail>) -> Result<Response<FailureDetailResponse>, Status> {
        let mut refused = None;
        self.note("ReportFailure", |seen| {
            refused = seen.details_refused;
            seen.details.push(request.into_inner());
        });
        match refused {
            Some(code) => Err(Status::new(code, "as the test wants it")),
            None => Ok(Response::new(FailureDetailResponse {})),
        }
    }

    async fn report_timeline(&self, request: Request<Timeline>) -> Result<Response<TimelineResponse>, Status> {
        self.note("ReportTimeline", |seen| seen.timelines.push(request.into_inner()));
        Ok(Response::new(TimelineResponse {}))
    }
}

/// The classic service as servers of 0.6 to 0.8 have it.
#[derive(Clone)]
struct OldPrefix(WorkflowServiceServer<Server>);

impl NamedService for OldPrefix {
    const NAME: &'static str = "github.com.tinkerbell.tink.protos.workflow.WorkflowService";
}

impl Service<http::Request<Body>> for OldPrefix {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: http::Request<Body>) -> Self::Future {
        let method = request.uri().path().rsplit('/').next().unwrap().to_owned();
        *request.uri_mut() = format!("{}{method}", proto::CLASSIC_PREFIX).parse().unwrap();
        let mut inner = self.0.clone();
        Box::pin(async move { inner.call(request).await })
    }
}
