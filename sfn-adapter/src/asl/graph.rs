//! The order of a pipeline's steps as nested series and parallels, the only orders that a state machine can
//! express.
//!
//! A graph that is not series-parallel gets barriers. All steps before a barrier end before any step after it
//! starts.

use std::collections::{BTreeMap, BTreeSet};

/// An order of steps. Steps are represented by their numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// One step.
    Step(usize),
    /// One after the other.
    Series(Vec<Order>),
    /// At the same time.
    Parallel(Vec<Order>),
}

/// A point at which all steps of one part wait for all steps of the previous part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Barrier {
    /// Dependencies of the pipeline that became this barrier, as (earlier, later) steps.
    pub(super) edges: Vec<(usize, usize)>,
    /// Pairs of (earlier, later) steps that the barrier orders and the pipeline does not.
    pub(super) added: Vec<(usize, usize)>,
}

/// The order of a graph, and the barriers that it needed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Plan {
    /// The order.
    pub(super) order: Order,
    /// The barriers in the order in which an execution reaches them.
    pub(super) barriers: Vec<Barrier>,
}

impl Plan {
    /// Orders `count` steps with these (earlier, later) dependencies, which have no cycle.
    pub(super) fn new(count: usize, edges: &[(usize, usize)]) -> Self {
        let graph = Graph::new(count, edges);
        let mut barriers = Vec::new();
        let order = graph.order((0..count).collect(), &mut barriers);
        Self { order, barriers }
    }

    /// Orders the steps in levels: a step starts when every step of the previous level has ended.
    ///
    /// This is necessary for a pipeline that must not start another step after a failure, because a branch of
    /// a state machine does not see the failures of its siblings.
    pub(super) fn in_levels(count: usize, edges: &[(usize, usize)]) -> Self {
        let graph = Graph::new(count, edges);
        let levels = graph.levels(&(0..count).collect::<Vec<_>>());
        let mut barriers = Vec::new();
        let mut before: Vec<usize> = Vec::new();
        for level in &levels {
            let barrier = graph.barrier(&before, level);
            if !barrier.added.is_empty() {
                barriers.push(barrier);
            }
            before.extend(level);
        }
        let order = series(levels.into_iter().map(|level| parallel(level.into_iter().map(Order::Step))));
        Self { order, barriers }
    }
}

impl Order {
    /// Returns the maximum number of steps that run at the same time.
    pub(super) fn width(&self) -> usize {
        match self {
            Self::Step(_) => 1,
            Self::Series(parts) => parts.iter().map(Self::width).max().unwrap_or(0),
            Self::Parallel(parts) => parts.iter().map(Self::width).sum(),
        }
    }

    /// Returns the same steps with at most `width` of them at a time. Excess branches share lanes. The
    /// branches of a lane run one after the other.
    #[must_use]
    pub(super) fn limited(self, width: usize) -> Self {
        let width = width.max(1);
        if self.width() <= width {
            return self;
        }
        match self {
            Self::Step(_) => self,
            Self::Series(parts) => series(parts.into_iter().map(|part| part.limited(width))),
            Self::Parallel(parts) => {
                let count = parts.len().min(width);
                let mut lanes = vec![Vec::new(); count];
                for (number, part) in parts.into_iter().enumerate() {
                    let lane = number % count;
                    let share = width / count + usize::from(lane < width % count);
                    lanes[lane].push(part.limited(share));
                }
                parallel(lanes.into_iter().map(series))
            }
        }
    }

    /// Returns the same steps in groups of at most `width`. A group starts after the previous group has
    /// ended.
    #[must_use]
    pub(super) fn in_groups(self, width: usize) -> Self {
        let width = width.max(1);
        match self {
            Self::Step(_) => self,
            Self::Series(parts) => series(parts.into_iter().map(|part| part.in_groups(width))),
            Self::Parallel(parts) => series(parts.chunks(width).map(|group| parallel(group.iter().cloned()))),
        }
    }

    /// Returns the steps in the order in which they are written.
    pub(super) fn steps(&self) -> Vec<usize> {
        match self {
            Self::Step(step) => vec![*step],
            Self::Series(parts) | Self::Parallel(parts) => parts.iter().flat_map(Self::steps).collect(),
        }
    }
}

