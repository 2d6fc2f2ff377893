//! Users and groups by name: each container has an id of its own, from 100 upwards in the order onboot, onshutdown,
//! services, and any entry may refer to it by the container's name. Pure.

use std::collections::BTreeMap;

use super::model::{Document, Id};

const FIRST: u32 = 100;

/// The ids of the containers of a file.
#[derive(Clone, Default, Debug)]
pub struct Ids(BTreeMap<String, u32>);

impl Ids {
    /// Gives each container its id; of two with one name, the later one's counts.
    pub fn of(document: &Document) -> Self {
        let containers = [&document.onboot, &document.onshutdown, &document.services].into_iter().flatten();
        Self(containers.zip(FIRST..).filter_map(|(container, id)| Some((container.name.clone()?, id))).collect())
    }

    /// The number; nothing said is root. The name itself is the error.
    pub fn number(&self, id: Option<&Id>) -> Result<u32, String> {
        match id {
            None => Ok(0),
            Some(Id::Number(number)) => Ok(*number),
            Some(Id::Name(name)) if name.is_empty() || name == "root" => Ok(0),
            Some(Id::Name(name)) => self.0.get(name).copied().ok_or_else(|| name.clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_count_from_100_over_all_sections() {
        let text = "{onboot: [{name: a}, {name: b}], services: [{name: d}], onshutdown: [{name: c}]}";
        let ids = Ids::of(&crate::yaml::parse("test", text).unwrap());
        let number = |name: &str| ids.number(Some(&Id::Name(name.into())));
        assert_eq!((number("a"), number("c"), number("d")), (Ok(100), Ok(102), Ok(103)));
        assert_eq!((number("root"), ids.number(None), ids.number(Some(&Id::Number(7)))), (Ok(0), Ok(0), Ok(7)));
        assert_eq!(number("nobody"), Err("nobody".into()));
    }
}
