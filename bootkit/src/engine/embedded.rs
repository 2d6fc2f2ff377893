//! What the site bundle or the image brings for the engine: images that are there without a registry, before a worker.
//! One that cannot be loaded is told and reported, and keeps nobody from working.

use std::fs;
use std::path::PathBuf;

use spec::boot::BootCode;
use spec::paths::{BUILTIN_IMAGES, IMAGES_READY, SITE_IMAGES};
use sys::clock;

use crate::chain;
use crate::console::{phase, say};
use crate::docker::Docker;
use crate::docker::load::{Embedded, layout};
use crate::failure;

const STEP: &str = "images";

/// What brings images, the initramfs itself and the site, as far as they do.
pub fn layouts() -> Vec<PathBuf> {
    fetch::layouts(&[BUILTIN_IMAGES, SITE_IMAGES])
}

/// For a message.
pub fn named(layouts: &[PathBuf]) -> String {
    layouts.iter().map(|layout| layout.display().to_string()).collect::<Vec<_>>().join(", ")
}

/// Loads all of them and says that it is done.
pub fn load(docker: &Docker) {
    let started = clock::boot_ms();
    let found: Result<Vec<_>, _> = layouts().iter().map(|dir| layout(dir)).collect();
    match found {
        Ok(images) => load_all(docker, &images.into_iter().flatten().collect::<Vec<_>>(), started),
        Err(error) => failure::tell(STEP, BootCode::ImageLoad, &chain(&error)),
    }
    if let Err(error) = fs::write(IMAGES_READY, "") {
        say(format_args!("engine: cannot write {IMAGES_READY}: {error}"));
    }
}

fn load_all(docker: &Docker, images: &[Embedded], started: u64) {
    let (mut loaded, mut failed) = (0, 0);
    for image in images {
        let (need, free) = (image.size().saturating_mul(2), available());
        if free.is_some_and(|free| free < need) {
            let free = free.unwrap_or_default() >> 20;
            let message = format!("image {} needs about {} MiB, {free} MiB are free", image.name, need >> 20);
            failure::tell(STEP, BootCode::Memory, &message);
            failed += 1;
            continue;
        }
        match docker.load(image) {
            Ok(true) => loaded += 1,
            Ok(false) => {}
            Err(error) => {
                failure::tell(STEP, BootCode::ImageLoad, &chain(&error));
                failed += 1;
            }
        }
    }
    if failed == 0 {
        failure::forget(STEP);
    }
    if loaded > 0 {
        phase(STEP, started, format_args!("{loaded} images of {} are in the engine", named(&layouts())));
    }
}

/// Bytes that can be used without swapping; none if the kernel does not say.
pub fn available() -> Option<u64> {
    parse(&fs::read_to_string("/proc/meminfo").ok()?)
}

fn parse(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn free_memory_is_what_the_kernel_says() {
        assert_eq!(parse("MemTotal: 10 kB\nMemAvailable:    2048 kB\n"), Some(2 << 20));
        assert_eq!(parse("MemTotal: 10 kB\n"), None);
        assert_eq!(parse("MemAvailable: lots\n"), None);
    }
}
