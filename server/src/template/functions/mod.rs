//! The functions a template may call: Go's own (they are gotmpl's), sprig's hermetic ones that are used most, with
//! sprig's order of arguments, and Tinkerbell's (wire reference §6.2). None reads anything but its arguments.

mod encoding;
mod lists;
mod strings;
mod tinkerbell;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use gotmpl::{FuncMap, TemplateError, Value, ValueFunc};

type Outcome = Result<Value, TemplateError>;
/// Name, least number of arguments, the function itself.
type Function = (&'static str, usize, fn(&[Value]) -> Outcome);

/// All that are not Go's own.
pub fn all() -> FuncMap {
    let tables = [strings::TABLE, lists::TABLE, encoding::TABLE, tinkerbell::TABLE];
    let entry = |&(name, least, function): &Function| {
        let counted: ValueFunc = Arc::new(move |args: &[Value]| {
            if args.len() < least {
                return Err(TemplateError::ArgCount { name: name.to_owned(), expected: least, got: args.len() });
            }
            function(args)
        });
        (name.to_owned(), counted)
    };
    tables.into_iter().flatten().map(entry).collect::<BTreeMap<_, _>>()
}

/// Every name that can be called.
pub fn names() -> BTreeSet<String> {
    const GO: [&str; 19] = [
        "eq", "ne", "lt", "le", "gt", "ge", "and", "or", "not", "print", "println", "printf", "len", "index", "slice",
        "call", "html", "js", "urlquery",
    ];
    all().into_keys().chain(GO.map(str::to_owned)).collect()
}

fn failed(message: impl Into<String>) -> TemplateError {
    TemplateError::Exec(message.into())
}

/// As Go's `%v` prints it, nil as nothing.
fn text(value: &Value) -> String {
    match value {
        Value::Nil => String::new(),
        other => other.to_string(),
    }
}

fn whole(value: &Value) -> Result<i64, TemplateError> {
    match value {
        Value::String(text) => text.parse().map_err(|_| failed(format!("{text:?} is not a whole number"))),
        Value::Bool(yes) => Ok(i64::from(*yes)),
        Value::Nil => Ok(0),
        other => other.as_int().ok_or_else(|| failed(format!("{} is not a number", other.type_name()))),
    }
}

fn list(value: &Value) -> Result<&[Value], TemplateError> {
    match value {
        Value::List(list) => Ok(list),
        other => Err(TemplateError::TypeMismatch { expected: "list", got: other.type_name() }),
    }
}

fn map(value: &Value) -> Result<&BTreeMap<Arc<str>, Value>, TemplateError> {
    match value {
        Value::Map(map) => Ok(map),
        other => Err(TemplateError::TypeMismatch { expected: "map", got: other.type_name() }),
    }
}

fn ok(value: impl Into<Value>) -> Outcome {
    Ok(value.into())
}
