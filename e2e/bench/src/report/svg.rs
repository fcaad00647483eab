//! One picture per table: a pair of bars per line, each pair on a scale of its own, the longer bar full.

use std::fmt::Write as _;

use super::format::figure;

/// One line of a picture.
pub(super) struct Bars {
    /// The thing that is compared.
    pub label: String,
    /// Coord's figure.
    pub ours: f64,
    /// etcd's.
    pub theirs: f64,
}

const WIDTH: u32 = 860;
const LEFT: u32 = 300;
const BAR_WIDTH_MAX: f64 = 440.0;
const BAR_HEIGHT: u32 = 13;
const LINE_HEIGHT: u32 = 42;
const TOP: u32 = 58;

/// Draws the picture. It reads on a light and on a dark page alike.
pub(super) fn draw(title: &str, unit: &str, lines: &[Bars]) -> String {
    let height = TOP + LINE_HEIGHT * u32::try_from(lines.len()).expect("a table is short");
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" \
         font-family=\"system-ui, sans-serif\" font-size=\"13\">\n<title>{title}</title>\n\
         <style>text{{fill:#1f2328}}.o{{fill:#1a7f64}}.t{{fill:#9aa4b1}}\
         @media(prefers-color-scheme:dark){{text{{fill:#e6edf3}}.o{{fill:#3fb68b}}.t{{fill:#6e7681}}}}</style>\n\
         <text x=\"0\" y=\"18\" font-size=\"16\" font-weight=\"600\">{title}: {unit}, less is better</text>\n\
         <rect class=\"o\" x=\"0\" y=\"30\" width=\"12\" height=\"12\"/><text x=\"18\" y=\"41\">Coord</text>\n\
         <rect class=\"t\" x=\"78\" y=\"30\" width=\"12\" height=\"12\"/><text x=\"96\" y=\"41\">etcd</text>\n",
    );
    for (index, line) in lines.iter().enumerate() {
        let y = TOP + LINE_HEIGHT * u32::try_from(index).expect("a table is short");
        let longest = line.ours.max(line.theirs).max(f64::MIN_POSITIVE);
        let _ = writeln!(
            out,
            "<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{}</text>",
            LEFT - 12,
            y + 19,
            escape(&line.label)
        );
        for (class, figure_, offset) in [("o", line.ours, 0), ("t", line.theirs, BAR_HEIGHT + 2)] {
            let width = (figure_ / longest * BAR_WIDTH_MAX).max(1.0);
            let _ = writeln!(
                out,
                "<rect class=\"{class}\" x=\"{LEFT}\" y=\"{}\" width=\"{width:.1}\" height=\"{BAR_HEIGHT}\" rx=\"2\"/>\
                 <text x=\"{:.1}\" y=\"{}\">{}</text>",
                y + offset,
                f64::from(LEFT) + width + 6.0,
                y + offset + 11,
                figure(figure_)
            );
        }
    }
    out.push_str("</svg>\n");
    out
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longer_bar_is_full_and_the_other_in_proportion() {
        let bars = Bars {
            label: "a < b".to_owned(),
            ours: 25.0,
            theirs: 100.0,
        };
        let picture = draw("Writes", "us", &[bars]);
        assert!(picture.contains("width=\"110.0\"") && picture.contains("width=\"440.0\""));
        assert!(picture.contains("a &lt; b"));
    }
}
