//! Templates as they are written in the wild, and every mistake with its line.

use std::collections::BTreeMap;

use serde_json::json;

use super::document::{self, Document};
use super::{Problem, data, parse, render, shape};

fn rendered(text: &str, map: &[(&str, &str)], hardware: Option<&serde_json::Value>) -> Result<String, Vec<Problem>> {
    let map: BTreeMap<String, String> = map.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    let template = parse::parse(text)?;
    Ok(render::render(&template, &data::data(&map, hardware).unwrap()).map_err(|p| vec![p])?.text)
}

fn plain(text: &str) -> String {
    rendered(text, &[], None).unwrap()
}

fn problems(text: &str, map: &[(&str, &str)]) -> Vec<Problem> {
    let map: BTreeMap<String, String> = map.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    let template = match parse::parse(text) {
        Ok(template) => template,
        Err(problems) => return problems,
    };
    match render::render(&template, &data::data(&map, None).unwrap()) {
        Err(problem) => vec![problem],
        Ok(rendered) => match document::parse(&rendered) {
            Err(problem) => vec![problem],
            Ok(document) => document.problems(&rendered),
        },
    }
}

fn shown(problems: &[Problem]) -> Vec<String> {
    problems.iter().map(|p| format!("{}:{}: {}", p.line, p.key, p.message)).collect()
}

const GOOD: &str = r#"version: "0.1"
name: install
global_timeout: 1800
tasks:
  - name: os
    worker: "{{.device_1}}"
    volumes: [/dev:/dev]
    environment:
      MODE: 0644
      COMPRESSED: true
      EMPTY:
      NUMBER: 1.10
    actions:
      - name: write
        image: image-write:1
        timeout: 600
        environment:
          DEST_DISK: {{ index .disks "x" | default "/dev/sda" }}
      - name: "reboot"
        image: registry.local:5000/boot@sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa
        pid: host
"#;

