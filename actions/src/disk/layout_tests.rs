//! Wishes against disks with and without partitions.

use super::*;
use proptest::prelude::*;

const MIB: u64 = 1 << 20;

fn empty(sector: u64, disk: u64) -> Situation {
    let last = disk / sector - 1;
    let array = 16384 / sector;
    Situation { existing: BTreeMap::new(), usable: (2 + array, last - 1 - array), sector, disk, capacity: 128 }
}

fn with(mut situation: Situation, steps: &[Step]) -> Situation {
    for step in steps {
        situation.existing.insert(step.number, step.partition.clone());
    }
    situation
}

fn extents(steps: &[Step]) -> Vec<(u32, u64, u64)> {
    steps.iter().map(|s| (s.number, s.partition.first_lba, s.partition.last_lba)).collect()
}

#[test]
fn sizes_and_types_are_parsed() {
    let list = r#"[{"label":"esp","size":"64MiB","type":"esp"},
        {"label":"swap","size":"25%","type":"swap","number":3},
        {"label":"root","size":"rest","type":"0fc63daf-8483-4772-8e79-3d69d8477de4"}]"#;
    let wanted = parse(list).unwrap();
    assert_eq!(
        wanted.iter().map(|w| w.size).collect::<Vec<_>>(),
        [Size::Bytes(64 * MIB), Size::Percent(25), Size::Rest]
    );
    assert_eq!(wanted[2].kind, partition_types::LINUX_FS.guid);
    assert_eq!(wanted[1].number, Some(3));
}

