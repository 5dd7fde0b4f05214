use super::*;
use crate::enrich::limit::{ENDED_GRACE_NS, LINEAGE_DEPTH_MAX};
use crate::model::{Completeness, ProcessSeen, SeenOrigin};

#[test]
fn lineage_survives_the_end_of_ancestors_and_another_parent() {
    let mut stage = Stage::new();
    stage.exec(10, "/usr/sbin/sshd");
    stage.fork(10, 11);
    stage.exec(11, "/bin/bash");
    stage.fork(11, 12);
    stage.exec(12, "/usr/bin/python3");
    stage.exit(11);
    stage.exit(10);
    stage.now += 10 * ENDED_GRACE_NS;
    // Process 1 is the parent by now, and an exec tells so.
    let of = stage.act(actor(12), exec(1, "/usr/bin/curl"));
    assert_eq!(stage.text(&of, FieldId::ProcAncestorExes), "/bin/bash,/usr/sbin/sshd");
    assert_eq!(stage.text(&of, FieldId::ProcParentPid), "11");
    assert_eq!(stage.text(&of, FieldId::ProcExe), "/usr/bin/curl");
    assert_eq!(stage.text(&of, FieldId::ProcCmdline), "/usr/bin/curl -x");
    let evidence = stage.enricher.evidence(&of.0, &of.1, &NoGpu, Completeness::default());
    let ended: Vec<(u32, bool)> =
        evidence.processes.iter().map(|process| (process.pid, process.ended)).collect();
    assert_eq!(ended, [(12, false), (11, true), (10, true)]);
}

#[test]
fn lineage_tells_what_the_parent_ran_when_the_child_was_born() {
    let mut stage = Stage::new();
    stage.exec(10, "/bin/sh");
    stage.fork(10, 11);
    stage.exec(10, "/usr/bin/innocent");
    stage.fork(10, 12);
    let older = stage.exec(11, "/bin/true");
    assert_eq!(stage.text(&older, FieldId::ProcParentExe), "/bin/sh");
    let younger = stage.exec(12, "/bin/true");
    assert_eq!(stage.text(&younger, FieldId::ProcParentExe), "/usr/bin/innocent");
}

#[test]
fn ancestors_of_a_workload_end_at_its_border() {
    let mut stage = Stage::new();
    stage.cgroup(40, "/system.slice/deploy.service");
    stage.exec(40, "/usr/bin/python3");
    stage.fork(40, 41);
    let pod = "/kubepods/burstable/pod11111111-2222-3333-4444-555555555555/";
    stage.cgroup(41, &format!("{pod}{}", "c".repeat(64)));
    let first = stage.exec(41, "/usr/bin/dash");
    assert_eq!(stage.text(&first, FieldId::ProcAncestorExes), "/usr/bin/python3");
    assert_eq!(stage.text(&first, FieldId::ProcWorkloadAncestorExes), "");
    stage.fork(41, 42);
    let below = stage.exec(42, "/usr/bin/curl");
    assert_eq!(stage.text(&below, FieldId::ProcWorkloadAncestorExes), "/usr/bin/dash");
    assert_eq!(stage.text(&below, FieldId::ProcAncestorExes), "/usr/bin/dash,/usr/bin/python3");
}

#[test]
fn a_child_runs_what_its_creator_ran_until_it_executes() {
    let mut stage = Stage::new();
    stage.exec(10, "/usr/bin/python3");
    stage.fork(10, 11);
    let of = stage.act(actor(11), Body::Flow(flow(1, "198.51.100.1:443", 1)));
    assert_eq!(stage.text(&of, FieldId::ProcExe), "/usr/bin/python3");
    assert_eq!(stage.text(&of, FieldId::ProcName), "comm11");
    assert_eq!(stage.text(&of, FieldId::ProcArgs), "/usr/bin/python3,-x");
}

#[test]
fn a_thread_is_no_process() {
    let mut stage = Stage::new();
    stage.exec(10, "/usr/bin/python3");
    let Body::TaskNew(task) = task_new(11) else { panic!() };
    let thread = TaskNew { child: key(10), is_thread: true, ..task };
    stage.act(actor(10), Body::TaskNew(thread));
    assert_eq!(stage.enricher.counters().processes, 1);
}

#[test]
fn a_long_chain_keeps_its_nearest_and_its_eldest() {
    let mut stage = Stage::new();
    stage.exec(1000, "/usr/sbin/sshd");
    let last = 1000 + 3 * u32::try_from(LINEAGE_DEPTH_MAX).unwrap();
    for pid in 1000..last {
        stage.fork(pid, pid + 1);
        stage.exec(pid + 1, &format!("/bin/{}", pid + 1));
        stage.exit(pid);
    }
    let of = stage.exec(last, "/bin/last");
    let exes = stage.text(&of, FieldId::ProcAncestorExes);
    let exes: Vec<&str> = exes.split(',').collect();
    assert_eq!(exes.len(), LINEAGE_DEPTH_MAX);
    assert_eq!(exes.first(), Some(&format!("/bin/{}", last - 1).as_str()));
    assert_eq!(exes.last(), Some(&"/usr/sbin/sshd"), "forking on does not hide the first");
}

