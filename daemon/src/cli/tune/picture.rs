//! The report's picture: memory to the right, the time until a reply begins upwards, the frontier joined by a line.

use std::fmt::Write as _;

use super::choice::{Budget, Choice};
use super::task::Task;
use super::trial::Measured;
use crate::cli::models::mib;

const WIDTH: f64 = 860.0;
const HEIGHT: f64 = 520.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 30.0;
const TOP: f64 = 50.0;
const BOTTOM: f64 = 60.0;

/// An axis whose ticks double, because models do.
struct Axis {
    low: f64,
    high: f64,
    from: f64,
    to: f64,
}

impl Axis {
    fn new(values: impl Iterator<Item = f64> + Clone, from: f64, to: f64) -> Self {
        let low = values.clone().fold(f64::INFINITY, f64::min).max(1e-9).log2().floor();
        let high = values.fold(0.0, f64::max).max(1e-9).log2().ceil();
        Self { low, high: if high > low { high } else { low + 1.0 }, from, to }
    }

    fn place(&self, value: f64) -> f64 {
        let share = (value.max(1e-9).log2() - self.low) / (self.high - self.low);
        self.from + share.clamp(0.0, 1.0) * (self.to - self.from)
    }

    fn ticks(&self) -> impl Iterator<Item = f64> + use<> {
        (self.low as i32..=self.high as i32).map(|power| f64::from(power).exp2())
    }
}

/// The picture as SVG.
#[must_use]
pub fn draw(measured: &[Measured], budget: &Budget, choices: &[Choice]) -> String {
    let memory = |one: &Measured| one.memory as f64;
    let x = Axis::new(measured.iter().map(memory), LEFT, WIDTH - RIGHT);
    let y = Axis::new(measured.iter().map(|one| one.pace.latency), HEIGHT - BOTTOM, TOP);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" \
         font-size=\"11\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
    );
    let mut put = |line: String| {
        // Writing to a string cannot fail.
        let _ = writeln!(svg, "{line}");
    };
    put(format!(
        "<text x=\"{LEFT}\" y=\"24\" font-size=\"15\">Time until a reply begins (or a query is ready), against memory</text>"
    ));
    let (bottom, right) = (HEIGHT - BOTTOM, WIDTH - RIGHT);
    for tick in x.ticks() {
        let (at, label) = (x.place(tick), mib(tick as u64));
        put(format!("<line x1=\"{at:.1}\" y1=\"{TOP}\" x2=\"{at:.1}\" y2=\"{bottom}\" stroke=\"#ddd\"/>"));
        put(format!("<text x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{label}</text>", bottom + 16.0));
    }
    for tick in y.ticks() {
        let at = y.place(tick);
        let label = if tick < 1.0 { format!("{:.0} ms", tick * 1e3) } else { format!("{tick:.0} s") };
        put(format!("<line x1=\"{LEFT}\" y1=\"{at:.1}\" x2=\"{right}\" y2=\"{at:.1}\" stroke=\"#ddd\"/>"));
        put(format!("<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{label}</text>", LEFT - 6.0, at + 4.0));
    }
    let (limit_x, limit_y) = (x.place(budget.memory as f64), y.place(budget.latency.as_secs_f64()));
    put(format!(
        "<path d=\"M{LEFT} {limit_y:.1} H{limit_x:.1} V{bottom}\" fill=\"none\" stroke=\"#c60\" stroke-dasharray=\"5 4\"/>"
    ));
    let of_task = |task: Task| measured.iter().filter(move |one| one.subject.task == task);
    let present = Task::ALL.into_iter().filter(|task| of_task(*task).next().is_some());
    for task in present.clone() {
        let (_, colour) = task.colour();
        let mut frontier: Vec<&Measured> = of_task(task).filter(|one| one.frontier).collect();
        frontier.sort_by_key(|one| one.memory);
        let points: Vec<String> = frontier
            .iter()
            .map(|one| format!("{:.1},{:.1}", x.place(memory(one)), y.place(one.pace.latency)))
            .collect();
        put(format!(
            "<polyline class=\"frontier\" points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>",
            points.join(" ")
        ));
        for one in of_task(task) {
            let (cx, cy) = (x.place(memory(one)), y.place(one.pace.latency));
            let chosen =
                choices.iter().any(|choice| choice.best.subject == one.subject && choice.best.setting == one.setting);
            let (radius, fill) = (if chosen { 7 } else { 4 }, if one.frontier { colour } else { "white" });
            let label = escaped(&format!("{}, {}", one.subject.label(), one.setting.label()));
            put(format!(
                "<circle cx=\"{cx:.1}\" cy=\"{cy:.1}\" r=\"{radius}\" fill=\"{fill}\" stroke=\"{colour}\"><title>{label}: \
                 {:.2} s, {}</title></circle>",
                one.pace.latency,
                mib(one.memory)
            ));
            if one.frontier || chosen {
                let (anchor, at) = if cx > WIDTH / 2.0 { ("end", cx - 10.0) } else { ("start", cx + 10.0) };
                put(format!("<text x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"{anchor}\">{label}</text>", cy - 6.0));
            }
        }
    }
    let legend = |task: Task| format!("{}: {}, {}", task.colour().0, task.key(), task.waited_for());
    let lines = [
        present.map(legend).collect::<Vec<_>>().join("; "),
        "filled: the frontier; large: recommended; dashed: the budget".to_owned(),
    ];
    for (line, below) in lines.iter().zip([24.0, 8.0]) {
        put(format!("<text x=\"{LEFT}\" y=\"{:.1}\" fill=\"#555\">{line}</text>", HEIGHT - below));
    }
    svg.push_str("</svg>\n");
    svg
}

/// A name as it may stand in a picture's text.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}
