//! What the actions share about disks: finding and refusing, the typestates of a disk being written, its GPT.

pub mod aligned;
pub mod blank;
pub mod consent;
pub mod convert;
pub mod find;
pub mod fit;
pub mod gpt;
pub mod grow;
pub mod held;
pub mod layout;
pub mod mounted;
pub mod nodes;
pub mod preserve;
pub mod sink;
pub mod stream;
pub mod superblock;
pub mod target;
pub mod teardown;
pub mod upto;
pub mod wanted;
