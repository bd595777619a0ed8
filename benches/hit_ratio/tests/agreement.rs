//! Do the plain policies agree with figures this project did not compute, and with models that share no code with them?
//!
//! Reads the traces that are here; `SAMOVAR_TRACES=dir` names a folder with more. A cell without its trace is left out.

mod models;
mod traces;

use hit_ratio::columns;
use hit_ratio::replay::{Bound, Candidate, replay};
use hit_ratio::trace::{self, Request};
use std::collections::HashMap;
use std::fs;
use traces::{FEW_REQUESTS, find, here};

/// Points in a hundred; the reference figures have one decimal.
const TOLERANCE: f64 = 0.2;

/// A line of the reference table whose trace is here.
struct Cell {
    name: String,
    entries: usize,
    figures: HashMap<String, f64>,
}

fn cells() -> Vec<Cell> {
    let text = fs::read_to_string(here().join("data/reference.tsv")).expect("the reference table");
    let mut lines = text.lines().map(|line| line.split('\t').collect::<Vec<_>>());
    let names = lines.next().expect("a first line");
    lines
        .map(|line| Cell {
            name: line[0].into(),
            entries: line[2].parse().expect("a number of entries"),
            figures: names[3..].iter().zip(&line[3..]).map(|(n, f)| ((*n).into(), f.parse().expect("%"))).collect(),
        })
        .collect()
}

/// Calls with every cell and its requests, and fails with all that was found wrong.
fn each_cell(check: impl Fn(&Cell, &[Request]) -> Vec<String>) {
    let mut traces = HashMap::new();
    let mut wrong = Vec::new();
    let mut checked = 0;
    for cell in cells() {
        let Some(path) = find(&cell.name) else { continue };
        let requests = traces
            .entry(cell.name.clone())
            .or_insert_with(|| trace::of_unit_size(&trace::read(&path).expect("a readable trace")));
        if cfg!(debug_assertions) && requests.len() > FEW_REQUESTS {
            continue;
        }
        checked += 1;
        wrong.extend(check(&cell, requests));
    }
    println!("{checked} cells");
    assert!(checked > 20, "only {checked} cells have their trace here");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn difference(cell: &Cell, what: &str, found: f64, reference: &str) -> Option<String> {
    let expected = cell.figures[reference];
    let place = format!("{} at {} entries", cell.name, cell.entries);
    ((found - expected).abs() > TOLERANCE).then(|| format!("{place}: {what} {found:.2} %, reference {expected} %"))
}

fn of_ours(column: &str, cell: &Cell, requests: &[Request]) -> f64 {
    let bound = Bound { capacity: cell.entries as u64, sized: false, entries: cell.entries };
    columns::run(column, requests, bound).unwrap_or_else(|| panic!("{column} is not built")).percent(requests)
}

#[test]
fn the_models_agree_with_the_reference() {
    each_cell(|cell, requests| {
        let models: [(&str, Box<dyn Candidate>); 3] = [
            ("LRU", Box::new(models::Lru::new(cell.entries))),
            ("FIFO", Box::new(models::Fifo::new(cell.entries))),
            ("S3-FIFO", Box::new(models::S3Fifo::new(cell.entries))),
        ];
        let compare = |(reference, mut model): (&str, Box<dyn Candidate>)| {
            difference(cell, "model", replay(requests, model.as_mut()).percent(requests), reference)
        };
        models.into_iter().filter_map(compare).collect()
    });
}

#[test]
fn the_optimum_agrees_with_the_reference() {
    each_cell(|cell, requests| {
        difference(cell, "OPT", of_ours(columns::OPT, cell, requests), "OPT").into_iter().collect()
    });
}

#[test]
fn our_policies_agree_with_the_reference() {
    each_cell(|cell, requests| {
        let pairs = [("lru", "LRU"), ("fifo", "FIFO"), ("s3fifo", "S3-FIFO")];
        let compare = |(ours, reference)| difference(cell, ours, of_ours(ours, cell, requests), reference);
        pairs.into_iter().filter_map(compare).collect()
    });
}

#[test]
fn nothing_beats_the_optimum() {
    each_cell(|cell, requests| {
        let best = of_ours(columns::OPT, cell, requests);
        let beats = |column: &&str| of_ours(column, cell, requests) > best;
        let wrong = columns::OURS.into_iter().filter(beats);
        wrong.map(|column| format!("{} at {} entries: {column} beats OPT", cell.name, cell.entries)).collect()
    });
}
