//! Charts as SVG: a frame with two axes, and what is drawn within.

use std::fmt::Write as _;

/// Size of a chart, in pixels.
const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 340.0;
const LEFT: f64 = 80.0;
const RIGHT: f64 = 20.0;
const TOP: f64 = 16.0;
const BOTTOM: f64 = 48.0;

/// Text as it may stand in HTML and SVG.
pub(super) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            c if c.is_control() => out.push(' '),
            c => out.push(c),
        }
    }
    out
}

/// A number as it stands at a tick: four digits.
pub(super) fn short(number: f64) -> String {
    let size = number.abs();
    if number == 0.0 {
        "0".into()
    } else if (1e-3..1e5).contains(&size) {
        let digits = (3 - size.log10().floor() as i32).max(0) as usize;
        let text = format!("{number:.digits$}");
        if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
    } else {
        format!("{number:.2e}")
    }
}

/// One direction of a chart.
#[derive(Debug, Clone)]
pub(super) struct Scale {
    label: String,
    low: f64,
    high: f64,
    log: bool,
    /// Names in place of numbers, at 0, 1, 2, ….
    names: Vec<String>,
}

impl Scale {
    /// Over all finite values; in logarithms if asked for and all are above zero.
    pub fn over(label: &str, values: impl Iterator<Item = f64>, log: bool) -> Self {
        let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
        for value in values.filter(|value| value.is_finite()) {
            (low, high) = (low.min(value), high.max(value));
        }
        if low > high {
            (low, high) = (0.0, 1.0);
        }
        if low == high {
            let room = if low == 0.0 { 1.0 } else { low.abs() * 0.1 };
            (low, high) = (low - room, high + room);
        }
        Self { label: label.to_owned(), low, high, log: log && low > 0.0, names: Vec::new() }
    }

    /// Over names.
    pub fn named(label: &str, names: Vec<String>) -> Self {
        let high = names.len() as f64 - 0.5;
        Self { label: label.to_owned(), low: -0.5, high, log: false, names }
    }

    pub fn label(&self) -> &str {
        &self.label
    }

    /// The place of a value, from 0 to 1.
    pub fn at(&self, value: f64) -> Option<f64> {
        let scaled = |x: f64| if self.log { x.ln() } else { x };
        let place = (scaled(value) - scaled(self.low)) / (scaled(self.high) - scaled(self.low));
        place.is_finite().then(|| place.clamp(0.0, 1.0))
    }

    /// Places and their texts.
    pub fn ticks(&self) -> Vec<(f64, String)> {
        if !self.names.is_empty() {
            let every = self.names.len().div_ceil(12);
            let named = self.names.iter().enumerate().step_by(every);
            return named.filter_map(|(at, name)| self.at(at as f64).map(|x| (x, clip(name)))).collect();
        }
        (0..=4)
            .map(|at| {
                let share = f64::from(at) / 4.0;
                let value = if self.log {
                    (self.low.ln() + share * (self.high.ln() - self.low.ln())).exp()
                } else {
                    self.low + share * (self.high - self.low)
                };
                (share, short(value))
            })
            .collect()
    }
}

/// A name no longer than fits.
pub(super) fn clip(name: &str) -> String {
    if name.chars().count() <= 18 { name.to_owned() } else { name.chars().take(17).chain(['…']).collect() }
}

/// A colour between good (0) and bad (1).
pub(super) fn colour(place: f64) -> String {
    const STOPS: [[f64; 3]; 3] = [[33.0, 102.0, 172.0], [127.0, 188.0, 65.0], [253.0, 184.0, 99.0]];
    let place = place.clamp(0.0, 1.0) * 2.0;
    let (from, share) = if place < 1.0 { (0, place) } else { (1, place - 1.0) };
    let [r, g, b] =
        std::array::from_fn(|at| STOPS[from][at] + share * (STOPS[from + 1][at] - STOPS[from][at]));
    format!("rgb({r:.0},{g:.0},{b:.0})")
}

/// A chart that is being drawn.
pub(super) struct Chart {
    x: Scale,
    y: Scale,
    body: String,
}

impl Chart {
    pub fn new(x: Scale, y: Scale) -> Self {
        Self { x, y, body: String::new() }
    }

    fn place(&self, x: f64, y: f64) -> Option<(f64, f64)> {
        let (x, y) = (self.x.at(x)?, self.y.at(y)?);
        Some((LEFT + x * (WIDTH - LEFT - RIGHT), HEIGHT - BOTTOM - y * (HEIGHT - TOP - BOTTOM)))
    }

    /// A dot, with a text that shows when it is pointed at.
    pub fn dot(&mut self, x: f64, y: f64, colour: &str, title: &str) {
        let Some((x, y)) = self.place(x, y) else { return };
        let title = escape(title);
        let _ = write!(
            self.body,
            r#"<circle cx="{x:.1}" cy="{y:.1}" r="3.5" fill="{colour}" fill-opacity="0.75"><title>{title}</title></circle>"#
        );
    }

    /// A line through points; what cannot be placed is left out.
    pub fn line(&mut self, points: impl Iterator<Item = (f64, f64)>, colour: &str, width: f64, title: &str) {
        let mut path = String::new();
        for (x, y) in points.filter_map(|(x, y)| self.place(x, y)) {
            let _ = write!(path, "{x:.1},{y:.1} ");
        }
        let (path, title) = (path.trim_end(), escape(title));
        let _ = write!(
            self.body,
            r#"<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="{width}" stroke-opacity="0.8"><title>{title}</title></polyline>"#
        );
    }

