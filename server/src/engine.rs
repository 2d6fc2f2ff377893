//! Reports of workers -> the store. Reads a workflow, lets `workflow::state` decide, makes the result durable, and only
//! then tells the world. Whoever reports waits for that; two reports at once are put in order by the store's revisions.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use spec::activity::What;
use spec::event::Progress;

use crate::activity::ActivityLog;
use crate::apply::decode;
use crate::machines::Machines;
use crate::objects::meta::DEFAULT_NAMESPACE;
use crate::objects::workflow::{State, Task, WorkflowSpec, WorkflowStatus};
use crate::objects::{Key, Kind, Object, ViewError};
use crate::store::{Change, Store, StoreError};
use crate::workflow::state::{Applied, Refused, Report, apply, expire};

/// How often global timeouts are looked after.
const TICK: Duration = Duration::from_secs(1);

/// What every part of the server shares.
#[derive(Clone)]
pub struct Engine {
    /// What must not be forgotten.
    pub store: Arc<dyn Store>,
    /// What happens.
    pub activity: Arc<ActivityLog>,
    /// Who is who.
    pub machines: Machines,
}

/// Why a report or a question of a worker was not answered.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// There is none of that name.
    #[error("there is no workflow {0:?}")]
    NoSuchWorkflow(String),
    /// It does not fit.
    #[error("the report is refused: {0}")]
    Refused(#[from] Refused),
    /// The store did not take it.
    #[error("the store failed")]
    Store(#[from] StoreError),
    /// Something stored is not as it should be.
    #[error("the store failed")]
    View(#[from] ViewError),
}

/// A workflow that waits for a worker.
pub struct Offer {
    /// `namespace/name`.
    pub id: String,
    /// Where it stands.
    pub status: WorkflowStatus,
    /// Position over all tasks of the action to run next.
    pub next: usize,
}

impl Engine {
    /// The workflows whose next action is this worker's, as of now.
    pub fn offers(&self, worker: &str) -> Result<Vec<Offer>, EngineError> {
        let mut offers = Vec::new();
        for entry in self.store.list("workflows/")?.entries {
            let object = decode(entry)?;
            let spec: WorkflowSpec = object.spec()?;
            let status: WorkflowStatus = object.status()?;
            let serves = matches!(status.state, State::Pending | State::Running) && !spec.disabled.unwrap_or(false);
            if let Some(next) = status.next().filter(|_| serves)
                && status.actions().nth(next).is_some_and(|(task, _)| task.agent_id == worker)
            {
                offers.push(Offer { id: object.key.id(), status, next });
            }
        }
        Ok(offers)
    }

    /// One workflow as of now.
    pub fn workflow(&self, id: &str) -> Result<(Object, WorkflowStatus), EngineError> {
        let (namespace, name) = id.split_once('/').unwrap_or((DEFAULT_NAMESPACE, id));
        let entry = self.store.get(&Key::new(Kind::Workflow, namespace, name))?;
        let object = decode(entry.ok_or_else(|| EngineError::NoSuchWorkflow(id.to_owned()))?)?;
        let status = object.status()?;
        Ok((object, status))
    }

    /// Takes a report; when this returns, it is durable.
    pub async fn report(&self, id: &str, report: &Report) -> Result<(), EngineError> {
        self.change(id, |status| apply(status, report, Timestamp::now())).await
    }

    /// Passes on how far an action is; nothing of it is kept.
    pub fn progress(&self, id: &str, action: String, worker: &str, progress: Progress) {
        let what = What::Progress { workflow: id.to_owned(), action, progress };
        self.tell(worker, what);
    }

    /// Tells of something that a worker's machine did.
    pub fn tell(&self, worker: &str, what: What) {
        let record = self.machines.record_by_worker(worker);
        let mac = record.as_ref().and_then(|record| record.mac()).or_else(|| worker.parse().ok());
        self.activity.tell(mac, record.map(|record| record.key.id()), what);
    }

    /// Ends workflows whose global time is over, until `shutdown` ends.
    pub async fn run(self, shutdown: impl Future<Output = ()>) {
        let mut tick = tokio::time::interval(TICK);
        tokio::pin!(shutdown);
        loop {
            tokio::select! {
                () = &mut shutdown => return,
                _ = tick.tick() => {}
            }
            if let Err(error) = self.expire().await {
                tracing::error!(error = %crate::chain(&error), "global timeouts are not looked after");
            }
        }
    }

    async fn expire(&self) -> Result<(), EngineError> {
        for entry in self.store.list("workflows/")?.entries {
            let object = decode(entry)?;
            let status: WorkflowStatus = object.status()?;
            if expire(&status, Timestamp::now()) != Applied::Known {
                self.change(&object.key.id(), |status| Ok(expire(status, Timestamp::now()))).await?;
            }
        }
        Ok(())
    }

    async fn change(
        &self,
        id: &str,
        decide: impl Fn(&WorkflowStatus) -> Result<Applied, Refused>,
    ) -> Result<(), EngineError> {
        loop {
            let (mut object, before) = self.workflow(id)?;
            let Applied::Changed(after) = decide(&before)? else { return Ok(()) };
            let key = object.key.clone();
            let broken = |_| StoreError::Record(key.path());
            object.value["status"] = serde_json::to_value(&after).map_err(broken)?;
            if let Some(metadata) = object.value["metadata"].as_object_mut() {
                metadata.remove("resourceVersion");
            }
            let value = serde_json::to_vec(&object.value).map_err(broken)?;
            match self.store.commit(vec![Change::Update(key.clone(), object.revision, value)]).await {
                Ok(_) => {
                    self.tell_change(&key.id(), &before, &after);
                    return Ok(());
                }
                // Somebody was faster: decide again on what is there now.
                Err(StoreError::Conflict { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn tell_change(&self, id: &str, before: &WorkflowStatus, after: &WorkflowStatus) {
        for ((_, was), (task, is)) in
            before.actions().zip(after.actions()).filter(|((_, was), (_, is))| was.state != is.state)
        {
            let message = is.failure.as_ref().map_or_else(String::new, spec::Failure::one_line);
            tracing::info!(workflow = id, task = task.name, action = is.name, from = %was.state, to = %is.state, message, "action");
            self.tell(
                &worker(task),
                What::Action {
                    workflow: id.to_owned(),
                    task: task.name.clone(),
                    action: is.name.clone(),
                    state: is.state.to_string(),
                    message,
                },
            );
        }
        if before.state != after.state {
            let message = after.reason();
            tracing::info!(workflow = id, from = %before.state, to = %after.state, message, "workflow");
            let what = What::Workflow { workflow: id.to_owned(), state: after.state.to_string(), message };
            self.tell(&before.agent_id, what);
        }
    }
}

fn worker(task: &Task) -> String {
    task.agent_id.clone()
}
