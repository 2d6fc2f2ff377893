//! (`Template`, data) -> `Rendered`: plain YAML text, and for each of its lines the line of the template it came from.

use std::fmt;

use gotmpl::parse::{Expr, ListNode, Pos};
use gotmpl::{TemplateError, Value};

use super::Problem;
use super::parse::{MAIN, MARK, Template, walk_node};

/// Upstream's limit of what a template may render to (wire reference §6.2).
pub const MAX_RENDERED: usize = 262_144;
/// The marks do not count, but must not make it endless either.
const MAX_MARKED: usize = 4 * MAX_RENDERED;

/// What a template became.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rendered {
    /// YAML.
    pub text: String,
    /// Of each line of `text`, its line in the template.
    pub lines: Vec<usize>,
}

impl Rendered {
    /// The line of the template that a line of the text came from, both counted from 1.
    pub fn line(&self, line: usize) -> usize {
        self.lines.get(line.saturating_sub(1)).or(self.lines.last()).copied().unwrap_or(line)
    }
}

/// Fills in the data, or tells what is missing.
pub fn render(template: &Template, data: &Value) -> Result<Rendered, Problem> {
    let marked = execute(template, template.main.clone(), data).map_err(|error| locate(template, data, &error))?;
    let rendered = unmark(&marked);
    if rendered.text.len() > MAX_RENDERED {
        let message = format!("the template renders to more than {MAX_RENDERED} bytes");
        return Err(Problem::new(0, "", message));
    }
    Ok(rendered)
}

/// Takes the marks out of a text and remembers what they said.
pub fn unmark(marked: &str) -> Rendered {
    let mut text = String::with_capacity(marked.len());
    let mut lines = vec![1];
    let mut rest = marked;
    while let Some(at) = rest.find([MARK[0], '\n']) {
        text.push_str(&rest[..at]);
        if let Some(after) = rest[at..].strip_prefix('\n') {
            text.push('\n');
            lines.push(lines.last().copied().unwrap_or(1));
            rest = after;
        } else if let Some((number, after)) = rest[at + MARK[0].len_utf8()..].split_once(MARK[1]) {
            if let (Some(last), Ok(number)) = (lines.last_mut(), number.parse()) {
                *last = number;
            }
            rest = after;
        } else {
            break;
        }
    }
    text.push_str(rest);
    Rendered { text, lines }
}

fn execute(template: &Template, main: ListNode, data: &Value) -> Result<String, TemplateError> {
    let mut out = Limited(String::new());
    template.executable(main).execute_template_fmt(&mut out, MAIN, data)?;
    Ok(out.0)
}

/// gotmpl does not say where execution failed. Its beginning fails exactly from the failing node on, so the node is
/// found by halving; within it the first use of the missing key is meant.
fn locate(template: &Template, data: &Value, error: &TemplateError) -> Problem {
    let nodes = &template.main.nodes;
    let fails = |length: usize| {
        let start = ListNode { pos: template.main.pos, nodes: nodes[..length].to_vec() };
        execute(template, start, data).is_err()
    };
    let (mut good, mut bad) = (0, nodes.len());
    while bad - good > 1 {
        let middle = good + (bad - good) / 2;
        *(if fails(middle) { &mut bad } else { &mut good }) = middle;
    }
    let mut uses = Vec::new();
    if let Some(node) = nodes.get(good) {
        walk_node(node, &mut |expr| uses.push(expr));
    }
    let first = uses.first().map_or(0, |expr| expr.pos().line);
    for part in &template.parts {
        part.body.nodes.iter().for_each(|node| walk_node(node, &mut |expr| uses.push(expr)));
    }
    match error {
        TemplateError::MissingKey { key } => {
            let (pos, name) = uses.iter().find_map(|expr| path_to(expr, key)).unzip();
            let name = name.unwrap_or_else(|| format!(".{key}"));
            Problem::new(pos.map_or(first, |pos: Pos| pos.line), &name, format!("undefined variable {name}"))
        }
        TemplateError::UndefinedVariable(name) => {
            let used = uses.iter().find(|expr| matches!(expr, Expr::Variable(_, n, _) if n == name));
            let line = used.map_or(first, |expr| expr.pos().line);
            Problem::new(line, name, format!("undefined variable {name}"))
        }
        TemplateError::Write => {
            Problem::new(first, "", format!("the template renders to more than {MAX_RENDERED} bytes"))
        }
        other => Problem::new(first, "", other.to_string()),
    }
}

/// The written form of a path that asks for this key.
fn path_to(expr: &Expr, key: &str) -> Option<(Pos, String)> {
    let (start, path) = match expr {
        Expr::Field(_, path) => (String::new(), path),
        Expr::Variable(_, name, path) => (name.to_string(), path),
        Expr::Chain(_, _, path) => ("(...)".to_owned(), path),
        _ => return None,
    };
    let at = path.iter().position(|part| part == key)?;
    let name = path[..=at].iter().fold(start, |name, part| format!("{name}.{part}"));
    Some((expr.pos(), name))
}

/// A text that refuses to grow without end.
struct Limited(String);

impl fmt::Write for Limited {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if self.0.len() + text.len() > MAX_MARKED {
            return Err(fmt::Error);
        }
        self.0.push_str(text);
        Ok(())
    }
}
