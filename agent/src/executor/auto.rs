//! Which executor an action gets when the operator has not named one: crun for our own actions that this machine has
//! itself, the engine for everything else. A stock action becomes ours only when the operator said so.

use proto::convert::Attempt;
use spec::Failure;

use crate::config::Config;
use crate::executor::Executor;
use crate::executor::crun::{self, Crun};
use crate::executor::docker::Docker;
use crate::job::{Container, Finish, Job};
use crate::progress::Reporter;

/// Where our own actions' names begin.
const OURS: [&str; 2] = ["ironhook/", "docker.io/ironhook/"];
/// Stock actions by the last word of their image's path, and which of ours takes the same environment.
const STOCK: [(&str, &str); 7] = [
    ("image2disk", "image-write"),
    ("oci2disk", "image-write"),
    ("qemuimg2disk", "image-write"),
    ("archive2disk", "archive-extract"),
    ("writefile", "file-write"),
    ("rootio", "disk-partition"),
    ("kexec", "boot"),
];

/// Both executors, and the rule.
#[derive(Debug)]
pub struct Auto {
    docker: Docker,
    crun: Crun,
    builtin: bool,
}

impl Auto {
    /// Connects to nothing yet.
    pub fn new(config: &Config) -> Self {
        Self { docker: Docker::new(config), crun: Crun::new(config), builtin: config.builtin_actions }
    }

    /// The job as crun is to run it, if it is to.
    fn for_crun(&self, job: &Job) -> Option<Job> {
        let image = &job.action.image;
        if OURS.iter().any(|prefix| image.starts_with(prefix)) {
            return self.crun.has(image).then(|| job.clone());
        }
        let ours = stock(image).filter(|_| self.builtin).map(|name| format!("docker.io/ironhook/{name}:latest"))?;
        self.crun.has(&ours).then(|| {
            tracing::info!(image, ours, "this machine's own action does its work (ironhook.actions=builtin)");
            let mut job = job.clone();
            job.action.image = ours;
            job
        })
    }
}

/// Ours that does the work of a stock action.
fn stock(image: &str) -> Option<&'static str> {
    let path = image.split('@').next()?;
    let last = path.rsplit('/').next()?.split(':').next()?;
    STOCK.iter().find(|(name, _)| *name == last).map(|(_, ours)| *ours)
}

impl Executor for Auto {
    async fn prepare(&self, job: &Job, resumed: bool, progress: &Reporter) -> Result<String, Failure> {
        match self.for_crun(job) {
            Some(job) => self.crun.prepare(&job, resumed, progress).await,
            None => self.docker.prepare(job, resumed, progress).await,
        }
    }

    async fn run(&self, job: &Job, container: &Container, progress: &Reporter) -> Finish {
        if container.id.starts_with(crun::PREFIX) {
            return self.crun.run(job, container, progress).await;
        }
        self.docker.run(job, container, progress).await
    }

    async fn remove(&self, attempt: &Attempt) {
        if self.crun.knows(attempt) {
            return self.crun.remove(attempt).await;
        }
        self.docker.remove(attempt).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stock_action_is_known_by_the_end_of_its_path() {
        assert_eq!(stock("quay.io/tinkerbell/actions/image2disk:v1.0.0"), Some("image-write"));
        assert_eq!(stock("quay.io/tinkerbell-actions/writefile@sha256:00"), Some("file-write"));
        assert_eq!(stock("10.0.0.1:5000/rootio"), Some("disk-partition"));
        assert_eq!((stock("alpine"), stock("x/image2disk/other")), (None, None));
    }
}
