use proptest::prelude::*;

use super::*;

/// Returns a readable instant with this number.
fn instant(number: usize) -> Instant {
    Instant::from_timestamp(at(number), &TimeZone::UTC)
}

/// Returns the time of a commit, one per minute.
fn at(number: usize) -> Timestamp {
    Timestamp::from_second(1_795_000_000 + 60 * number as i64).unwrap()
}

fn timeline(commits: impl IntoIterator<Item = usize>) -> TimelineView {
    let commit = |number| CommitView { instant: instant(number), action: Action::Commit };
    TimelineView {
        commits: commits.into_iter().map(commit).collect(),
        earliest_pending: None,
        savepoints: Vec::new(),
        last_earliest_to_retain: None,
        now: at(0),
        zone: TimeZone::UTC,
    }
}

fn slice(number: usize) -> SliceView {
    SliceView { instant: instant(number), file: format!("f_{number}"), bytes: 1500 }
}

fn group(id: &str, slices: impl IntoIterator<Item = usize>) -> FileGroupView {
    let slices = slices.into_iter().map(slice).collect();
    FileGroupView { file_id: id.to_owned(), slices, replaced_at: None }
}

fn partition(groups: Vec<FileGroupView>) -> PartitionView {
    PartitionView { path: "day=1".to_owned(), groups, has_pending_files: false }
}

fn deleted(plan: &Plan) -> Vec<&str> {
    plan.deletions().iter().map(|deletion| deletion.file.as_str()).collect()
}

#[test]
fn ten_commits_leave_eleven_versions_of_a_group_that_each_of_them_wrote() {
    for (commits, gone) in [(10, 0), (11, 0), (12, 1), (15, 4)] {
        let plan = plan(
            RetentionPolicy::default(),
            &timeline(0..commits),
            &[partition(vec![group("f", 0..commits)])],
        );
        assert_eq!(plan.deletions().len(), gone, "{commits} commits");
        assert_eq!(plan.earliest_to_retain(), (commits > 10).then(|| instant(commits - 10)));
    }
}

#[test]
fn a_group_that_was_not_written_for_long_keeps_its_newest_version() {
    let plan = plan(RetentionPolicy::commits(2), &timeline(0..9), &[partition(vec![group("f", [0, 1])])]);
    assert_eq!(deleted(&plan), ["f_0"]);
}

#[test]
fn a_pending_commit_holds_the_window() {
    let mut timeline = timeline([0, 1, 2, 4, 5, 6, 7]);
    timeline.earliest_pending = Some(instant(3));
    let plan =
        plan(RetentionPolicy::commits(1), &timeline, &[partition(vec![group("f", [0, 1, 2, 4, 5, 6, 7])])]);
    assert_eq!(plan.earliest_to_retain(), Some(instant(2)));
    assert_eq!(deleted(&plan), ["f_0"]);
}

#[test]
fn a_savepoint_protects_its_files() {
    let mut timeline = timeline(0..6);
    timeline.savepoints = vec![SavepointView { instant: instant(1), files: ["f_1".to_owned()].into() }];
    for policy in [RetentionPolicy::commits(2), RetentionPolicy::file_versions(3)] {
        let plan = plan(policy, &timeline, &[partition(vec![group("f", 0..6)])]);
        assert_eq!(deleted(&plan), ["f_0", "f_2"]);
    }
}

#[test]
fn hours_count_back_from_the_present() {
    let mut timeline = timeline(0..180);
    timeline.now = at(180);
    let partitions = [partition(vec![group("f", (0..180).step_by(30))])];
    let plan = plan(RetentionPolicy::hours(1), &timeline, &partitions);
    assert_eq!(plan.earliest_to_retain(), Some(instant(120)));
    assert_eq!(deleted(&plan), ["f_0", "f_30", "f_60"]);
    timeline.now = at(1000);
    assert!(
        super::plan(RetentionPolicy::hours(1), &timeline, &partitions).is_empty(),
        "no commit is that young"
    );
}

