//! sprig's functions on text and numbers. The thing worked on comes last, so that it can be piped in.

use gotmpl::Value;
use regex_lite::Regex;

use super::{Function, Outcome, failed, ok, text, whole};

pub(super) const TABLE: &[Function] = &[
    ("contains", 2, |a| Ok(Value::Bool(text(&a[1]).contains(&text(&a[0]))))),
    ("hasPrefix", 2, |a| Ok(Value::Bool(text(&a[1]).starts_with(&text(&a[0]))))),
    ("hasSuffix", 2, |a| Ok(Value::Bool(text(&a[1]).ends_with(&text(&a[0]))))),
    ("lower", 1, |a| ok(text(&a[0]).to_lowercase())),
    ("upper", 1, |a| ok(text(&a[0]).to_uppercase())),
    ("trim", 1, |a| ok(text(&a[0]).trim())),
    ("trimPrefix", 2, |a| ok(text(&a[1]).strip_prefix(&text(&a[0])).map_or_else(|| text(&a[1]), str::to_owned))),
    ("trimSuffix", 2, |a| ok(text(&a[1]).strip_suffix(&text(&a[0])).map_or_else(|| text(&a[1]), str::to_owned))),
    ("replace", 3, |a| ok(text(&a[2]).replace(&text(&a[0]), &text(&a[1])))),
    ("quote", 0, |a| ok(each(a, quoted))),
    ("squote", 0, |a| ok(each(a, |text| format!("'{text}'")))),
    ("indent", 2, |a| indented(a, "")),
    ("nindent", 2, |a| indented(a, "\n")),
    ("toString", 1, |a| ok(text(&a[0]))),
    ("regexMatch", 2, |a| {
        let pattern = text(&a[0]);
        let regex = Regex::new(&pattern).map_err(|e| failed(format!("bad regular expression {pattern:?}: {e}")))?;
        Ok(Value::Bool(regex.is_match(&text(&a[1]))))
    }),
    ("int", 1, |a| Ok(Value::Int(whole(&a[0])?))),
    ("int64", 1, |a| Ok(Value::Int(whole(&a[0])?))),
    ("atoi", 1, |a| Ok(Value::Int(whole(&a[0])?))),
    ("add", 1, |a| fold(a, i64::checked_add)),
    ("sub", 2, |a| fold(a, i64::checked_sub)),
    ("mul", 1, |a| fold(a, i64::checked_mul)),
    ("div", 2, |a| fold(a, i64::checked_div)),
    ("mod", 2, |a| fold(a, i64::checked_rem)),
];

fn each(args: &[Value], quote: impl Fn(&str) -> String) -> String {
    let given = args.iter().filter(|arg| !matches!(arg, Value::Nil));
    given.map(|arg| quote(&text(arg))).collect::<Vec<_>>().join(" ")
}

/// As Go's `%q`: what it escapes, a YAML reader of double quotes understands.
fn quoted(text: &str) -> String {
    let mut quoted = String::from('"');
    for c in text.chars() {
        match (c, u32::from(c)) {
            ('"' | '\\', _) => quoted.extend(['\\', c]),
            ('\u{7}', _) => quoted.push_str("\\a"),
            ('\u{8}', _) => quoted.push_str("\\b"),
            ('\u{c}', _) => quoted.push_str("\\f"),
            ('\n', _) => quoted.push_str("\\n"),
            ('\r', _) => quoted.push_str("\\r"),
            ('\t', _) => quoted.push_str("\\t"),
            ('\u{b}', _) => quoted.push_str("\\v"),
            (_, code) if c.is_ascii_control() => quoted.push_str(&format!("\\x{code:02x}")),
            _ if printable(c) => quoted.push(c),
            (_, code @ ..=0xffff) => quoted.push_str(&format!("\\u{code:04x}")),
            (_, code) => quoted.push_str(&format!("\\U{code:08x}")),
        }
    }
    quoted.push('"');
    quoted
}

/// Whether Go would print a character as it is; Rust's own table knows, but for marks at the beginning of a text.
fn printable(c: char) -> bool {
    !String::from_iter(['a', c]).escape_debug().to_string().contains("\\u{")
}

fn indented(args: &[Value], before: &str) -> Outcome {
    let width = usize::try_from(whole(&args[0])?).ok().filter(|width| *width <= 1000);
    let pad = " ".repeat(width.ok_or_else(|| failed("cannot indent by that much"))?);
    ok(format!("{before}{pad}{}", text(&args[1]).replace('\n', &format!("\n{pad}"))))
}

fn fold(args: &[Value], step: fn(i64, i64) -> Option<i64>) -> Outcome {
    let mut all = args.iter().map(whole);
    let first = all.next().unwrap_or(Ok(0))?;
    let sum = all.try_fold(first, |sum, next| step(sum, next?).ok_or_else(|| failed("the result is no number")))?;
    Ok(Value::Int(sum))
}