    /// A bar from the left edge.
    pub fn bar(&mut self, x: f64, y: f64, colour: &str, title: &str) {
        let (Some((from, _)), Some((to, y))) = (self.place(0.0, y), self.place(x, y)) else { return };
        let (width, title) = ((to - from).max(1.0), escape(title));
        let _ = write!(
            self.body,
            r#"<rect x="{from:.1}" y="{:.1}" width="{width:.1}" height="12" fill="{colour}"><title>{title}</title></rect>"#,
            y - 6.0
        );
    }

    /// The whole chart.
    pub fn svg(self) -> String {
        let mut out = open();
        let (bottom, right) = (HEIGHT - BOTTOM, WIDTH - RIGHT);
        for (place, text) in self.x.ticks() {
            let x = LEFT + place * (right - LEFT);
            let _ = write!(
                out,
                r#"<line x1="{x:.1}" y1="{TOP}" x2="{x:.1}" y2="{bottom}" class="grid"/><text x="{x:.1}" y="{}" text-anchor="middle">{}</text>"#,
                bottom + 16.0,
                escape(&text)
            );
        }
        for (place, text) in self.y.ticks() {
            let y = bottom - place * (bottom - TOP);
            let _ = write!(
                out,
                r#"<line x1="{LEFT}" y1="{y:.1}" x2="{right}" y2="{y:.1}" class="grid"/><text x="{}" y="{:.1}" text-anchor="end">{}</text>"#,
                LEFT - 6.0,
                y + 4.0,
                escape(&text)
            );
        }
        out.push_str(&self.body);
        let (middle, below) = (f64::midpoint(LEFT, right), HEIGHT - 10.0);
        let _ = write!(
            out,
            r#"<text x="{middle}" y="{below}" text-anchor="middle" class="label">{}</text><text transform="translate(14 {}) rotate(-90)" text-anchor="middle" class="label">{}</text></svg>"#,
            escape(self.x.label()),
            f64::midpoint(TOP, bottom),
            escape(self.y.label())
        );
        out
    }
}

fn open() -> String {
    format!(r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img">"#)
}

/// Parallel coordinates: an upright axis for each scale, a line for each row.
pub(super) fn parallel(scales: &[Scale], rows: &[(Vec<f64>, String, String)]) -> String {
    let mut out = open();
    let step = (WIDTH - LEFT - RIGHT - 40.0) / (scales.len().max(2) - 1) as f64;
    let bottom = HEIGHT - BOTTOM;
    for (values, colour, title) in rows {
        let mut path = String::new();
        for (at, (scale, value)) in scales.iter().zip(values).enumerate() {
            // A parameter that does not exist has its place below the axis.
            let y = scale.at(*value).map_or(bottom + 10.0, |place| bottom - place * (bottom - TOP));
            let _ = write!(path, "{:.1},{y:.1} ", LEFT + step * at as f64);
        }
        let _ = write!(
            out,
            r#"<polyline points="{}" fill="none" stroke="{colour}" stroke-opacity="0.55"><title>{}</title></polyline>"#,
            path.trim_end(),
            escape(title)
        );
    }
    for (at, scale) in scales.iter().enumerate() {
        let x = LEFT + step * at as f64;
        let _ = write!(
            out,
            r#"<line x1="{x:.1}" y1="{TOP}" x2="{x:.1}" y2="{bottom}" class="axis"/><text x="{x:.1}" y="{}" text-anchor="middle" class="label">{}</text>"#,
            HEIGHT - 10.0,
            escape(&clip(scale.label()))
        );
        for (place, text) in scale.ticks() {
            let y = bottom - place * (bottom - TOP);
            let _ = write!(out, r#"<text x="{:.1}" y="{:.1}">{}</text>"#, x + 4.0, y + 4.0, escape(&text));
        }
    }
    out.push_str("</svg>");
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_at_ticks_are_short() {
        let texts: Vec<String> =
            [0.0, 1.0, 0.125, -2.5, 12_345.0, 1e7, 1.234_567e-5, 0.001].map(short).to_vec();
        assert_eq!(texts, ["0", "1", "0.125", "-2.5", "12345", "1.00e7", "1.23e-5", "0.001"]);
    }

    #[test]
    fn scales_place_what_they_can() {
        let log = Scale::over("lr", [1e-4, 1.0, f64::NAN, f64::INFINITY].into_iter(), true);
        assert!((log.at(1e-2).unwrap_or(0.0) - 0.5).abs() < 1e-12);
        assert_eq!((log.at(f64::NAN), log.at(-1.0)), (None, None));
        assert_eq!(log.ticks()[0].1, "1.00e-4");
        let same = Scale::over("x", [3.0, 3.0].into_iter(), false);
        assert_eq!(same.at(3.0), Some(0.5));
        let names = Scale::named("kind", vec!["a".into(), "b".into()]);
        assert_eq!((names.at(0.0), names.ticks()[1].1.as_str()), (Some(0.25), "b"));
    }

    #[test]
    fn a_chart_is_svg_with_nothing_of_the_users_text_as_markup() {
        let scale = || Scale::over("<loss> & \"more\"", [0.0, 1.0].into_iter(), false);
        let mut chart = Chart::new(scale(), scale());
        chart.dot(0.5, 0.5, "red", "</svg><script>");
        chart.dot(f64::NAN, 0.5, "red", "nowhere");
        chart.line([(0.0, 0.0), (1.0, f64::NAN), (1.0, 1.0)].into_iter(), "blue", 1.0, "");
        let svg = chart.svg();
        assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>") && !svg.contains("<script>"));
        assert_eq!(
            (svg.matches("<circle").count(), svg.matches("points=\"80.0,292.0 740.0,16.0\"").count()),
            (1, 1)
        );
        assert!(svg.contains("&lt;loss&gt; &amp; &quot;more&quot;"));
    }
}
