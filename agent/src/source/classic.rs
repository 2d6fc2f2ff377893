//! The classic workflow service under whichever of its two path prefixes the server has (wire reference §4.1).
//! Calls once; retrying and judging the answers is for the caller.

use std::time::Duration;

use proto::workflow::{
    Empty, WorkflowAction, WorkflowActionList, WorkflowActionStatus, WorkflowActionsRequest, WorkflowContext,
    WorkflowContextRequest,
};
use proto::{CLASSIC_PREFIX, CLASSIC_PREFIX_OLD};
use spec::WorkerId;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::metadata::MetadataValue;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};
use tonic_prost::ProstCodec;

/// A stream that has not ended by then is not going to.
const STREAM: Duration = Duration::from_secs(30);
/// More workflows than any machine has; beyond that the server is not well.
const MOST_CONTEXTS: usize = 1000;

/// A client of the classic service.
#[derive(Debug)]
pub struct Classic {
    grpc: Grpc<Channel>,
    prefix: &'static str,
}

impl Classic {
    /// Begins with the newer prefix.
    pub fn new(channel: Channel) -> Self {
        Self { grpc: Grpc::new(channel), prefix: CLASSIC_PREFIX }
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
        let list: WorkflowActionList = self.unary("GetWorkflowActions", request).await?;
        Ok(list.action_list)
    }

    /// Tells what became of an action.
    pub async fn report(&mut self, status: WorkflowActionStatus) -> Result<(), Status> {
        self.unary("ReportActionStatus", status).await.map(|Empty {}| ())
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

    async fn unary<Q, A>(&mut self, method: &str, request: Q) -> Result<A, Status>
    where
        Q: prost::Message + Clone + 'static,
        A: prost::Message + Default + 'static,
    {
        match self.unary_once(method, request.clone()).await {
            Err(status) if status.code() == Code::Unimplemented => {
                self.try_other_prefix(status, async |it| it.unary_once(method, request).await).await
            }
            answer => answer,
        }
    }

    async fn unary_once<Q, A>(&mut self, method: &str, request: Q) -> Result<A, Status>
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
        Ok(self.grpc.unary(request, path, codec).await?.into_inner())
    }

    /// Keeps the other prefix if the server knows it, else gives back what the first one was answered with.
    async fn try_other_prefix<T>(
        &mut self,
        first: Status,
        call: impl AsyncFnOnce(&mut Self) -> Result<T, Status>,
    ) -> Result<T, Status> {
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
