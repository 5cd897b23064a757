//! Tables for people, on standard output.

/// Rows under a heading, every column as wide as it has to be.
#[derive(Debug)]
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn new<const WIDTH: usize>(heads: [&str; WIDTH]) -> Self {
        Self {
            rows: vec![heads.map(str::to_owned).to_vec()],
        }
    }

    pub(crate) fn row<const WIDTH: usize>(&mut self, cells: [String; WIDTH]) {
        self.rows.push(cells.into());
    }

    pub(crate) fn print(&self, title: &str) {
        line(&format!("\n## {title}\n"));
        let widths = self.widths();
        for (index, row) in self.rows.iter().enumerate() {
            line(&markdown(row, &widths));
            if index == 0 {
                let rule: Vec<String> = widths.iter().map(|width| "-".repeat(*width)).collect();
                line(&markdown(&rule, &widths));
            }
        }
    }

    fn widths(&self) -> Vec<usize> {
        let width = |row: &Vec<String>, column: usize| row[column].chars().count();
        let widest = |column| self.rows.iter().map(|row| width(row, column)).max();
        let columns = self.rows.first().map_or(0, Vec::len);
        (0..columns).filter_map(widest).collect()
    }
}

fn markdown(cells: &[String], widths: &[usize]) -> String {
    let padded = cells
        .iter()
        .zip(widths)
        .map(|(cell, width)| format!(" {cell:<width$} "));
    format!("|{}|", padded.collect::<Vec<_>>().join("|"))
}

/// A figure beside the one to reach.
#[derive(Debug)]
pub(crate) struct Goals(Table);

impl Goals {
    pub(crate) fn new() -> Self {
        Self(Table::new(["figure", "found", "reach", "stretch", ""]))
    }

    pub(crate) fn at_most(
        &mut self,
        figure: &str,
        found: f64,
        reach: f64,
        stretch: Option<f64>,
        unit: &str,
    ) {
        let verdict = verdict(found <= reach, stretch.map(|stretch| found <= stretch));
        self.row(figure, found, ("≤", reach, stretch), unit, verdict);
    }

    pub(crate) fn at_least(
        &mut self,
        figure: &str,
        found: f64,
        reach: f64,
        stretch: Option<f64>,
        unit: &str,
    ) {
        let verdict = verdict(found >= reach, stretch.map(|stretch| found >= stretch));
        self.row(figure, found, ("≥", reach, stretch), unit, verdict);
    }

    fn row(
        &mut self,
        figure: &str,
        found: f64,
        (sign, reach, stretch): (&str, f64, Option<f64>),
        unit: &str,
        verdict: &str,
    ) {
        let limit = |limit: f64| format!("{sign} {limit} {unit}");
        self.0.row([
            figure.to_owned(),
            format!("{} {unit}", shown(found)),
            limit(reach),
            stretch.map(limit).unwrap_or_default(),
            verdict.to_owned(),
        ]);
    }

    pub(crate) fn print(&self, title: &str) {
        self.0.print(title);
    }
}

fn verdict(reached: bool, stretched: Option<bool>) -> &'static str {
    match (reached, stretched) {
        (true, Some(true)) => "stretch reached",
        (true, _) => "reached",
        (false, _) => "MISSED",
    }
}

/// Three digits, or as many as it has before the point.
pub(crate) fn shown(value: f64) -> String {
    match value.abs() {
        big if big >= 100.0 => format!("{value:.0}"),
        middle if middle >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

#[expect(clippy::print_stdout, reason = "what a benchmark is for")]
pub(crate) fn line(text: &str) {
    println!("{text}");
}

/// What goes on, for whoever waits; not part of the results.
#[expect(clippy::print_stderr, reason = "standard output is for the results")]
pub(crate) fn progress(text: &str) {
    eprintln!("… {text}");
}
