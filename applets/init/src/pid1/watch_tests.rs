use super::*;
use std::fs;

struct Scene {
    folder: PathBuf,
    watches: Watches,
}

impl Scene {
    /// `a.path` watches `watched/file` of a new folder.
    fn new(name: &str, look: Look) -> Self {
        let folder = std::env::temp_dir().join(format!("minke-watch-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(folder.join("watched")).unwrap();
        fs::write(folder.join("watched/file"), "old").unwrap();
        let mut scene = Self { watches: Watches::new().unwrap(), folder };
        scene.watch("a.path", look, "watched/file");
        scene
    }

    fn watch(&mut self, unit: &str, look: Look, path: &str) {
        let mut trigger = Trigger::new(unit).unwrap();
        trigger.paths.push((look, self.at(path).to_str().unwrap().to_owned()));
        self.watches.watch(unit, &trigger);
    }

    fn at(&self, path: &str) -> PathBuf {
        self.folder.join(path)
    }

    /// The units with news, those with a change for sure marked by `!`.
    fn news(&mut self) -> Vec<String> {
        let mut all: Vec<String> = Vec::new();
        for _ in 0..10 {
            for (unit, changed) in self.watches.take() {
                let line = format!("{unit}{}", if changed { "!" } else { "" });
                if !all.contains(&line) {
                    all.push(line);
                }
            }
        }
        all.sort();
        all
    }

    #[track_caller]
    fn changed(&mut self) {
        let news = self.news();
        assert!(news.contains(&"a.path!".to_owned()), "{news:?}");
        assert!(self.news().is_empty());
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

#[test]
fn every_way_to_write_a_file_is_noticed() {
    let mut scene = Scene::new("ways", Look::Changed);
    let file = scene.at("watched/file");
    for round in 0..3 {
        // In place.
        fs::write(&file, format!("{round}")).unwrap();
        scene.changed();
        // Replaced.
        fs::write(scene.at("watched/new"), "x").unwrap();
        assert!(scene.news().is_empty());
        fs::rename(scene.at("watched/new"), &file).unwrap();
        scene.changed();
        // As vi does it: a backup copy, the file made anew.
        fs::rename(&file, scene.at("watched/file~")).unwrap();
        fs::write(&file, "y").unwrap();
        fs::remove_file(scene.at("watched/file~")).unwrap();
        scene.changed();
        // Removed, and later made again.
        fs::remove_file(&file).unwrap();
        scene.changed();
        fs::write(&file, "z").unwrap();
        scene.changed();
        // A link to a complete file.
        fs::remove_file(&file).unwrap();
        fs::write(scene.at("other"), "w").unwrap();
        scene.news();
        fs::hard_link(scene.at("other"), &file).unwrap();
        scene.changed();
        // Written by its other name.
        fs::write(scene.at("other"), "v").unwrap();
        scene.changed();
    }
}

#[test]
fn files_beside_it_and_reading_are_no_news() {
    let mut scene = Scene::new("beside", Look::Changed);
    for name in ["file.tmp", "file.md5sum", "file.tmp.md5sum", ".file.swp", "fil", "file2"] {
        fs::write(scene.at("watched").join(name), "x").unwrap();
        fs::rename(scene.at("watched").join(name), scene.at("watched/moved")).unwrap();
        fs::remove_file(scene.at("watched/moved")).unwrap();
    }
    fs::read(scene.at("watched/file")).unwrap();
    fs::write(scene.at("elsewhere"), "x").unwrap();
    assert!(scene.news().is_empty());
}

#[test]
fn an_open_writer_is_waited_for_unless_every_write_counts() {
    use std::io::Write;
    let mut scene = Scene::new("open", Look::Changed);
    scene.watch("m.path", Look::Modified, "watched/sub/log");
    let mut file = fs::File::create(scene.at("watched/file")).unwrap();
    file.write_all(b"half").unwrap();
    assert!(scene.news().is_empty());
    drop(file);
    assert_eq!(scene.news(), ["a.path!"]);
    fs::create_dir(scene.at("watched/sub")).unwrap();
    let mut log = fs::File::create(scene.at("watched/sub/log")).unwrap();
    scene.news();
    log.write_all(b"line").unwrap();
    assert_eq!(scene.news(), ["m.path!"]);
    log.write_all(b"line").unwrap();
    assert_eq!(scene.news(), ["m.path!"]);
}

#[test]
fn folders_come_and_go() {
    let mut scene = Scene::new("folders", Look::Changed);
    scene.watch("b.path", Look::Changed, "none/deep/file");
    fs::create_dir_all(scene.at("none/deep")).unwrap();
    scene.news();
    fs::write(scene.at("none/deep/file"), "x").unwrap();
    assert_eq!(scene.news(), ["b.path!"]);
    // A whole tree that comes with the file in it.
    fs::rename(scene.at("none"), scene.at("away")).unwrap();
    scene.news();
    fs::create_dir_all(scene.at("fresh/deep")).unwrap();
    fs::write(scene.at("fresh/deep/file"), "y").unwrap();
    assert!(scene.news().is_empty());
    fs::rename(scene.at("fresh"), scene.at("none")).unwrap();
    assert_eq!(scene.news(), ["b.path!"]);
    fs::write(scene.at("none/deep/file"), "z").unwrap();
    assert_eq!(scene.news(), ["b.path!"]);
    // The same tree gone and back is no change.
    fs::rename(scene.at("none"), scene.at("away2")).unwrap();
    scene.news();
    fs::rename(scene.at("away2"), scene.at("none")).unwrap();
    assert_eq!(scene.news(), ["b.path"]);
    fs::remove_dir_all(scene.at("watched")).unwrap();
    scene.changed();
    fs::create_dir(scene.at("watched")).unwrap();
    fs::write(scene.at("watched/file"), "z").unwrap();
    scene.changed();
}

#[test]
fn one_folder_for_several_units_and_none_after_they_went() {
    let mut scene = Scene::new("several", Look::Changed);
    scene.watch("b.path", Look::NotEmpty, "watched");
    scene.watch("c.path", Look::Exists, "watched/flag");
    fs::write(scene.at("watched/flag"), "").unwrap();
    assert_eq!(scene.news(), ["b.path", "c.path"]);
    fs::write(scene.at("watched/file"), "n").unwrap();
    assert_eq!(scene.news(), ["a.path!", "b.path"]);
    scene.watches.forget("b.path");
    fs::write(scene.at("watched/file"), "m").unwrap();
    assert_eq!(scene.news(), ["a.path!"]);
    scene.watches.forget("a.path");
    scene.watches.forget("c.path");
    fs::write(scene.at("watched/file"), "o").unwrap();
    fs::remove_file(scene.at("watched/flag")).unwrap();
    assert!(scene.news().is_empty() && scene.watches.places.is_empty());
}

#[test]
fn lost_events_count_as_a_change_and_a_mount_only_when_another_file_is_seen() {
    let mut scene = Scene::new("lost", Look::Changed);
    assert_eq!(scene.watches.remounted(), [("a.path".to_owned(), false)]);
    let lost = Change { watch: -1, kind: Kind::Lost, name: [].into() };
    assert_eq!(scene.watches.meaning(0, &lost), Some(true));
    assert!(scene.news().is_empty());
    // What a mount hides and shows is like a folder in another's place; the events that would tell are taken first.
    fs::rename(scene.at("watched"), scene.at("hidden")).unwrap();
    assert_eq!(scene.watches.remounted(), [("a.path".to_owned(), false)]);
    fs::create_dir(scene.at("watched")).unwrap();
    fs::write(scene.at("watched/file"), "other").unwrap();
    assert_eq!(scene.watches.remounted(), [("a.path".to_owned(), true)]);
}

#[test]
fn a_missing_folder_is_made_when_the_unit_says_so() {
    let mut scene = Scene::new("made", Look::Changed);
    let mut trigger = Trigger::new("d.path").unwrap();
    trigger.paths.push((Look::NotEmpty, scene.at("drop/in").to_str().unwrap().to_owned()));
    (trigger.make_directory, trigger.directory_mode) = (true, 0o700);
    scene.watches.watch("d.path", &trigger);
    assert_eq!(status::of(scene.at("drop/in")).unwrap().mode(), 0o700);
    fs::write(scene.at("drop/in/x"), "").unwrap();
    assert_eq!(scene.news(), ["d.path"]);
}
