//! What an operator wants of `image-write`: its environment as one typed value, or everything that is wrong with it.

use std::time::Duration;

use fetch::Options;
use fetch::registry::{Access, Credential, Reference};
use spec::Secret;

use super::inputs::{IMAGE2DISK, INPUTS, OCI2DISK, QEMUIMG2DISK};
use crate::cmd::transfer;
use crate::disk::consent::Consent;
use crate::disk::fit::{Change, Sectors};
use crate::disk::grow::Which;
use crate::disk::preserve::{self, Term};
use crate::disk::stream::{CHUNK, Depth, GRANULE, MEMORY, Way};
use crate::disk::target::{How, Mode, Zeros};
use crate::image::checksum::{self, Of, Promise};
use crate::image::format::{Layout, Packing, Unpack};
use crate::image::proof::{self, Proof};
use crate::image::published::Place;
use crate::image::source::Request;
use crate::input::{self, Lookup, Problems, Reader};
use crate::report::size;
use crate::select::{self, Selector};

/// Below this the digests of what is read back would take more memory than the blocks.
const SMALLEST_BLOCK: u64 = 256 << 10;

/// The environment.
pub struct Wish {
    pub request: Request,
    pub map: Option<Place>,
    /// Where the digest is.
    pub sums: Option<String>,
    pub is_unchecked_by_default: bool,
    pub disk: Selector,
    pub how: How,
    /// What of the disk stays.
    pub preserve: Vec<Term>,
    pub change: Change,
    /// The file system in the partition that grows does, too.
    pub grow_fs: bool,
    pub progress: Duration,
    pub consent: Consent,
    pub dry_run: bool,
}

/// Reads it.
pub fn read(called: &str, lookup: Lookup<'_>) -> Result<Wish, Problems> {
    let mut r = Reader::new(INPUTS, lookup);
    let options = options(&mut r);
    let place = place(&mut r, called, &options);
    let disk = r.value("DEST_DISK", input::disk);
    let (proof, is_unchecked_by_default) = promise(&mut r, called, lookup);
    let sums = r.optional("IMG_CHECKSUM", input::text).filter(|text| input::url(text).is_ok());
    let of = r.value("IMG_CHECKSUM_OF", input::one_of(&[("compressed", Of::Compressed), ("content", Of::Content)]));
    let (unpack, layout, said) = format(&mut r, called);
    let member = r.optional("TAR_MEMBER", input::text);
    let map = r.optional("IMG_BMAP", input::text);
    let how = how(&mut r);
    let preserve = r.optional("PRESERVE_PARTITIONS", preserve::parse).unwrap_or_default();
    let words = [("refuse", Sectors::Refuse), ("ignore", Sectors::Ignore), ("convert", Sectors::Convert)];
    let sectors = r.value("SECTOR_SIZE_POLICY", input::one_of(&words));
    let (change, grow_fs) = change(&mut r, sectors, !preserve.is_empty());
    r.value("FORMAT", input::one_of(&[("host_device", ()), ("raw", ())]));
    let progress = r.value("PROGRESS_INTERVAL_SECONDS", input::seconds);
    r.value("TEXT_LOGGING", input::boolean);
    let consent = Consent::read(&mut r);
    let dry_run = r.value("DRY_RUN", input::boolean);
    r.finish()?;
    let place = place.unwrap_or(Place::Web(Vec::new()));
    let map = map.map(|text| match text.strip_prefix("file://").unwrap_or(&text) {
        path if path.starts_with('/') => Place::File(path.into()),
        _ => Place::Web(vec![text]),
    });
    let request = Request { place, options, proof, of, unpack, said, layout, member };
    Ok(Wish {
        request,
        map,
        sums,
        is_unchecked_by_default,
        disk,
        how,
        preserve,
        change,
        grow_fs,
        progress,
        consent,
        dry_run,
    })
}

