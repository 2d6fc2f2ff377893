//! What can be said of a Template that no Workflow uses yet: every value is stood in for, every condition holds, and
//! what comes out is checked as far as it does not depend on the values. Says too little rather than too much.

use gotmpl::parse::{ListNode, Node};

use super::Problem;
use super::document;
use super::parse::Template;
use super::render::unmark;

/// Stands in for a value: a text, a number, a name and an image at once.
const STAND_IN: &str = "90210";
/// Parts may use each other.
const MAX_DEPTH: usize = 16;

/// Everything that is wrong whatever the values are.
pub fn check(template: &Template) -> Vec<Problem> {
    let mut text = String::new();
    flatten(template, &template.main, 0, &mut text);
    let rendered = unmark(&text);
    let problems = match document::parse(&rendered) {
        Ok(document) => document.problems(&rendered),
        // A value may be more than a scalar, and then it would have been right.
        Err(problem) if template.dynamic && problem.key.is_empty() => Vec::new(),
        Err(problem) => vec![problem],
    };
    let stood_in = |problem: &Problem| problem.key.contains(STAND_IN) || problem.message.contains(STAND_IN);
    problems.into_iter().filter(|problem| !(template.dynamic && stood_in(problem))).collect()
}

fn flatten(template: &Template, list: &ListNode, depth: usize, out: &mut String) {
    for node in &list.nodes {
        match node {
            Node::List(list) => flatten(template, list, depth, out),
            Node::Text(text) => out.push_str(&text.text),
            Node::Action(action) if action.pipe.decl.is_empty() => out.push_str(STAND_IN),
            Node::If(branch) | Node::Range(branch) | Node::With(branch) => {
                flatten(template, &branch.body, depth, out);
            }
            Node::Template(call) if depth < MAX_DEPTH => {
                let part = template.parts.iter().find(|part| part.name == call.name);
                part.iter().for_each(|part| flatten(template, &part.body, depth + 1, out));
            }
            Node::Action(_) | Node::Template(_) | Node::Define(_) | Node::Break(_) | Node::Continue(_) => {}
        }
    }
}
