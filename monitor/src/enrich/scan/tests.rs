use super::*;

/// Seeds by path, directories in the order they were found, and how far the scan came.
fn scanned(watch: &WatchConfig) -> (Vec<LabelSeed>, Vec<FileId>, ScanProgress) {
    scanned_up_to(watch, 100)
}

fn scanned_up_to(
    watch: &WatchConfig,
    directories_max: usize,
) -> (Vec<LabelSeed>, Vec<FileId>, ScanProgress) {
    let (mut seeds, mut directories) = (Vec::new(), Vec::new());
    let progress = scan(watch, directories_max, &mut |found, _| {
        match found {
            Found::File(seed) => seeds.push(seed),
            Found::Directory(id) => directories.push(id),
            Found::Named => {}
        }
        true
    });
    seeds.sort_by(|one, other| one.path.cmp(&other.path));
    (seeds, directories, progress)
}

fn tree() -> (tempfile::TempDir, WatchConfig) {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    for (path, content) in [
        ("a/hub/m/w.gguf", b"GGUF1234".as_slice()),
        ("a/hub/m/config.json", b"{}"),
        ("a/hub/m/deep/odd", b"GGUF"),
        ("a/other/w.gguf", b"GGUF"),
        ("b/hub/empty.gguf", b""),
    ] {
        fs::create_dir_all(root.join(path).parent().unwrap()).unwrap();
        fs::write(root.join(path), content).unwrap();
    }
    let glob = format!("{}/*/hub/**", root.display());
    let watch = WatchConfig { weights: vec![glob], data: Vec::new(), ..WatchConfig::default() };
    (directory, watch)
}

fn id_of(directory: &tempfile::TempDir, path: &str) -> FileId {
    directory_id(&directory.path().join(path)).unwrap()
}

#[test]
fn weights_below_the_globs_are_found_and_nothing_else() {
    let (directory, watch) = tree();
    let (seeds, _, progress) = scanned(&watch);
    let names: Vec<&str> =
        seeds.iter().map(|seed| super::super::content::file_name(&seed.path)).collect();
    assert_eq!(names, ["odd", "w.gguf"]);
    let metadata = fs::metadata(directory.path().join("a/hub/m/w.gguf")).unwrap();
    assert_eq!(seeds[1].id.inode, metadata.ino());
    assert_eq!((seeds[1].size_bytes, seeds[1].format), (8, Format::Gguf));
    assert_eq!((progress.files, progress.truncated), (2, false));
}

#[test]
fn a_link_to_a_file_leads_to_its_inode_and_to_the_directory_that_it_is_in() {
    let (directory, watch) = tree();
    let link = directory.path().join("b/hub/link.safetensors");
    std::os::unix::fs::symlink(directory.path().join("a/other/w.gguf"), link).unwrap();
    let (seeds, directories, _) = scanned(&watch);
    let target = fs::metadata(directory.path().join("a/other/w.gguf")).unwrap().ino();
    assert!(seeds.iter().any(|seed| seed.id.inode == target));
    assert!(directories.contains(&id_of(&directory, "a/other")));
}

#[test]
fn directories_of_a_glob_are_found_to_any_depth() {
    let (directory, mut watch) = tree();
    let id = |path: &str| id_of(&directory, path);
    let sorted = |mut ids: Vec<FileId>| {
        ids.sort_unstable();
        ids
    };
    let (_, found, progress) = scanned(&watch);
    let expected = sorted(vec![id("a/hub"), id("a/hub/m"), id("a/hub/m/deep"), id("b/hub")]);
    assert_eq!((sorted(found), progress.truncated), (expected.clone(), false));
    assert!(scanned_up_to(&watch, 2).2.truncated, "a bound that was met is told");
    watch.weights = vec![format!("{}/*/hub/*.gguf", directory.path().display())];
    assert_eq!(sorted(scanned(&watch).1), sorted(vec![id("a/hub"), id("b/hub")]));
    // Of what is walked to find the hubs, only they are watched.
    watch.weights = vec![format!("{}/**/hub/**", directory.path().display())];
    assert_eq!(sorted(scanned(&watch).1), expected);
}

#[test]
fn data_is_watched_and_not_labelled() {
    let (directory, mut watch) = tree();
    watch.data = std::mem::take(&mut watch.weights);
    let (seeds, found, _) = scanned(&watch);
    assert!(seeds.is_empty());
    assert!(found.contains(&id_of(&directory, "a/hub/m")));
}

#[test]
fn places_that_are_named_come_before_the_rest_of_the_host() {
    let globs = ["**/hub/**", "/home/*/hub/**", "/models/**", "/a/b/**", "/models/**"];
    let globs = globs.map(str::to_owned);
    let globs: Vec<&String> = globs.iter().collect();
    assert_eq!(in_order(&globs), ["/a/b/**", "/home/*/hub/**", "/models/**", "**/hub/**"]);
}

/// A glob without a beginning would use up the entries of those that have one, were it walked with
/// them and first.
#[test]
fn a_broad_glob_takes_nothing_from_a_place_that_is_named() {
    let (directory, mut watch) = tree();
    watch.weights.insert(0, "**/no-such-directory-anywhere/**".to_owned());
    // Entries enough for the tree, and for nothing else.
    watch.scan_files_max = 2;
    let (seeds, found, progress) = scanned(&watch);
    assert_eq!((seeds.len(), progress.truncated), (2, false));
    assert!(found.contains(&id_of(&directory, "a/hub/m")));
    assert_eq!(found.len(), 4, "nothing of the host is watched");
}

#[test]
fn it_is_told_once_that_named_places_were_looked_through() {
    let (_directory, mut watch) = tree();
    for broad in [None, Some("**/no-such-directory-anywhere/**")] {
        watch.weights.extend(broad.map(str::to_owned));
        let (mut files, mut named) = (0, Vec::new());
        scan(&watch, 100, &mut |found, _| {
            match found {
                Found::File(_) => files += 1,
                Found::Named => named.push(files),
                Found::Directory(_) => {}
            }
            true
        });
        assert_eq!(named, [2]);
    }
}

#[test]
fn a_bound_ends_the_scan_and_says_so() {
    let (_directory, mut watch) = tree();
    watch.scan_files_max = 1;
    let (seeds, _, progress) = scanned(&watch);
    assert_eq!((seeds.len(), progress.truncated), (1, true));
}
