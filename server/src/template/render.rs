//! (`Template`, data) -> `Rendered`: plain YAML text, and for each of its lines the line of the template it came from.

use std::fmt;

use gotmpl::parse::{Expr, ListNode, Node, Pos};
use gotmpl::{TemplateError, Value};

use super::Problem;
use super::parse::{MAIN, MARK, Template, walk_node};

/// Upstream's limit of what a template may render to (wire reference §6.2).
pub const MAX_RENDERED: usize = 262_144;
/// The marks do not count, but must not make it endless either.
const MAX_MARKED: usize = 4 * MAX_RENDERED;

/// What gotmpl makes of nothing, and of any field of nothing, for which Go stops.
const NOTHING: &str = "<no value>";

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
    match rendered.text.lines().position(|line| line.contains(NOTHING)) {
        Some(at) => Err(nothing(template, data, rendered.line(at + 1))),
        None => Ok(rendered),
    }
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
    let mut uses = Vec::new();
    if let Some(node) = culprit(template, data, Result::is_err) {
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

/// The node of the main part from which on its beginning is bad.
fn culprit<'a>(
    template: &'a Template,
    data: &Value,
    is_bad: impl Fn(&Result<String, TemplateError>) -> bool,
) -> Option<&'a Node> {
    let nodes = &template.main.nodes;
    let (mut good, mut bad) = (0, nodes.len());
    while bad - good > 1 {
        let middle = good + (bad - good) / 2;
        let start = ListNode { pos: template.main.pos, nodes: nodes[..middle].to_vec() };
        *(if is_bad(&execute(template, start, data)) { &mut bad } else { &mut good }) = middle;
    }
    nodes.get(good)
}

/// The expression that has no value: the one that its node prints, or the only one on its line.
fn nothing(template: &Template, data: &Value, line: usize) -> Problem {
    let node = culprit(template, data, |start| start.as_ref().is_ok_and(|text| text.contains(NOTHING)));
    let mut uses = Vec::new();
    if let Some(Node::Action(action)) = node
        && let [command] = action.pipe.commands.as_slice()
        && let [expr] = command.args.as_slice()
    {
        uses.push(expr);
    } else if let Some(node) = node {
        walk_node(node, &mut |expr| uses.push(expr));
        uses.retain(|expr| expr.pos().line == line);
    }
    let mut named = uses.into_iter().filter_map(|expr| Some((expr.pos().line, joined(&path(expr)?))));
    match (named.next(), named.next()) {
        (Some((line, name)), None) => Problem::new(line, &name, format!("{name} has no value")),
        _ => Problem::new(line, "", "something on this line has no value"),
    }
}

/// The written form of a path that asks for this key.
fn path_to(expr: &Expr, key: &str) -> Option<(Pos, String)> {
    let path = path(expr)?;
    let at = path.iter().skip(1).position(|part| *part == key)?;
    Some((expr.pos(), joined(&path[..at + 2])))
}

/// What a path begins with, and its fields.
fn path(expr: &Expr) -> Option<Vec<&str>> {
    let (start, fields) = match expr {
        Expr::Field(_, fields) => ("", fields),
        Expr::Variable(_, name, fields) => (name.as_str(), fields),
        Expr::Chain(_, _, fields) => ("(...)", fields),
        _ => return None,
    };
    Some(std::iter::once(start).chain(fields.iter().map(|field| field.as_str())).collect())
}

fn joined(path: &[&str]) -> String {
    path.join(".")
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
