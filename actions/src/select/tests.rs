//! The grammar by example, the choice by ten thousand random machines.

use super::term::{bytes, wildcard};
use super::*;
use proptest::prelude::*;

#[test]
fn terms_are_read_and_shown_as_written() {
    for text in [
        "/dev/sda",
        "/dev/disk/by-id/wwn-0x5000",
        "serial=S3X*",
        "wwn=0x5000C500A1B2C3D4",
        "model~samsung, size>=100GB, !removable",
        "transport=nvme,smallest",
        "rotational=false,largest",
        "model=\"A, B\",size<2TiB",
        "serial=x,partition=root",
    ] {
        assert_eq!(parse(text).unwrap_or_else(|e| panic!("{e}")).to_string(), text);
    }
}

#[test]
fn what_makes_no_sense_is_refused_with_its_text() {
    for (text, hint) in [
        ("sda", "neither a path nor"),
        ("", "empty term"),
        ("serial=x,,", "empty term"),
        ("serial=", "neither a path nor"),
        ("size>=10 apples", "number of bytes"),
        ("size>=99999999999TiB", "number of bytes"),
        ("size~1", "number of bytes"),
        ("rotational=maybe", "not a boolean"),
        ("transport=pigeon", "none of the transports"),
        ("smallest,largest", "more than one of"),
        ("!smallest", "cannot be denied"),
        ("/dev/sda,/dev/sdb", "more than one path"),
        ("/dev/sda,size>=1", "mixes a path"),
        ("serial=x,count=2", "this action takes one"),
        ("serial=x,count=0", "count=<number>"),
        ("model=\"a", "quote that does not end"),
        ("partition=1", "says nothing about the disk"),
        ("count=all", "says nothing about the disk"),
    ] {
        let problem = parse(text).expect_err(text);
        assert!(problem.contains(hint), "{text}: {problem}");
    }
}

#[test]
fn a_list_of_paths_and_a_selector_of_several() {
    assert_eq!(parse_list("/dev/sda, /dev/sdb").unwrap().len(), 2);
    assert_eq!(parse_list("transport=nvme,count=all").unwrap()[0].count(), Count::All);
    assert_eq!(parse_list("model~x,size>=1").unwrap().len(), 1);
}

#[test]
fn sizes_and_patterns() {
    for (text, value) in
        [("1", Some(1)), ("2kB", Some(2000)), ("2KiB", Some(2048)), ("3 GB", Some(3_000_000_000)), ("1x", None)]
    {
        assert_eq!(bytes(text), value, "{text}");
    }
    for (pattern, text, fits) in [
        ("*", "", true),
        ("a*b?d", "axxbcd", true),
        ("a*b?d", "abd", false),
        ("*a*a*a*a*b", &"a".repeat(200), false),
        ("", "x", false),
    ] {
        assert_eq!(wildcard(pattern, text), fits, "{pattern} {text}");
    }
}

fn disk(name: &str, size: u64) -> Candidate {
    Candidate { name: name.into(), size, ..Candidate::default() }
}

#[test]
fn a_refusal_lists_every_disk_with_its_reason() {
    let disks = [
        Candidate {
            model: "QEMU".into(),
            serial: "A1".into(),
            unusable: Some("sda1 is mounted at /".into()),
            ..disk("sda", 10 << 30)
        },
        Candidate { serial: "B2".into(), ..disk("sdb", 1 << 30) },
        Candidate { removable: true, ..disk("sdc", 20 << 30) },
    ];
    let error = pick(&parse("size>=2GiB").unwrap(), &disks).unwrap_err().to_string();
    assert_eq!(
        error,
        "no disk matches \"size>=2GiB\"; there are: /dev/sda (model QEMU, serial A1, 10.0 GiB): sda1 is mounted at /; \
         /dev/sdb (model unknown, serial B2, 1.0 GiB): its size is 1.0 GiB (1073741824 bytes); \
         /dev/sdc (model unknown, serial unknown, 20.0 GiB): it is removable, and the selector does not say removable"
    );
    let two = [disk("sda", 5), disk("sdb", 5)];
    let error = pick(&parse("smallest").unwrap(), &two).unwrap_err();
    assert!(error.to_string().starts_with("2 disks match \"smallest\", it has to be one"), "{error}");
    assert!(pick(&parse("wwn=0x5000C5").unwrap(), &[Candidate { wwn: "naa.5000c5".into(), ..disk("sda", 1) }]).is_ok());
}

