//! Whose folder it is that a config names for the cache's disk.
//!
//! `headgate check` asks before a start, which refuses such a folder (`disk`). Invariant: nothing is changed.

use std::fs;
use std::path::Path;

use super::disk::LOCK;

/// Whether files of somebody else lie in the folder, among which the cache would not write.
#[must_use]
pub fn is_of_others(folder: &Path) -> bool {
    let holds_files = fs::read_dir(folder).is_ok_and(|mut files| files.next().is_some());
    holds_files && !folder.join(LOCK).exists()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_with_files_is_of_others_unless_it_is_a_caches() {
        let folder = tempfile::tempdir().unwrap();
        assert!(!is_of_others(&folder.path().join("none")));
        assert!(!is_of_others(folder.path()));
        fs::write(folder.path().join("a"), "").unwrap();
        assert!(is_of_others(folder.path()));
        fs::write(folder.path().join(LOCK), "").unwrap();
        assert!(!is_of_others(folder.path()));
    }
}
