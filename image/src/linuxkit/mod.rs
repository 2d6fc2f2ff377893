//! LinuxKit: its YAML, its merge rules, its tree. What stock LinuxKit would make of a file, we make too
//! (except where it loses things silently: those are errors here).

pub mod assemble;
pub mod bundle;
pub mod files;
pub mod ids;
pub mod load;
pub mod merge;
pub mod model;
pub mod runtime_spec;
pub mod stage;
pub mod volumes;