fn good() -> String {
    GOOD.replace(r#"{{ index .disks "x" | default "/dev/sda" }}"#, "{{ .disk }}")
}

fn document(text: &str) -> Document {
    let template = parse::parse(text).unwrap();
    let map = [("device_1".to_owned(), "m".to_owned()), ("disk".to_owned(), "/dev/sda".to_owned())].into();
    let rendered = render::render(&template, &data::data(&map, None).unwrap()).unwrap();
    document::parse(&rendered).unwrap()
}

#[test]
fn a_good_template_has_no_problems() {
    assert_eq!(problems(&good(), &[("device_1", "m"), ("disk", "/dev/sda")]), []);
    assert_eq!(shape::check(&parse::parse(&good()).unwrap()), []);
}

#[test]
fn scalars_of_the_environment_keep_their_text() {
    let document = document(&good());
    let environment = document.tasks.unwrap().remove(0).value.environment.unwrap();
    let shown: Vec<_> = environment.iter().map(|(k, v)| format!("{k}={}", v.0)).collect();
    assert_eq!(shown, ["COMPRESSED=true", "EMPTY=", "MODE=0644", "NUMBER=1.10"]);
}

#[test]
fn every_mistake_has_its_line_and_key() {
    let with = |from: &str, to: &str| {
        assert!(good().contains(from), "{from}");
        let broken = good().replacen(from, to, 1);
        shown(&problems(&broken, &[("device_1", "m"), ("disk", "/dev/sda")]))
    };
    assert_eq!(
        with("timeout: 600", "timout: 600")[0].split(", known").next().unwrap(),
        r#"16:timout: unknown field "timout""#
    );
    assert_eq!(
        with("timeout: 600", "timeout: 5m"),
        [r#"16:timeout: "5m" is not a whole number of seconds from 0 to 31536000"#]
    );
    assert_eq!(with("timeout: 600", "timeout: 0600").len(), 1);
    assert_eq!(
        with("timeout: 600", "timeout: -1"),
        [r#"16:timeout: "-1" is not a whole number of seconds from 0 to 31536000"#]
    );
    assert_eq!(with("        image: image-write:1\n", ""), [r#"14:image: action "write" has no image"#]);
    assert_eq!(with("image: image-write:1", "image:"), [r#"14:image: action "write" has no image"#]);
    assert_eq!(
        with("image: image-write:1", "image: Image Write"),
        [r#"15:image: "Image Write" is no image reference"#]
    );
    assert_eq!(with("name: \"reboot\"", "name: write"), [r#"19:name: action name "write" is used twice"#]);
    assert_eq!(with("name: \"reboot\"", "name: \"\""), ["19:name: this action needs a name"]);
    let long = format!("name: {}", "é".repeat(200));
    assert_eq!(with("name: \"reboot\"", &long), ["19:name: this action has 200 characters, at most 199 are possible"]);
    assert_eq!(with("{{.device_1}}", ""), ["5:worker: a task needs a worker"]);
    assert_eq!(with("{{.device_1}}", "{{.device_2}}"), ["6:.device_2: undefined variable .device_2"]);
    assert_eq!(with("{{ .disk }}", "{{ if .nope }}x{{ end }}"), ["18:.nope: undefined variable .nope"]);
    assert_eq!(with("{{ .disk }}", "{{ $x }}"), ["18:$x: undefined variable $x"]);
    assert_eq!(with("{{ .disk }}", "{{ .disk | explode }}"), [r#"18:explode: unknown function "explode""#]);
    let unclosed = with("{{ .disk }}", "{{ .disk ");
    assert!(unclosed[0].contains(":: template syntax: ") && unclosed[0].starts_with("1"), "{unclosed:?}");
    assert_eq!(with("MODE: 0644", "COMPRESSED: 0"), [r#"10:COMPRESSED: key "COMPRESSED" is there twice"#]);
    assert_eq!(with("MODE: 0644", "MODE: [1]").len(), 1);
    assert!(with("MODE: 0644", "MODE: [1]")[0].starts_with("9:"), "{:?}", with("MODE: 0644", "MODE: [1]"));
    assert_eq!(shown(&problems("name: x\n", &[])), ["1:tasks: a template needs at least one task"]);
}

#[test]
fn lines_are_those_of_the_template_after_loops_and_trimming() {
    let text = "name: x\n{{- $n := 3 }}\ntasks:\n{{- range $i, $w := .list }}\n- name: t{{ $i }}\n  worker: {{ $w }}\n  \
                actions:\n  - name: a\n    image: i\n{{- end }}\n  - name: late\n    timeout: 1\n";
    let template = parse::parse(text).unwrap();
    let data = gotmpl::to_value(&json!({"list": ["a", "b", "c"]})).unwrap();
    let rendered = render::render(&template, &data).unwrap();
    let problems = document::parse(&rendered).unwrap().problems(&rendered);
    assert_eq!(shown(&problems), [r#"11:image: action "late" has no image"#]);
}

#[test]
fn a_template_alone_is_checked_as_far_as_it_can_be() {
    let check = |text: &str| shown(&shape::check(&parse::parse(text).unwrap()));
    let broken = good().replace("timeout: 600", "timout: 600");
    assert!(check(&broken)[0].starts_with(r#"16:timout: unknown field "timout""#));
    assert_eq!(
        check(&good().replace("        image: image-write:1\n", "")),
        [r#"14:image: action "write" has no image"#]
    );
    // What depends on values is left for the workflow.
    assert_eq!(check(&good().replace("timeout: 600", "timeout: {{ .t }}")), Vec::<String>::new());
    assert_eq!(check("name: x\ntasks:\n{{ .tasks | toYaml | indent 2 }}\n"), Vec::<String>::new());
    assert_eq!(check("name: x\ntasks: [\n").len(), 1);
}

#[test]
fn functions_have_the_order_of_sprig() {
    for (text, expected) in [
        (r#"{{ contains "sd" "/dev/sda" }}"#, "true"),
        (r#"{{ hasPrefix "/dev" "/dev/sda" }} {{ hasSuffix "/dev" "/dev/sda" }}"#, "true false"),
        (r#"{{ formatPartition "/dev/nvme0n1" 2 }}"#, "/dev/nvme0n1p2"),
        (r#"{{ netmaskToPrefixLength "255.255.254.0" }}"#, "23"),
        (r#"{{ "a,b" | splitList "," | join "-" | upper | quote }}"#, r#""A-B""#),
        (r#"{{ list 1 2 3 | last }} {{ first (list "a") }}"#, "3 a"),
        (r#"{{ dict "a" 1 | toJson }} {{ get (dict "k" "v") "k" }} {{ hasKey (dict) "k" }}"#, r#"{"a":1} v false"#),
        (r#"{{ true | ternary "y" "n" }} {{ default "d" "" }} {{ "x" | default "d" }}"#, "y d x"),
        (r#"{{ add 1 2 3 }} {{ sub 5 2 }} {{ int "7" }}"#, "6 3 7"),
        (r#"{{ "a\nb" | nindent 2 }}"#, "\n  a\n  b"),
        (r#"{{ "hi" | b64enc }} {{ "aGk=" | b64dec }}"#, "aGk= hi"),
        (r#"{{ sha256sum "" }}"#, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
        (r#"{{ regexMatch "^sd[a-z]$" "sda" }} {{ squote "x" }} {{ trimSuffix "b" "ab" }}"#, "true 'x' a"),
        (r#"{{ (fromYaml "a: {b: c}").a.b }} {{ dict "a" (list 1) | toYaml }}"#, "c a:\n- 1"),
        (
            r#"{{ replace "a" "b" "aa" }}{{ trim " x " }}{{ trimPrefix "y" "yz" }}{{ toString 1 }}{{ lower "Q" }}"#,
            "bbxz1q",
        ),
    ] {
        assert_eq!(plain(text), expected, "{text}");
    }
}

#[test]
fn hardware_has_both_spellings() {
    let hardware = json!({"metadata": {"name": "m"}, "spec": {
        "disks": [{"device": "/dev/sda"}],
        "interfaces": [{"dhcp": {"mac": "52:54:00:00:00:01", "arch": "x86_64", "ip": {"address": "10.0.0.2"}}}],
        "userData": "#cloud-config",
        "metadata": {"instance": {"id": "i-1", "ssh_keys": ["k"]}, "facility": {"facility_code": "f"}},
    }});
    let render = |text: &str| rendered(text, &[("device_1", "d")], Some(&hardware)).unwrap();
    assert_eq!(render("{{ index .Hardware.Disks 0 }} {{ .device_1 }}"), "/dev/sda d");
    assert_eq!(render("{{ (index .Hardware.Interfaces 0).DHCP.IP.Address }}"), "10.0.0.2");
    assert_eq!(render("{{ (index .Hardware.Interfaces 0).DHCP.UEFI }}"), "false");
    assert_eq!(render("{{ .Hardware.Metadata.Instance.ID }} {{ .Hardware.UserData }}"), "i-1 #cloud-config");
    assert_eq!(render("{{ .Hardware.Metadata.Facility.FacilityCode }}"), "f");
    assert_eq!(render("{{ .hardware.spec.metadata.instance.id }} {{ .hardware.metadata.name }}"), "i-1 m");
}

#[test]
fn quote_escapes_as_go_does() {
    for (given, expected) in [
        ("plain é 語 e\u{301} ' \"q\" \\", "\"plain é 語 e\u{301} ' \\\"q\\\" \\\\\""),
        ("\u{7}\u{8}\u{c}\n\r\t\u{b}", r#""\a\b\f\n\r\t\v""#),
        ("\0\u{1b}\u{7f}", r#""\x00\x1b\x7f""#),
        ("\u{85}\u{a0}\u{200b}\u{feff}", r#""\u0085\u00a0\u200b\ufeff""#),
        ("\u{e0001}", r#""\U000e0001""#),
    ] {
        assert_eq!(rendered("{{ quote .x }}", &[("x", given)], None).unwrap(), expected);
    }
}

#[test]
fn metadata_has_the_empty_fields_of_go() {
    let with = |metadata: serde_json::Value| json!({"metadata": {"name": "m"}, "spec": {"metadata": metadata}});
    let full = with(json!({"state": null, "instance": {"id": "i-1", "operating_system": {"slug": "d"}, "ips": [{}]}}));
    let render = |text: &str, hardware| rendered(text, &[], Some(hardware));
    let text = "{{ with .Hardware.Metadata }}[{{ .State }}{{ .BondingMode }}{{ with .Instance }}{{ .Hostname }}{{ .Rescue }}\
                {{ .OperatingSystem.Distro }}{{ (index .Ips 0).Address }}{{ len .Tags }}{{ if .Storage }}x{{ end }}{{ end }}\
                {{ if .Facility }}x{{ end }}]{{ end }}";
    assert_eq!(render(text, &full).unwrap(), "[0false0]");
    let none = json!({"metadata": {"name": "m"}, "spec": {}});
    assert_eq!(
        render("[{{ .Hardware.Metadata.State }}]{{ if .Hardware.Metadata.Instance }}x{{ end }}", &none).unwrap(),
        "[]"
    );
    // A part that is not there has no fields; Go stops here, too.
    let nothing = |text: &str| shown(&render(text, &none).unwrap_err());
    assert_eq!(
        nothing("a: 1\nb: {{ .Hardware.Metadata.Instance.ID }}\n"),
        ["2:.Hardware.Metadata.Instance.ID: .Hardware.Metadata.Instance.ID has no value"]
    );
    assert_eq!(
        nothing("a: 1\n{{ if true }}\nb: {{ .Hardware.Metadata.Instance.ID }}\n{{ end }}"),
        ["3:.Hardware.Metadata.Instance.ID: .Hardware.Metadata.Instance.ID has no value"]
    );
    let two = nothing("a: 1\nb: {{ index (list .Hardware.Metadata.Facility) 0 }}\n");
    assert_eq!(two.len(), 1, "{two:?}");
    assert!(two[0].starts_with("2:"), "{two:?}");
}

#[test]
fn output_is_limited() {
    let error = rendered("{{ range $i := 1000000 }}xxxxxxxxxxxxxxxxxxxxxxxx\n{{ end }}", &[], None).unwrap_err();
    assert!(error[0].message.contains("more than 262144 bytes"), "{error:?}");
}

proptest::proptest! {
    #[test]
    fn nothing_an_operator_writes_panics(text in "[{}.$a-z:\\- \"|\n0-9]{0,200}") {
        if let Ok(template) = parse::parse(&text) {
            let _ = shape::check(&template);
            let _ = problems(&text, &[("a", "b")]);
        }
    }
}
