//! Graph of a pipeline's steps. Detects cycles and determines the order of the steps.

use petgraph::{
    algo::{astar, toposort},
    graph::{DiGraph, NodeIndex},
};

/// Graph whose nodes are step numbers, with an edge from each step to every step that depends on it.
#[derive(Clone, Debug)]
pub(in crate::pipeline) struct Graph {
    dependents: Vec<Vec<usize>>,
    dependencies: Vec<usize>,
    levels: Vec<usize>,
}

impl Graph {
    /// Creates a graph of `count` steps. Each edge is a pair of an earlier and a later step. If the graph has
    /// cycles, returns the shortest cycle through one of the steps, with the first step repeated at the end.
    pub(in crate::pipeline) fn new(count: usize, edges: &[(usize, usize)]) -> Result<Self, Vec<usize>> {
        let mut graph = DiGraph::<(), (), usize>::default();
        for _ in 0..count {
            graph.add_node(());
        }
        for (earlier, later) in edges {
            graph.add_edge(NodeIndex::new(*earlier), NodeIndex::new(*later), ());
        }
        let order = toposort(&graph, None).map_err(|found| cycle_through(&graph, found.node_id()))?;
        let mut levels = vec![0; count];
        let mut dependents = vec![Vec::new(); count];
        let mut dependencies = vec![0; count];
        for node in order {
            for later in graph.neighbors(node) {
                levels[later.index()] = levels[later.index()].max(levels[node.index()] + 1);
                dependents[node.index()].push(later.index());
                dependencies[later.index()] += 1;
            }
        }
        for later in &mut dependents {
            later.sort_unstable();
        }
        Ok(Self { dependents, dependencies, levels })
    }

    /// Returns the steps that directly depend on this one.
    pub(in crate::pipeline) fn dependents(&self, step: usize) -> &[usize] {
        &self.dependents[step]
    }

    /// Returns the number of direct dependencies of each step.
    pub(in crate::pipeline) fn dependencies(&self) -> &[usize] {
        &self.dependencies
    }

    /// Returns the length of the longest chain of dependencies before this step.
    pub(in crate::pipeline) fn level(&self, step: usize) -> usize {
        self.levels[step]
    }
}

fn cycle_through(graph: &DiGraph<(), (), usize>, node: NodeIndex<usize>) -> Vec<usize> {
    let back = graph
        .neighbors(node)
        .filter_map(|next| astar(graph, next, |end| end == node, |_| 1, |_| 0))
        .min_by_key(|(length, _)| *length);
    let mut steps = vec![node.index()];
    steps.extend(back.into_iter().flat_map(|(_, path)| path).map(NodeIndex::index));
    steps
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_the_shortest_cycle_through() {
        let cycle = Graph::new(5, &[(0, 1), (1, 2), (2, 3), (3, 1), (3, 4)]).unwrap_err();
        assert_eq!(cycle.len(), 4);
        assert_eq!(cycle.first(), cycle.last());
        assert!(!cycle.contains(&0) && !cycle.contains(&4));
        assert_eq!(Graph::new(1, &[(0, 0)]).unwrap_err(), [0, 0]);
    }

    #[test]
    fn a_level_is_the_longest_path_to_a_step() {
        let graph = Graph::new(4, &[(0, 1), (1, 3), (0, 3), (2, 3)]).unwrap();
        assert_eq!((0..4).map(|step| graph.level(step)).collect::<Vec<_>>(), [0, 1, 0, 2]);
        assert_eq!(graph.dependencies(), [0, 1, 0, 3]);
        assert_eq!(graph.dependents(0), [1, 3]);
    }
}
