//! A drawing of curves, as SVG.

use std::fmt::Write as _;

use super::band::Band;

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 440.0;
/// Margins: left, right, top, bottom.
const MARGINS: [f64; 4] = [70.0, 20.0, 40.0, 55.0];
/// Colours that stay apart for all kinds of sight (Okabe and Ito).
const COLOURS: [&str; 7] = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000"];

/// Draws named curves over a common axis.
pub fn draw(title: &str, along: &str, curves: &[(String, Band)]) -> String {
    let all = |of: fn(&Band) -> &[f64]| curves.iter().flat_map(move |(_, band)| of(band)).copied();
    let span = |low: f64, high: f64| if high > low { (low, high) } else { (low - 1.0, low + 1.0) };
    let fold = |values: &mut dyn Iterator<Item = f64>| {
        let finite: Vec<f64> = values.filter(|value| value.is_finite()).collect();
        span(
            finite.iter().copied().fold(f64::INFINITY, f64::min),
            finite.iter().copied().fold(f64::NEG_INFINITY, f64::max),
        )
    };
    let (_, right) = fold(&mut all(|band| &band.x));
    let (x0, x1) = span(0.0, right);
    // The means decide, with a little room: the band of two seeds can be far wider than the picture.
    let (low, high) = fold(&mut all(|band| &band.mean));
    let room = (high - low) * 0.08;
    let (y0, y1) = (low - room, high + room);
    let [left, right, top, bottom] = MARGINS;
    let px = |x: f64| left + (x - x0) / (x1 - x0) * (WIDTH - left - right);
    let py = |y: f64| HEIGHT - bottom - (y.clamp(y0, y1) - y0) / (y1 - y0) * (HEIGHT - top - bottom);

    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"white\"/>\n\
         <text x=\"{}\" y=\"22\" text-anchor=\"middle\" font-size=\"15\">{}</text>\n",
        WIDTH / 2.0,
        escape(title)
    );
    for tick in ticks(x0, x1) {
        let x = px(tick);
        let _ = writeln!(
            svg,
            "<path d=\"M{x:.1} {top}V{:.1}\" stroke=\"#ddd\"/><text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
            HEIGHT - bottom,
            HEIGHT - bottom + 16.0,
            label(tick)
        );
    }
    for tick in ticks(y0, y1) {
        let y = py(tick);
        let _ = writeln!(
            svg,
            "<path d=\"M{left} {y:.1}H{:.1}\" stroke=\"#ddd\"/><text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            WIDTH - right,
            left - 6.0,
            y + 4.0,
            label(tick)
        );
    }
    let _ = writeln!(
        svg,
        "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>\n<text transform=\"translate(18 {:.1}) rotate(-90)\" text-anchor=\"middle\">mean return</text>",
        f64::midpoint(left, WIDTH - right),
        HEIGHT - 14.0,
        escape(along),
        f64::midpoint(top, HEIGHT - bottom),
    );
    for (i, (name, band)) in curves.iter().enumerate() {
        let colour = COLOURS[i % COLOURS.len()];
        let points = |ys: &[f64]| -> Vec<String> {
            band.x.iter().zip(ys).map(|(&x, &y)| format!("{:.1},{:.1}", px(x), py(y))).collect()
        };
        if band.seeds > 1 {
            let mut around = points(&band.high);
            around.extend(points(&band.low).into_iter().rev());
            let _ =
                writeln!(svg, "<polygon points=\"{}\" fill=\"{colour}\" opacity=\"0.2\"/>", around.join(" "));
        }
        let line = points(&band.mean).join(" ");
        let _ = writeln!(
            svg,
            "<polyline points=\"{line}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>"
        );
        let (x, y) = (left + 12.0, top + 16.0 + 18.0 * i as f64);
        let seeds = if band.seeds == 1 { "1 seed".into() } else { format!("{} seeds", band.seeds) };
        let _ = writeln!(
            svg,
            "<path d=\"M{x} {:.1}h18\" stroke=\"{colour}\" stroke-width=\"3\"/><text x=\"{}\" y=\"{y}\">{} ({seeds})</text>",
            y - 4.0,
            x + 24.0,
            escape(name)
        );
    }
    svg.push_str("</svg>\n");
    svg
}

/// Round numbers in a range, about six of them.
fn ticks(low: f64, high: f64) -> Vec<f64> {
    let rough = (high - low) / 6.0;
    let power = 10_f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].map(|m| m * power).into_iter().find(|&step| step >= rough);
    let step = step.unwrap_or(rough);
    let (first, last) = ((low / step).ceil() as i64, (high / step).floor() as i64);
    (first..=last).map(|i| i as f64 * step).collect()
}

fn label(tick: f64) -> String {
    match tick.abs() {
        size if size >= 1e6 => format!("{}M", rounded(tick / 1e6)),
        size if size >= 1e4 => format!("{}k", rounded(tick / 1e3)),
        _ => rounded(tick).to_string(),
    }
}

fn rounded(x: f64) -> f64 {
    (x * 1000.0).round() / 1000.0
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_within_the_range() {
        assert_eq!(ticks(0.0, 60_000.0), [0.0, 10_000.0, 20_000.0, 30_000.0, 40_000.0, 50_000.0, 60_000.0]);
        assert_eq!(ticks(-1.5, 2.5), [-1.0, 0.0, 1.0, 2.0]);
        assert_eq!([0.2, 500.0, 20_000.0, 1.5e6].map(label), ["0.2", "500", "20k", "1.5M"]);
    }

    #[test]
    fn curves_have_lines_bands_and_names() {
        let band = |seeds| Band {
            seeds,
            x: vec![0.0, 100.0],
            mean: vec![0.0, 10.0],
            low: vec![-1.0, 5.0],
            high: vec![1.0, 15.0],
        };
        let svg = draw("a < b", "steps", &[("one".into(), band(1)), ("three".into(), band(3))]);
        assert_eq!((svg.matches("<polyline").count(), svg.matches("<polygon").count()), (2, 1));
        assert!(svg.contains("a &lt; b") && svg.contains("one (1 seed)") && svg.contains("three (3 seeds)"));
        // Corners of the picture: the first point is at the left and low, the last at the right and high.
        assert!(svg.contains("points=\"70.0,361.2 700.0,63.8\""), "{svg}");
    }

    #[test]
    fn a_flat_curve_is_drawn() {
        let flat =
            Band { seeds: 1, x: vec![5.0; 2], mean: vec![1.0; 2], low: vec![1.0; 2], high: vec![1.0; 2] };
        assert!(!draw("", "", &[(String::new(), flat)]).contains("NaN"));
    }
}
