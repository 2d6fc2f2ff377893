//! text -> `Template`: syntax and the names of functions are checked here, because Go does so when it parses.
//! Every line of the text is marked, so that what is rendered can be traced back to it.

use gotmpl::parse::{DefineNode, Expr, ListNode, Node, Parser, PipeNode};
use gotmpl::{MissingKey, TemplateError};

use super::Problem;
use super::functions;

/// Opens and closes a line number in the rendered text; private use, refused in templates.
pub const MARK: [char; 2] = ['\u{F8F0}', '\u{F8F1}'];
/// The name of the template's main part.
pub const MAIN: &str = "\u{F8F0}main";

/// A template whose syntax is right and whose functions exist.
pub struct Template {
    /// The main part, its lines marked.
    pub main: ListNode,
    /// The parts that `define` and `block` made, their lines marked.
    pub parts: Vec<DefineNode>,
    /// Whether it is anything but text.
    pub dynamic: bool,
}

/// Reads a template, or tells what is wrong with it.
pub fn parse(text: &str) -> Result<Template, Vec<Problem>> {
    if let Some(line) = text.lines().position(|line| line.contains(MARK)) {
        return Err(vec![Problem::new(line + 1, "", "the characters U+F8F0 and U+F8F1 cannot be used in a template")]);
    }
    let (mut main, mut parts) =
        Parser::new(text, "{{", "}}").and_then(Parser::parse).map_err(|error| vec![syntax(&error)])?;
    let known = functions::names();
    let mut problems = Vec::new();
    for list in parts.iter().map(|part| &part.body).chain([&main]) {
        walk(list, &mut |expr| {
            if let Expr::Identifier(pos, name) = expr
                && !known.contains(name.as_str())
            {
                problems.push(Problem::new(pos.line, name.as_str(), format!("unknown function {name:?}")));
            }
        });
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    let dynamic = !main.nodes.iter().all(|node| matches!(node, Node::Text(_)));
    mark(&mut main, text);
    parts.iter_mut().for_each(|part| mark(&mut part.body, text));
    Ok(Template { main, parts, dynamic })
}

impl Template {
    /// Ready to be executed, missing keys being errors; `main` may be cut short to find where execution fails.
    pub fn executable(&self, main: ListNode) -> gotmpl::Template {
        let empty = gotmpl::Template::new("").missing_key(MissingKey::Error).funcs(functions::all());
        let parts = self.parts.iter().fold(empty, |all, part| all.add_parse_tree(&part.name, part.body.clone()));
        parts.add_parse_tree(MAIN, main)
    }
}

fn syntax(error: &TemplateError) -> Problem {
    match error {
        TemplateError::Parse { line, message, .. } | TemplateError::Lex { line, message, .. } => {
            Problem::new(*line, "", format!("template syntax: {message}"))
        }
        other => Problem::new(0, "", format!("template syntax: {other}")),
    }
}

/// Shows every expression of a list, in the order of the text.
pub fn walk<'a>(list: &'a ListNode, see: &mut dyn FnMut(&'a Expr)) {
    list.nodes.iter().for_each(|node| walk_node(node, see));
}

/// Shows every expression of a node, in the order of the text.
pub fn walk_node<'a>(node: &'a Node, see: &mut dyn FnMut(&'a Expr)) {
    match node {
        Node::List(list) => walk(list, see),
        Node::Text(_) | Node::Break(_) | Node::Continue(_) => {}
        Node::Action(action) => walk_pipe(&action.pipe, see),
        Node::If(branch) | Node::Range(branch) | Node::With(branch) => {
            walk_pipe(&branch.pipe, see);
            walk(&branch.body, see);
            branch.else_body.iter().for_each(|list| walk(list, see));
        }
        Node::Template(call) => call.pipe.iter().for_each(|pipe| walk_pipe(pipe, see)),
        Node::Define(part) => walk(&part.body, see),
    }
}

fn walk_pipe<'a>(pipe: &'a PipeNode, see: &mut dyn FnMut(&'a Expr)) {
    pipe.commands.iter().flat_map(|command| &command.args).for_each(|expr| walk_expr(expr, see));
}

fn walk_expr<'a>(expr: &'a Expr, see: &mut dyn FnMut(&'a Expr)) {
    see(expr);
    match expr {
        Expr::Pipe(_, pipe) => walk_pipe(pipe, see),
        Expr::Chain(_, inner, _) => walk_expr(inner, see),
        _ => {}
    }
}

/// Puts the number of its line after every line end of the text.
fn mark(list: &mut ListNode, source: &str) {
    for node in &mut list.nodes {
        match node {
            Node::List(list) => mark(list, source),
            Node::Text(text) => {
                // Trim markers move the start of a text, so it is looked for from its token on.
                let rest = source.get(text.pos.offset..).unwrap_or_default();
                let offset = text.pos.offset + rest.find(text.text.as_ref()).unwrap_or(0);
                let mut line = 1 + source.get(..offset).unwrap_or_default().matches('\n').count();
                let mut marked = String::with_capacity(text.text.len() * 2);
                for c in text.text.chars() {
                    marked.push(c);
                    if c == '\n' {
                        line += 1;
                        marked.push_str(&format!("{}{line}{}", MARK[0], MARK[1]));
                    }
                }
                text.text = marked.into();
            }
            Node::If(branch) | Node::Range(branch) | Node::With(branch) => {
                mark(&mut branch.body, source);
                branch.else_body.iter_mut().for_each(|list| mark(list, source));
            }
            Node::Define(part) => mark(&mut part.body, source),
            Node::Action(_) | Node::Template(_) | Node::Break(_) | Node::Continue(_) => {}
        }
    }
}
