//! The simulator's command line.
#![forbid(unsafe_code)]

use quipu_simulation::points;
use quipu_simulation::run::run;
use quipu_simulation::scenario::Scenario;

fn main() {
    let seed: u64 = std::env::args().nth(1).and_then(|seed| seed.parse().ok()).unwrap_or(1);
    points::install(std::env::var("RUST_LOG").ok().as_deref());
    let scenario = Scenario::draw(seed);
    println!("{}", serde_json::to_string_pretty(&scenario).unwrap());
    let began = std::time::Instant::now();
    let finished = run(&scenario);
    if std::env::args().nth(2).is_some() {
        print!("{}", finished.record.trace());
    }
    println!("{:#?}", finished.record.violations);
    println!("{:#?} {:?}", finished.record.marks, finished.record.faults);
    println!(
        "simulated {:?} in {:?}, {} operations, {} tasks",
        finished.simulated,
        began.elapsed(),
        finished.operations.len(),
        finished.most_tasks
    );
}
