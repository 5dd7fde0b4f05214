//! What the monitor counts, read off its Prometheus page.

/// All samples of one scrape.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Metrics {
    samples: Vec<Sample>,
}

#[derive(Clone, Debug, PartialEq)]
struct Sample {
    name: String,
    /// The labels as they stand between the braces.
    labels: String,
    value: f64,
}

impl Metrics {
    /// Reads the text format (version 0.0.4); lines that are no sample are left out.
    pub(crate) fn parse(text: &str) -> Self {
        Self { samples: text.lines().filter_map(parse_line).collect() }
    }

    /// Sum over the samples of `name` that have every label of `labels` (`kind="file_open"`);
    /// `None` where there is none, which is not the same as zero.
    pub(crate) fn sum(&self, name: &str, labels: &[&str]) -> Option<f64> {
        let mut found = self
            .samples
            .iter()
            .filter(|sample| sample.name == name)
            .filter(|sample| labels.iter().all(|label| sample.labels.contains(label)))
            .map(|sample| sample.value)
            .peekable();
        found.peek()?;
        Some(found.sum())
    }

    /// The values that a label has in the samples of `name`, sorted.
    pub(crate) fn values_of(&self, name: &str, label: &str) -> Vec<String> {
        let begin = format!("{label}=\"");
        let value = |labels: &str| {
            let (_, rest) = labels.split_once(&begin)?;
            rest.split_once('"').map(|(value, _)| value.to_owned())
        };
        let samples = self.samples.iter().filter(|sample| sample.name == name);
        let mut values: Vec<_> = samples.filter_map(|sample| value(&sample.labels)).collect();
        values.sort();
        values.dedup();
        values
    }
}

fn parse_line(line: &str) -> Option<Sample> {
    if line.starts_with('#') {
        return None;
    }
    let (series, value) = line.rsplit_once(' ')?;
    let value = value.parse().ok()?;
    let (name, labels) = match series.split_once('{') {
        Some((name, labels)) => (name, labels.strip_suffix('}')?),
        None => (series, ""),
    };
    Some(Sample { name: name.to_owned(), labels: labels.to_owned(), value })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_summed_by_name_and_labels() {
        let text = "# HELP a b\n# TYPE a counter\n\
            a_total{kind=\"file_open\",x=\"1\"} 2\na_total{kind=\"file_open\",x=\"2\"} 3\n\
            a_total{kind=\"exec\",x=\"1\"} 7\nb 1.5\n";
        let metrics = Metrics::parse(text);
        assert_eq!(metrics.sum("a_total", &["kind=\"file_open\""]), Some(5.0));
        assert_eq!(metrics.sum("a_total", &[]), Some(12.0));
        assert_eq!(metrics.sum("b", &[]), Some(1.5));
        assert_eq!(metrics.values_of("a_total", "kind"), ["exec", "file_open"]);
    }

    #[test]
    fn missing_metric_is_not_zero() {
        assert_eq!(Metrics::parse("a 0\n").sum("a", &[]), Some(0.0));
        assert_eq!(Metrics::parse("a 0\n").sum("b", &[]), None);
    }
}
