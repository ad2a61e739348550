//! Draws the history of the binary's bytes per target as an SVG.

use crate::{Error, TARGETS};
use std::fmt::Write as _;
use std::path::Path;

const WIDTH: u64 = 720;
const HEIGHT: u64 = 360;
const MARGIN: u64 = 70;
const COLOURS: [&str; 4] = ["#c0392b", "#d68910", "#1e8449", "#2471a3"];

/// Writes `history.svg` from `history.csv`.
pub(crate) fn draw(folder: &Path) -> Result<(), Error> {
    let path = folder.join("history.csv");
    let text = std::fs::read_to_string(&path).map_err(|error| Error::File(path, error))?;
    let path = folder.join("history.svg");
    std::fs::write(&path, svg(&text)).map_err(|error| Error::File(path, error))
}

/// One line per target: the binary's bytes, in the order of the records.
fn svg(history: &str) -> String {
    let series = TARGETS.map(|target| binaries(history, target));
    let top = series.iter().flatten().copied().max().unwrap_or(1).max(1);
    // Round up to a multiple of 100,000, so that the lines of the grid have round numbers.
    let top = top.div_ceil(100_000) * 100_000;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{HEIGHT}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
         <text x=\"{MARGIN}\" y=\"20\">bytes of the binary, by record</text>\n"
    );
    for step in 0..=4u64 {
        let value = top * step / 4;
        let y = vertical(value, top);
        let right = WIDTH - 110;
        let _ = writeln!(
            svg,
            "<line x1=\"{MARGIN}\" x2=\"{right}\" y1=\"{y}\" y2=\"{y}\" stroke=\"#ddd\"/>\
             <text x=\"{}\" y=\"{}\" text-anchor=\"end\">{value}</text>",
            MARGIN - 6,
            y + 4
        );
    }
    for ((values, target), colour) in series.iter().zip(TARGETS).zip(COLOURS) {
        let points: Vec<String> = values
            .iter()
            .enumerate()
            .map(|(index, value)| {
                format!("{},{}", horizontal(index as u64, values.len() as u64), vertical(*value, top))
            })
            .collect();
        let _ = writeln!(
            svg,
            "<polyline fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\" points=\"{}\"/>",
            points.join(" ")
        );
        if let Some(last) = values.last() {
            let (x, y) = (WIDTH - 104, vertical(*last, top) + 4);
            let _ = writeln!(svg, "<text x=\"{x}\" y=\"{y}\" fill=\"{colour}\">{target} {last}</text>");
        }
    }
    svg.push_str("</svg>\n");
    svg
}

fn binaries(history: &str, target: &str) -> Vec<u64> {
    history
        .lines()
        .filter_map(|line| match *line.split(',').collect::<Vec<&str>>().as_slice() {
            [_, _, of, "binary", bytes] if of == target => bytes.parse().ok(),
            _ => None,
        })
        .collect()
}

fn horizontal(index: u64, count: u64) -> u64 {
    let room = WIDTH - 110 - MARGIN;
    MARGIN + if count > 1 { room * index / (count - 1) } else { room }
}

fn vertical(value: u64, top: u64) -> u64 {
    let room = HEIGHT - 70;
    40 + room - room * value.min(top) / top
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_record_is_a_point() {
        let history = "date,commit,target,item,bytes\nd,c,armv6,binary,250000\nd,c,armv6,pss,9\nd,e,armv6,binary,500000\n";
        assert_eq!(binaries(history, "armv6"), [250_000, 500_000]);
        let drawing = svg(history);
        assert!(drawing.contains(&format!("points=\"70,185 {},40\"", WIDTH - 110)), "{drawing}");
    }
}
