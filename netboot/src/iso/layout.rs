//! ISO 9660 with El Torito boot entries for UEFI and BIOS: where everything stands. Lower-case names as Linux, GRUB and
//! isolinux read them; no dates, so that the same content gives the same image.

use std::collections::BTreeMap;
use std::fs::File;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;
use std::sync::Arc;

use axum::body::Bytes;

use super::{Image, IsoError, SECTOR, Segment};

const CATALOG: u64 = 19;
const PATHS_LE: u64 = 20;
const PATHS_BE: u64 = 21;
const FIRST_DIRECTORY: u64 = 22;
const EFI: &str = "boot/efi.img";
const BIOS: &str = "isolinux/isolinux.bin";

/// What the image is to hold, by path.
#[derive(Default)]
pub(super) struct Disc {
    files: BTreeMap<String, (u64, Segment)>,
    hasher: DefaultHasher,
}

/// Where a directory stands, and which are in it.
struct Directory {
    path: String,
    sector: u64,
}

impl Disc {
    pub(super) fn memory(&mut self, path: &str, content: impl Into<Bytes>) {
        let content = content.into();
        (path, &content).hash(&mut self.hasher);
        self.files.insert(path.to_owned(), (content.len() as u64, Segment::Memory(content)));
    }

    pub(super) fn file(&mut self, path: &str, from: &Path) -> Result<(), IsoError> {
        let failed = |source| IsoError::Read { path: from.to_owned(), source };
        let file = File::open(from).map_err(failed)?;
        let metadata = file.metadata().map_err(failed)?;
        if metadata.len() > u64::from(u32::MAX) - SECTOR {
            return Err(IsoError::TooLarge { path: from.to_owned() });
        }
        (path, metadata.len(), metadata.modified().ok()).hash(&mut self.hasher);
        self.files.insert(path.to_owned(), (metadata.len(), Segment::File(Arc::new(file))));
        Ok(())
    }

    /// The FAT image that UEFI opens.
    pub(super) fn efi(&mut self, image: Vec<u8>) {
        self.memory(EFI, image);
    }

    /// isolinux, which is told where it stands when everything else is placed.
    pub(super) fn bios(&mut self, program: &[u8]) {
        self.memory(BIOS, program.to_vec());
    }

    pub(super) fn finish(mut self) -> Image {
        let directories = self.directories();
        let mut next = directories.last().map_or(FIRST_DIRECTORY, |last| last.sector + 1);
        let mut places = BTreeMap::new();
        for (path, (length, _)) in &self.files {
            places.insert(path.clone(), (next, *length));
            next += length.div_ceil(SECTOR).max(1);
        }
        self.boot_info(&places);
        let mut segments = vec![
            (16 * SECTOR, SECTOR, Segment::Memory(primary(next, &directories).into())),
            (17 * SECTOR, SECTOR, Segment::Memory(boot_record().into())),
            (18 * SECTOR, SECTOR, Segment::Memory(volume_descriptor(255, &[]).into())),
            (CATALOG * SECTOR, SECTOR, Segment::Memory(catalog(&places).into())),
            (PATHS_LE * SECTOR, SECTOR, Segment::Memory(path_table(&directories, false).into())),
            (PATHS_BE * SECTOR, SECTOR, Segment::Memory(path_table(&directories, true).into())),
        ];
        for directory in &directories {
            let bytes = listing(directory, &directories, &places);
            segments.push((directory.sector * SECTOR, SECTOR, Segment::Memory(bytes.into())));
        }
        for (path, (length, segment)) in self.files {
            segments.push((places[&path].0 * SECTOR, length, segment));
        }
        let etag = format!("\"{:x}-{:016x}\"", next * SECTOR, self.hasher.finish());
        Image { segments, total: next * SECTOR, etag }
    }

