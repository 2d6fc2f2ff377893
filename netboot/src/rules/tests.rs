//! Rules as an operator writes them, and what they decide.

use proptest::prelude::*;

use super::*;
use crate::machine::{Custom, Workflow, WorkflowState};
use crate::tests::{MAC, machine};

fn rules(yaml: &str) -> Rules {
    Rules::new(serde_saphyr::from_str(yaml).unwrap()).unwrap()
}

fn history(boots: u32) -> History {
    let facts = Facts { mac: Some(MAC), arch: Some(7), circuit_id: Some("rack-1/3".into()), ..Facts::default() };
    History { boots, facts }
}

fn decide(rules: &Rules, machine: Option<&Machine>, boots: u32) -> Decision {
    rules.decide(Subject { machine, history: &history(boots) })
}

fn with(state: WorkflowState) -> Machine {
    Machine { workflow: Workflow { name: "default/w".into(), state, reason: "why".into() }, ..machine() }
}

#[test]
fn the_defaults_are_those_of_the_manual() {
    let rules = Rules::new(vec![]).unwrap();
    let verdict = |machine: Option<&Machine>, boots| decide(&rules, machine, boots).verdict;
    assert!(matches!(verdict(None, 0), Verdict::Refuse(why) if why.contains("no Hardware")));
    let forbidden = Machine { allow_pxe: false, ..with(WorkflowState::Pending) };
    assert!(matches!(verdict(Some(&forbidden), 0), Verdict::Refuse(why) if why.contains("allowPXE")));
    for (state, boots, wanted) in [
        (WorkflowState::None, 0, Verdict::Disk),
        (WorkflowState::Pending, 9, Verdict::Installer),
        (WorkflowState::Running, 9, Verdict::Installer),
        (WorkflowState::Succeeded, 9, Verdict::Disk),
        (WorkflowState::Failed, 2, Verdict::Disk),
        (WorkflowState::Failed, 3, Verdict::Park),
    ] {
        assert_eq!(verdict(Some(&with(state)), boots), wanted, "{state:?} {boots}");
    }
    let always = Machine { always_netboot: true, ..with(WorkflowState::Succeeded) };
    assert_eq!(verdict(Some(&always), 0), Verdict::Installer);
    let custom = Machine { custom: Some(Custom::Script("shell".into())), ..with(WorkflowState::Pending) };
    assert_eq!(verdict(Some(&custom), 0), Verdict::Custom);
}

#[test]
fn the_first_rule_that_holds_decides_and_the_others_say_why_not() {
    let rules = rules(
        "- name: rescue\n  when: {label.rescue: true}\n  then: {chain: 'http://10.0.0.9/rescue.ipxe'}\n\
         - name: rack 1\n  when:\n    circuitId: rack-1/*\n    any: [{arch: [0, 9]}, {arch: '>=7'}]\n    not: {serial: X1}\n  then: disk\n",
    );
    let decision = decide(&rules, Some(&machine()), 0);
    assert_eq!((decision.rule.as_str(), &decision.verdict), ("rack 1", &Verdict::Disk));
    assert_eq!(decision.passed, [("rescue".to_owned(), "label.rescue is not known".to_owned())]);
    assert!(rules.ask(), "a rule asks for the serial number");
    let mut labelled = machine();
    labelled.labels.insert("rescue".into(), "true".into());
    let decision = decide(&rules, Some(&labelled), 0);
    assert_eq!(decision.verdict, Verdict::Chain("http://10.0.0.9/rescue.ipxe".into()));
    let unknown = decide(&rules, None, 0);
    assert_eq!(unknown.rule, "rack 1");
}

#[test]
fn why_a_rule_did_not_decide_names_the_fact_and_its_value() {
    let rules = rules("- name: a\n  when: {workflow: [failed, none], mac: '52:*'}\n  then: disk\n");
    let decision = decide(&rules, Some(&machine()), 0);
    assert_eq!(decision.passed[0].1, "workflow is \"pending\", not failed or none");
    assert_eq!(decision.rule, "a workflow waits");
}

#[test]
fn unknown_machines_are_enrolled_only_by_rule() {
    let rules = rules("- name: lab\n  when: {known: false, mac: '52:54:00:*'}\n  then: enroll\n");
    assert_eq!(decide(&rules, None, 0).verdict, Verdict::Enroll);
    assert_eq!(decide(&Rules::new(vec![]).unwrap(), None, 0).rule, "unknown machines are refused");
}

#[test]
fn what_makes_no_sense_is_refused_when_it_is_read() {
    for (yaml, wanted) in [
        ("- name: a\n  when: {colour: red}\n  then: disk\n", "\"colour\" is no fact"),
        ("- name: a\n  when: {boots: '>=many'}\n  then: disk\n", "compares with no number"),
        ("- name: a\n  then: explode\n", "explode"),
        ("- name: a\n  then: disk\n  else: disk\n", "else"),
        ("- name: a\n  when: {label.: x}\n  then: disk\n", "is no fact"),
    ] {
        let error = serde_saphyr::from_str::<Vec<Rule>>(yaml).unwrap_err().to_string();
        assert!(error.contains(wanted), "{yaml}: {error}");
    }
    let chain = serde_saphyr::from_str("- name: a\n  then: {chain: 'file:///etc/passwd'}\n").unwrap();
    assert!(matches!(Rules::new(chain), Err(RulesError::Url { .. })));
    let twice = serde_saphyr::from_str("- {name: a, then: disk}\n- {name: a, then: disk}\n").unwrap();
    assert!(matches!(Rules::new(twice), Err(RulesError::Name(_))));
}

proptest! {
    #[test]
    fn no_text_panics(text in ".{0,200}") {
        let _ = serde_saphyr::from_str::<Vec<Rule>>(&text);
    }

    #[test]
    fn globs_agree_with_a_plain_search(start in "[a-c]{0,3}", middle in "[a-c]{0,3}", text in "[a-c]{0,9}") {
        let pattern = format!("{start}*{middle}*");
        let wanted = text.strip_prefix(start.as_str()).is_some_and(|rest| rest.contains(middle.as_str()));
        let condition = Condition::Is("serial".into(), vec![Pattern::Text(pattern)]);
        let history = History { facts: Facts { serial: Some(text), ..Facts::default() }, boots: 0 };
        prop_assert_eq!(condition.holds(&Subject { machine: None, history: &history }).is_ok(), wanted);
    }
}