fn series(parts: impl IntoIterator<Item = Order>) -> Order {
    let parts = parts.into_iter().flat_map(|part| match part {
        Order::Series(parts) => parts,
        part => vec![part],
    });
    single(parts.collect(), Order::Series)
}

fn parallel(parts: impl IntoIterator<Item = Order>) -> Order {
    single(parts.into_iter().collect(), Order::Parallel)
}

fn single(mut parts: Vec<Order>, several: fn(Vec<Order>) -> Order) -> Order {
    if parts.len() == 1 { parts.remove(0) } else { several(parts) }
}

struct Graph {
    edges: BTreeSet<(usize, usize)>,
    /// `before[a][b]`: step `a` ends before step `b` starts.
    before: Vec<Vec<bool>>,
}

impl Graph {
    fn new(count: usize, edges: &[(usize, usize)]) -> Self {
        let mut before = vec![vec![false; count]; count];
        for &(earlier, later) in edges {
            before[earlier][later] = true;
        }
        for middle in 0..count {
            for first in 0..count {
                if before[first][middle] {
                    let after = before[middle].clone();
                    for (last, reached) in before[first].iter_mut().zip(after) {
                        *last |= reached;
                    }
                }
            }
        }
        Self { edges: edges.iter().copied().collect(), before }
    }

    fn is_before(&self, earlier: usize, later: usize) -> bool {
        #[cfg(test)]
        tests::COMPARISONS.with(|count| count.set(count.get() + 1));
        self.before[earlier][later]
    }

    fn is_ordered(&self, one: usize, other: usize) -> bool {
        self.is_before(one, other) || self.is_before(other, one)
    }

    fn order(&self, steps: Vec<usize>, barriers: &mut Vec<Barrier>) -> Order {
        if let [step] = steps[..] {
            return Order::Step(step);
        }
        let branches = components(&steps, |one, other| self.is_ordered(one, other));
        if branches.len() > 1 {
            return parallel(branches.into_iter().map(|branch| self.order(branch, barriers)));
        }
        // The steps of two parts are all ordered if no unordered pair connects the parts.
        let mut parts = components(&steps, |one, other| !self.is_ordered(one, other));
        if parts.len() > 1 {
            let level_of = self.level_of(&steps);
            parts.sort_by_key(|part| part.iter().map(|step| level_of[step]).min());
            return series(parts.into_iter().map(|part| self.order(part, barriers)));
        }
        let (first, rest) = self.cut(&steps);
        let barrier = self.barrier(&first, &rest);
        let first = self.order(first, barriers);
        barriers.push(barrier);
        series([first, self.order(rest, barriers)])
    }

    /// Divides the steps after the level at which the fewest pairs become ordered.
    fn cut(&self, steps: &[usize]) -> (Vec<usize>, Vec<usize>) {
        let level_of = self.level_of(steps);
        let added = self.added_by_cuts(steps, &level_of);
        let cut = (1..added.len()).min_by_key(|cut| added[*cut]).unwrap_or(added.len());
        let (mut first, mut rest): (Vec<_>, Vec<_>) = steps.iter().partition(|step| level_of[*step] < cut);
        first.sort_unstable();
        rest.sort_unstable();
        (first, rest)
    }

    /// Returns, for a cut before each level, the number of pairs that the cut orders and the graph does not.
    fn added_by_cuts(&self, steps: &[usize], level_of: &BTreeMap<usize, usize>) -> Vec<usize> {
        let levels = level_of.values().max().map_or(0, |last| last + 1);
        let (mut begins, mut ends) = (vec![0; levels + 1], vec![0; levels + 1]);
        for earlier in steps {
            for later in steps {
                let (one, other) = (level_of[earlier], level_of[later]);
                if one < other && !self.is_before(*earlier, *later) {
                    begins[one + 1] += 1;
                    ends[other + 1] += 1;
                }
            }
        }
        let mut added = 0;
        let count = |level: usize| {
            added = added + begins[level] - ends[level];
            added
        };
        (0..levels).map(count).collect()
    }

