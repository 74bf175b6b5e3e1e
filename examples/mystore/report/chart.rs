//! Draws a line chart over the cycles as SVG, with units on the axes, a legend, and values in tooltips.

use std::fmt::Write;

/// Lengths in SVG units. The browser scales the chart to its container.
const WIDTH: f64 = 540.0;
const HEIGHT: f64 = 280.0;
const LEFT: f64 = 58.0;
const RIGHT: f64 = 14.0;
const TOP: f64 = 42.0;
const BOTTOM: f64 = 48.0;

/// Colours that are also distinguishable with colour blindness.
const COLOURS: [&str; 3] = ["#2f6fb7", "#d9822b", "#5a9e6f"];

/// Line chart over the cycles 0, 1, 2, …
pub(super) struct Chart<'a> {
    /// Description for screen readers.
    pub(super) label: &'a str,
    /// Measured quantity and its unit.
    pub(super) unit: &'a str,
    pub(super) series: Vec<Series>,
    /// Upper limit of the values, and its name.
    pub(super) limit: Option<(f64, &'a str)>,
    /// Number of decimal places in tooltips.
    pub(super) digits: usize,
}

/// A line: its name and its value for each cycle.
pub(super) struct Series {
    pub(super) name: String,
    pub(super) points: Vec<(u32, f64)>,
}

impl Chart<'_> {
    /// Renders the SVG.
    pub(super) fn draw(&self) -> String {
        let mut svg = String::new();
        // Writing to a String cannot fail.
        let _ = self.write(&mut svg);
        svg
    }

    fn write(&self, svg: &mut String) -> std::fmt::Result {
        let cycles = self.points().map(|(cycle, _)| *cycle).max().unwrap_or(0).max(1);
        let highest = self.points().map(|(_, value)| *value).chain(self.limit.map(|limit| limit.0));
        let step = round_step(highest.fold(1e-9, f64::max) * 1.04 / 4.0);
        let top = (highest_tick(self, step) / step).ceil() * step;
        let x = |cycle: u32| LEFT + f64::from(cycle) / f64::from(cycles) * (WIDTH - LEFT - RIGHT);
        let y = |value: f64| HEIGHT - BOTTOM - value / top * (HEIGHT - TOP - BOTTOM);

        write!(
            svg,
            "<svg class=\"chart\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{}\">",
            escape(self.label)
        )?;
        self.legend(svg)?;
        let digits = (-step.log10().floor()).max(0.0) as usize;
        let mut tick = 0.0;
        while tick <= top + step * 1e-6 {
            write!(
                svg,
                "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{:.1}\" y1=\"{:.1}\" y2=\"{:.1}\"/><text class=\"tick end\" x=\"{:.1}\" y=\"{:.1}\">{tick:.digits$}</text>",
                WIDTH - RIGHT,
                y(tick),
                y(tick),
                LEFT - 8.0,
                y(tick) + 4.0,
            )?;
            tick += step;
        }
        let every = round_step(f64::from(cycles) / 12.0).max(1.0) as u32;
        for cycle in (0..=cycles).step_by(every as usize) {
            write!(
                svg,
                "<text class=\"tick mid\" x=\"{:.1}\" y=\"{:.1}\">{cycle}</text>",
                x(cycle),
                HEIGHT - BOTTOM + 18.0
            )?;
        }
        write!(
            svg,
            "<text class=\"axis mid\" x=\"{:.1}\" y=\"{:.1}\">cycle (0 is the initial load)</text>",
            (LEFT + WIDTH - RIGHT) / 2.0,
            HEIGHT - 8.0
        )?;
        let middle = (TOP + HEIGHT - BOTTOM) / 2.0;
        write!(
            svg,
            "<text class=\"axis mid\" x=\"14\" y=\"{middle:.1}\" transform=\"rotate(-90 14 {middle:.1})\">{}</text>",
            escape(self.unit)
        )?;
        if let Some((limit, what)) = self.limit {
            write!(
                svg,
                "<line class=\"limit\" x1=\"{LEFT}\" x2=\"{:.1}\" y1=\"{:.1}\" y2=\"{:.1}\"/><text class=\"limit-text\" x=\"{:.1}\" y=\"{:.1}\">{}</text>",
                WIDTH - RIGHT,
                y(limit),
                y(limit),
                LEFT + 6.0,
                y(limit) - 7.0,
                escape(what)
            )?;
        }
        for (series, colour) in self.series.iter().zip(COLOURS.iter().cycle()) {
            let line: Vec<_> = series
                .points
                .iter()
                .map(|(cycle, value)| format!("{:.1},{:.1}", x(*cycle), y(*value)))
                .collect();
            write!(svg, "<polyline class=\"line\" stroke=\"{colour}\" points=\"{}\"/>", line.join(" "))?;
            for (cycle, value) in &series.points {
                write!(
                    svg,
                    "<circle class=\"dot\" cx=\"{:.1}\" cy=\"{:.1}\" r=\"3\" fill=\"{colour}\"><title>{}, cycle {cycle}: {value:.*}</title></circle>",
                    x(*cycle),
                    y(*value),
                    escape(&series.name),
                    self.digits
                )?;
            }
        }
        svg.push_str("</svg>");
        Ok(())
    }

    fn legend(&self, svg: &mut String) -> std::fmt::Result {
        // The legend starts left of the plot, because three table names need the whole width.
        let mut x = 8.0;
        for (series, colour) in self.series.iter().zip(COLOURS.iter().cycle()) {
            write!(
                svg,
                "<line class=\"line\" stroke=\"{colour}\" x1=\"{x:.1}\" x2=\"{:.1}\" y1=\"20\" y2=\"20\"/><circle cx=\"{:.1}\" cy=\"20\" r=\"3\" fill=\"{colour}\"/><text class=\"name\" x=\"{:.1}\" y=\"24\">{}</text>",
                x + 20.0,
                x + 10.0,
                x + 26.0,
                escape(&series.name)
            )?;
            x += 42.0 + series.name.chars().count() as f64 * 7.0;
        }
        Ok(())
    }

    fn points(&self) -> impl Iterator<Item = &(u32, f64)> {
        self.series.iter().flat_map(|series| &series.points)
    }
}

fn highest_tick(chart: &Chart<'_>, least: f64) -> f64 {
    chart.points().map(|(_, value)| *value).chain(chart.limit.map(|limit| limit.0)).fold(least, f64::max)
}

/// Rounds up to 1, 2 or 5 times a power of ten.
fn round_step(least: f64) -> f64 {
    let power = 10_f64.powf(least.log10().floor());
    [1.0, 2.0, 5.0, 10.0]
        .map(|factor| factor * power)
        .into_iter()
        .find(|step| *step >= least)
        .unwrap_or(power)
}

/// Escapes text for HTML and SVG.
pub(super) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_end_above_the_highest_value_and_the_limit() {
        let chart = Chart {
            label: "versions",
            unit: "versions",
            series: vec![Series { name: "a<b".to_owned(), points: vec![(0, 1.0), (1, 7.0)] }],
            limit: Some((11.0, "limit")),
            digits: 0,
        };
        let svg = chart.draw();
        assert!(svg.contains(">15<") && !svg.contains(">20<"), "{svg}");
        assert!(svg.contains("a&lt;b, cycle 1: 7</title>"), "{svg}");
        assert_eq!(svg.matches("<svg").count(), svg.matches("</svg>").count());
    }

    #[test]
    fn axis_steps_are_round_numbers() {
        assert_eq!([0.03, 1.0, 1.2, 2.1, 7.0].map(round_step), [0.05, 1.0, 2.0, 5.0, 10.0]);
    }
}