#[test]
fn an_ended_process_is_known_for_its_grace_and_then_forgotten() {
    let mut stage = Stage::new();
    stage.exec(10, "/bin/short");
    stage.exit(10);
    stage.now += ENDED_GRACE_NS / 2;
    let late = stage.act(actor(10), Body::Flow(flow(1, "198.51.100.1:443", 1)));
    assert_eq!(stage.text(&late, FieldId::ProcExe), "/bin/short");
    stage.now += ENDED_GRACE_NS;
    stage.exec(11, "/bin/other");
    assert_eq!(stage.enricher.counters().processes, 1);
}

#[test]
fn an_unknown_process_is_looked_up_and_else_known_by_name() {
    let mut stage = Stage::new();
    let info = |pid: u32, parent: u32, exe: &str| ProcInfo {
        parent: Tgid(parent),
        start: BootNs(key(pid).start.0 / 10_000_000 * 10_000_000),
        name: "from-proc".into(),
        exe: exe.into(),
        ..ProcInfo::default()
    };
    stage.host.0.lock().unwrap().processes.insert(20, info(20, 5, "/usr/bin/found"));
    stage.host.0.lock().unwrap().processes.insert(5, info(5, 0, "/sbin/parent"));
    let of = stage.act(actor(20), Body::Flow(flow(1, "198.51.100.1:443", 1)));
    assert_eq!(stage.text(&of, FieldId::ProcExe), "/usr/bin/found");
    assert_eq!(stage.text(&of, FieldId::ProcParentExe), "/sbin/parent");
    // The parent's own record takes up the entry that /proc made.
    let parent = stage.act(actor(5), Body::Flow(flow(2, "198.51.100.1:443", 1)));
    assert_eq!(stage.text(&parent, FieldId::ProcExe), "/sbin/parent");
    assert_eq!(stage.enricher.counters().processes, 2);

    // Of an id that was used again, /proc tells of somebody else.
    let mut again = actor(20);
    again.process.start = BootNs(99 * SECOND);
    let of = stage.act(again, Body::Flow(flow(3, "198.51.100.1:443", 1)));
    assert_eq!(stage.text(&of, FieldId::ProcExe), "");
    assert_eq!(stage.text(&of, FieldId::ProcName), "comm20");
    let evidence = stage.enricher.evidence(
        &of.0,
        &of.1,
        &NoGpu,
        Completeness { complete: true, ..Completeness::default() },
    );
    assert!(!evidence.completeness.complete);
    assert!(evidence.completeness.unknowns[0].contains("executable"), "{evidence:?}");
    assert_eq!(stage.enricher.counters().processes_partial, 1);
}

#[test]
fn a_birth_that_comes_after_a_record_of_the_child_still_gives_lineage() {
    let mut stage = Stage::new();
    stage.exec(10, "/bin/bash");
    stage.act(actor(11), Body::Flow(flow(1, "198.51.100.1:443", 1)));
    stage.fork(10, 11);
    let of = stage.act(actor(11), Body::Flow(flow(1, "198.51.100.1:443", 2)));
    assert_eq!(stage.text(&of, FieldId::ProcParentExe), "/bin/bash");
    assert_eq!(stage.text(&of, FieldId::ProcExe), "/bin/bash");
}

#[test]
fn processes_seen_at_start_find_their_parents_in_any_order() {
    let mut stage = Stage::new();
    let seen = |parent: u32, exe: &str| {
        Body::ProcessSeen(ProcessSeen {
            parent: if parent == 0 { ProcessKey::default() } else { key(parent) },
            exe: exe.into(),
            exe_id: FileId::default(),
            args: vec![exe.into()],
            cwd: "/".into(),
            origin: SeenOrigin::Iterator,
        })
    };
    let proc_parent =
        ProcInfo { start: key(2_000).start, exe: "/bin/parent".into(), ..ProcInfo::default() };
    stage.host.0.lock().unwrap().processes.insert(2_000, proc_parent);
    stage.act(actor(2_001), seen(2_000, "/bin/child"));
    stage.act(actor(2_000), seen(0, "/bin/parent"));
    assert_eq!(stage.enricher.counters().processes, 2);
    let of = stage.exec(2_001, "/bin/next");
    assert_eq!(stage.text(&of, FieldId::ProcAncestorExes), "/bin/parent");
}

#[test]
fn an_id_used_again_ends_whoever_had_it() {
    let mut stage = Stage::new();
    stage.exec(10, "/bin/old");
    // The end of the first was lost.
    let mut again = actor(10);
    again.process.start = BootNs(99 * SECOND);
    let of = stage.act(again, exec(0, "/bin/new"));
    assert_eq!(stage.text(&of, FieldId::ProcExe), "/bin/new");
    let old = stage.enricher.processes.lookup(key(10)).unwrap();
    assert_eq!(old.ended, Some(BootNs(99 * SECOND)));
}

#[test]
fn the_stage_may_run_on_a_thread_of_its_own() {
    fn is_send<T: Send>() {}
    is_send::<Enricher>();
}
