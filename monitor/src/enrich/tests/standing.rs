//! Who lives in which cgroup.

use super::*;

/// A process that executes something in a cgroup of this id and path.
fn lives(stage: &mut Stage, pid: u32, id: u64, path: &str) {
    stage.cgroup(pid, path);
    stage.host.0.lock().unwrap().ids.insert(path.to_owned(), id);
    stage.act(Actor { cgroup: CgroupId(id), ..actor(pid) }, exec(0, "/usr/bin/x"));
}

fn residents(stage: &Stage) -> Vec<u64> {
    let mut ids: Vec<u64> = stage.enricher.residents().iter().map(|it| it.cgroup.0).collect();
    ids.sort_unstable();
    ids
}

#[test]
fn cgroup_of_one_workload_is_told_with_what_may_become_of_it() {
    let mut stage = Stage::new();
    lives(&mut stage, 10, 70, "/system.slice/job.service");
    lives(&mut stage, 11, 70, "/system.slice/job.service");
    lives(&mut stage, 12, 71, "/system.slice/other.service");
    assert_eq!(residents(&stage), [70, 71]);
    let job = stage.enricher.residents().into_iter().find(|it| it.cgroup.0 == 70).unwrap();
    let worlds = job.worlds();
    let of = |id| worlds.iter().map(move |world| format!("{:?}", world.field(id)));
    assert!(of(FieldId::UnitName).all(|unit| unit.contains("job.service")));
    assert!(of(FieldId::WorkloadRole).any(|role| role.contains("inference")), "a later guess");
    assert!(of(FieldId::WorkloadRole).any(|role| role == "Missing"));
    stage.exit(10);
    stage.exit(11);
    assert_eq!(residents(&stage), [71], "nobody lives there any more");
}

#[test]
fn cgroup_that_somebody_confined_was_moved_to_is_not_told() {
    let mut stage = Stage::new();
    let pod = format!("/kubepods.slice/kubepods-pod{}.slice", UID.replace('-', "_"));
    lives(&mut stage, 10, 70, "/system.slice/job.service");
    lives(&mut stage, 20, 80, &format!("/docker/{}", "a".repeat(64)));
    assert_eq!(residents(&stage), [70, 80]);
    lives(&mut stage, 20, 70, "/system.slice/job.service");
    assert_eq!(residents(&stage), [] as [u64; 0], "it keeps its workload, and its acts count");
    lives(&mut stage, 30, 90, &pod);
    assert_eq!(residents(&stage), [] as [u64; 0], "a pod whose name is not known yet");
}

#[test]
fn cgroup_id_that_does_not_tell_everything_is_not_told() {
    let mut stage = Stage::new();
    lives(&mut stage, 10, 1, "/");
    assert_eq!(residents(&stage), [] as [u64; 0], "trees share the root");
    stage.host.0.lock().unwrap().cgroups.insert(11, "4:freezer:/slurm/job_7\n0::/a\n".into());
    stage.host.0.lock().unwrap().ids.insert("/a".to_owned(), 70);
    stage.act(Actor { cgroup: CgroupId(70), ..actor(11) }, exec(0, "/usr/bin/x"));
    assert_eq!(residents(&stage), [] as [u64; 0], "version 1 may tell jobs apart within it");
}