fn how(r: &mut Reader<'_>) -> How {
    let depths = [("none", Depth::None), ("sample", Depth::Sample), ("full", Depth::Full)];
    let zeros = [("punch", Zeros::Punch), ("write", Zeros::Write)];
    let modes = [("auto", Mode::Auto), ("direct", Mode::Direct), ("buffered", Mode::Buffered)];
    let mut way = Way::from(r.value("VERIFY", input::one_of(&depths)));
    way.block = r.optional("BLOCK_SIZE", block).unwrap_or(way.block);
    way.queue = r.optional("QUEUE_DEPTH", queue).unwrap_or(way.queue);
    if way.memory() > MEMORY {
        let (asked, most) = (size(way.memory() as u64), size(MEMORY as u64));
        r.problem(format!("BLOCK_SIZE and QUEUE_DEPTH together take {asked} of memory, which is more than {most}"));
    }
    if way.depth == Depth::Full && way.block < CHUNK {
        r.problem("VERIFY=full keeps a digest of every block: it takes a BLOCK_SIZE of 4MiB");
    }
    How {
        way,
        is_stale_wiped: r.value("WIPE_STALE", input::boolean),
        is_discarded: r.value("DISCARD_FIRST", input::boolean),
        zeros: r.value("ZERO_MODE", input::one_of(&zeros)),
        mode: r.value("WRITE_MODE", input::one_of(&modes)),
    }
}

fn block(text: &str) -> Result<usize, String> {
    let allowed = |bytes: &u64| (SMALLEST_BLOCK..=CHUNK as u64).contains(bytes) && bytes.is_multiple_of(GRANULE as u64);
    let bytes = select::bytes(text.trim()).filter(allowed);
    bytes.map(|bytes| bytes as usize).ok_or_else(|| format!("{text:?} is not a multiple of 64KiB from 256KiB to 4MiB"))
}

fn queue(text: &str) -> Result<usize, String> {
    let depth = input::number(text)?;
    if (1..=16).contains(&depth) { Ok(depth as usize) } else { Err(format!("{text:?} is not from 1 to 16")) }
}

fn options(r: &mut Reader<'_>) -> Options {
    let is_retried = r.value("RETRY_ENABLED", input::boolean);
    let minutes = r.value("RETRY_DURATION_MINUTES", input::minutes);
    let options = transfer::options(r, minutes);
    let patience = if is_retried { options.patience } else { Duration::ZERO };
    Options { patience, ..options }
}

fn place(r: &mut Reader<'_>, called: &str, options: &Options) -> Option<Place> {
    let url = r.optional("IMG_URL", input::text);
    let user = r.optional("REGISTRY_USERNAME", input::text);
    let password = r.optional("REGISTRY_PASSWORD", input::text);
    let is_plain = r.value("PLAIN_HTTP", input::boolean);
    if r.value("SKIP_VERIFY", input::boolean) {
        r.problem("SKIP_VERIFY=true is refused: name the registry's authority by CA_BUNDLE, or set PLAIN_HTTP=true");
    }
    if user.is_some() != password.is_some() {
        r.problem("REGISTRY_USERNAME and REGISTRY_PASSWORD must be set together");
    }
    let url = url?;
    let is_web = url.starts_with("http://") || url.starts_with("https://");
    let reference = url.strip_prefix("oci://").or_else(|| (called == OCI2DISK && !is_web).then_some(url.as_str()));
    if let Some(text) = reference {
        transfer::no_mirrors(r);
        let (name, title) = text.split_once('#').map_or((text, None), |(name, title)| (name, Some(title.to_owned())));
        return match Reference::parse(name) {
            Ok(reference) => {
                let host = reference.host().to_owned();
                let plain_http = if is_plain { vec![host.clone()] } else { Vec::new() };
                let credential = user.zip(password);
                let credential =
                    credential.map(|(user, password)| Credential { host, user, password: Secret::new(password) });
                let credentials = credential.into_iter().collect();
                let access = Box::new(Access { fetch: options.clone(), credentials, plain_http });
                Some(Place::Registry { reference, title, access })
            }
            Err(e) => {
                r.problem(format!("IMG_URL: {e}"));
                None
            }
        };
    }
    Some(transfer::place(r, url))
}

