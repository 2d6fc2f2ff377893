//! Which package versions the components are made of: locked anew when a person asks for it, or, loudly, when the mirror
//! no longer has what is locked.

use std::path::{Path, PathBuf};

use anyhow::Context as _;

use crate::cli::Sources;
use crate::component::{self, Component, Workshop};
use crate::debs;
use crate::debs::lock::Lock;
use crate::debs::store::Store;

/// Locks every package of the components at what the mirror has now.
pub fn relock(cache: &Path, path: &Path, folders: &[PathBuf]) -> anyhow::Result<()> {
    let components = component::read_all(folders)?;
    let mut asked: Vec<String> =
        components.iter().flat_map(|component| component.description.packages.clone()).collect();
    asked.sort();
    asked.dedup();
    let before = Lock::read(path).unwrap_or_default();
    let lock = Lock::new(path, debs::apt::resolve(&cache.join("apt"), &asked)?);
    for (old, new) in lock.since(&before) {
        match old {
            Some(old) => println!("{}: {} -> {}", new.name, old.version, new.version),
            None => println!("{}: {}", new.name, new.version),
        }
    }
    Ok(lock.write()?)
}

/// Locks all that is locked at what the mirror has now, and says so: what ships has to be on record.
fn relock_gone(cache: &Path, path: &Path, before: &Lock) -> anyhow::Result<Lock> {
    let lock = Lock::new(path, debs::apt::resolve(&cache.join("apt"), &before.asked())?);
    if lock == *before {
        return Ok(lock);
    }
    lock.write()?;
    for (old, new) in lock.since(before) {
        eprintln!("relocked: {} {} -> {}", new.name, old.map_or("", |old| &old.version), new.version);
    }
    eprintln!("relocked: {} has changed and has to be committed before `make dist`", path.display());
    Ok(lock)
}

/// Runs a pass over the components. When a locked package is gone from the mirror, once more from the start with a
/// new lock, so that all are made of the same one.
fn obey(
    lock: &Lock,
    mut pass: impl FnMut(&Lock) -> anyhow::Result<()>,
    relock: impl FnOnce(&Lock) -> anyhow::Result<Lock>,
) -> anyhow::Result<()> {
    let gone = |error: &anyhow::Error| error.downcast_ref().is_some_and(component::Error::is_gone);
    match pass(lock) {
        Err(error) if gone(&error) => {
            eprintln!("relocked: {error:#}; locking what it has now");
            let lock = relock(lock).with_context(|| format!("{error:#}, and nothing newer can be locked"))?;
            pass(&lock).map_err(|error| match gone(&error) {
                true => {
                    error.context("the mirror lacks what its own index names; try again later or set another mirror")
                }
                false => error,
            })
        }
        done => done,
    }
}

/// Runs `visit` for all components, with a lock that the mirror still has.
pub fn with_components(
    cache: &Path,
    sources: &Sources,
    mut visit: impl FnMut(&Component, &Workshop) -> Result<(), component::Error>,
) -> anyhow::Result<()> {
    let lock = Lock::read(&sources.lock)?;
    let store = Store::new(&cache.join("debs"));
    let layout = cache.join("oci");
    let programs = &sources.programs;
    let components = component::read_all(&sources.folders)?;
    let pass = |lock: &Lock| {
        let workshop = Workshop { programs, lock, store: &store, layout: &layout, architecture: crate::ARCHITECTURE.0 };
        for component in &components {
            visit(component, &workshop).with_context(|| format!("component {}", component.name))?;
        }
        anyhow::Ok(())
    };
    obey(&lock, pass, |before| relock_gone(cache, &sources.lock, before))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gone() -> anyhow::Error {
        let (name, version, url) = ("crun".to_owned(), "1.0".to_owned(), "http://mirror/crun.deb".to_owned());
        let error = component::Error::from(debs::store::Error::Gone { name, version, url });
        Err::<(), _>(error).context("component init").unwrap_err()
    }

    fn new_lock() -> Lock {
        Lock::new(Path::new("new.lock"), Default::default())
    }

    #[test]
    fn a_gone_package_is_relocked_and_the_pass_runs_again_with_the_new_lock() {
        let mut passes = Vec::new();
        let pass = |lock: &Lock| {
            passes.push(lock.clone());
            if passes.len() == 1 { Err(gone()) } else { Ok(()) }
        };
        obey(&Lock::default(), pass, |_| Ok(new_lock())).unwrap();
        assert_eq!(passes, [Lock::default(), new_lock()]);
    }

    #[test]
    fn a_second_gone_is_the_error_and_another_error_relocks_nothing() {
        let mut relocked = 0;
        let mut relock = |_: &Lock| {
            relocked += 1;
            Ok(new_lock())
        };
        let error = obey(&Lock::default(), |_| Err(gone()), &mut relock).unwrap_err();
        let error = format!("{error:#}");
        assert!(error.contains("its own index names") && error.contains("component init: crun 1.0 is gone"), "{error}");
        let error = obey(&Lock::default(), |_| Err(anyhow::anyhow!("disk full")), &mut relock).unwrap_err();
        assert_eq!((error.to_string().as_str(), relocked), ("disk full", 1));
    }
}
