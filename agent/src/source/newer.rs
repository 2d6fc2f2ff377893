//! The newer workflow service (wire reference §4.5). Calls once; retrying and judging the answers is for the caller.

use proto::agent::{ActionRequest, ActionResponse, ActionStatusRequest, ActionStatusResponse};
use spec::WorkerId;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::metadata::MetadataValue;
use tonic::transport::Channel;
use tonic::{Request, Status};
use tonic_prost::ProstCodec;

/// A client of the newer service.
#[derive(Debug)]
pub struct Newer {
    /// Waits as long as servers hold an answer back.
    patient: Grpc<Channel>,
    quick: Grpc<Channel>,
}

impl Newer {
    /// Over two channels: one for what is answered late by intent, one for the rest.
    pub fn new(patient: Channel, quick: Channel) -> Self {
        Self { patient: Grpc::new(patient), quick: Grpc::new(quick) }
    }

    /// The action to run next. What the machine is goes along every time, as the field's agent does it.
    pub async fn action(&mut self, worker: &WorkerId, attributes: &[u8]) -> Result<ActionResponse, Status> {
        let request = ActionRequest { agent_id: worker.to_string(), agent_attributes: attributes.to_vec() };
        call(&mut self.patient, "GetAction", Request::new(request)).await
    }

    /// Tells what became of an action.
    pub async fn report(&mut self, status: ActionStatusRequest) -> Result<(), Status> {
        let mut request = Request::new(status);
        let version = MetadataValue::from_static(env!("CARGO_PKG_VERSION"));
        request.metadata_mut().insert(proto::AGENT_HEADER, version);
        call(&mut self.quick, "ReportActionStatus", request).await.map(|ActionStatusResponse {}| ())
    }
}

async fn call<Q, A>(grpc: &mut Grpc<Channel>, method: &str, request: Request<Q>) -> Result<A, Status>
where
    Q: prost::Message + 'static,
    A: prost::Message + Default + 'static,
{
    grpc.ready().await.map_err(|error| Status::from_error(Box::new(error)))?;
    let path = format!("{}{method}", proto::CLASSIC_PREFIX);
    let path = PathAndQuery::try_from(path).map_err(|error| Status::internal(error.to_string()))?;
    let codec: ProstCodec<Q, A> = ProstCodec::default();
    Ok(grpc.unary(request, path, codec).await?.into_inner())
}
