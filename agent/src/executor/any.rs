//! The executor that the configuration names, as one type. The list of them all is in the module above: a new executor
//! is its file and one line there.

/// Makes the type out of the list.
macro_rules! executors {
    ($($(#[$attribute:meta])* $variant:ident($kind:ty) = $name:literal,)*) => {
        /// One of all executors. There is one of it, so that its size does not matter.
        #[allow(clippy::large_enum_variant)]
        #[derive(Debug)]
        pub enum Any { $($(#[$attribute])* #[allow(missing_docs)] $variant($kind),)* }

        impl Any {
            /// What `--executor` can name.
            pub const NAMES: &'static [&'static str] = &[$($(#[$attribute])* $name,)*];

            /// The one of this name.
            pub fn new(name: &str, config: &crate::config::Config) -> Option<Self> {
                match name {
                    $($(#[$attribute])* $name => Some(Self::$variant(<$kind>::new(config))),)*
                    _ => None,
                }
            }
        }

        impl Executor for Any {
            async fn prepare(&self, job: &Job, resumed: bool, progress: &Reporter) -> Result<String, Failure> {
                match self { $($(#[$attribute])* Self::$variant(it) => it.prepare(job, resumed, progress).await,)* }
            }

            async fn run(&self, job: &Job, container: &Container, progress: &Reporter) -> Finish {
                match self { $($(#[$attribute])* Self::$variant(it) => it.run(job, container, progress).await,)* }
            }

            async fn remove(&self, attempt: &Attempt) {
                match self { $($(#[$attribute])* Self::$variant(it) => it.remove(attempt).await,)* }
            }
        }
    };
}

pub(super) use executors;
