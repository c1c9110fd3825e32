//! The measurements, one file for each setup.

mod executions;
mod fan_out;
mod history;
mod idle_fleet;
mod one_host;
mod output;
mod round_trips;
mod schedules;
mod submit;

use anyhow::Result;

use crate::report::Line;

/// Measures these targets, or all; prints each line as soon as it is known.
pub async fn all(wanted: &[String]) -> Result<Vec<Line>> {
    let is_wanted = |ids: &[&str]| {
        wanted.is_empty() || wanted.iter().any(|id| ids.iter().any(|known| id == known))
    };
    let mut lines = Vec::new();
    if is_wanted(&["P1"]) {
        show(&mut lines, vec![round_trips::measure().await?]);
    }
    if is_wanted(&["P13", "P2"]) {
        show(&mut lines, submit::measure().await?);
    }
    if is_wanted(&["P3", "P4"]) {
        show(&mut lines, fan_out::measure().await?);
    }
    if is_wanted(&["P5", "P8", "P9"]) {
        show(&mut lines, one_host::measure().await?);
    }
    if is_wanted(&["P10"]) {
        show(&mut lines, output::measure().await?);
    }
    if is_wanted(&["P12"]) {
        show(&mut lines, vec![executions::measure().await?]);
    }
    if is_wanted(&["P6", "P7", "P11"]) {
        show(&mut lines, idle_fleet::measure().await?);
    }
    if is_wanted(&["P14"]) {
        show(&mut lines, history::measure().await?);
    }
    if is_wanted(&["P15"]) {
        show(&mut lines, schedules::measure().await?);
    }
    lines.sort_by_key(|line| line.id[1..].parse::<u32>().unwrap_or(0));
    Ok(lines)
}

fn show(lines: &mut Vec<Line>, new: Vec<Line>) {
    for line in &new {
        println!("{line}");
        for note in &line.notes {
            println!("    {note}");
        }
    }
    lines.extend(new);
}