#[test]
fn replaced_groups_go_once_their_replacement_leaves_the_window_and_the_partition_with_them() {
    let mut replaced = group("f", [0, 1]);
    replaced.replaced_at = Some(instant(3));
    let gone = |commits: usize, policy| {
        let plan = plan(policy, &timeline(0..commits), &[partition(vec![replaced.clone()])]);
        (plan.deletions().len(), plan.partitions_to_delete().len())
    };
    assert_eq!(gone(5, RetentionPolicy::commits(2)), (0, 0));
    assert_eq!(gone(6, RetentionPolicy::commits(2)), (2, 1));
    assert_eq!(gone(4, RetentionPolicy::file_versions(2)), (2, 1));
}

#[test]
fn prints_what_would_happen() {
    let plan = plan(RetentionPolicy::commits(2), &timeline(0..5), &[partition(vec![group("f", 0..5)])]);
    insta::assert_snapshot!(plan, @r"
    keep       the last 2 commits
    readable   from 20261118110940000
    kept       3 files, 4.4 KiB
    delete     2 files, 2.9 KiB
      20261118110640000    1.5 KiB  day=1/f_0
      20261118110740000    1.5 KiB  day=1/f_1
    ");
}

/// Compares with the successive cleans of tables that Spark wrote.
#[rstest::rstest]
#[case("customer-0.15", 10, 3)]
#[case("customer-0.14", 2, 2)]
#[case("address-0.15", 2, 3)]
#[case("address-1.0-v6", 2, 3)]
fn plans_what_spark_planned(#[case] table: &str, #[case] retained: u32, #[case] cleans: usize) {
    let folder = format!("{}/tests/data/retention/{table}", env!("CARGO_MANIFEST_DIR"));
    let mut theirs: Vec<CleanPlan> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "requested"))
        .map(|path| CleanPlan::decode(&std::fs::read(path).unwrap()).unwrap())
        .collect();
    theirs.sort_by(|a, b| a.last_completed_commit_timestamp.cmp(&b.last_completed_commit_timestamp));
    let commits = std::fs::read_to_string(format!("{folder}/commits.txt")).unwrap();
    let mut timeline = timeline([]);
    let mut partitions: BTreeMap<String, PartitionView> = BTreeMap::new();
    let mut ours = Vec::new();
    let mut lines = commits.lines().map(|line| line.split_once(' ').unwrap()).peekable();
    while let Some((instant, path)) = lines.next() {
        let at: Instant = instant.parse().unwrap();
        let (folder, file) = path.rsplit_once('/').unwrap_or(("", path));
        let file_id = file.split('_').next().unwrap();
        let partition = partitions.entry(folder.to_owned()).or_default();
        partition.path = folder.to_owned();
        let slice = SliceView { instant: at, file: file.to_owned(), bytes: 1 };
        match partition.groups.iter_mut().find(|group| group.file_id == file_id) {
            Some(group) => group.slices.push(slice),
            None => partition.groups.push(FileGroupView {
                file_id: file_id.to_owned(),
                slices: vec![slice],
                replaced_at: None,
            }),
        }
        if lines.peek().is_some_and(|(next, _)| *next == instant) {
            continue;
        }
        timeline.commits.push(CommitView { instant: at, action: Action::Commit });
        let views: Vec<_> = partitions.values().cloned().collect();
        let plan = plan(RetentionPolicy::commits(retained), &timeline, &views);
        if plan.is_empty() {
            continue;
        }
        for deletion in plan.deletions() {
            let groups = &mut partitions.get_mut(&deletion.partition).unwrap().groups;
            groups.iter_mut().for_each(|group| group.slices.retain(|slice| slice.file != deletion.file));
        }
        timeline.last_earliest_to_retain = plan.earliest_to_retain();
        ours.push(plan);
    }
    assert_eq!(ours.len(), cleans);
    for (ours, mut theirs) in ours.iter().zip(theirs) {
        let any_path = theirs.file_paths_to_be_deleted_per_partition.as_ref().unwrap();
        let (partition, files) = any_path.iter().next().unwrap();
        let path = files[0].file_path.as_ref().unwrap();
        let folder = if partition.is_empty() { "/".to_owned() } else { format!("/{partition}/") };
        let base = &path[..path
            .find(&folder)
            .filter(|_| !partition.is_empty())
            .unwrap_or_else(|| path.rfind('/').unwrap())];
        let ours = ours.to_avro(base);
        if table.ends_with("0.14") {
            theirs.extra_metadata = Some(BTreeMap::new());
        }
        assert_eq!(ours, theirs);
    }
}