    fn barrier(&self, first: &[usize], rest: &[usize]) -> Barrier {
        let pairs = first.iter().flat_map(|earlier| rest.iter().map(|later| (*earlier, *later)));
        let (edges, others): (Vec<_>, Vec<_>) = pairs.partition(|pair| self.edges.contains(pair));
        let added = others.into_iter().filter(|(earlier, later)| !self.is_before(*earlier, *later)).collect();
        Barrier { edges, added }
    }

    /// Returns, for each of these steps, the length of the longest chain of these steps before it.
    fn level_of(&self, steps: &[usize]) -> BTreeMap<usize, usize> {
        let before = |step: usize| steps.iter().filter(move |other| self.is_before(**other, step));
        // Every step has more predecessors than each of its predecessors has, so this order computes the
        // levels of predecessors first.
        let mut sorted: Vec<(usize, usize)> =
            steps.iter().map(|step| (before(*step).count(), *step)).collect();
        sorted.sort_unstable();
        let mut level_of = BTreeMap::new();
        for (_, step) in sorted {
            let level =
                before(step).filter_map(|other| level_of.get(other)).max().map_or(0, |level| level + 1);
            level_of.insert(step, level);
        }
        level_of
    }

    fn levels(&self, steps: &[usize]) -> Vec<Vec<usize>> {
        let level_of = self.level_of(steps);
        let count = level_of.values().max().map_or(0, |last| last + 1);
        let mut levels = vec![Vec::new(); count];
        for step in steps {
            levels[level_of[step]].push(*step);
        }
        levels
    }
}

