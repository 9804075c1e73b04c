//! Tables that line up, and fit a terminal.

/// What a terminal has at least. One that is narrower wraps.
const NARROWEST: usize = 80;

/// What stands between two columns.
const GAP: &str = "  ";

/// A table of `N` columns, of which the first gives way where there is not enough room, then the
/// second.
pub(super) struct Table<const N: usize> {
    rows: Vec<[String; N]>,
    right: std::ops::Range<usize>,
}

impl<const N: usize> Table<N> {
    pub(super) fn new(head: [&str; N]) -> Self {
        Self {
            rows: vec![head.map(str::to_owned)],
            right: 0..0,
        }
    }

    /// Columns of numbers, aligned to the right.
    pub(super) fn right_from(&mut self, first: usize, last: usize) {
        self.right = first..last + 1;
    }

    pub(super) fn add(&mut self, row: [String; N]) {
        self.rows.push(row);
    }

    /// The table as text; `room` is the width of the terminal, if it goes to one.
    pub(super) fn text(&self, room: Option<usize>) -> String {
        let mut widths = [0; N];
        for row in &self.rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        if let Some(room) = room {
            shrink(&mut widths, room.max(NARROWEST));
        }
        let mut text = String::new();
        for row in &self.rows {
            let mut line = String::new();
            for (at, (cell, width)) in row.iter().zip(widths).enumerate() {
                let cell = cut(cell, width);
                let cell = if self.right.contains(&at) {
                    format!("{cell:>width$}")
                } else {
                    format!("{cell:<width$}")
                };
                line.push_str(&cell);
                line.push_str(GAP);
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}

/// Takes what is too much from the columns that can give it, without making any unreadable.
fn shrink<const N: usize>(widths: &mut [usize; N], room: usize) {
    /// How much of each of the first columns is kept at least: names, registries, digests.
    const LEAST: [usize; 3] = [24, 9, 7];
    let least = |at: usize| LEAST.get(at).copied().unwrap_or(usize::MAX);
    // A digest says little more with twelve digits than with seven: it gives first.
    for at in [2, 1, 0] {
        let taken = widths.iter().sum::<usize>() + GAP.len() * (N - 1);
        let Some(width) = widths.get_mut(at) else {
            continue;
        };
        let can = width.saturating_sub(least(at));
        *width -= can.min(taken.saturating_sub(room));
    }
    // What is still too much is the name's to give, down to nothing readable.
    let taken = widths.iter().sum::<usize>() + GAP.len() * (N - 1);
    if let Some(first) = widths.first_mut() {
        let can = first.saturating_sub(8);
        *first -= can.min(taken.saturating_sub(room));
    }
}

/// Cuts the middle out of a text: its end, a tag, tells as much as its beginning.
fn cut(text: &str, width: usize) -> String {
    let length = text.chars().count();
    if length <= width {
        return text.to_owned();
    }
    let kept = width.saturating_sub(1);
    let front = kept / 2;
    let back = kept - front;
    let start: String = text.chars().take(front).collect();
    let end: String = text.chars().skip(length - back).collect();
    format!("{start}…{end}")
}

/// A size in at most five characters: `999B`, `12.3M`.
pub(super) fn size(bytes: u64) -> String {
    let units = ["K", "M", "G", "T", "P", "E"];
    if bytes < 1000 {
        return format!("{bytes}B");
    }
    let (mut tenths, mut unit) = (bytes / 100, 0);
    while tenths >= 10_000 && unit + 1 < units.len() {
        tenths /= 1000;
        unit += 1;
    }
    if tenths >= 1_000 {
        format!("{}{}", tenths / 10, units[unit])
    } else {
        format!("{}.{}{}", tenths / 10, tenths % 10, units[unit])
    }
}

/// The width of the terminal that standard output goes to, if it goes to one.
pub(super) fn width() -> Option<usize> {
    let size = rustix::termios::tcgetwinsize(std::io::stdout()).ok()?;
    Some(usize::from(size.ws_col))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn sizes_are_short() {
        for (bytes, text) in [
            (0, "0B"),
            (999, "999B"),
            (1_000, "1.0K"),
            (99_949, "99.9K"),
            (100_000, "100K"),
            (999_999, "999K"),
            (1_000_000, "1.0M"),
            (12_345_678, "12.3M"),
            (u64::MAX, "18.4E"),
        ] {
            assert_eq!(size(bytes), text);
        }
    }

    #[test]
    fn what_goes_to_a_file_is_whole() {
        let mut table = Table::new(["IMAGE", "OWN"]);
        table.right_from(1, 1);
        table.add(["x".repeat(200), "1B".to_owned()]);
        let text = table.text(None);
        assert!(
            text.contains(&"x".repeat(200)) && text.ends_with("   1B\n"),
            "{text}"
        );
    }

    proptest! {
        #[test]
        fn a_table_fits_its_terminal(
            names in prop::collection::vec("[a-zé/:]{0,120}", 1..5),
            from in "[a-z.]{0,60}",
            state in "(stale)?(,pinned)?",
            room in 0usize..200,
        ) {
            let mut table = Table::new(["IMAGE", "FROM", "DIGEST", "PLAT", "OWN", "SHARED", "USED", "AGE", "STATE"]);
            table.right_from(3, 7);
            for name in names {
                let cells = [&name, &from, "0123456789ab", "12/12", "12.3M", "12.3M", "12d", "12d", &state];
                table.add(cells.map(str::to_owned));
            }
            let room = room.max(NARROWEST);
            let widths: Vec<usize> = table.text(Some(room)).lines().map(|line| line.chars().count()).collect();
            prop_assert!(widths.iter().all(|width| *width <= room), "{:?}", table.text(Some(room)));
        }
    }
}