fn any_disk() -> impl Strategy<Value = Candidate> {
    let texts = (0u8..4, 0u8..3, 0u8..4, 0u8..4);
    let rest = (1u64..6, any::<bool>(), prop::bool::weighted(0.2), prop::bool::weighted(0.2));
    (texts, rest).prop_map(|((serial, model, wwn, transport), (size, rotational, removable, used))| Candidate {
        name: String::new(),
        serial: ["", "S1", "S2", "X"][usize::from(serial)].into(),
        model: ["", "Alpha Disk", "Beta"][usize::from(model)].into(),
        wwn: ["", "naa.50", "eui.51", "naa.52"][usize::from(wwn)].into(),
        transport: ["", "nvme", "sata", "usb"][usize::from(transport)].into(),
        size: size << 30,
        rotational,
        removable,
        unusable: used.then(|| "it is mounted".into()),
    })
}

/// A term as text, and what it means, said a second time in other words.
type Meaning = fn(&Candidate) -> bool;

const MEANINGS: &[(&str, Meaning)] = &[
    ("serial=S*", |d| d.serial.starts_with('S')),
    ("serial=S1", |d| d.serial == "S1"),
    ("!serial=S1", |d| d.serial != "S1"),
    ("model~alpha", |d| d.model == "Alpha Disk"),
    ("wwn=0x50", |d| d.wwn == "naa.50"),
    ("transport=nvme", |d| d.transport == "nvme"),
    ("!transport=usb", |d| d.transport != "usb"),
    ("size>=3GiB", |d| d.size >= 3 << 30),
    ("size<3GiB", |d| d.size < 3 << 30),
    ("size=2GiB", |d| d.size == 2 << 30),
    ("rotational=false", |d| !d.rotational),
    ("removable", |d| d.removable),
    ("!removable", |d| !d.removable),
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10_000))]
    #[test]
    fn of_any_machine_exactly_the_disk_that_is_meant_is_chosen(
        mut disks in prop::collection::vec(any_disk(), 0..7),
        terms in prop::collection::vec(0..MEANINGS.len(), 0..4),
        extreme in 0..3usize,
        turn in 0..7usize,
    ) {
        for (n, disk) in disks.iter_mut().enumerate() {
            disk.name = format!("sd{}", char::from(b'a' + n as u8));
        }
        let mut words: Vec<&str> = terms.iter().map(|n| MEANINGS[*n].0).collect();
        words.extend(["smallest", "largest"].get(extreme));
        prop_assume!(!words.is_empty());
        let selector = parse(&words.join(",")).unwrap();
        let asks_removable = words.contains(&"removable");
        let fits = |d: &&Candidate| {
            terms.iter().all(|n| MEANINGS[*n].1(d)) && d.unusable.is_none() && (asks_removable || !d.removable)
        };
        let fitting: Vec<&Candidate> = disks.iter().filter(fits).collect();
        let bound = match extreme {
            0 => fitting.iter().map(|d| d.size).min(),
            1 => fitting.iter().map(|d| d.size).max(),
            _ => None,
        };
        let meant: Vec<&str> =
            fitting.iter().filter(|d| bound.is_none_or(|b| d.size == b)).map(|d| d.name.as_str()).collect();
        let chosen = pick(&selector, &disks);
        match &chosen {
            Ok(chosen) => {
                let names: Vec<_> = chosen.iter().map(|n| disks[*n].name.as_str()).collect();
                prop_assert_eq!(names, meant.clone());
                prop_assert_eq!(meant.len(), 1);
            }
            Err(error) => {
                prop_assert!(meant.len() != 1, "{error}, but {meant:?} was meant");
                prop_assert_eq!(error.fitting, meant.len());
                let text = error.to_string();
                for disk in &disks {
                    prop_assert!(text.contains(&disk.describe()), "{text} does not list {}", disk.name);
                }
            }
        }
        // The order in which the kernel found them means nothing.
        let turn = turn % disks.len().max(1);
        let mut turned = disks.clone();
        turned.rotate_left(turn);
        let again = pick(&selector, &turned).map(|c| turned[c[0]].name.clone()).ok();
        prop_assert_eq!(again, chosen.ok().map(|c| disks[c[0]].name.clone()));
    }

    #[test]
    fn no_text_makes_the_grammar_panic(text in ".{0,60}") {
        let _ = (parse(&text), parse_list(&text));
    }
}