/// What is promised, and whether its absence only is the custom of an old name.
fn promise(r: &mut Reader<'_>, called: &str, lookup: Lookup<'_>) -> (Proof, bool) {
    let of_text = |text: &str| match input::url(text) {
        Ok(_) => Ok(Promise::Waived),
        Err(_) => checksum::parse(text),
    };
    let checksum = r.optional("IMG_CHECKSUM", of_text);
    let key = r.optional("IMG_PUBKEY", input::text);
    let text = r.optional("IMG_SIGNATURE", input::text);
    let signature = match (key, text) {
        (Some(key), Some(text)) => match proof::signed(&key, &text) {
            Ok(signed) => Some(signed),
            Err(problem) => {
                r.problem(problem);
                None
            }
        },
        (None, None) => None,
        _ => {
            r.problem("IMG_SIGNATURE and IMG_PUBKEY must be set together");
            None
        }
    };
    let is_set = |name: &str| lookup(name).is_some_and(|text| !text.is_empty());
    let is_silent = !is_set("IMG_CHECKSUM") && !is_set("IMG_SIGNATURE");
    let is_old = [IMAGE2DISK, OCI2DISK, QEMUIMG2DISK].contains(&called);
    if is_silent && !is_old {
        r.problem("IMG_CHECKSUM is required: sha256:<hex>, or none to go without");
    }
    // What comes from a registry is proven by its digest there.
    let is_unchecked = is_silent && called != OCI2DISK;
    (Proof { checksum: checksum.unwrap_or(Promise::Waived), signature }, is_unchecked)
}

fn format(r: &mut Reader<'_>, called: &str) -> (Unpack, Layout, Option<Packing>) {
    let compressed = r.optional("COMPRESSED", input::boolean);
    let words = [("auto", Unpack::Auto), ("always", Unpack::Always), ("never", Unpack::Never)];
    let decompress = r.optional("DECOMPRESS", input::one_of(&words));
    let layouts = [("auto", Layout::Auto), ("raw", Layout::Raw), ("qcow2", Layout::Qcow2)];
    let layout = r.value("SOURCE_FORMAT", input::one_of(&layouts));
    let extra = r.optional("EXTRA_ARGS", extra_args).flatten();
    let packings = [
        ("auto", None),
        ("none", Some(Packing::Plain)),
        ("gz", Some(Packing::Gzip)),
        ("bz2", Some(Packing::Bzip2)),
        ("xz", Some(Packing::Xz)),
        ("zst", Some(Packing::Zstd)),
        ("lz4", Some(Packing::Lz4)),
    ];
    let said = r.optional("COMPRESSION", input::one_of(&packings));
    if said.is_some() && (compressed.is_some() || decompress.is_some()) {
        r.problem("COMPRESSION says all that COMPRESSED and DECOMPRESS say: set one of them");
    }
    let unpack = match said {
        Some(_) => Unpack::Auto,
        None => unpack(called, compressed, decompress),
    };
    (unpack, extra.unwrap_or(layout), said.flatten())
}

/// Under its old names the action keeps their meaning, byte for byte, until `DECOMPRESS` says otherwise.
fn unpack(called: &str, compressed: Option<bool>, decompress: Option<Unpack>) -> Unpack {
    match (decompress, compressed) {
        (Some(unpack), _) => unpack,
        (None, Some(true)) => Unpack::Always,
        (None, _) if [IMAGE2DISK, OCI2DISK].contains(&called) => Unpack::Never,
        (None, _) => Unpack::Auto,
    }
}

