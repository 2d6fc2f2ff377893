//! Reports of workers -> the store. Reads a workflow, lets `workflow::state` decide, makes the result durable, and only
//! then tells the world. Whoever reports waits for that; two reports at once are put in order by the store's revisions.

use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use spec::activity::What;
use spec::event::Progress;

use crate::activity::ActivityLog;
use crate::apply::decode;
use crate::ephemeral::Ephemeral;
use crate::machines::Machines;
use crate::objects::meta::DEFAULT_NAMESPACE;
use crate::objects::workflow::{Action, State, Task, WorkflowSpec, WorkflowStatus};
use crate::objects::{Key, Kind, Object, ViewError};
use crate::soft::{Due, Place, Soft};
use crate::store::{Change, Store, StoreError};
use crate::workflow::lease::{named, reason_to_end};
use crate::workflow::state::{Applied, News, Refused, Report, advance, apply, cancel, expire};

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
    /// What running actions tell.
    pub soft: Arc<Soft>,
    /// What old workers keep with a workflow.
    pub ephemeral: Arc<Ephemeral>,
}

/// Names what an agent of ours works on.
#[derive(Clone, Debug)]
pub struct Named {
    /// `namespace/name`.
    pub workflow: String,
    /// The task's name, or what the agent has for it.
    pub task: String,
    /// The action's name.
    pub action: String,
    /// Our id of the attempt, if the agent was told.
    pub id: String,
    /// Who asks.
    pub worker: String,
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
        let (object, status) = self.workflow(id)?;
        self.change(id, |status| apply(status, report, Timestamp::now())).await?;
        if let Some((task, action)) = named(&status, &report.task, &report.action, &report.id) {
            let place = Place { uid: uid(&object), task: task.name.clone(), action: action.name.clone() };
            match &report.news {
                News::Running => {}
                News::Detail(failure) => self.soft.ended(&place, Some(&failure.log_tail)),
                News::Succeeded { .. } | News::Failed { .. } | News::TimedOut { .. } => self.soft.ended(&place, None),
            }
        }
        Ok(())
    }

    /// Ends a workflow by an operator's word; when this returns, that is durable. False: it had ended already.
    pub async fn cancel(&self, id: &str, reason: &str) -> Result<bool, EngineError> {
        let (_, status) = self.workflow(id)?;
        self.change(id, |status| Ok(cancel(status, reason, Timestamp::now()))).await?;
        Ok(!status.state.is_final())
    }

    /// What an agent is about to start, with the id that its reports should carry.
    pub fn claim(&self, who: &Named) -> Result<Action, EngineError> {
        let (_, status) = self.workflow(&who.workflow)?;
        let found = named(&status, &who.task, &who.action, &who.id).filter(|(task, _)| task.agent_id == who.worker);
        found.map(|(_, action)| action.clone()).ok_or_else(|| self.no_such_action(who))
    }

    /// Why an agent must end what it does; nothing while it should go on.
    pub fn lease(&self, who: &Named) -> Result<Option<String>, EngineError> {
        let (object, status) = match self.workflow(&who.workflow) {
            Ok(found) => found,
            Err(EngineError::NoSuchWorkflow(_)) => return Ok(Some("the workflow was deleted".to_owned())),
            Err(error) => return Err(error),
        };
        let found = named(&status, &who.task, &who.action, &who.id);
        let reason = reason_to_end(&status, found.map(|(_, action)| action));
        // Anyone can reach this port; only its worker says that an action goes on.
        if let Some((task, action)) = found.filter(|(task, _)| reason.is_none() && task.agent_id == who.worker) {
            self.soft.heard(&Place { uid: uid(&object), task: task.name.clone(), action: action.name.clone() });
        }
        Ok(reason)
    }

    /// Takes how far an action is.
    pub fn progress(&self, who: &Named, progress: Progress) -> Result<(), EngineError> {
        let (place, id) = self.running(who)?;
        let due = Due { workflow: who.workflow.clone(), id, progress: progress.clone() };
        self.soft.progress(&place, due);
        let what = What::Progress { workflow: who.workflow.clone(), action: place.action, progress };
        self.tell(&who.worker, what);
        Ok(())
    }

    /// Takes what an action writes.
    pub fn log(&self, who: &Named, lines: Vec<String>, dropped: u64) -> Result<(), EngineError> {
        let (place, _) = self.running(who)?;
        self.soft.lines(&place, lines, dropped);
        Ok(())
    }

    /// Only what is told of an action that exists, by its worker, is remembered.
    fn running(&self, who: &Named) -> Result<(Place, String), EngineError> {
        let (object, status) = self.workflow(&who.workflow)?;
        let found = named(&status, &who.task, &who.action, &who.id).filter(|(task, _)| task.agent_id == who.worker);
        let (task, action) = found.ok_or_else(|| self.no_such_action(who))?;
        let place = Place { uid: uid(&object), task: task.name.clone(), action: action.name.clone() };
        Ok((place, action.id.clone()))
    }

    fn no_such_action(&self, who: &Named) -> EngineError {
        EngineError::Refused(Refused::NoSuchAction { task: who.task.clone(), action: who.action.clone() })
    }

    /// What was kept beside a workflow goes with it.
    pub fn deleted(&self, object: &Object) {
        let uid = uid(object);
        self.soft.forget(&uid);
        self.ephemeral.forget(&uid);
        let (workflow, state) = (object.key.id(), "DELETED".to_owned());
        let agent = object.value["status"]["agentID"].as_str().unwrap_or_default();
        self.tell(agent, What::Workflow { workflow, state, message: "it was deleted".to_owned() });
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
            self.fold().await;
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

    /// Progress into the statuses.
    async fn fold(&self) {
        for Due { workflow, id, progress } in self.soft.due(Instant::now()) {
            match self.change(&workflow, |status| Ok(advance(status, &id, &progress))).await {
                Ok(()) | Err(EngineError::NoSuchWorkflow(_)) => {}
                Err(error) => tracing::warn!(workflow, error = %crate::chain(&error), "progress is not shown"),
            }
        }
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

/// Of an object; ours all have one.
pub fn uid(object: &Object) -> String {
    object.value["metadata"]["uid"].as_str().unwrap_or_default().to_owned()
}
