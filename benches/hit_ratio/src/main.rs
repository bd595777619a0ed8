//! The program the Python driver runs: cells in, counts out, a line each, fields between tabs.
//!
//! In, on stdin: `PATH  unit|bytes  CAPACITY  ENTRIES  SEEDS`, all cells of a trace one after the other. Out, as they
//! come: `PATH  unit|bytes  CAPACITY  COLUMN  HITS  BYTES`, where no count (`-`) says that a column has nothing to say.
//! Arguments: the number of threads, then the columns wanted; none means all.

use hit_ratio::columns;
use hit_ratio::replay::Bound;
use hit_ratio::trace::{self, Request};
use std::collections::VecDeque;
use std::error::Error;
use std::io::{Write, stdin, stdout};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

/// One run of one column over one cell.
struct Job {
    cell: String,
    column: String,
    trace: Arc<Vec<Request>>,
    bound: Bound,
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let threads = arguments.next().ok_or("usage: hit-ratio THREADS [COLUMN...] <CELLS")?.parse()?;
    let wanted: Vec<String> = arguments.collect();
    let jobs = Mutex::new(read_jobs(&wanted)?);
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| work(&jobs));
        }
    });
    Ok(())
}

fn read_jobs(wanted: &[String]) -> Result<VecDeque<Job>, Box<dyn Error>> {
    let mut jobs = VecDeque::new();
    let mut last: Option<(String, Arc<Vec<Request>>)> = None;
    for line in stdin().lines() {
        let line = line?;
        let [path, kind, capacity, entries, seeds] = line.split('\t').collect::<Vec<_>>()[..] else {
            return Err(format!("'{line}' is not a cell").into());
        };
        let name = format!("{path}\t{kind}");
        if last.as_ref().is_none_or(|(known, _)| *known != name) {
            let sized = trace::read(Path::new(path))?;
            let trace = if kind == "bytes" { sized } else { trace::of_unit_size(&sized) };
            last = Some((name.clone(), Arc::new(trace)));
        }
        let Some((_, trace)) = &last else { unreachable!("just read") };
        let bound = Bound { capacity: capacity.parse()?, sized: kind == "bytes", entries: entries.parse()? };
        for column in columns::all().filter(|column| wanted.is_empty() || wanted.iter().any(|name| name == column)) {
            let runs = if columns::is_random(column) { seeds.parse()? } else { 1 };
            jobs.extend((0..runs).map(|_| Job {
                cell: format!("{name}\t{capacity}"),
                column: column.into(),
                trace: Arc::clone(trace),
                bound,
            }));
        }
    }
    Ok(jobs)
}

fn work(jobs: &Mutex<VecDeque<Job>>) {
    loop {
        let Some(job) = jobs.lock().unwrap_or_else(PoisonError::into_inner).pop_front() else { return };
        let counts = columns::run(&job.column, &job.trace, job.bound)
            .map_or("-\t-".into(), |score| format!("{}\t{}", score.hits, score.bytes));
        // The reader has gone: there is nobody left to work for.
        if writeln!(stdout(), "{}\t{}\t{counts}", job.cell, job.column).is_err() {
            return;
        }
    }
}
