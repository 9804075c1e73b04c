//! The table: figures, what was measured, the target, and whether it is met.

use std::fmt;

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
    Megabytes,
}

/// What a figure must be at most.
#[derive(Clone, Copy)]
enum Target {
    /// The median of the runs: single ones are also late when the machine is.
    Median(f64),
    /// Each run.
    Every(f64),
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
        }
    }
}

fn median(sorted: &[f64]) -> f64 {
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
            Self::Milliseconds => format!("{value:.2}"),
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
            Self::Megabytes => format!("{number} MB"),
        }
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (target, verdict) = match self.target {
            None => (String::new(), ""),
            Some(Target::Median(limit) | Target::Every(limit)) => {
                let verdict = if self.is_met() { "met" } else { "MISSED" };
                (format!("≤ {limit}"), verdict)
            }
        };
        let Self { figure, .. } = self;
        let measured = self.measured();
        let line = format!("{figure:<58} {measured:<34} {target:>6}  {verdict}");
        f.write_str(line.trim_end())
    }
}

/// Everything that was measured.
#[derive(Default)]
pub(crate) struct Table {
    parts: Vec<(&'static str, Vec<Row>)>,
}

impl Table {
    /// Adds a figure's rows under a heading.
    pub(crate) fn add(&mut self, heading: &'static str, rows: Vec<Row>) {
        self.parts.push((heading, rows));
    }

    /// Whether no target is missed.
    pub(crate) fn is_met(&self) -> bool {
        let mut rows = self.parts.iter().flat_map(|(_, rows)| rows);
        rows.all(Row::is_met)
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (figure, measured) = ("figure", "measured: median (min–max, runs)");
        writeln!(f, "{figure:<58} {measured:<34} target  met?")?;
        for (heading, rows) in &self.parts {
            writeln!(f, "\n{heading}")?;
            for row in rows {
                writeln!(f, "  {row}")?;
            }
        }
        Ok(())
    }
}
