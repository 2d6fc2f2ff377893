//! Images as foreign tools read them, and the field's placeholder.

use std::io::Write;
use std::process::Command;

use proptest::prelude::*;

use super::*;
use crate::LoaderTable;

fn made(dir: &Path) -> Image {
    files(dir);
    again(dir)
}

fn files(dir: &Path) {
    for (name, length) in [("vmlinuz-x86_64", 70_001), ("initramfs-x86_64", 300_000)] {
        std::fs::write(dir.join(name), crate::tests::pattern(length)).unwrap();
    }
    let loaders = dir.join("loaders");
    std::fs::create_dir_all(&loaders).unwrap();
    for (name, length) in
        [("shimx64.efi", 900_000), ("gcdx64.efi", 2_500_000), ("isolinux.bin", 40_000), ("ldlinux.c32", 9000)]
    {
        std::fs::write(loaders.join(name), crate::tests::pattern(length)).unwrap();
    }
}

fn again(dir: &Path) -> Image {
    let configs = Configs { grub: "echo grub\n".into(), isolinux: "DEFAULT x\n".into() };
    make("x86_64", dir, &LoaderTable::read(&dir.join("loaders")).unwrap(), &configs).unwrap()
}

fn run(program: &str, args: &[&str]) -> String {
    let out = Command::new(program).args(args).output().unwrap_or_else(|e| panic!("{program}: {e}"));
    assert!(out.status.success(), "{program}: {out:?}");
    String::from_utf8_lossy(&out.stdout).into_owned()
}

#[test]
fn the_fat_image_is_read_by_mtools() {
    let dir = tempfile::tempdir().unwrap();
    let (boot, grub) = (crate::tests::pattern(900_000), crate::tests::pattern(2_500_001));
    let path = dir.path().join("efi.img");
    std::fs::write(&path, fat::image(&[("BOOTX64 EFI", &boot), ("GRUBX64 EFI", &grub)])).unwrap();
    let image = path.to_str().unwrap();
    run("fsck.fat", &["-n", image]);
    let copy = dir.path().join("copy");
    for (name, content) in [("BOOTX64.EFI", &boot), ("GRUBX64.EFI", &grub)] {
        run("mcopy", &["-n", "-o", "-i", image, &format!("::/EFI/BOOT/{name}"), copy.to_str().unwrap()]);
        assert!(std::fs::read(&copy).unwrap() == *content, "{name}");
    }
}

#[test]
fn the_catalog_names_both_firmwares_and_their_programs() {
    let dir = tempfile::tempdir().unwrap();
    let image = made(dir.path());
    let catalog = image.read(19 * SECTOR, SECTOR).unwrap();
    let sum =
        catalog[..32].as_chunks::<2>().0.iter().fold(0_u16, |sum, two| sum.wrapping_add(u16::from_le_bytes(*two)));
    assert_eq!((sum, catalog[30], catalog[31]), (0, 0x55, 0xaa));
    assert_eq!((catalog[32], catalog[64], catalog[65], catalog[96]), (0x88, 0x91, 0xef, 0x88));
    let sector = |at: usize| u64::from(u32::from_le_bytes(catalog[at..at + 4].try_into().unwrap()));
    // isolinux finds itself by the table it is given.
    let bios = image.read(sector(40) * SECTOR, 64).unwrap();
    assert_eq!(u64::from(u32::from_le_bytes(bios[12..16].try_into().unwrap())), sector(40));
    let efi = image.read(sector(104) * SECTOR, 512).unwrap();
    assert_eq!((&efi[3..11], &efi[510..]), (&b"IRONHOOK"[..], &[0x55, 0xaa][..]));
}

#[test]
fn every_file_is_where_the_directories_say() {
    let dir = tempfile::tempdir().unwrap();
    let image = made(dir.path());
    let read = |path: &str| {
        let mut sector = 22;
        let mut parts = path.split('/').peekable();
        loop {
            let part = parts.next().unwrap();
            let wanted = if parts.peek().is_some() { part.to_owned() } else { format!("{part};1") };
            let listing = image.read(sector * SECTOR, SECTOR).unwrap();
            let mut at = 0;
            loop {
                let size = usize::from(listing[at]);
                assert!(size > 0, "{path}: no {wanted}");
                let name = &listing[at + 33..at + 33 + usize::from(listing[at + 32])];
                let field =
                    |from: usize| u64::from(u32::from_le_bytes(listing[at + from..at + from + 4].try_into().unwrap()));
                if name == wanted.as_bytes() {
                    if parts.peek().is_none() {
                        return image.read(field(2) * SECTOR, field(10)).unwrap();
                    }
                    sector = field(2);
                    break;
                }
                at += size;
            }
        }
    };
    assert_eq!(read("boot/grub/grub.cfg"), b"echo grub\n");
    assert_eq!(read("isolinux/isolinux.cfg"), b"DEFAULT x\n");
    assert_eq!(read(".disk/info"), b"Ironhook\n");
    assert!(read("boot/vmlinuz-x86_64") == crate::tests::pattern(70_001));
    assert!(read("boot/initramfs-x86_64") == crate::tests::pattern(300_000));
    assert_eq!(again(dir.path()).etag, image.etag, "the same content has the same tag");
}

#[test]
fn what_is_missing_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let configs = Configs { grub: String::new(), isolinux: String::new() };
    let error = make("x86_64", dir.path(), &LoaderTable::default(), &configs).unwrap_err().to_string();
    assert!(error.contains("shimx64.efi"), "{error}");
    let error = make("riscv64", dir.path(), &LoaderTable::default(), &configs).unwrap_err().to_string();
    assert!(error.contains("riscv64"), "{error}");
}

fn with_placeholders(at: &[usize], length: usize) -> tempfile::NamedTempFile {
    let mut bytes = vec![b'4'; length];
    for spot in at {
        bytes[*spot..spot + 1024].copy_from_slice(PLACEHOLDER.as_bytes());
    }
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(&bytes).unwrap();
    file
}

#[test]
fn a_placeholder_is_found_across_pieces_and_what_does_not_fit_is_refused() {
    // The second hangs over the border of the pieces that are searched.
    let wanted = [5, (4 << 20) - 500, 9_000_000];
    let file = with_placeholders(&wanted, 9_100_000);
    let spots = find(file.as_file()).unwrap();
    assert_eq!(spots, wanted.map(|at| at as u64));
    let open = || Arc::new(std::fs::File::open(file.path()).unwrap());
    assert!(matches!(patched(open(), "", &spots, &"x".repeat(1025)), Err(PatchError::TooLong { length: 1025 })));
    assert!(matches!(patched(open(), "", &vec![], "x"), Err(PatchError::NoPlaceholder)));
    let image = patched(open(), "", &spots, "console=ttyS0").unwrap();
    let spot = image.read(wanted[1] as u64 - 1, 1026).unwrap();
    assert_eq!((spot[0], spot[1025], &spot[1..15]), (b'4', b'4', &b"console=ttyS0 "[..]));
    assert_eq!(image.total(), 9_100_000);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn any_part_is_the_same_bytes_as_of_the_whole(from in 0_u64..20_000, length in 0_u64..5_000, spot in 0_usize..9_000) {
        let file = with_placeholders(&[spot], 25_000);
        let spots = find(file.as_file()).unwrap();
        let image = patched(Arc::new(std::fs::File::open(file.path()).unwrap()), "", &spots, "text").unwrap();
        let whole = image.read(0, image.total()).unwrap();
        prop_assert!(whole[from as usize..(from + length) as usize] == image.read(from, length).unwrap());
    }
}