/// Options of qemu-img that mean something here, or nothing at all; the source format when one is named.
fn extra_args(text: &str) -> Result<Option<Layout>, String> {
    let mut words = text.split_whitespace();
    let mut layout = None;
    while let Some(word) = words.next() {
        match word {
            "-p" | "-W" => {}
            "-m" | "-S" | "-t" => drop(words.next().ok_or_else(|| format!("{word} needs a value"))?),
            "-f" => {
                layout = Some(match words.next() {
                    Some("raw") => Layout::Raw,
                    Some("qcow2") => Layout::Qcow2,
                    other => return Err(format!("-f {} is not supported: raw or qcow2", other.unwrap_or_default())),
                });
            }
            other => return Err(format!("{other:?} is not supported; -f, -p, -m, -S, -t and -W are")),
        }
    }
    Ok(layout)
}

/// What of the table becomes otherwise, and whether a file system follows.
fn change(r: &mut Reader<'_>, sectors: Sectors, is_preserving: bool) -> (Change, bool) {
    let which = r.optional("GROW_PARTITION", which);
    let grow_fs = r.value("GROW_FS", input::boolean);
    let change = Change {
        is_fixed: r.value("GPT_FIX", input::boolean),
        grow: which.or_else(|| grow_fs.then_some(Which::Last)),
        new_guids: r.value("RANDOMIZE_GUIDS", input::boolean),
        sectors,
    };
    if !change.is_fixed && (change.grow.is_some() || change.new_guids || sectors == Sectors::Convert || is_preserving) {
        r.problem(
            "GPT_FIX=false leaves the partition table as it came: it goes with none of GROW_PARTITION, GROW_FS, \
             RANDOMIZE_GUIDS, PRESERVE_PARTITIONS and SECTOR_SIZE_POLICY=convert",
        );
    }
    (change, grow_fs)
}

