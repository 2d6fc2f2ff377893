//! The inputs of `image-write`, as its help and the manual show them. Must not read them.

use crate::cmd::transfer::{
    CA_BUNDLE, FETCH_STREAMS, HTTP_HEADERS, MIRRORS, RETRIES, RETRY_BUDGET_SECONDS, STALL_TIMEOUT_SECONDS,
};
use crate::disk::consent::{EXCLUDE, FORCE};
use crate::input::{ALLOW_REMOVABLE, DEST_DISK, DRY_RUN, Input, Presence, WAIT_DEVICE_SECONDS, optional, or};

/// The names under which a digest may be missing, as it always could.
pub const IMAGE2DISK: &str = "image2disk";
/// Images are references of a registry.
pub const OCI2DISK: &str = "oci2disk";
/// The image may be of QEMU's own kind.
pub const QEMUIMG2DISK: &str = "qemuimg2disk";

/// All of them.
pub const INPUTS: &[Input] = &[
    Input {
        name: "IMG_URL",
        also: &[],
        presence: Presence::Required,
        doc: "The image: an http or https URL, oci://<registry>/<name>[:<tag>][@<digest>][#<title>], or the path of a file. \
              Raw, or raw packed by gzip, bzip2, xz, zstd or lz4, or qcow2. Under the name oci2disk a reference without oci://.",
    },
    DEST_DISK,
    MIRRORS,
    optional(
        "IMG_CHECKSUM",
        "sha256:<hex> or sha512:<hex>, or the URL of a file of digests that names the image; none waives the check. Required, but with a signature or under the older names.",
    ),
    or(
        "IMG_CHECKSUM_OF",
        "compressed",
        "compressed: digest and signature are of the file as published; content: of what goes onto the disk.",
    ),
    optional("IMG_SIGNATURE", "A minisign signature (the content of the .minisig file) that has to be right."),
    optional("IMG_PUBKEY", "The minisign public key that IMG_SIGNATURE has to be made with."),
    optional(
        "IMG_BMAP",
        "URL or path of the image's block map (bmap 1.4 or 2.0): every run of blocks is checked, and of a raw image only these are fetched.",
    ),
    or("SOURCE_FORMAT", "auto", "auto (by the first bytes), raw or qcow2 (without a backing file)."),
    optional(
        "COMPRESSED",
        "As in image2disk: true insists on a packed image, false writes the bytes as they are (under the older names only).",
    ),
    optional(
        "DECOMPRESS",
        "auto (by the first bytes; the default, but under the names image2disk and oci2disk), always or never.",
    ),
    optional(
        "COMPRESSION",
        "What the image has to be packed by: auto, none, gz, bz2, xz, zst or lz4; an image that begins otherwise is refused.",
    ),
    optional("TAR_MEMBER", "The image is this file of a tar archive, which may be packed."),
    or("VERIFY", "sample", "How much is read back from the disk and compared: none, sample or full."),
    CA_BUNDLE,
    HTTP_HEADERS,
    optional("REGISTRY_USERNAME", "Who asks a registry; only together with REGISTRY_PASSWORD."),
    optional("REGISTRY_PASSWORD", "His password or token."),
    or("PLAIN_HTTP", "false", "The registry speaks HTTP without TLS."),
    or(
        "SKIP_VERIFY",
        "false",
        "Refused when true: name the authority of the registry by CA_BUNDLE, or use PLAIN_HTTP.",
    ),
    FETCH_STREAMS,
    STALL_TIMEOUT_SECONDS,
    or("RETRY_ENABLED", "true", "Take up a broken transfer again."),
    or("RETRY_DURATION_MINUTES", "10", "How long to try again without any progress."),
    RETRY_BUDGET_SECONDS,
    RETRIES,
    or(
        "WIPE_STALE",
        "true",
        "Also blank both ends of every partition that the disk has before, so that nothing of it is found later.",
    ),
    or("DISCARD_FIRST", "false", "Tell the device before all that nothing on it is needed, where it can be told so."),
    or("ZERO_MODE", "punch", "punch: zeros are made by the device where it proves to do so; write: they are written."),
    or(
        "WRITE_MODE",
        "auto",
        "direct: around the page cache, or the disk is refused; buffered: through it; auto: direct where the driver can.",
    ),
    or("BLOCK_SIZE", "4MiB", "Bytes of one write: from 256KiB to 4MiB, a multiple of 64KiB."),
    or(
        "QUEUE_DEPTH",
        "2",
        "Writes at the same time, 1 to 16; this and 5 more blocks of BLOCK_SIZE must not exceed 28 MiB of memory.",
    ),
    optional(
        "PRESERVE_PARTITIONS",
        "Partitions of the disk that stay as they are, with their entries: numbers (4), ranges (5-7) and patterns of labels (data*, or label=<pattern>), separated by commas. They have to lie beyond the last partition of the image; what is named and not there is a warning.",
    ),
    or(
        "GPT_FIX",
        "true",
        "Move the backup of the image's GPT to the end of the disk and let its protective record cover the disk; false: the table stays as it came.",
    ),
    optional(
        "GROW_PARTITION",
        "A partition that shall reach as far as the disk allows: last, its number, or its label (also as label=<label>).",
    ),
    or(
        "GROW_FS",
        "false",
        "Grow the ext4, xfs or btrfs in that partition, too; GROW_PARTITION is last when it is not set.",
    ),
    or(
        "RANDOMIZE_GUIDS",
        "false",
        "Give the disk and each partition of its GPT a new GUID, for copies in one machine.",
    ),
    or(
        "SECTOR_SIZE_POLICY",
        "refuse",
        "An image that was made for sectors of another size is refused; ignore: it is written as it is; convert: its GPT is rewritten for the disk, where every partition begins at a sector of it and its file systems can do with them.",
    ),
    or("FORMAT", "host_device", "As in qemuimg2disk: host_device or raw, which mean the same."),
    optional(
        "EXTRA_ARGS",
        "As in qemuimg2disk: -f FORMAT, -p, -m N, -S SIZE, -t MODE and -W are understood, others refused.",
    ),
    or("PROGRESS_INTERVAL_SECONDS", "3", "How often progress is a line of the log."),
    or("TEXT_LOGGING", "true", "Accepted for image2disk's sake; the log is always text."),
    FORCE,
    EXCLUDE,
    ALLOW_REMOVABLE,
    WAIT_DEVICE_SECONDS,
    DRY_RUN,
];
