//! One blob, read by many at once.

use super::content::Content;
use super::load::{Blobs, Cost};
use super::servers::Server;
use super::table::{Row, Unit};
use super::{Plan, in_turns, ratio};

/// What it takes to send it: processor time and speed.
pub(crate) fn rows(
    plan: &Plan,
    servers: &[Server; 3],
    connections: usize,
    content: &Content,
) -> (Vec<Row>, Option<String>) {
    let costs = in_turns(plan.rounds, servers, |server| {
        Blobs::new(server, connections, content, plan.is_quick).run()
    });
    let per_gb = |cost: &Cost| cost.processor / cost.amount;
    let speed = |cost: &Cost| cost.amount / cost.time;
    let [our_cost, their_cost] = costs.ratios(per_gb);
    let [our_speed, their_speed] = costs.ratios(speed);
    let [nginx_cost, larder_cost] = costs.absolute(|cost| per_gb(cost) * 1000.0);
    let [nginx_speed, larder_speed] = costs.absolute(speed);
    let is_encrypted = servers[0].is_encrypted();
    let limit = if is_encrypted { 1.15 } else { 1.25 };
    let mut our_speed = ratio("GB/s: larder / nginx", our_speed);
    if connections == 8 && !is_encrypted {
        our_speed = our_speed.median_at_least(0.9);
    }
    let rows = vec![
        ratio("processor time per GB: larder / nginx", our_cost).median_at_most(limit),
        ratio("… docker-registry / nginx", their_cost),
        our_speed,
        ratio("… docker-registry / nginx", their_speed),
        Row::new(
            "processor time per GB: nginx",
            Unit::Milliseconds,
            nginx_cost,
        ),
        Row::new("… larder", Unit::Milliseconds, larder_cost),
        Row::new("speed: nginx", Unit::Speed, nginx_speed),
        Row::new("… larder", Unit::Speed, larder_speed),
    ];
    (rows, costs.note())
}
