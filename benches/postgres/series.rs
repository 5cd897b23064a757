//! Measurements of one way, a round each.

/// What was measured, in the order of the rounds.
#[derive(Debug, Clone, Default)]
pub(crate) struct Series(Vec<f64>);

impl Series {
    pub(crate) fn push(&mut self, value: f64) {
        self.0.push(value);
    }

    pub(crate) fn append(&mut self, more: Self) {
        self.0.extend(more.0);
    }

    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn median(&self) -> f64 {
        self.quantile(0.5)
    }

    pub(crate) fn max(&self) -> f64 {
        self.quantile(1.0)
    }

    /// NaN when nothing was measured.
    pub(crate) fn quantile(&self, share: f64) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_unstable_by(f64::total_cmp);
        let index = (share * sorted.len().saturating_sub(1) as f64).round() as usize;
        sorted.get(index).copied().unwrap_or(f64::NAN)
    }

    /// The median of the ratios round by round: what slows a round down slows both.
    pub(crate) fn ratio_to(&self, base: &Self) -> f64 {
        let ratios = self.0.iter().zip(&base.0).map(|(own, base)| own / base);
        Self(ratios.collect()).median()
    }

    /// `median (least–most)`.
    pub(crate) fn shown(&self) -> String {
        format!(
            "{:.0} ({:.0}–{:.0})",
            self.median(),
            self.quantile(0.0),
            self.max()
        )
    }
}
