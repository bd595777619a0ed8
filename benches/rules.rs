//! Does a lookup among a hundred rules cost at most three times one among one? In instructions, under valgrind's callgrind.
//!
//! `cargo bench --bench rules` prints the ratios for rules of several shapes and fails beyond 3.

use samovar::core::policy::Rules;
use std::hint::black_box;
use std::process::Command;

const BOUND: f64 = 3.0;
const LOOKUPS: u64 = 10_000;

/// A shape of rules: its name, the pattern and a key for a number. The last two keys of each fit no rule.
type Shape = (&'static str, fn(usize) -> String, fn(usize) -> String);

const SHAPES: [Shape; 6] = [
    ("beginnings", |n| format!("{}:*", word(n)), |n| format!("{}:{}", word(n), n * 7919)),
    ("numbered beginnings", |n| format!("tenant:{n}:*"), |n| format!("tenant:{n}:{}", n * 7919)),
    ("ends", |n| format!("*:{}", word(n)), |n| format!("user:{}:{}", n * 7919, word(n))),
    ("beginnings and ends", |n| format!("user:*:{}", word(n)), |n| format!("user:{}:{}", n * 7919, word(n))),
    ("middles", |n| format!("*:{}:*", word(n)), |n| format!("eu:{}:{}", word(n), n * 7919)),
    ("whole keys", word, word),
];

/// A hundred and two words, as different as names in an application are.
fn word(n: usize) -> String {
    const FIRST: [&str; 11] =
        ["user", "product", "order", "page", "price", "stock", "session", "image", "search", "tax", "cart"];
    const SECOND: [&str; 10] = ["", "_view", "_list", "_draft", "_old", "s", "_count", "_v2", "_by_name", "_tree"];
    format!("{}{}", FIRST[n / 10], SECOND[n % 10])
}

/// Looks up one key in `count` rules, so often.
fn look_up(shape: &Shape, count: usize, key: usize, times: u64) {
    let (_, pattern, make_key) = shape;
    // The one rule is the one that fits.
    let numbers = if count == 1 { key.min(99)..key.min(99) + 1 } else { 0..count };
    let patterns: Vec<String> = numbers.map(pattern).collect();
    let rules = Rules::new(patterns.iter().map(|pattern| (pattern.as_str(), ()))).expect("good patterns");
    let key = make_key(key);
    assert_eq!(rules.first(&key).is_some(), key != make_key(100) && key != make_key(101));
    for _ in 0..times {
        black_box(rules.first(black_box(&key)));
    }
}

/// Instructions of one lookup.
fn instructions(shape: usize, count: usize, key: usize) -> f64 {
    let total = |times: u64| {
        let me = std::env::current_exe().expect("a path");
        let arguments = [shape as u64, count as u64, key as u64, times].map(|number| number.to_string());
        let tool = ["--tool=callgrind", "--callgrind-out-file=/dev/null"];
        let run = Command::new("valgrind").args(tool).arg(me).arg("child").args(arguments).output();
        let said = String::from_utf8(run.expect("valgrind is installed").stderr).expect("text");
        let collected =
            said.lines().find_map(|line| line.split_once("Collected :")).unwrap_or_else(|| panic!("{said}"));
        collected.1.trim().parse::<u64>().expect("a number")
    };
    (total(LOOKUPS) - total(0)) as f64 / LOOKUPS as f64
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    if let [_, child, shape, count, key, times] = arguments.as_slice()
        && child == "child"
    {
        let number = |text: &String| text.parse::<usize>().expect("a number");
        return look_up(&SHAPES[number(shape)], number(count), number(key), number(times) as u64);
    }
    println!("{:22} {:>14} {:>8} {:>10} {:>6}", "rules", "key", "1 rule", "100 rules", "ratio");
    let mut worst: f64 = 0.0;
    for (at, (shape, ..)) in SHAPES.iter().enumerate() {
        for (what, key) in [("fits the first", 0), ("fits the last", 99), ("fits none", 101)] {
            let (one, hundred) = (instructions(at, 1, key), instructions(at, 100, key));
            worst = worst.max(hundred / one);
            println!("{shape:22} {what:>14} {one:8.0} {hundred:10.0} {:6.2}", hundred / one);
        }
    }
    println!("worst {worst:.2}, bound {BOUND}");
    assert!(worst <= BOUND, "a lookup among 100 rules costs too much");
}
