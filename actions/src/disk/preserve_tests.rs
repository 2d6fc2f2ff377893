//! Terms, gaps, numbers and conflicts, without a disk.

use super::*;
use gpt::partition_types::LINUX_FS;
use std::io::Cursor;
use uuid::Uuid;

const SIZE: u64 = 64 << 20;
const MIB: u64 = 2048;

fn partition(first: u64, last: u64, name: &str) -> Partition {
    Partition {
        part_type_guid: LINUX_FS,
        part_guid: Uuid::new_v4(),
        first_lba: first,
        last_lba: last,
        flags: 1 << 60,
        name: name.into(),
    }
}

fn table(partitions: &[(u32, &Partition)]) -> Table {
    let mut disk = Cursor::new(vec![0; SIZE as usize]);
    let mut table = Table::empty(&mut disk, 512).unwrap();
    for (number, partition) in partitions {
        table.set(*number, partition).unwrap();
    }
    table
}

fn kept(entries: &[(u32, &Partition)], terms: &str) -> Kept {
    let table = table(entries);
    let mut ranges: Vec<_> = table.extents().unwrap().iter().map(|e| e.start..e.start + e.length).collect();
    ranges.sort_by_key(|range| range.start);
    let entries = entries.iter().map(|(number, partition)| (*number, (*partition).clone())).collect();
    Kept { table: Some(table), terms: parse(terms).unwrap(), entries, ranges }
}

#[test]
fn terms_are_numbers_ranges_and_labels() {
    let terms = parse("4, 5-7,data*,label=9").unwrap();
    let label = |text: &str| Term::Label(text.into());
    assert_eq!(terms, [Term::Numbers(4, 4), Term::Numbers(5, 7), label("data*"), label("9")]);
    for bad in ["", "4,", "0", "7-5", "4-", "-", "label=", "99999999999", "5 - 7", "4 5", "5;7"] {
        assert!(parse(bad).is_err(), "{bad}");
    }
}

#[test]
fn what_is_not_kept_is_spare() {
    let (a, b) = (partition(20 * MIB, 30 * MIB - 1, "a"), partition(30 * MIB, 40 * MIB - 1, "b"));
    let kept = kept(&[(1, &b), (2, &a)], "a,b");
    let mib = |n: u64| n << 20;
    assert_eq!(kept.start(), Some(mib(20)));
    assert_eq!(kept.spare(0..mib(64)), [0..mib(20), mib(40)..mib(64)]);
    assert_eq!(kept.spare(mib(25)..mib(45)), vec![Range { start: mib(40), end: mib(45) }]);
    assert_eq!(kept.spare(mib(21)..mib(39)), []);
    assert_eq!(Kept::default().spare(1..3), vec![Range { start: 1, end: 3 }]);
}

#[test]
fn it_stays_as_it_is_or_gets_a_free_number() {
    let (root, data) = (partition(MIB, 9 * MIB - 1, "root"), partition(20 * MIB, 30 * MIB - 1, "data"));
    for (number, wanted) in [(3, 3), (1, 2)] {
        let mut of_image = table(&[(1, &root)]);
        let placed = kept(&[(number, &data)], "data").add_to(&mut of_image).unwrap();
        assert_eq!((placed[0].was, placed[0].number), (number, wanted));
        assert_eq!(of_image.partitions().unwrap()[&wanted], data);
        assert_eq!(of_image.partitions().unwrap()[&1], root);
    }
    let twice = kept(&[(1, &data), (2, &partition(30 * MIB, 31 * MIB - 1, "more"))], "data,more");
    let mut of_image = table(&[(1, &root), (2, &partition(9 * MIB, 10 * MIB - 1, "x"))]);
    let numbers: Vec<_> = twice.add_to(&mut of_image).unwrap().iter().map(|placed| placed.number).collect();
    assert_eq!(numbers, [3, 4]);
}

#[test]
fn conflicts_name_both() {
    let data = partition(20 * MIB, 30 * MIB - 1, "data");
    let refused = |image: &Partition, terms| {
        let mut of_image = table(&[(6, image)]);
        kept(&[(5, &data)], terms).add_to(&mut of_image).unwrap_err().failure().message
    };
    let message = refused(&partition(MIB, 20 * MIB, "root"), "data");
    assert!(message.contains("(\"data\")") && message.contains("(\"root\")") && message.contains("40960"), "{message}");
    let message = refused(&partition(40 * MIB, 41 * MIB, "late"), "5");
    assert!(message.contains("(\"late\")"), "{message}");
    // The next run would preserve what this one has written.
    for terms in ["5-7", "5,label=ro*"] {
        let message = refused(&partition(MIB, 9 * MIB, "root"), terms);
        assert!(message.contains(" is also partition 6 (\"root\") of the image"), "{message}");
    }
    let double = Partition { part_guid: data.part_guid, ..partition(MIB, 9 * MIB, "root") };
    let message = refused(&double, "5");
    assert!(message.contains("GUID of partition 6 (\"root\")"), "{message}");
}
