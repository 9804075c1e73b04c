//! The two texts that a page can be: `OpenMetrics` 1.0, and the [older format] of Prometheus, which is all
//! that some readers know.
//!
//! The older one is made of the newer. They differ in what families of counters are called, in what a
//! kind that is not known is called, and in two comments.
//!
//! [older format]: https://prometheus.io/docs/instrumenting/exposition_formats/

/// What a page is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// `OpenMetrics` 1.0.
    Open,
    /// Prometheus's text, version 0.0.4.
    Plain,
}

impl Format {
    /// What a reader takes, by its `Accept`. Plain only for those that ask for plain text and do not
    /// name the newer one: weights do not matter, since everybody who names it can read it.
    pub fn accepted(accept: &str) -> Self {
        let types = || {
            let types = accept.split(',').filter_map(|it| it.split(';').next());
            types.map(str::trim)
        };
        let names = |wanted: &str| types().any(|it| it.eq_ignore_ascii_case(wanted));
        if names("text/plain") && !names("application/openmetrics-text") {
            Self::Plain
        } else {
            Self::Open
        }
    }

    /// For `Content-Type`.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Open => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Plain => "text/plain; version=0.0.4; charset=utf-8",
        }
    }
}

/// A page of `OpenMetrics` in the older format.
pub(super) fn plain(page: &str) -> String {
    let mut out = String::with_capacity(page.len() + page.len() / 16);
    let mut help = None;
    for line in page.lines() {
        if let Some(text) = line.strip_prefix("# HELP ") {
            // The kind comes after it, and says what the family is called.
            help = text.split_once(' ');
        } else if let Some(text) = line.strip_prefix("# TYPE ") {
            let (name, kind) = text.split_once(' ').unwrap_or((text, "unknown"));
            let (end, kind) = match kind {
                "counter" => ("_total", kind),
                "unknown" => ("", "untyped"),
                other => ("", other),
            };
            if let Some((_, help)) = help.take() {
                out.extend(["# HELP ", name, end, " ", help, "\n"]);
            }
            out.extend(["# TYPE ", name, end, " ", kind, "\n"]);
        } else if !line.starts_with('#') {
            out.extend([line, "\n"]);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_names_the_newer_format_gets_it_and_who_only_takes_plain_text_gets_that() {
        for accept in [
            "",
            "*/*",
            "text/html, */*",
            "application/openmetrics-text",
            // Prometheus 2.42
            "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
        ] {
            assert_eq!(Format::accepted(accept), Format::Open, "{accept}");
        }
        for accept in [
            "text/plain",
            "TEXT/Plain ; version=0.0.4",
            // Prometheus 2.4
            "text/plain;version=0.0.4;q=1,*/*;q=0.1",
            // telegraf
            "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.7,text/plain;version=0.0.4;q=0.3",
        ] {
            assert_eq!(Format::accepted(accept), Format::Plain, "{accept}");
        }
    }

    #[test]
    fn counters_are_called_what_their_samples_are_and_the_rest_stays() {
        let page = concat!(
            "# HELP pulls Pulls # and more.\n",
            "# TYPE pulls counter\n",
            "# UNIT pulls pulls\n",
            "pulls_total{of=\"# TYPE a counter\"} 3\n",
            "# HELP size Size.\n",
            "# TYPE size histogram\n",
            "size_bucket{le=\"1.0\"} 1\n",
            "# TYPE odd unknown\n",
            "odd 1.5\n",
            "# EOF\n",
        );
        let expected = concat!(
            "# HELP pulls_total Pulls # and more.\n",
            "# TYPE pulls_total counter\n",
            "pulls_total{of=\"# TYPE a counter\"} 3\n",
            "# HELP size Size.\n",
            "# TYPE size histogram\n",
            "size_bucket{le=\"1.0\"} 1\n",
            "# TYPE odd untyped\n",
            "odd 1.5\n",
        );
        assert_eq!(plain(page), expected);
    }
}
