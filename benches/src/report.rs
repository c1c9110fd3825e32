//! One line per target, and a page with all of them.

use std::fmt;

use crate::process::load_average;

/// One target's figure.
#[derive(Debug, Clone)]
pub struct Line {
    pub id: &'static str,
    pub figure: f64,
    pub unit: &'static str,
    /// The anchor's figure of the same run, in the same unit.
    pub anchor: Option<f64>,
    pub anchor_name: &'static str,
    /// The target in TARGETS.
    pub target: &'static str,
    pub is_met: bool,
    /// Other observations.
    pub notes: Vec<String>,
}

impl Line {
    /// The figure divided by the anchor's.
    pub fn ratio(&self) -> Option<f64> {
        self.anchor.map(|anchor| self.figure / anchor)
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { id, unit, target, .. } = self;
        let (anchor, ratio) = (optional(self.anchor), optional(self.ratio()));
        write!(
            f,
            "{id} {} {unit} anchor {anchor} ratio {ratio} target {target}",
            short(self.figure)
        )
    }
}

/// The page of one run.
pub fn page(lines: &[Line]) -> String {
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let mut page = format!(
        "# Results\n\nOne run of `make bench`, {}, on a shared machine with {cores} processors and {} GiB \
         of memory, load {} at its end. Servers, simulated agents and load share the processors; \
         compare ratios, not figures.\n\n\
         | id | figure | unit | anchor | ratio | target | met | anchor is |\n\
         |---|---|---|---|---|---|---|---|\n",
        chrono::Utc::now().format("%Y-%m-%d"),
        memory_gib(),
        load_average(),
    );
    for line in lines {
        page += &format!(
            "| {} | {} | {} | {} | {} | {} | {} | {} |\n",
            line.id,
            short(line.figure),
            line.unit,
            optional(line.anchor),
            optional(line.ratio()),
            line.target,
            if line.is_met { "yes" } else { "no" },
            line.anchor_name,
        );
    }
    page += "\n";
    for line in lines {
        for note in &line.notes {
            page += &format!("- {}: {note}\n", line.id);
        }
    }
    page
}

fn memory_gib() -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kib: u64 = text.split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).unwrap_or(0);
    // The kernel reserves a part of the memory.
    kib.div_ceil(1024 * 1024)
}

fn optional(number: Option<f64>) -> String {
    number.map_or_else(|| "none".to_owned(), short)
}

/// A number with three significant digits.
fn short(number: f64) -> String {
    match number.abs() {
        n if n >= 100.0 => format!("{number:.0}"),
        n if n >= 10.0 => format!("{number:.1}"),
        _ => format!("{number:.2}"),
    }
}