#[test]
fn malformed_lists_are_refused_by_entry() {
    let entry = |size: &str, kind: &str| format!(r#"[{{"label":"a","size":"{size}","type":"{kind}"}}]"#);
    for (text, hint) in [
        ("{}".to_owned(), "not a list"),
        ("[]".to_owned(), "empty"),
        (entry("512", "linux"), "512"),
        (entry("0MiB", "linux"), "0MiB"),
        (entry("101%", "linux"), "101%"),
        (entry("99999999999TiB", "linux"), "neither"),
        (entry("+5MiB", "linux"), "+5MiB"),
        (entry("1MiB", "ntfs"), "ntfs"),
        (entry("1MiB", "00000000-0000-0000-0000-000000000000"), "GUID"),
        (r#"[{"label":"a","size":"rest","type":"linux","fs":"ext4"}]"#.to_owned(), "fs"),
        (
            r#"[{"label":"a","size":"rest","type":"linux"},{"label":"b","size":"1MiB","type":"linux"}]"#.to_owned(),
            "entry 1",
        ),
        (
            r#"[{"label":"a","size":"1MiB","type":"linux"},{"label":"a","size":"1MiB","type":"linux"}]"#.to_owned(),
            "twice",
        ),
    ] {
        let problem = parse(&text).unwrap_err();
        assert!(problem.contains(hint), "{text}: {problem}");
    }
}

#[test]
fn partitions_are_aligned_at_both_sector_sizes() {
    let wanted = parse(
        r#"[{"label":"a","size":"1500K","type":"linux"},{"label":"b","size":"25%","type":"linux"},
            {"label":"c","size":"rest","type":"linux"}]"#,
    )
    .unwrap();
    for sector in [512, 4096] {
        let mib = MIB / sector;
        let steps = plan(&wanted, &empty(sector, 100 * MIB)).unwrap();
        assert_eq!(extents(&steps), [(1, mib, 3 * mib - 1), (2, 3 * mib, 28 * mib - 1), (3, 28 * mib, 99 * mib - 1)]);
    }
}

#[test]
fn the_same_wish_twice_adds_nothing() {
    let wanted =
        parse(r#"[{"label":"a","size":"25%","type":"linux"},{"label":"b","size":"rest","type":"swap"}]"#).unwrap();
    let situation = empty(512, 100 * MIB);
    let first = plan(&wanted, &situation).unwrap();
    let second = plan(&wanted, &with(situation, &first)).unwrap();
    assert!(second.iter().all(|s| !s.is_new));
    assert_eq!(extents(&first), extents(&second));
}

#[test]
fn the_same_name_with_another_content_is_refused() {
    let make =
        |size: &str, kind: &str| parse(&format!(r#"[{{"label":"a","size":"{size}","type":"{kind}"}}]"#)).unwrap();
    let situation = empty(512, 100 * MIB);
    let situation = with(situation.clone(), &plan(&make("10MiB", "linux"), &situation).unwrap());
    for wanted in [make("11MiB", "linux"), make("10MiB", "swap")] {
        let error = plan(&wanted, &situation).unwrap_err();
        assert!(matches!(error, Error::Differs { number: 1, .. }), "{error}");
    }
}

#[test]
fn numbers_are_those_asked_for_or_the_first_free_ones() {
    let wanted = parse(
        r#"[{"label":"a","size":"1MiB","type":"linux"},{"label":"b","size":"1MiB","type":"linux","number":1},
            {"label":"c","size":"1MiB","type":"bios","number":14}]"#,
    )
    .unwrap();
    let situation = empty(512, 100 * MIB);
    let steps = plan(&wanted, &situation).unwrap();
    assert_eq!(steps.iter().map(|s| s.number).collect::<Vec<_>>(), [2, 1, 14]);
    let other = parse(r#"[{"label":"x","size":"1MiB","type":"linux","number":14}]"#).unwrap();
    let error = plan(&other, &with(situation.clone(), &steps)).unwrap_err();
    assert!(matches!(error, Error::NumberTaken { number: 14, .. }), "{error}");
    let high = parse(r#"[{"label":"x","size":"1MiB","type":"linux","number":129}]"#).unwrap();
    assert!(matches!(plan(&high, &situation), Err(Error::NoNumber { .. })));
}

#[test]
fn want_of_room_says_how_much_there_is() {
    let wanted = parse(r#"[{"label":"a","size":"1GiB","type":"linux"}]"#).unwrap();
    let error = plan(&wanted, &empty(512, 100 * MIB)).unwrap_err();
    assert_eq!(error, Error::NoRoom { label: "a".into(), wanted: 1024 * MIB, largest: 98 * MIB });
}

proptest! {
    #[test]
    fn partitions_never_overlap_nor_leave_the_disk(
        disk in 4u64..4096, big: bool, sizes in proptest::collection::vec((1u64..600, any::<bool>()), 1..8),
        existing in proptest::collection::vec((0u64..4096, 1u64..300), 0..4),
    ) {
        let sector = if big { 4096 } else { 512 };
        let mut situation = empty(sector, disk * MIB);
        let mut at = situation.usable.0;
        for (n, (skip, len)) in existing.into_iter().enumerate() {
            let first = at + skip;
            let last = first + len - 1;
            if last <= situation.usable.1 {
                let partition = Partition { part_type_guid: partition_types::BASIC, part_guid: Uuid::nil(),
                    first_lba: first, last_lba: last, flags: 0, name: format!("old{n}") };
                situation.existing.insert(n as u32 + 1, partition);
                at = last + 1;
            }
        }
        let wanted: Vec<_> = sizes.iter().enumerate().map(|(n, (size, percent))| Wanted {
            label: format!("new{n}"),
            size: if *percent { Size::Percent((size % 100 + 1) as u8) } else { Size::Bytes(size * MIB) },
            kind: partition_types::LINUX_FS.guid,
            number: None,
        }).collect();
        if let Ok(steps) = plan(&wanted, &situation) {
            let all = with(situation.clone(), &steps);
            prop_assert_eq!(all.existing.len(), situation.existing.len() + steps.len());
            let mut extents: Vec<_> = all.existing.values().map(|p| (p.first_lba, p.last_lba)).collect();
            extents.sort_unstable();
            prop_assert!(extents[0].0 >= situation.usable.0 && extents[extents.len() - 1].1 <= situation.usable.1);
            prop_assert!(extents.windows(2).all(|w| w[0].1 < w[1].0), "{:?}", extents);
            prop_assert!(steps.iter().all(|s| s.partition.first_lba * sector % MIB == 0));
            prop_assert!(plan(&wanted, &all).unwrap().iter().all(|s| !s.is_new));
        }
    }
}
