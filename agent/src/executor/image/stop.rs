//! Ending what blocks on another thread: a word that is read at every byte, and is given when nobody waits any more.

use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Whether to go on, for whoever works.
#[derive(Clone, Debug, Default)]
pub struct Stop(Arc<AtomicBool>);

/// For whoever waits: dropped, it stops the work.
#[derive(Debug, Default)]
pub struct Stopper(Stop);

impl Stopper {
    /// For the other side.
    pub fn stop(&self) -> Stop {
        self.0.clone()
    }
}

impl Drop for Stopper {
    fn drop(&mut self) {
        self.0.0.store(true, Ordering::Relaxed);
    }
}

/// A stream that ends with an error when it is stopped, and tells how much of it was read.
pub struct Watched<R, T> {
    inner: R,
    stop: Stop,
    tell: T,
    read: u64,
}

impl<R: Read, T: FnMut(u64)> Watched<R, T> {
    /// Around `inner`; says at once that nothing was read.
    pub fn new(inner: R, stop: Stop, mut tell: T) -> Self {
        tell(0);
        Self { inner, stop, tell, read: 0 }
    }
}

impl<R: Read, T: FnMut(u64)> Read for Watched<R, T> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.stop.0.load(Ordering::Relaxed) {
            return Err(io::Error::other("it was stopped"));
        }
        let n = self.inner.read(buffer)?;
        self.read += n as u64;
        (self.tell)(self.read);
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_read_until_nobody_waits() {
        let stopper = Stopper::default();
        let mut said = Vec::new();
        let mut reader = Watched::new(io::repeat(1), stopper.stop(), |read| said.push(read));
        assert_eq!(reader.read(&mut [0; 8]).unwrap(), 8);
        drop(stopper);
        assert_eq!(reader.read(&mut [0; 8]).unwrap_err().to_string(), "it was stopped");
        drop(reader);
        assert_eq!(said, [0, 8]);
    }
}
