//! sprig's functions on lists and dictionaries, and its defaults.

use std::collections::BTreeMap;
use std::sync::Arc;

use gotmpl::Value;

use super::{Function, failed, list, map, ok, text};

pub(super) const TABLE: &[Function] = &[
    ("list", 0, |a| ok(a.to_vec())),
    ("join", 2, |a| {
        let parts = match &a[1] {
            Value::List(parts) => parts.iter().map(text).collect::<Vec<_>>(),
            one => vec![text(one)],
        };
        ok(parts.join(&text(&a[0])))
    }),
    ("splitList", 2, |a| {
        let (separator, whole) = (text(&a[0]), text(&a[1]));
        ok(whole.split(separator.as_str()).map(Value::from).collect::<Vec<_>>())
    }),
    ("first", 1, |a| Ok(list(&a[0])?.first().cloned().unwrap_or(Value::Nil))),
    ("last", 1, |a| Ok(list(&a[0])?.last().cloned().unwrap_or(Value::Nil))),
    ("has", 2, |a| Ok(Value::Bool(list(&a[1])?.contains(&a[0])))),
    ("dict", 0, |a| {
        // An odd number leaves the last key with an empty value, as in sprig.
        let pairs = a.chunks(2).map(|pair| (Arc::from(text(&pair[0])), pair.get(1).cloned().unwrap_or("".into())));
        ok(pairs.collect::<BTreeMap<Arc<str>, Value>>())
    }),
    ("get", 2, |a| Ok(map(&a[0])?.get(text(&a[1]).as_str()).cloned().unwrap_or("".into()))),
    ("hasKey", 2, |a| Ok(Value::Bool(map(&a[0])?.contains_key(text(&a[1]).as_str())))),
    ("keys", 1, |a| ok(map(&a[0])?.keys().map(|key| Value::String(Arc::clone(key))).collect::<Vec<_>>())),
    ("default", 1, |a| Ok(a.get(1).filter(|given| given.is_truthy()).unwrap_or(&a[0]).clone())),
    ("empty", 1, |a| Ok(Value::Bool(!a[0].is_truthy()))),
    ("coalesce", 0, |a| Ok(a.iter().find(|value| value.is_truthy()).cloned().unwrap_or(Value::Nil))),
    ("ternary", 3, |a| match &a[2] {
        Value::Bool(yes) => Ok(a[usize::from(!yes)].clone()),
        other => Err(failed(format!("ternary needs a bool, got {}", other.type_name()))),
    }),
];
