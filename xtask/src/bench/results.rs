//! Aggregates measurements into rows.

/// The measurements: one list per variant, one element per round.
#[derive(Debug, Default)]
pub(super) struct Results {
    costs: Vec<(&'static str, Vec<f64>)>,
}

/// A variant's result, alone or compared with one peer.
#[derive(Debug, PartialEq)]
pub(super) struct Row {
    pub(super) variant: &'static str,
    pub(super) peer: Option<&'static str>,
    /// Median over the rounds.
    pub(super) cpu_us_per_request: f64,
    /// Median over the rounds of this variant's cost divided by the peer's in the same round: a temporary slowdown of
    /// the machine affects both.
    pub(super) ratio: Option<f64>,
}

impl Results {
    pub(super) fn add(&mut self, variant: &'static str, cost: f64) {
        match self.costs.iter_mut().find(|(known, _)| *known == variant) {
            Some((_, costs)) => costs.push(cost),
            None => self.costs.push((variant, vec![cost])),
        }
    }

    fn of(&self, variant: &str) -> &[f64] {
        self.costs
            .iter()
            .find(|(known, _)| *known == variant)
            .map_or(&[], |(_, costs)| costs)
    }

    pub(super) fn rows(&self, variants: &[(&'static str, &'static [&'static str])]) -> Vec<Row> {
        let mut rows = Vec::new();
        for (variant, peers) in variants {
            let cpu_us_per_request = median(self.of(variant));
            let row = |peer, ratio| Row {
                variant,
                peer,
                cpu_us_per_request,
                ratio,
            };
            if peers.is_empty() {
                rows.push(row(None, None));
            }
            for peer in *peers {
                let ratios: Vec<f64> = self
                    .of(variant)
                    .iter()
                    .zip(self.of(peer))
                    .map(|(ours, theirs)| ours / theirs)
                    .collect();
                rows.push(row(Some(*peer), Some(median(&ratios))));
            }
        }
        rows
    }
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = |index: usize| sorted.get(index).copied().unwrap_or(f64::NAN);
    let half = sorted.len() / 2;
    if sorted.len() % 2 == 1 {
        middle(half)
    } else {
        f64::midpoint(middle(half.saturating_sub(1)), middle(half))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(clippy::float_cmp, reason = "exact in binary")]
    fn medians() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0]), 2.5);
        assert!(median(&[]).is_nan());
    }

    #[test]
    fn a_ratio_is_taken_within_a_round() {
        let mut results = Results::default();
        // The machine is four times slower in the second round.
        for (ours, theirs) in [(2.0, 1.0), (8.0, 4.0), (2.0, 1.0)] {
            results.add("ours", ours);
            results.add("theirs", theirs);
        }
        let rows = results.rows(&[("theirs", &[]), ("ours", &["theirs"])]);
        let row = |variant, peer, cost, ratio| Row {
            variant,
            peer,
            cpu_us_per_request: cost,
            ratio,
        };
        assert_eq!(
            rows,
            [
                row("theirs", None, 1.0, None),
                row("ours", Some("theirs"), 2.0, Some(2.0))
            ]
        );
    }
}
