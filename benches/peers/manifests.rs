//! One manifest, asked for as fast as wrk can.

use super::load::{Cost, Manifests};
use super::servers::Server;
use super::table::{Row, Unit};
use super::{Plan, in_turns, ratio};

/// Requests per second, and what one costs.
pub(crate) fn rows(plan: &Plan, servers: &[Server; 3], path: &str) -> (Vec<Row>, Option<String>) {
    let costs = in_turns(plan.rounds, servers, |server| {
        Manifests::new(server, path).run()
    });
    let per_request = |cost: &Cost| cost.processor / cost.amount;
    let speed = |cost: &Cost| cost.amount / cost.time;
    let [our_speed, their_speed] = costs.ratios(speed);
    let [our_cost, their_cost] = costs.ratios(per_request);
    let [nginx_speed, larder_speed] = costs.absolute(speed);
    let [nginx_cost, larder_cost] = costs.absolute(|cost| per_request(cost) * 1e6);
    let rows = vec![
        ratio("requests per second: larder / nginx", our_speed).median_at_least(1.0),
        ratio("… docker-registry / nginx", their_speed),
        ratio("processor time per request: larder / nginx", our_cost),
        ratio("… docker-registry / nginx", their_cost),
        Row::new("requests per second: nginx", Unit::Count, nginx_speed),
        Row::new("… larder", Unit::Count, larder_speed),
        Row::new(
            "processor time per request: nginx",
            Unit::Microseconds,
            nginx_cost,
        ),
        Row::new("… larder", Unit::Microseconds, larder_cost),
    ];
    (rows, costs.note())
}
