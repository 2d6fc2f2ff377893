//! A FAT12 image with the two boot programs of UEFI in `EFI/BOOT`: what a firmware opens on virtual media.
//! Pure bytes; no dates, so that the same files give the same image.

const SECTOR: usize = 512;
const CLUSTER: usize = 8 * SECTOR;
const ROOT_ENTRIES: usize = 64;
const DIRECTORY: u8 = 0x10;
const ARCHIVE: u8 = 0x20;

/// Names as FAT writes them: eight and three, filled with blanks. Contents of less than 14 MiB together.
pub(super) fn image(files: &[(&str, &[u8])]) -> Vec<u8> {
    // Cluster 2 is EFI, 3 is BOOT, files follow.
    let mut chains = vec![(2, 1), (3, 1)];
    let mut next = 4;
    for (_, content) in files {
        let count = content.len().div_ceil(CLUSTER).max(1);
        chains.push((next, count));
        next += count;
    }
    let fat_sectors = (next * 3).div_ceil(2).div_ceil(SECTOR);
    let data = (1 + 2 * fat_sectors) * SECTOR + ROOT_ENTRIES * 32;
    let total = data + (next - 2) * CLUSTER;
    let mut image = vec![0; total];
    image[..SECTOR].copy_from_slice(&boot_sector(total / SECTOR, fat_sectors));
    let table = table(&chains, next, fat_sectors);
    for copy in 0..2 {
        let at = (1 + copy * fat_sectors) * SECTOR;
        image[at..at + table.len()].copy_from_slice(&table);
    }
    let root = (1 + 2 * fat_sectors) * SECTOR;
    let cluster = |number: usize| data + (number - 2) * CLUSTER;
    image[root..root + 32].copy_from_slice(&entry("EFI        ", DIRECTORY, 2, 0));
    let mut put = |at: usize, bytes: &[u8]| image[at..at + bytes.len()].copy_from_slice(bytes);
    put(cluster(2), &[entry(".          ", DIRECTORY, 2, 0), entry("..         ", DIRECTORY, 0, 0)].concat());
    put(cluster(2) + 64, &entry("BOOT       ", DIRECTORY, 3, 0));
    put(cluster(3), &[entry(".          ", DIRECTORY, 3, 0), entry("..         ", DIRECTORY, 2, 0)].concat());
    for (i, ((name, content), (first, _))) in files.iter().zip(&chains[2..]).enumerate() {
        put(cluster(3) + 64 + i * 32, &entry(name, ARCHIVE, *first, content.len()));
        put(cluster(*first), content);
    }
    image
}

fn boot_sector(sectors: usize, fat_sectors: usize) -> [u8; SECTOR] {
    let mut sector = [0; SECTOR];
    let mut put = |at: usize, bytes: &[u8]| sector[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, &[0xeb, 0x3c, 0x90]);
    put(3, b"IRONHOOK");
    put(11, &(SECTOR as u16).to_le_bytes());
    put(13, &[(CLUSTER / SECTOR) as u8]);
    put(14, &1_u16.to_le_bytes());
    put(16, &[2]);
    put(17, &(ROOT_ENTRIES as u16).to_le_bytes());
    put(19, &(sectors as u16).to_le_bytes());
    put(21, &[0xf8]);
    put(22, &(fat_sectors as u16).to_le_bytes());
    put(24, &[32, 0, 2, 0]);
    put(38, &[0x29, b'I', b'R', b'O', b'N']);
    put(43, b"NO NAME    FAT12   ");
    put(510, &[0x55, 0xaa]);
    sector
}

/// Twelve bits a cluster.
fn table(chains: &[(usize, usize)], clusters: usize, fat_sectors: usize) -> Vec<u8> {
    let mut entries = vec![0_u16; clusters];
    (entries[0], entries[1]) = (0xff8, 0xfff);
    for (first, count) in chains {
        for (cluster, entry) in entries.iter_mut().enumerate().skip(*first).take(*count) {
            *entry = if cluster + 1 == first + count { 0xfff } else { cluster as u16 + 1 };
        }
    }
    let mut table = vec![0; fat_sectors * SECTOR];
    for (i, value) in entries.iter().enumerate() {
        let at = i * 3 / 2;
        let shifted = if i % 2 == 0 { *value } else { value << 4 };
        table[at] |= shifted as u8;
        table[at + 1] |= (shifted >> 8) as u8;
    }
    table
}

fn entry(name: &str, kind: u8, cluster: usize, size: usize) -> [u8; 32] {
    let mut entry = [0; 32];
    entry[..11].copy_from_slice(&name.as_bytes()[..11]);
    entry[11] = kind;
    // 1980-01-01, the first day that FAT knows.
    entry[24..26].copy_from_slice(&0x21_u16.to_le_bytes());
    entry[26..28].copy_from_slice(&(cluster as u16).to_le_bytes());
    entry[28..].copy_from_slice(&(size as u32).to_le_bytes());
    entry
}
