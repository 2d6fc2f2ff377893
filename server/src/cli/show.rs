//! Objects as tables, and one workflow with all that is known of its actions. Pure text.

use std::fmt::Write as _;

use jiff::Timestamp;
use serde_json::Value;

use crate::objects::Kind;
use crate::objects::hardware::HardwareSpec;
use crate::objects::workflow::{Action, WorkflowSpec, WorkflowStatus};

/// A table with a head.
pub fn table(kind: Kind, items: Vec<Value>, wide: bool) -> Result<String, serde_json::Error> {
    let mut rows = vec![head(kind, wide)];
    for item in items {
        let name = item["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        let mut row = vec![name];
        row.extend(match kind {
            Kind::Hardware => hardware(item, wide)?,
            Kind::Template => Vec::new(),
            Kind::Workflow => workflow_row(item, wide)?,
        });
        rows.push(row);
    }
    Ok(columns(&rows))
}

fn head(kind: Kind, wide: bool) -> Vec<String> {
    let (narrow, more): (&[&str], &[&str]) = match kind {
        Kind::Hardware => (&["NAME", "MAC", "ADDRESS", "NETBOOT"], &["HOSTNAME", "ARCH", "DISKS"]),
        Kind::Template => (&["NAME"], &[]),
        Kind::Workflow => (&["NAME", "STATE", "ACTIONS", "CURRENT"], &["TEMPLATE", "HARDWARE", "REASON"]),
    };
    narrow.iter().chain(more.iter().filter(|_| wide)).map(|word| (*word).to_owned()).collect()
}

fn hardware(mut item: Value, wide: bool) -> Result<Vec<String>, serde_json::Error> {
    let spec: HardwareSpec = serde_json::from_value(item["spec"].take())?;
    let dhcp: Vec<_> = spec.interfaces.iter().filter_map(|i| i.dhcp.as_ref()).collect();
    let each = |show: &dyn Fn(&&crate::objects::hardware::Dhcp) -> Option<String>| {
        dash(dhcp.iter().filter_map(show).collect::<Vec<_>>().join(","))
    };
    let allowed = spec.interfaces.iter().any(|i| i.netboot.as_ref().and_then(|n| n.allow_pxe).unwrap_or(false));
    let mut row = vec![
        each(&|d| Some(d.mac?.to_string())),
        each(&|d| Some(d.ip.as_ref()?.address.to_string())),
        allowed.to_string(),
    ];
    if wide {
        let disks = spec.disks.iter().map(|disk| disk.device.clone()).collect::<Vec<_>>().join(",");
        row.extend([each(&|d| d.hostname.clone()), each(&|d| d.arch.clone()), dash(disks)]);
    }
    Ok(row)
}

fn workflow_row(mut item: Value, wide: bool) -> Result<Vec<String>, serde_json::Error> {
    let status: WorkflowStatus = serde_json::from_value(item["status"].take())?;
    let spec: WorkflowSpec = serde_json::from_value(item["spec"].take())?;
    let (done, all) = (status.next().unwrap_or_else(|| status.actions().count()), status.actions().count());
    let current = status.next().and_then(|next| status.actions().nth(next));
    let current = current.map(|(task, action)| format!("{}/{}", task.name, action.name)).unwrap_or_default();
    let mut row = vec![status.state.to_string(), format!("{done}/{all}"), dash(current)];
    if wide {
        row.extend([spec.template_ref, dash(spec.hardware_ref.unwrap_or_default()), dash(status.reason())]);
    }
    Ok(row)
}

/// One workflow: per action its state and how long it took, and why it failed; `heard` is when its agent said last that
/// it works.
pub fn workflow(mut item: Value, heard: Option<&str>) -> Result<String, serde_json::Error> {
    let status: WorkflowStatus = serde_json::from_value(item["status"].take())?;
    let spec: WorkflowSpec = serde_json::from_value(item["spec"].take())?;
    let metadata = &item["metadata"];
    let text = |key: &str| metadata[key].as_str().unwrap_or_default();
    let mut out = String::new();
    let mut field = |name: &str, value: &str| out.push_str(&format!("{name:<10} {value}\n"));
    field("Workflow:", &format!("{}/{}", text("namespace"), text("name")));
    field("State:", status.state.as_str());
    field("Template:", &spec.template_ref);
    field("Hardware:", &dash(spec.hardware_ref.unwrap_or_default()));
    heard.iter().for_each(|heard| field("Heard:", heard));
    out.push('\n');
    let mut rows = vec![["TASK", "ACTION", "WORKER", "STATE", "DURATION", "IMAGE"].map(str::to_owned).to_vec()];
    for (task, action) in status.actions() {
        let (task_name, worker) = (task.name.clone(), task.agent_id.clone());
        let state = action.state.to_string();
        rows.push(vec![task_name, action.name.clone(), worker, state, duration(action), action.image.clone()]);
    }
    out.push_str(&columns(&rows));
    for (task, action) in status.actions() {
        if let Some(failure) = &action.failure {
            let _ = writeln!(out, "\n{}/{} failed:", task.name, action.name);
            let mut field = |name: &str, value: &str| out.push_str(&format!("  {name:<8} {}\n", one_line(value)));
            field("Code:", &failure.code);
            field("Message:", &failure.message);
            failure.causes.iter().for_each(|cause| field("Cause:", cause));
            failure.exit_status.iter().for_each(|status| field("Exit:", &status.to_string()));
            if !failure.log_tail.is_empty() {
                let _ = writeln!(out, "  Log, its end:");
                failure.log_tail.lines().for_each(|line| out.push_str(&format!("    {}\n", printable(line))));
            }
        }
    }
    Ok(out)
}

fn duration(action: &Action) -> String {
    match (action.execution_start, action.execution_stop) {
        (Some(start), None) => {
            format!("{:.1}s so far", Timestamp::now().duration_since(start).as_secs_f64().max(0.0))
        }
        (_, Some(_)) => action.execution_duration.clone(),
        (None, None) => "-".into(),
    }
}

fn columns(rows: &[Vec<String>]) -> String {
    let count = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |n: usize| rows.iter().filter_map(|row| row.get(n)).map(|cell| cell.chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..count).map(width).collect();
    let mut out = String::new();
    for row in rows {
        let line = row.iter().zip(&widths).fold(String::new(), |mut line, (cell, width)| {
            let _ = write!(line, "{:<width$}   ", one_line(cell));
            line
        });
        let _ = writeln!(out, "{}", line.trim_end());
    }
    out
}

fn dash(text: String) -> String {
    if text.is_empty() { "-".into() } else { text }
}

fn one_line(text: &str) -> String {
    printable(&text.replace(['\n', '\r'], " "))
}

/// What a machine said must not command the operator's terminal.
pub fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\t' { '\u{FFFD}' } else { c }).collect()
}
