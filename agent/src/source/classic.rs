//! The classic workflow service under whichever of its two path prefixes the server has (wire reference §4.1).
//! Calls once; retrying and judging the answers is for the caller.

use std::time::Duration;

use proto::workflow::{
    Empty, GetWorkflowDataRequest, GetWorkflowDataResponse, UpdateWorkflowDataRequest, WorkflowAction,
    WorkflowActionList, WorkflowActionStatus, WorkflowActionsRequest, WorkflowContext, WorkflowContextRequest,
};
use proto::{CLASSIC_PREFIX, CLASSIC_PREFIX_OLD};
use spec::WorkerId;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::metadata::MetadataValue;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};
use tonic_prost::ProstCodec;

use crate::config::Protocol;

/// A stream that has not ended by then is not going to.
const STREAM: Duration = Duration::from_secs(30);
/// More workflows than any machine has; beyond that the server is not well.
const MOST_CONTEXTS: usize = 1000;

/// A client of the classic service.
#[derive(Debug)]
pub struct Classic {
    grpc: Grpc<Channel>,
    prefix: &'static str,
    /// The other prefix is not to be tried.
    fixed: bool,
}

impl Classic {
    /// Begins with the newer prefix, unless the configuration names the older one.
    pub fn new(channel: Channel, protocol: Protocol) -> Self {
        let prefix = if protocol == Protocol::ClassicOld { CLASSIC_PREFIX_OLD } else { CLASSIC_PREFIX };
        Self { grpc: Grpc::new(channel), prefix, fixed: protocol == Protocol::ClassicOld }
    }

    /// Whether the server is of 0.6 to 0.8.
    pub fn is_old(&self) -> bool {
        self.prefix == CLASSIC_PREFIX_OLD
    }

    /// What the workflow's actions so far have left for the next.
    pub async fn data(&mut self, workflow_id: &str) -> Result<Vec<u8>, Status> {
        let request = GetWorkflowDataRequest { workflow_id: workflow_id.to_owned(), version: 0 };
        let answer: GetWorkflowDataResponse = self.unary("GetWorkflowData", request, "").await?;
        Ok(answer.data)
    }

    /// Leaves something for the next action.
    pub async fn update_data(&mut self, update: UpdateWorkflowDataRequest) -> Result<(), Status> {
        self.unary("UpdateWorkflowData", update, "").await.map(|Empty {}| ())
    }

    /// All workflows that concern a worker.
    pub async fn contexts(&mut self, worker: &WorkerId) -> Result<Vec<WorkflowContext>, Status> {
        let request = WorkflowContextRequest { worker_id: worker.to_string() };
        let collected = async {
            match self.stream_contexts(request.clone()).await {
                Err(status) if status.code() == Code::Unimplemented => {
                    self.try_other_prefix(status, async |it| it.stream_contexts(request).await).await
                }
                answer => answer,
            }
        };
        tokio::time::timeout(STREAM, collected)
            .await
            .unwrap_or_else(|_| Err(Status::deadline_exceeded(format!("the stream did not end within {STREAM:?}"))))
    }

    /// All actions of a workflow, in order.
    pub async fn actions(&mut self, workflow_id: &str) -> Result<Vec<WorkflowAction>, Status> {
        let request = WorkflowActionsRequest { workflow_id: workflow_id.to_owned() };
        let list: WorkflowActionList = self.unary("GetWorkflowActions", request, "").await?;
        Ok(list.action_list)
    }

    /// Tells what became of an action; `id` is the server's own of the attempt, empty if it never told one.
    pub async fn report(&mut self, status: WorkflowActionStatus, id: &str) -> Result<(), Status> {
        self.unary("ReportActionStatus", status, id).await.map(|Empty {}| ())
    }

    async fn stream_contexts(&mut self, request: WorkflowContextRequest) -> Result<Vec<WorkflowContext>, Status> {
        self.ready().await?;
        let path = self.path("GetWorkflowContexts")?;
        let codec: ProstCodec<WorkflowContextRequest, WorkflowContext> = ProstCodec::default();
        let mut stream = self.grpc.server_streaming(Request::new(request), path, codec).await?.into_inner();
        let mut contexts = Vec::new();
        while let Some(context) = stream.message().await? {
            if contexts.len() == MOST_CONTEXTS {
                return Err(Status::out_of_range(format!("more than {MOST_CONTEXTS} workflows for one worker")));
            }
            contexts.push(context);
        }
        Ok(contexts)
    }

    async fn unary<Q, A>(&mut self, method: &str, request: Q, id: &str) -> Result<A, Status>
    where
        Q: prost::Message + Clone + 'static,
        A: prost::Message + Default + 'static,
    {
        match self.unary_once(method, request.clone(), id).await {
            Err(status) if status.code() == Code::Unimplemented => {
                self.try_other_prefix(status, async |it| it.unary_once(method, request, id).await).await
            }
            answer => answer,
        }
    }

    async fn unary_once<Q, A>(&mut self, method: &str, request: Q, id: &str) -> Result<A, Status>
    where
        Q: prost::Message + 'static,
        A: prost::Message + Default + 'static,
    {
        self.ready().await?;
        let path = self.path(method)?;
        let codec: ProstCodec<Q, A> = ProstCodec::default();
        let mut request = Request::new(request);
        let version = MetadataValue::from_static(env!("CARGO_PKG_VERSION"));
        request.metadata_mut().insert(proto::AGENT_HEADER, version);
        // An id that no header can carry is none of ours.
        if let Some(id) = MetadataValue::try_from(id).ok().filter(|_| !id.is_empty()) {
            request.metadata_mut().insert(proto::ACTION_HEADER, id);
        }
        Ok(self.grpc.unary(request, path, codec).await?.into_inner())
    }

    /// Keeps the other prefix if the server knows it, else gives back what the first one was answered with.
    async fn try_other_prefix<T>(
        &mut self,
        first: Status,
        call: impl AsyncFnOnce(&mut Self) -> Result<T, Status>,
    ) -> Result<T, Status> {
        if self.fixed {
            return Err(first);
        }
        let before = self.prefix;
        self.prefix = if before == CLASSIC_PREFIX { CLASSIC_PREFIX_OLD } else { CLASSIC_PREFIX };
        match call(self).await {
            Err(status) if status.code() == Code::Unimplemented => {
                self.prefix = before;
                Err(first)
            }
            answer => answer,
        }
    }

    async fn ready(&mut self) -> Result<(), Status> {
        self.grpc.ready().await.map_err(|error| Status::from_error(Box::new(error)))
    }

    fn path(&self, method: &str) -> Result<PathAndQuery, Status> {
        PathAndQuery::try_from(format!("{}{method}", self.prefix)).map_err(|error| Status::internal(error.to_string()))
    }
}