    /// All parents of files, the root first; none needs more than a sector.
    fn directories(&self) -> Vec<Directory> {
        let mut paths = vec![String::new()];
        for path in self.files.keys() {
            let mut parent = path.as_str();
            while let Some((up, _)) = parent.rsplit_once('/') {
                if !paths.iter().any(|known| known == up) {
                    paths.push(up.to_owned());
                }
                parent = up;
            }
        }
        paths.sort_by_key(|path| (path.split('/').filter(|part| !part.is_empty()).count(), path.clone()));
        let sectors = FIRST_DIRECTORY..;
        paths.into_iter().zip(sectors).map(|(path, sector)| Directory { path, sector }).collect()
    }

    /// isolinux reads at its eighth byte where the descriptor and itself are, its length and the sum of the rest.
    fn boot_info(&mut self, places: &BTreeMap<String, (u64, u64)>) {
        let Some((_, Segment::Memory(program))) = self.files.get_mut(BIOS) else { return };
        let mut bytes = program.to_vec();
        if bytes.len() < 64 {
            return;
        }
        let sum = bytes[64..].chunks(4).fold(0_u32, |sum, four| {
            let mut word = [0; 4];
            word[..four.len()].copy_from_slice(four);
            sum.wrapping_add(u32::from_le_bytes(word))
        });
        let fields = [16, places[BIOS].0 as u32, bytes.len() as u32, sum];
        for (i, field) in fields.into_iter().enumerate() {
            bytes[8 + i * 4..12 + i * 4].copy_from_slice(&field.to_le_bytes());
        }
        bytes[24..64].fill(0);
        *program = bytes.into();
    }
}

/// Numbers of ISO 9660 stand in both byte orders.
fn both32(value: u64) -> [u8; 8] {
    let value = value as u32;
    let mut bytes = [0; 8];
    bytes[..4].copy_from_slice(&value.to_le_bytes());
    bytes[4..].copy_from_slice(&value.to_be_bytes());
    bytes
}

fn both16(value: u16) -> [u8; 4] {
    let [a, b] = value.to_le_bytes();
    [a, b, b, a]
}

fn volume_descriptor(kind: u8, fields: &[(usize, &[u8])]) -> Vec<u8> {
    let mut sector = vec![0; SECTOR as usize];
    sector[0] = kind;
    sector[1..7].copy_from_slice(b"CD001\x01");
    for (at, bytes) in fields {
        sector[*at..at + bytes.len()].copy_from_slice(bytes);
    }
    sector
}

fn primary(sectors: u64, directories: &[Directory]) -> Vec<u8> {
    let blanks = [b' '; 128];
    let root = record(b"\0", directories.first().map_or(FIRST_DIRECTORY, |root| root.sector), SECTOR, true);
    let paths = path_table_length(directories);
    volume_descriptor(
        1,
        &[
            (8, &blanks[..64]),
            (40, b"IRONHOOK"),
            (48, &blanks[..24]),
            (80, &both32(sectors)),
            (120, &both16(1)),
            (124, &both16(1)),
            (128, &both16(SECTOR as u16)),
            (132, &both32(paths)),
            (140, &(PATHS_LE as u32).to_le_bytes()),
            (148, &(PATHS_BE as u32).to_be_bytes()),
            (156, &root),
            (190, &blanks),
            (318, &blanks),
            (446, &blanks),
            (574, &blanks),
            (702, &blanks[..111]),
            (813, b"0000000000000000\0"),
            (830, b"0000000000000000\0"),
            (847, b"0000000000000000\0"),
            (864, b"0000000000000000\0"),
            (881, &[1]),
        ],
    )
}

fn boot_record() -> Vec<u8> {
    volume_descriptor(0, &[(7, b"EL TORITO SPECIFICATION"), (71, &(CATALOG as u32).to_le_bytes())])
}

