//! What is printed.

use crate::load::Run;

fn median(list: &[f64]) -> f64 {
    let mut sorted = list.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

/// A table in Markdown: ours, the others, ours in parts of theirs.
pub fn print(names: &[&str], runs: &[Run], direct: &[f64]) {
    let mut head = "| |".to_owned();
    for name in names {
        head += &format!(" {name} |");
    }
    for name in &names[1..] {
        head += &format!(" ours / {name} |");
    }
    println!("{head}\n|{}", "---|".repeat(2 * names.len()));
    let direct = median(direct);
    let line = |label: &str, digits: usize, of: &dyn Fn(&Run) -> f64| {
        let values: Vec<f64> = runs.iter().map(of).collect();
        let mut line = format!("| {label} |");
        for value in &values {
            line += &format!(" {value:.digits$} |");
        }
        for value in &values[1..] {
            let ratio = values[0] / value;
            line += &if ratio.is_finite() { format!(" {ratio:.2} |") } else { " |".to_owned() };
        }
        println!("{line}");
    };
    const MICRO: f64 = 1e6;
    line("cached answers per second of processor time", 0, &|run| median(&run.per_processor_second));
    line("cached answers per second, at most", 0, &|run| median(&run.peak));
    line("latency at equal load, median, in µs", 0, &|run| median(&run.median) * MICRO);
    line("the same, 99 %, in µs", 0, &|run| median(&run.p99) * MICRO);
    line("answers per second at 80 % of the own peak", 0, &|run| median(&run.offered));
    line("latency then, median, in µs", 0, &|run| median(&run.own_median) * MICRO);
    line("the same, 99 %, in µs", 0, &|run| median(&run.own_p99) * MICRO);
    line("questions lost then, in all rounds", 0, &|run| run.lost.iter().sum());
    line("added to a question that is not in the cache, median, in µs", 0, &|run| {
        (median(&run.uncached) - direct) * MICRO
    });
    line("PSS at the start, in KiB", 0, &|run| run.idle as f64);
    line("PSS with 4,000 names asked for, in KiB", 0, &|run| run.warm as f64);
    line("PSS after 200,000 random names, in KiB", 0, &|run| run.flooded as f64);
    println!("\nThe server itself answers after {:.0} µs.", direct * MICRO);
}