fn which(text: &str) -> Result<Which, String> {
    let text = text.trim();
    if let Some(label) = text.strip_prefix("label=").filter(|label| !label.is_empty()) {
        return Ok(Which::Label(label.to_owned()));
    }
    match (text, input::number(text)) {
        ("last", _) => Ok(Which::Last),
        (_, Ok(number @ 1..)) => Ok(Which::Number(number)),
        (_, Err(_)) if !text.starts_with("label=") => Ok(Which::Label(text.to_owned())),
        _ => Err(format!("{text:?} is neither last nor the number or label=<label> of a partition")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(called: &str, pairs: &[(&str, &str)]) -> Result<Wish, Problems> {
        let base = [("IMG_URL", "http://h/x.raw"), ("DEST_DISK", "/dev/sda")];
        let lookup = |name: &str| pairs.iter().chain(&base).find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned());
        read(called, &lookup)
    }

    #[test]
    fn a_digest_is_required_or_waived_in_words() {
        let problems = with("image-write", &[]).err().unwrap();
        assert!(problems.to_string().contains("IMG_CHECKSUM is required"), "{problems}");
        assert!(!with("image-write", &[("IMG_CHECKSUM", "none")]).unwrap().is_unchecked_by_default);
        assert!(with(IMAGE2DISK, &[]).unwrap().is_unchecked_by_default);
        let problems = with("image-write", &[("IMG_CHECKSUM", "sha256:x")]).err().unwrap();
        assert_eq!(problems.0.len(), 1, "{problems}");
    }

    #[test]
    fn the_old_name_keeps_the_old_meaning() {
        let unpack = |called, pairs: &[(&str, &str)]| {
            let pairs: Vec<_> = pairs.iter().copied().chain([("IMG_CHECKSUM", "none")]).collect();
            with(called, &pairs).unwrap().request.unpack
        };
        assert_eq!(unpack("image-write", &[]), Unpack::Auto);
        assert_eq!(unpack("image-write", &[("COMPRESSED", "false")]), Unpack::Auto);
        assert_eq!(unpack("image-write", &[("COMPRESSED", "true")]), Unpack::Always);
        assert_eq!(unpack(IMAGE2DISK, &[]), Unpack::Never);
        assert_eq!(unpack(IMAGE2DISK, &[("COMPRESSED", "T")]), Unpack::Always);
        assert_eq!(unpack(IMAGE2DISK, &[("COMPRESSED", "false"), ("DECOMPRESS", "auto")]), Unpack::Auto);
    }

    #[test]
    fn a_bad_boolean_is_a_problem_and_not_false() {
        let problems = with(IMAGE2DISK, &[("COMPRESSED", "yep"), ("RETRY_DURATION_MINUTES", "ten")]).err().unwrap();
        assert_eq!(problems.0.len(), 2, "{problems}");
    }

    #[test]
    fn without_retries_there_is_no_patience() {
        let wish = with(IMAGE2DISK, &[("RETRY_ENABLED", "no")]).unwrap();
        assert_eq!(wish.request.options.patience, Duration::ZERO);
    }

    #[test]
    fn a_name_of_a_registry_is_told_from_a_url_and_a_file() {
        let place = |called, url: &str| {
            let lookup = |name: &str| match name {
                "IMG_URL" => Some(url.to_owned()),
                "DEST_DISK" => Some("/dev/sda".to_owned()),
                "IMG_CHECKSUM" => Some("none".to_owned()),
                _ => None,
            };
            read(called, &lookup).map(|wish| wish.request.place)
        };
        let title = |place| match place {
            Ok(Place::Registry { reference, title, .. }) => Some((reference.to_string(), title)),
            _ => None,
        };
        assert_eq!(title(place("image-write", "oci://h:5000/a:raw#x")).unwrap().1.as_deref(), Some("x"));
        assert!(title(place(OCI2DISK, "h:5000/a:raw.gz")).is_some());
        assert!(place(OCI2DISK, "h:5000/A B").is_err());
        assert!(
            matches!(place("image-write", "file:///x/y"), Ok(Place::File(path)) if path == std::path::Path::new("/x/y"))
        );
        assert!(matches!(place("image-write", "http://h/x"), Ok(Place::Web(urls)) if urls.len() == 1));
    }

    #[test]
    fn how_the_image_is_packed_is_said_once() {
        let wish = with(IMAGE2DISK, &[("COMPRESSION", "zst"), ("TAR_MEMBER", "disk.raw")]).unwrap();
        assert_eq!((wish.request.unpack, wish.request.said), (Unpack::Auto, Some(Packing::Zstd)));
        assert_eq!(wish.request.member.as_deref(), Some("disk.raw"));
        assert_eq!(with(IMAGE2DISK, &[("COMPRESSION", "auto")]).unwrap().request.unpack, Unpack::Auto);
        let problems = with(IMAGE2DISK, &[("COMPRESSION", "gz"), ("COMPRESSED", "true")]).err().unwrap();
        assert!(problems.to_string().contains("set one of them"), "{problems}");
    }

    #[test]
    fn headers_are_read_and_a_wrong_one_keeps_its_secret() {
        let wish = with(IMAGE2DISK, &[("HTTP_HEADERS", "X-A: 1\n\nX-B:2"), ("RETRIES", "3")]).unwrap();
        let headers: Vec<_> =
            wish.request.options.headers.iter().map(|(name, value)| (&**name, value.expose())).collect();
        assert_eq!(headers, [("X-A", "1"), ("X-B", "2")]);
        assert_eq!(wish.request.options.retries, Some(3));
        let problems = with(IMAGE2DISK, &[("HTTP_HEADERS", "X-A: 1\nhunter2")]).err().unwrap().to_string();
        assert!(problems.contains("HTTP_HEADERS line 2") && !problems.contains("hunter2"), "{problems}");
    }

    #[test]
    fn what_belongs_together_is_set_together() {
        for (pairs, word) in [
            ([("IMG_PUBKEY", "x")], "IMG_SIGNATURE"),
            ([("REGISTRY_USERNAME", "x")], "REGISTRY_PASSWORD"),
            ([("SKIP_VERIFY", "true")], "CA_BUNDLE"),
            ([("EXTRA_ARGS", "-f qcow2 -o x")], "-o"),
            ([("GROW_PARTITION", "0")], "GROW_PARTITION"),
        ] {
            let problems = with(IMAGE2DISK, &pairs).err().unwrap();
            assert!(problems.to_string().contains(word), "{problems}");
        }
    }

    #[test]
    fn arguments_for_qemu_img_are_understood_or_refused() {
        let layout = |text| with(QEMUIMG2DISK, &[("EXTRA_ARGS", text)]).map(|wish| wish.request.layout);
        assert_eq!(layout("-f qcow2 -p -m 8 -W"), Ok(Layout::Qcow2));
        assert_eq!(layout("-t none"), Ok(Layout::Auto));
        assert!(layout("-f vmdk").is_err());
    }

    #[test]
    fn what_shall_grow() {
        let grow = |pairs: &[(&str, &str)]| {
            with(IMAGE2DISK, pairs).map(|wish| (wish.change.grow, wish.grow_fs)).map_err(|e| e.to_string())
        };
        assert_eq!(grow(&[]), Ok((None, false)));
        assert_eq!(grow(&[("GROW_FS", "true")]), Ok((Some(Which::Last), true)));
        assert_eq!(grow(&[("GROW_PARTITION", "3")]), Ok((Some(Which::Number(3)), false)));
        for text in ["root", "label=root"] {
            assert_eq!(grow(&[("GROW_PARTITION", text)]), Ok((Some(Which::Label("root".into())), false)));
        }
        assert_eq!(grow(&[("GROW_PARTITION", "label=3")]), Ok((Some(Which::Label("3".into())), false)));
        assert!(grow(&[("GROW_PARTITION", "label=")]).unwrap_err().contains("neither last nor"));
    }

    #[test]
    fn blocks_and_their_number_keep_to_the_memory_that_was_promised() {
        let way = |pairs: &[(&str, &str)]| {
            with(IMAGE2DISK, pairs).map(|wish| (wish.how.way.block, wish.how.way.queue)).map_err(|e| e.to_string())
        };
        assert_eq!(way(&[]), Ok((4 << 20, 2)));
        assert_eq!(way(&[("BLOCK_SIZE", "1MiB"), ("QUEUE_DEPTH", "16")]), Ok((1 << 20, 16)));
        for (pairs, word) in [
            (&[("QUEUE_DEPTH", "3")][..], "28.0 MiB"),
            (&[("BLOCK_SIZE", "2MiB"), ("QUEUE_DEPTH", "10")], "28.0 MiB"),
            (&[("BLOCK_SIZE", "1MiB"), ("VERIFY", "full")], "VERIFY=full"),
            (&[("BLOCK_SIZE", "100000")], "64KiB"),
            (&[("BLOCK_SIZE", "8MiB")], "4MiB"),
            (&[("QUEUE_DEPTH", "0")], "1 to 16"),
        ] {
            let problem = way(pairs).unwrap_err();
            assert!(problem.contains(word), "{problem}");
        }
    }

    #[test]
    fn a_table_that_stays_as_it_came_cannot_change() {
        for (name, value) in [
            ("GROW_PARTITION", "last"),
            ("RANDOMIZE_GUIDS", "true"),
            ("PRESERVE_PARTITIONS", "data"),
            ("SECTOR_SIZE_POLICY", "convert"),
        ] {
            let problems = with(IMAGE2DISK, &[("GPT_FIX", "false"), (name, value)]).err().unwrap();
            assert!(problems.to_string().contains("GPT_FIX=false leaves"), "{problems}");
        }
        assert!(!with(IMAGE2DISK, &[("GPT_FIX", "false")]).unwrap().change.is_fixed);
    }
}