/// The first entry is BIOS's, if there is one; UEFI looks for its platform's section.
fn catalog(places: &BTreeMap<String, (u64, u64)>) -> Vec<u8> {
    let entry = |path: &str, sectors: u16| {
        let mut entry = [0; 32];
        entry[0] = 0x88;
        entry[6..8].copy_from_slice(&sectors.to_le_bytes());
        entry[8..12].copy_from_slice(&(places.get(path).map_or(0, |place| place.0) as u32).to_le_bytes());
        entry
    };
    let efi_sectors = places.get(EFI).map_or(0, |place| place.1 / 512);
    let efi = entry(EFI, u16::try_from(efi_sectors).unwrap_or(u16::MAX));
    let has_bios = places.contains_key(BIOS);
    let mut validation = [0; 32];
    (validation[0], validation[1]) = (1, if has_bios { 0 } else { 0xef });
    validation[4..12].copy_from_slice(b"IRONHOOK");
    (validation[30], validation[31]) = (0x55, 0xaa);
    let sum = validation.as_chunks::<2>().0.iter().fold(0_u16, |sum, two| sum.wrapping_add(u16::from_le_bytes(*two)));
    validation[28..30].copy_from_slice(&0_u16.wrapping_sub(sum).to_le_bytes());
    let mut catalog = validation.to_vec();
    if has_bios {
        catalog.extend(entry(BIOS, 4));
        let mut section = [0; 32];
        (section[0], section[1], section[2]) = (0x91, 0xef, 1);
        catalog.extend(section);
    }
    catalog.extend(efi);
    catalog.resize(SECTOR as usize, 0);
    catalog
}

fn name_of(path: &str) -> &[u8] {
    match path.rsplit_once('/') {
        _ if path.is_empty() => b"\0",
        Some((_, name)) => name.as_bytes(),
        None => path.as_bytes(),
    }
}

fn parent_of(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(parent, _)| parent)
}

fn path_table_length(directories: &[Directory]) -> u64 {
    directories.iter().map(|directory| 8 + (name_of(&directory.path).len() as u64).next_multiple_of(2)).sum()
}

fn path_table(directories: &[Directory], big: bool) -> Vec<u8> {
    let mut table = Vec::new();
    for directory in directories {
        let name = name_of(&directory.path);
        let parent =
            directories.iter().position(|other| other.path == parent_of(&directory.path)).unwrap_or(0) as u16 + 1;
        let sector = directory.sector as u32;
        table.extend([name.len() as u8, 0]);
        table.extend(if big { sector.to_be_bytes() } else { sector.to_le_bytes() });
        table.extend(if big { parent.to_be_bytes() } else { parent.to_le_bytes() });
        table.extend(name);
        table.resize(table.len().next_multiple_of(2), 0);
    }
    table.resize(SECTOR as usize, 0);
    table
}

fn record(name: &[u8], sector: u64, length: u64, directory: bool) -> Vec<u8> {
    let size = (33 + name.len()).next_multiple_of(2);
    let mut record = vec![0; size];
    record[0] = size as u8;
    record[2..10].copy_from_slice(&both32(sector));
    record[10..18].copy_from_slice(&both32(length));
    // 1980-01-01, as years since 1900, months, days.
    record[18..21].copy_from_slice(&[80, 1, 1]);
    record[25] = if directory { 2 } else { 0 };
    record[28..32].copy_from_slice(&both16(1));
    record[32] = name.len() as u8;
    record[33..33 + name.len()].copy_from_slice(name);
    record
}

fn listing(directory: &Directory, all: &[Directory], files: &BTreeMap<String, (u64, u64)>) -> Vec<u8> {
    let parent =
        all.iter().find(|other| other.path == parent_of(&directory.path)).map_or(directory.sector, |p| p.sector);
    let mut bytes = record(b"\0", directory.sector, SECTOR, true);
    bytes.extend(record(b"\x01", parent, SECTOR, true));
    let inside = |path: &str| !path.is_empty() && parent_of(path) == directory.path;
    let mut entries: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
    for other in all.iter().filter(|other| inside(&other.path)) {
        let name = name_of(&other.path).to_vec();
        entries.push((name.clone(), record(&name, other.sector, SECTOR, true)));
    }
    for (path, (sector, length)) in files.iter().filter(|(path, _)| inside(path)) {
        let name = [name_of(path), b";1"].concat();
        entries.push((name.clone(), record(&name, *sector, *length, false)));
    }
    entries.sort();
    bytes.extend(entries.into_iter().flat_map(|(_, record)| record));
    bytes.resize(SECTOR as usize, 0);
    bytes
}