/// Groups the steps that are connected directly or through other steps. Each group is sorted, and the groups
/// are in order of their first steps.
fn components(steps: &[usize], is_connected: impl Fn(usize, usize) -> bool) -> Vec<Vec<usize>> {
    let mut rest: Vec<usize> = steps.to_vec();
    rest.sort_unstable();
    let mut groups = Vec::new();
    while !rest.is_empty() {
        let mut group = vec![rest.remove(0)];
        let mut reached = 0;
        while reached < group.len() {
            let step = group[reached];
            let (connected, others) = rest.iter().partition(|other| is_connected(step, **other));
            rest = others;
            group.extend::<Vec<usize>>(connected);
            reached += 1;
        }
        group.sort_unstable();
        groups.push(group);
    }
    groups
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use Order::{Parallel, Series, Step};
    use proptest::prelude::*;

    use super::*;

    thread_local! {
        /// Number of comparisons of two steps.
        pub(super) static COMPARISONS: Cell<usize> = const { Cell::new(0) };
    }

    /// Returns the number of comparisons that `work` makes.
    fn comparisons(work: impl FnOnce()) -> usize {
        let before = COMPARISONS.get();
        work();
        COMPARISONS.get() - before
    }

    #[test]
    fn a_chain_is_a_series_and_independent_steps_are_parallel() {
        assert_eq!(Plan::new(3, &[(0, 1), (1, 2)]).order, Series(vec![Step(0), Step(1), Step(2)]));
        assert_eq!(Plan::new(2, &[]).order, Parallel(vec![Step(0), Step(1)]));
        assert_eq!(Plan::new(1, &[]).order, Step(0));
    }

    #[test]
    fn the_work_for_a_long_chain_grows_with_the_square_of_its_length() {
        const COUNT: usize = 500;
        let edges: Vec<_> = (1..COUNT).map(|later| (later - 1, later)).collect();
        let plan = || drop(Plan::new(COUNT, &edges));
        let in_levels = || drop(Plan::in_levels(COUNT, &edges));
        assert!(comparisons(plan) < 10 * COUNT * COUNT);
        assert!(comparisons(in_levels) < 10 * COUNT * COUNT);
    }

    #[test]
    fn the_work_for_a_ladder_stays_below_the_third_power_of_its_length() {
        // Each pair of rungs is an N, so every cut leaves another N.
        const COUNT: usize = 60;
        let edges = (0..COUNT).flat_map(|step| [(step, step + 2), (step, step + 3)]);
        let edges: Vec<_> = edges.filter(|(_, later)| *later < COUNT).collect();
        assert!(comparisons(|| drop(Plan::new(COUNT, &edges))) < COUNT * COUNT * COUNT);
    }

    #[test]
    fn a_diamond_needs_no_barrier() {
        let plan = Plan::new(4, &[(0, 1), (0, 2), (1, 3), (2, 3)]);
        assert_eq!(plan.order, Series(vec![Step(0), Parallel(vec![Step(1), Step(2)]), Step(3)]));
        assert_eq!(plan.barriers, []);
    }

    #[test]
    fn an_n_gets_one_barrier_that_names_its_edges() {
        // 0 → 2, 0 → 3, 1 → 3: step 2 does not depend on step 1.
        let plan = Plan::new(4, &[(0, 2), (0, 3), (1, 3)]);
        let halves = [Parallel(vec![Step(0), Step(1)]), Parallel(vec![Step(2), Step(3)])];
        assert_eq!(plan.order, Series(halves.to_vec()));
        assert_eq!(plan.barriers, [Barrier { edges: vec![(0, 2), (0, 3), (1, 3)], added: vec![(1, 2)] }]);
    }

    #[test]
    fn too_many_branches_share_lanes() {
        let order = Plan::new(5, &[]).order.limited(2);
        assert_eq!(
            order,
            Parallel(vec![Series(vec![Step(0), Step(2), Step(4)]), Series(vec![Step(1), Step(3)])])
        );
        let wide = Plan::new(4, &[]).order.limited(9);
        assert_eq!(wide.width(), 4);
    }

    #[test]
    fn levels_and_groups_start_nothing_before_the_ones_before_have_ended() {
        let plan = Plan::in_levels(5, &[(0, 3), (1, 4)]);
        assert_eq!(
            plan.order.clone().in_groups(2),
            Series(vec![Parallel(vec![Step(0), Step(1)]), Step(2), Parallel(vec![Step(3), Step(4)]),])
        );
        assert_eq!(plan.barriers.len(), 1);
    }

    /// Returns the pairs of steps that an order separates.
    fn separated(order: &Order, pairs: &mut BTreeSet<(usize, usize)>) {
        if let Order::Series(parts) | Order::Parallel(parts) = order {
            parts.iter().for_each(|part| separated(part, pairs));
        }
        if let Order::Series(parts) = order {
            for (number, part) in parts.iter().enumerate() {
                let later = parts[number + 1..].iter().flat_map(Order::steps).collect::<Vec<_>>();
                pairs.extend(part.steps().into_iter().flat_map(|a| later.iter().map(move |b| (a, *b))));
            }
        }
    }

    fn graphs() -> impl Strategy<Value = (usize, Vec<(usize, usize)>)> {
        (1_usize..9).prop_flat_map(|count| {
            let pairs = prop::collection::vec((0..count, 0..count), 0..14);
            let edge = |(one, other): (usize, usize)| (one.min(other), one.max(other));
            let edges = move |pairs: Vec<(usize, usize)>| {
                pairs.into_iter().map(edge).filter(|(one, other)| one != other).collect::<Vec<_>>()
            };
            (Just(count), pairs.prop_map(edges))
        })
    }

    proptest! {
        #[test]
        fn every_dependency_is_kept_and_every_addition_is_reported(
            (count, edges) in graphs(),
            width in 1_usize..5,
        ) {
            let plan = Plan::new(count, &edges);
            let mut steps = plan.order.steps();
            steps.sort_unstable();
            prop_assert_eq!(steps, (0..count).collect::<Vec<_>>());
            let (mut kept, graph) = (BTreeSet::new(), Graph::new(count, &edges));
            separated(&plan.order, &mut kept);
            let added: BTreeSet<_> = plan.barriers.iter().flat_map(|barrier| barrier.added.clone()).collect();
            for earlier in 0..count {
                for later in 0..count {
                    let pair = (earlier, later);
                    let expected = graph.before[earlier][later] || added.contains(&pair);
                    prop_assert_eq!(kept.contains(&pair), expected, "{:?}", pair);
                }
            }
            let limited = plan.order.clone().limited(width);
            prop_assert!(limited.width() <= width);
            let mut still = BTreeSet::new();
            separated(&limited, &mut still);
            prop_assert!(kept.is_subset(&still));
        }
    }
}
