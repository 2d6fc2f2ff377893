//! How an action ended, with a stable code for every way it can fail.
//! Codes are an interface: operators match on them, so they are only ever added.

use serde::{Deserialize, Serialize};

macro_rules! codes {
    ($(#[doc = $doc:literal] $name:ident = $text:literal,)*) => {
        /// Why something failed, for machines.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        pub enum Code { $(#[doc = $doc] $name,)* }

        impl Code {
            /// Every code there is, in the order of the manual.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The text that travels.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }

            /// What the code means, for the manual.
            pub const fn doc(self) -> &'static str {
                match self { $(Self::$name => $doc.trim_ascii(),)* }
            }
        }
    };
}

codes! {
    /// An input of the action is missing, unknown or malformed; nothing was touched.
    BadInput = "bad_input",
    /// No disk matches, or more than one does.
    DiskNotFound = "disk_not_found",
    /// The disk is mounted, held by something, or the medium we run from.
    DiskBusy = "disk_busy",
    /// The disk is smaller than what has to go onto it.
    DiskTooSmall = "disk_too_small",
    /// Reading from or writing to the disk failed.
    DiskIo = "disk_io",
    /// The partition table cannot be read or cannot take what was asked.
    PartitionTable = "partition_table",
    /// The file system cannot be mounted.
    Mount = "mount",
    /// Reading or writing a file on the target failed.
    FileIo = "file_io",
    /// The server of the file could not be reached or refused.
    Fetch = "fetch",
    /// The transfer ended before the announced length.
    Truncated = "truncated",
    /// The bytes do not have the digest that was asked for.
    DigestMismatch = "digest_mismatch",
    /// The compressed stream is damaged or of an unknown kind.
    Decode = "decode",
    /// What was read back differs from what was written.
    VerifyMismatch = "verify_mismatch",
    /// The machine could not be handed over.
    Handover = "handover",
    /// The image of the action does not exist or may not be pulled.
    ImageNotFound = "image_not_found",
    /// The image of the action could not be pulled.
    ImagePull = "image_pull",
    /// A volume of the action cannot be mounted into its container.
    BadMount = "bad_mount",
    /// There is no room left where the action or its image is written.
    NoSpace = "no_space",
    /// There is less memory than the image or the action needs; nothing was started.
    InsufficientMemory = "insufficient_memory",
    /// The container could not be created or started.
    Start = "start",
    /// The action ended with an exit status other than zero and gave no reason itself.
    ExitStatus = "exit_status",
    /// The action was ended by a signal.
    Signal = "signal",
    /// The action was ended by the kernel for want of memory.
    OutOfMemory = "out_of_memory",
    /// The action took longer than its timeout.
    Timeout = "timeout",
    /// An operator has ended the workflow.
    Cancelled = "cancelled",
    /// The container vanished before its exit status was known.
    Lost = "lost",
    /// The container engine does not answer.
    Engine = "engine",
    /// A worker that gives no reason said only that it failed.
    Unknown = "unknown",
}

impl std::fmt::Display for Code {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why an action failed. Codes of newer peers stay readable, so the code travels as text.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Failure {
    /// A [`Code`], or the code of a newer peer.
    pub code: String,
    /// One line for a person.
    pub message: String,
    /// The chain of causes, outermost first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub causes: Vec<String>,
    /// Absent when the action was ended by a signal or never started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_status: Option<i32>,
    /// The last lines of the action's log.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub log_tail: String,
}

impl Failure {
    /// A failure with a code and a sentence, nothing else known yet.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code: code.as_str().to_owned(), message: message.into(), ..Self::default() }
    }

    /// Adds the causes of an error, outermost first.
    #[must_use]
    pub fn with_causes_of(mut self, error: &dyn std::error::Error) -> Self {
        let mut next = error.source();
        while let Some(cause) = next {
            self.causes.push(cause.to_string());
            next = cause.source();
        }
        self
    }

    /// The classic protocol's single line: code, message and causes.
    pub fn one_line(&self) -> String {
        let mut line = format!("{}: {}", self.code, self.message);
        for cause in &self.causes {
            line.push_str(": ");
            line.push_str(cause);
        }
        line.replace(['\n', '\r'], " ")
    }
}

/// How an action ended.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "camelCase")]
pub enum Outcome {
    /// Exit status zero.
    Succeeded,
    /// Anything else, with its reason.
    Failed(Failure),
    /// Ended by us after its time.
    TimedOut(Failure),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_distinct_and_explained() {
        let mut seen = std::collections::HashSet::new();
        for code in Code::ALL {
            assert!(seen.insert(code.as_str()), "{code} twice");
            assert!(code.doc().ends_with('.'), "{code} has no sentence");
        }
    }

    #[test]
    fn one_line_has_the_whole_chain_and_no_line_end() {
        let mut failure = Failure::new(Code::Truncated, "download ended\nearly");
        failure.causes.push("connection reset".into());
        assert_eq!(failure.one_line(), "truncated: download ended early: connection reset");
    }
}
