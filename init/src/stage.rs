//! Stage two: the layer that holds the files of components which can wait. Found in a second initramfs, or put in
//! place by `bootkit stage2`; proven by its digest, mounted once, and whoever waits for it is told.
//! It fetches nothing.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use sha2::{Digest, Sha256};
use spec::paths::TIMELINE;
use spec::stage::{self, Layer};
use sys::loopdev::Loop;
use sys::mounts::{Flags, Mount, MountsError};

use crate::console::Console;
use crate::one_line;
use crate::timeline::Timeline;

const CHUNK: usize = 128 << 10;

/// The layer cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StageError {
    /// The description in the image.
    #[error("read {}", stage::FILE)]
    Read(#[source] io::Error),
    /// Its content.
    #[error(transparent)]
    Layer(#[from] stage::Error),
    /// The place where it comes to.
    #[error("make {}", path.display())]
    Place {
        /// Which one.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A thread to wait in.
    #[error("start a thread that waits for stage two")]
    Thread(#[source] io::Error),
    /// Waiting or reading.
    #[error("read the layer {}", path.display())]
    Open {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Another file.
    #[error(
        "the layer {} has the sha256 {found}, and {} wants {expected}: take both from one build",
        path.display(), stage::FILE
    )]
    Digest {
        /// Which file.
        path: PathBuf,
        /// What it has.
        found: String,
        /// What it should have.
        expected: String,
    },
    /// A block device of it.
    #[error("put the layer {} on a loop device", path.display())]
    Loop {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Its mount.
    #[error("mount the layer")]
    Mount(#[from] MountsError),
}

/// A layer that is there or will be.
#[derive(Clone)]
pub struct Stage {
    state: Arc<Mutex<State>>,
    /// It came as a second initramfs, so nobody has to wait for the network.
    pub local: bool,
}

enum State {
    Waiting(Vec<Box<dyn FnOnce() + Send>>),
    Mounted,
}

/// Begins to wait for the layer, if the image has one.
pub fn begin(console: &Console) -> Result<Option<Stage>, StageError> {
    let Some(layer) = description()? else { return Ok(None) };
    let fetched = Path::new(stage::FETCHED);
    let place = |path: &Path| {
        let path = path.to_owned();
        move |source| StageError::Place { path, source }
    };
    std::fs::create_dir_all(fetched).map_err(place(fetched))?;
    let brought = Path::new(stage::DIRECTORY).join(&layer.file);
    let local = brought.is_file();
    if local {
        let link = fetched.join(&layer.file);
        std::os::unix::fs::symlink(&brought, &link).map_err(place(&link))?;
    }
    let stage = Stage { state: Arc::new(Mutex::new(State::Waiting(Vec::new()))), local };
    let (waiting, console) = (stage.clone(), console.clone());
    let run = move || match mount(&layer, &console) {
        Ok(()) => waiting.tell(),
        Err(error) => {
            console.say(&format!("FAILED: stage two: {}", one_line(&error)));
            waiting.give_up();
        }
    };
    thread::Builder::new().name("stage two".to_owned()).spawn(run).map_err(StageError::Thread)?;
    Ok(Some(stage))
}

impl Stage {
    /// Calls it when the layer is mounted; at once, if it is.
    pub fn when_mounted(&self, call: impl FnOnce() + Send + 'static) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *state {
            State::Waiting(calls) => calls.push(Box::new(call)),
            State::Mounted => {
                drop(state);
                call();
            }
        }
    }

    /// Those who wait are not called; what they wait with is dropped.
    fn give_up(&self) {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) = State::Waiting(Vec::new());
    }

    fn tell(&self) {
        let before = std::mem::replace(&mut *self.state.lock().unwrap_or_else(PoisonError::into_inner), State::Mounted);
        if let State::Waiting(calls) = before {
            calls.into_iter().for_each(|call| call());
        }
    }
}

fn description() -> Result<Option<Layer>, StageError> {
    let file = match File::open(stage::FILE) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file.map_err(StageError::Read)?,
    };
    let mut text = Vec::new();
    file.take(stage::MAX_FILE as u64 + 1).read_to_end(&mut text).map_err(StageError::Read)?;
    Ok(Some(Layer::parse(&text)?))
}

fn mount(layer: &Layer, console: &Console) -> Result<(), StageError> {
    let path = Path::new(stage::FETCHED).join(&layer.file);
    let open = |source| StageError::Open { path: path.clone(), source };
    sys::watch::wait_for(Path::new(stage::FETCHED), &layer.file).map_err(open)?;
    let mut timeline = Timeline::new(console.clone());
    // That the timeline cannot be kept was said when it was begun.
    let _ = timeline.keep(Path::new(TIMELINE));
    timeline.phase("stage two", || {
        prove(layer, &path)?;
        let device = Loop::open(&path).map_err(|source| StageError::Loop { path: path.clone(), source })?;
        let (target, flags) = (PathBuf::from(stage::MOUNT), Flags::MS_RDONLY | Flags::MS_NODEV);
        Mount { source: device.path.clone(), target, kind: "squashfs".into(), flags, data: String::new() }.apply()?;
        Ok(())
    })
}

fn prove(layer: &Layer, path: &Path) -> Result<(), StageError> {
    let open = |source| StageError::Open { path: path.to_owned(), source };
    let mut file = File::open(path).map_err(open)?;
    let mut digest = Sha256::new();
    let mut buffer = vec![0; CHUNK];
    loop {
        match file.read(&mut buffer).map_err(open)? {
            0 => break,
            count => digest.update(&buffer[..count]),
        }
    }
    let found: String = digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    if found == layer.sha256 {
        return Ok(());
    }
    Err(StageError::Digest { path: path.to_owned(), found, expected: layer.sha256.clone() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    #[test]
    fn all_who_wait_are_told_and_who_comes_later_at_once() {
        let stage = Stage { state: Arc::new(Mutex::new(State::Waiting(Vec::new()))), local: true };
        let (tell, told) = mpsc::channel();
        for number in [1, 2] {
            let tell = tell.clone();
            stage.when_mounted(move || tell.send(number).unwrap());
        }
        assert!(told.try_recv().is_err());
        stage.tell();
        stage.when_mounted(move || tell.send(3).unwrap());
        assert_eq!(told.iter().collect::<Vec<_>>(), [1, 2, 3]);
    }

    #[test]
    fn another_layer_is_refused_with_both_digests() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "abc").unwrap();
        let sha256 = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad".to_owned();
        let right = Layer { file: "x".into(), sha256: sha256.clone(), size: 3 };
        prove(&right, file.path()).unwrap();
        let wrong = Layer { sha256: "0".repeat(64), ..right };
        let error = prove(&wrong, file.path()).unwrap_err().to_string();
        assert!(error.contains(&sha256) && error.contains(&wrong.sha256), "{error}");
    }
}
