//! G1c: transactions that have each read what the next one wrote, around in a circle.

use crate::{
    anomaly::{Anomaly, Report},
    facts::{CallId, Facts},
    history::{Action, Kind},
};

pub(crate) fn check(facts: &Facts<'_>, report: &mut Report) {
    let mut edges: Vec<Vec<CallId>> = vec![Vec::new(); facts.calls.len()];
    let is_node = |id: CallId| {
        let call = &facts.calls[id];
        call.outcome() != Kind::Fail && matches!(call.action(), Action::Txn(_))
    };
    for read in &facts.reads {
        if let Some(writer) = facts.values[read.value].writer
            && writer != read.call
            && is_node(writer)
            && is_node(read.call)
        {
            edges[writer].push(read.call);
        }
    }
    for circle in components(&edges) {
        let mut ops: Vec<u64> = circle.iter().map(|id| facts.calls[*id].index()).collect();
        ops.sort_unstable();
        report.note(Anomaly::CircularReads, &ops, format!("{} transactions", ops.len()));
    }
}

/// The strongly connected components of more than one node (Tarjan 1972), without recursion.
fn components(edges: &[Vec<usize>]) -> Vec<Vec<usize>> {
    const UNSEEN: usize = usize::MAX;
    let mut order = vec![UNSEEN; edges.len()];
    let mut low = vec![UNSEEN; edges.len()];
    let mut is_open = vec![false; edges.len()];
    let (mut path, mut found) = (Vec::new(), Vec::new());
    let mut next_order = 0;
    for root in 0..edges.len() {
        if order[root] != UNSEEN || edges[root].is_empty() {
            continue;
        }
        // A node, and how many of its edges have been followed.
        let mut walk = vec![(root, 0)];
        while let Some((node, followed)) = walk.pop() {
            if followed == 0 {
                order[node] = next_order;
                low[node] = next_order;
                next_order += 1;
                path.push(node);
                is_open[node] = true;
            } else {
                let child = edges[node][followed - 1];
                if is_open[child] {
                    low[node] = low[node].min(low[child]);
                }
            }
            if let Some(child) = edges[node].get(followed).copied() {
                walk.push((node, followed + 1));
                if order[child] == UNSEEN {
                    walk.push((child, 0));
                }
            } else if low[node] == order[node] {
                let start = path.iter().rposition(|other| *other == node).expect("it is on it");
                let component = path.split_off(start);
                component.iter().for_each(|member| is_open[*member] = false);
                if component.len() > 1 {
                    found.push(component);
                }
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::components;

    #[test]
    fn circles_are_found_and_what_leads_to_them_is_not() {
        let check = |edges: &[&[usize]], expected: &[&[usize]]| {
            let edges: Vec<Vec<usize>> = edges.iter().map(|list| list.to_vec()).collect();
            let mut found = components(&edges);
            found.iter_mut().for_each(|list| list.sort_unstable());
            found.sort();
            assert_eq!(found, expected, "{edges:?}");
        };
        check(&[&[1], &[2], &[]], &[]);
        check(&[&[1], &[0]], &[&[0, 1]]);
        check(&[&[1], &[2], &[1, 3], &[]], &[&[1, 2]]);
        check(&[&[1, 3], &[2], &[0], &[4], &[3], &[0]], &[&[0, 1, 2], &[3, 4]]);
        check(&[&[1, 2], &[3], &[3], &[]], &[]);
        check(&[&[1], &[0, 2], &[3], &[0]], &[&[0, 1, 2, 3]]);
    }
}
