//! The table of -c: calls, errors and time.

use super::records::{Calls, Event, Record};
use crate::table::{Column, render};
use std::collections::BTreeMap;

#[derive(Default)]
struct Sum {
    calls: u64,
    errors: u64,
    ns: u64,
}

#[derive(Default)]
pub struct Summary {
    sums: BTreeMap<u16, Sum>,
    /// Since when each thread is in a call.
    since: BTreeMap<u32, u64>,
}

impl Summary {
    pub fn add(&mut self, record: &Record) {
        match &record.event {
            Event::Enter { number, .. } => {
                self.since.insert(record.tid, record.time_ns);
                self.sums.entry(*number).or_default().calls += 1;
            }
            Event::Leave { number, result, .. } => {
                let sum = self.sums.entry(*number).or_default();
                sum.errors += u64::from((-4095..0).contains(result));
                if let Some(since) = self.since.remove(&record.tid) {
                    sum.ns += record.time_ns.saturating_sub(since);
                }
            }
            _ => {}
        }
    }

    pub fn table(&self, calls: &Calls) -> String {
        const COLUMNS: &[Column] = &[
            Column::right("% time", 6),
            Column::right("seconds", 9),
            Column::right("us/call", 9),
            Column::right("calls", 7),
            Column::right("errors", 6),
            Column::left("call (time from its begin to its end, waiting included)", 0),
        ];
        let all: u64 = self.sums.values().map(|sum| sum.ns).sum();
        let row = |share: f64, sum: &Sum, name: String| {
            vec![
                format!("{share:.2}"),
                format!("{:.6}", sum.ns as f64 / 1e9),
                (sum.ns / 1000 / sum.calls.max(1)).to_string(),
                sum.calls.to_string(),
                if sum.errors == 0 { String::new() } else { sum.errors.to_string() },
                name,
            ]
        };
        let mut sums: Vec<_> = self.sums.iter().collect();
        sums.sort_by_key(|(_, sum)| std::cmp::Reverse((sum.ns, sum.calls)));
        let share = |sum: &Sum| sum.ns as f64 * 100.0 / all.max(1) as f64;
        let mut rows: Vec<_> = sums.iter().map(|(number, sum)| row(share(sum), sum, calls.name(**number))).collect();
        let add = |total: Sum, sum: &Sum| Sum {
            calls: total.calls + sum.calls,
            errors: total.errors + sum.errors,
            ns: total.ns + sum.ns,
        };
        let total = self.sums.values().fold(Sum::default(), add);
        rows.push(row(100.0, &total, "total".into()));
        render(COLUMNS, &rows, true, None)
    }
}
