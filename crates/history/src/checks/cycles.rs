//! Transactions that each come before the other (G0, G1c).
//!
//! One comes before another if it wrote before it in some partition (ww) or if the other read what
//! it wrote (wr). Every cycle is a way from a transaction back to itself; one is told for each set
//! of transactions that can all reach each other.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::anomaly::{Anomaly, Dependency, Report};
use crate::history::{End, Operation, TopicPartition};
use crate::view::View;

/// The record that makes one transaction come before another.
#[derive(Clone, Copy)]
struct Edge<'a> {
    partition: &'a TopicPartition,
    offset: i64,
    value: u64,
}

type Graph<'a> = BTreeMap<u32, BTreeMap<u32, Edge<'a>>>;

pub(crate) fn check(view: &View<'_>, report: &mut Report) {
    let mut graph = writes(view);
    let told = tell(&graph, Dependency::WritesOnly, &BTreeSet::new(), report);
    add_reads(view, &mut graph);
    tell(&graph, Dependency::WithReads, &told, report);
}

fn writes<'a>(view: &View<'a>) -> Graph<'a> {
    let mut graph = Graph::new();
    for (partition, log) in &view.logs {
        let mut before: Option<(u32, Edge<'a>)> = None;
        for (offset, values) in &log.at {
            for value in values {
                let Some(transaction) = committed(view, *value) else { continue };
                let edge = Edge { partition, offset: *offset, value: *value };
                if let Some((earlier, edge)) = before
                    && earlier != transaction
                {
                    graph.entry(earlier).or_default().entry(transaction).or_insert(edge);
                }
                before = Some((transaction, edge));
            }
        }
    }
    graph
}

fn add_reads<'a>(view: &View<'a>, graph: &mut Graph<'a>) {
    for operation in &view.history.operations {
        let Operation::Poll(poll) = operation else { continue };
        let Some(reader) = poll.transaction else { continue };
        for fetched in &poll.fetched {
            for record in &fetched.records {
                let Some(writer) = committed(view, record.value) else { continue };
                if writer != reader {
                    graph.entry(writer).or_default().entry(reader).or_insert(Edge {
                        partition: &fetched.partition,
                        offset: record.offset,
                        value: record.value,
                    });
                }
            }
        }
    }
}

fn committed(view: &View<'_>, value: u64) -> Option<u32> {
    let origin = view.origins.get(&value)?;
    let is_aborted = view.end_of(*origin) == End::Aborted;
    origin.send.transaction.filter(|_| !is_aborted)
}

/// Tells one cycle through each transaction that is in none told; answers who is in one.
fn tell(
    graph: &Graph<'_>,
    dependency: Dependency,
    known: &BTreeSet<u32>,
    report: &mut Report,
) -> BTreeSet<u32> {
    let mut told = known.clone();
    for start in graph.keys() {
        if told.contains(start) {
            continue;
        }
        let Some(transactions) = way_back(graph, *start) else { continue };
        let second = transactions.get(1).unwrap_or(start);
        let edge = graph[start][second];
        told.extend(&transactions);
        report.anomalies.push(Anomaly::WriteCycle {
            partition: edge.partition.clone(),
            offset: edge.offset,
            value: edge.value,
            transactions,
            dependency,
        });
    }
    told
}

/// The shortest way from `start` to itself.
fn way_back(graph: &Graph<'_>, start: u32) -> Option<Vec<u32>> {
    let mut came_from = BTreeMap::new();
    let mut waiting = VecDeque::from([start]);
    while let Some(at) = waiting.pop_front() {
        for next in graph.get(&at).into_iter().flat_map(BTreeMap::keys) {
            if *next == start {
                let mut way = vec![at];
                while let Some(earlier) = came_from.get(way.last().expect("it has one")) {
                    way.push(*earlier);
                }
                way.reverse();
                return Some(way);
            }
            if !came_from.contains_key(next) {
                came_from.insert(*next, at);
                waiting.push_back(*next);
            }
        }
    }
    None
}
