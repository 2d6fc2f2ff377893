//! What the server tells whoever watches: one JSON object a line, over `GET /apis/ironhook.dev/v1alpha1/activity`.
//! It is for eyes (`ironhook watch`, the demo); what must not be lost is in the objects' `status`.

use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

use crate::event::Progress;
use crate::mac::Mac;
use crate::phase::Phase;

/// Something happened to a machine or a workflow.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Activity {
    /// Milliseconds since 1970.
    pub at_ms: u64,
    /// Which machine, when it is told by its MAC address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<Mac>,
    /// `namespace/name` of its Hardware, when known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine: Option<String>,
    /// What happened.
    #[serde(flatten)]
    pub what: What,
}

/// The kinds of things that happen, in the order of an installation.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum What {
    /// An address was given.
    Dhcp {
        /// The address.
        address: Ipv4Addr,
        /// Who asked: `PXEClient`, `iPXE`, `HTTPClient`, or a plain client's empty text.
        client: String,
    },
    /// Something was asked for and not given.
    Refused {
        /// What was asked for.
        asked: String,
        /// Why it was not given.
        why: String,
    },
    /// A boot script was handed out.
    Script {
        /// `installer` or `disk`.
        boots: String,
    },
    /// A file was sent to its end, or broke off.
    File {
        /// `tftp` or `http`.
        service: String,
        /// Which file.
        path: String,
        /// How much of it was sent.
        bytes: u64,
        /// How much there is.
        total: u64,
        /// How long it took.
        ms: u64,
    },
    /// The machine told of a finished phase of its boot.
    Phase {
        /// The phase.
        phase: Phase,
    },
    /// An action changed its state.
    Action {
        /// `namespace/name`.
        workflow: String,
        /// The task.
        task: String,
        /// The action.
        action: String,
        /// As in the Workflow's status: `RUNNING`, `SUCCESS`, `FAILED`, `TIMEOUT`.
        state: String,
        /// Why, when it failed.
        message: String,
    },
    /// An action told how far it is.
    Progress {
        /// `namespace/name`.
        workflow: String,
        /// The action.
        action: String,
        /// How far.
        progress: Progress,
    },
    /// A workflow changed its state.
    Workflow {
        /// `namespace/name`.
        workflow: String,
        /// As in its status.
        state: String,
        /// Why, when it failed.
        message: String,
    },
}
