//! The table: figures, what was measured, the target, and whether it is met.

use std::fmt::{self, Write as _};

/// One figure: a sample per run.
pub(crate) struct Row {
    figure: String,
    unit: Unit,
    samples: Vec<f64>,
    target: Option<Target>,
}

/// What the samples are.
#[derive(Clone, Copy)]
pub(crate) enum Unit {
    Count,
    Ratio,
    Percent,
    Milliseconds,
    Microseconds,
    Megabytes,
    /// GB per second.
    Speed,
}

/// What a figure must be.
#[derive(Clone, Copy)]
enum Target {
    /// The median of the runs: single ones are also late when the machine is.
    Median(f64),
    /// Each run.
    Every(f64),
    /// The median, the other way round.
    AtLeast(f64),
}

impl Row {
    /// A figure without a target.
    pub(crate) fn new(figure: impl Into<String>, unit: Unit, samples: Vec<f64>) -> Self {
        assert!(!samples.is_empty(), "a figure that was not measured");
        let (figure, target) = (figure.into(), None);
        Self {
            figure,
            unit,
            samples,
            target,
        }
    }

    /// With a target for the median.
    pub(crate) fn median_at_most(mut self, limit: f64) -> Self {
        self.target = Some(Target::Median(limit));
        self
    }

    /// With a target for the median that is a least one.
    pub(crate) fn median_at_least(mut self, limit: f64) -> Self {
        self.target = Some(Target::AtLeast(limit));
        self
    }

    /// With a target that no run may miss.
    pub(crate) fn each_at_most(mut self, limit: f64) -> Self {
        self.target = Some(Target::Every(limit));
        self
    }

    fn measured(&self) -> String {
        let mut sorted = self.samples.clone();
        sorted.sort_by(f64::total_cmp);
        let show = |value: f64| self.unit.show(value);
        let (low, high) = (sorted[0], sorted[sorted.len() - 1]);
        match sorted.len() {
            1 => show(low),
            runs => format!(
                "{} ({}–{}, {runs} runs)",
                show(median(&sorted)),
                self.unit.number(low),
                self.unit.number(high)
            ),
        }
    }

    fn is_met(&self) -> bool {
        let mut sorted = self.samples.clone();
        sorted.sort_by(f64::total_cmp);
        match self.target {
            None => true,
            Some(Target::Median(limit)) => median(&sorted) <= limit,
            Some(Target::Every(limit)) => sorted.iter().all(|sample| *sample <= limit),
            Some(Target::AtLeast(limit)) => median(&sorted) >= limit,
        }
    }

    /// The target, where there is one.
    fn wanted(&self) -> String {
        self.target
            .as_ref()
            .map(ToString::to_string)
            .unwrap_or_default()
    }

    fn verdict(&self) -> &'static str {
        match self.target {
            None => "",
            Some(_) if self.is_met() => "met",
            Some(_) => "MISSED",
        }
    }
}

/// The one in the middle.
pub(crate) fn median(samples: &[f64]) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    if sorted.len().is_multiple_of(2) {
        f64::midpoint(sorted[middle - 1], sorted[middle])
    } else {
        sorted[middle]
    }
}

impl Unit {
    fn number(self, value: f64) -> String {
        match self {
            Self::Count | Self::Percent => format!("{value:.0}"),
            Self::Ratio => format!("{value:.3}"),
            Self::Milliseconds | Self::Microseconds | Self::Speed => format!("{value:.2}"),
            Self::Megabytes => format!("{value:.1}"),
        }
    }

    fn show(self, value: f64) -> String {
        let number = self.number(value);
        match self {
            Self::Count => number,
            Self::Ratio => format!("{number} ×"),
            Self::Percent => format!("{number} %"),
            Self::Milliseconds => format!("{number} ms"),
            Self::Microseconds => format!("{number} µs"),
            Self::Megabytes => format!("{number} MB"),
            Self::Speed => format!("{number} GB/s"),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Median(limit) | Self::Every(limit) => write!(f, "≤ {limit}"),
            Self::AtLeast(limit) => write!(f, "≥ {limit}"),
        }
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (target, verdict) = (self.wanted(), self.verdict());
        let Self { figure, .. } = self;
        let measured = self.measured();
        let line = format!("{figure:<58} {measured:<34} {target:>6}  {verdict}");
        f.write_str(line.trim_end())
    }
}

/// Everything that was measured.
#[derive(Default)]
pub(crate) struct Table {
    parts: Vec<Part>,
}

/// The rows under one heading, and what is to be said of them.
struct Part {
    heading: String,
    rows: Vec<Row>,
    note: Option<String>,
}

impl Table {
    /// Adds a figure's rows under a heading.
    pub(crate) fn add(&mut self, heading: impl Into<String>, rows: Vec<Row>) {
        self.add_noted(heading, rows, None);
    }

    /// The same with a sentence about them.
    pub(crate) fn add_noted(
        &mut self,
        heading: impl Into<String>,
        rows: Vec<Row>,
        note: Option<String>,
    ) {
        let heading = heading.into();
        self.parts.push(Part {
            heading,
            rows,
            note,
        });
    }

    /// Puts the table into a document, in place of what stands between its two marks, after a
    /// paragraph `about` it.
    pub(crate) fn write_into(&self, file: &str, about: &str) {
        const MARKS: [&str; 2] = ["<!-- the table begins -->\n", "<!-- the table ends -->"];
        let text = std::fs::read_to_string(file).expect("a document");
        let (before, rest) = text
            .split_once(MARKS[0])
            .expect("a mark where the table begins");
        let (_, after) = rest
            .split_once(MARKS[1])
            .expect("a mark where the table ends");
        let [begin, end] = MARKS;
        let table = self.markdown();
        let text = format!("{before}{begin}\n{about}\n{table}\n{end}{after}");
        std::fs::write(file, text).expect("to write the document");
    }

    fn markdown(&self) -> String {
        let mut text = String::new();
        self.write_markdown(&mut text).expect("a text that grows");
        text
    }

    fn write_markdown(&self, text: &mut String) -> fmt::Result {
        for part in &self.parts {
            writeln!(text, "\n### {}\n", part.heading)?;
            writeln!(text, "| figure | measured | wanted | reached |")?;
            writeln!(text, "|---|---|---|---|")?;
            for row in &part.rows {
                let (wanted, verdict) = (row.wanted(), row.verdict());
                let (figure, measured) = (&row.figure, row.measured());
                writeln!(text, "| {figure} | {measured} | {wanted} | {verdict} |")?;
            }
            if let Some(note) = &part.note {
                writeln!(text, "\n{note}")?;
            }
        }
        Ok(())
    }

    /// Whether no target is missed.
    pub(crate) fn is_met(&self) -> bool {
        let mut rows = self.parts.iter().flat_map(|part| &part.rows);
        rows.all(Row::is_met)
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (figure, measured) = ("figure", "measured: median (min–max, runs)");
        writeln!(f, "{figure:<58} {measured:<34} target  met?")?;
        for part in &self.parts {
            writeln!(f, "\n{}", part.heading)?;
            for row in &part.rows {
                writeln!(f, "  {row}")?;
            }
            if let Some(note) = &part.note {
                writeln!(f, "  {note}")?;
            }
        }
        Ok(())
    }
}