proptest! {
    /// A version is kept if and only if a read needs it: a read as of an instant in the window, or just
    /// before it.
    #[test]
    fn keeps_exactly_what_reads_of_the_window_see(
        written in prop::collection::vec(prop::collection::btree_set(0_usize..30, 0..30), 1..4),
        retained in 1_u32..12,
        pending in prop::option::of(0_usize..30),
    ) {
        let mut timeline = timeline((0..30).filter(|n| Some(*n) != pending));
        timeline.earliest_pending = pending.map(instant);
        let groups: Vec<_> = written.iter().enumerate()
            .map(|(id, slices)| group(&id.to_string(), slices.iter().copied().filter(|n| Some(*n) != pending)))
            .collect();
        let plan = plan(RetentionPolicy::commits(retained), &timeline, &[partition(groups.clone())]);
        let window = plan.earliest_to_retain();
        for group in &groups {
            let numbers: Vec<usize> = (0..30).filter(|n| group.slices.iter().any(|s| s.instant == instant(*n))).collect();
            let seen_at = |read: usize| numbers.iter().copied().filter(|n| *n <= read).max();
            let reads = (0..30).filter(|read| window.is_none_or(|window| instant(*read + 1) >= window));
            let mut seen: BTreeSet<usize> = reads.filter_map(seen_at).collect();
            if window.is_none() {
                seen.extend(numbers.iter().copied());
            }
            for number in numbers {
                let gone = plan.deletions().iter().any(|d| d.file_id == group.file_id && d.instant == instant(number));
                prop_assert_eq!(gone, !seen.contains(&number), "version {} of {:?}", number, group);
            }
        }
    }

    /// Inspecting only the partitions where commits left the window finds the same deletions as inspecting
    /// all partitions.
    #[test]
    fn the_scope_loses_nothing(
        commits in prop::collection::vec(prop::collection::btree_set(0_usize..4, 0..4), 1..40),
        retained in 1_u32..6,
        skipped in prop::collection::btree_set(0_usize..40, 0..20),
    ) {
        let mut timeline = timeline([]);
        let mut partitions: Vec<PartitionView> = (0..4)
            .map(|n| PartitionView { path: n.to_string(), groups: vec![group("f", [])], has_pending_files: false })
            .collect();
        for (number, written) in commits.iter().enumerate() {
            timeline.commits.push(CommitView { instant: instant(number), action: Action::Commit });
            written.iter().for_each(|p| partitions[*p].groups[0].slices.push(slice(number)));
            if skipped.contains(&number) {
                continue;
            }
            let policy = RetentionPolicy::commits(retained);
            let everywhere = plan(policy, &timeline, &partitions);
            let looked_at: Vec<_> = match scope(policy, &timeline) {
                Scope::Nothing => Vec::new(),
                Scope::Everything => partitions.clone(),
                Scope::WrittenBy(left) => {
                    let numbers: Vec<_> = (0..40).filter(|n| left.contains(&instant(*n))).collect();
                    let is_in = |p: usize| numbers.iter().any(|n| commits[*n].contains(&p));
                    (0..4).filter(|p| is_in(*p)).map(|p| partitions[p].clone()).collect()
                }
            };
            let plan = plan(policy, &timeline, &looked_at);
            prop_assert_eq!(deleted(&plan), deleted(&everywhere));
            // Hudi stores a clean only if it deletes something, and only a stored clean moves the mark.
            if !plan.is_empty() {
                for deletion in plan.deletions() {
                    let p: usize = deletion.partition.parse().unwrap();
                    partitions[p].groups[0].slices.retain(|slice| slice.file != deletion.file);
                }
                timeline.last_earliest_to_retain = plan.earliest_to_retain();
            }
        }
    }
}
