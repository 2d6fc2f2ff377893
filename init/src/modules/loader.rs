//! Getting modules into the kernel: each once, its needs first, several threads at a time. It owns what is loaded;
//! which modules to ask for is decided elsewhere.

use std::collections::HashMap;
use std::sync::{Condvar, Mutex, PoisonError};

use sys::module::ModuleError;

use super::index::{Index, Module};
use super::options::Options;

/// Softdeps of softdeps of softdeps: a ring of them has to end.
const DEPTH: u8 = 8;

/// Loads modules of one index.
pub struct Loader {
    index: Index,
    options: Options,
    known: Mutex<HashMap<String, State>>,
    changed: Condvar,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Loading,
    Loaded,
    Failed,
}

impl Loader {
    /// Nothing is loaded yet; what the kernel has already is found out when it says so.
    pub fn new(index: Index, options: Options) -> Self {
        Self { index, options, known: Mutex::default(), changed: Condvar::new() }
    }

    /// Whether a name or alias means anything here.
    pub fn knows(&self, name: &str) -> bool {
        self.index.is_built_in(name) || !self.index.resolve(name).is_empty()
    }

    /// Loads all that a name or alias stands for; the failures are returned, the rest is loaded.
    pub fn load(&self, name: &str) -> Vec<ModuleError> {
        self.load_at(name, 0)
    }

    /// As [`Loader::load`], for a device: what the operator refuses is left out.
    pub fn load_for_device(&self, modalias: &str) -> Vec<ModuleError> {
        let wanted = self.index.resolve(modalias).into_iter().filter(|module| !self.options.refuses(&module.name));
        wanted.filter_map(|module| self.with_needs(module, 0).err()).collect()
    }

    /// How many modules have been loaded.
    pub fn count(&self) -> usize {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.values().filter(|state| **state == State::Loaded).count()
    }

    fn load_at(&self, name: &str, depth: u8) -> Vec<ModuleError> {
        self.index.resolve(name).into_iter().filter_map(|module| self.with_needs(module, depth).err()).collect()
    }

    fn with_needs(&self, module: &Module, depth: u8) -> Result<(), ModuleError> {
        let needs = module.needs.iter().filter_map(|file| self.index.by_file(file));
        for need in needs.chain([module]) {
            if depth < DEPTH {
                for name in self.index.before(need) {
                    // Soft: a module does without what cannot be loaded.
                    let _ = self.load_at(name, depth + 1);
                }
            }
            self.once(need)?;
        }
        Ok(())
    }

    /// Loads one module, or waits for the thread that does. A failure is told to the first who asks only.
    fn once(&self, module: &Module) -> Result<(), ModuleError> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            match known.get(&module.name) {
                None => break,
                Some(State::Loading) => known = self.changed.wait(known).unwrap_or_else(PoisonError::into_inner),
                Some(_) => return Ok(()),
            }
        }
        known.insert(module.name.clone(), State::Loading);
        drop(known);
        let result = sys::module::load(&self.index.path(module), self.options.parameters(&module.name));
        let state = if result.is_ok() { State::Loaded } else { State::Failed };
        self.known.lock().unwrap_or_else(PoisonError::into_inner).insert(module.name.clone(), state);
        self.changed.notify_all();
        result
    }
}
