//! How every error of an action gets its stable code.

use std::error::Error as StdError;

use spec::{Code, Failure};

/// An error that knows its code.
pub trait Coded: StdError + Send + Sync + 'static {
    /// What an operator may match on.
    fn code(&self) -> Code;
}

/// The end of an action that did not succeed.
#[derive(Debug)]
pub struct Failed {
    code: Code,
    error: Box<dyn StdError + Send + Sync>,
}

impl<E: Coded> From<E> for Failed {
    fn from(error: E) -> Self {
        Self { code: error.code(), error: error.into() }
    }
}

impl Failed {
    /// Its code and the error, to be the cause of another one.
    pub fn into_parts(self) -> (Code, Box<dyn StdError + Send + Sync>) {
        (self.code, self.error)
    }

    /// As it is reported.
    pub fn failure(&self) -> Failure {
        Failure::new(self.code, self.error.to_string()).with_causes_of(&*self.error)
    }
}
