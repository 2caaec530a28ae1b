//! The key file: TOML that `shunt keys` writes and the gateway reads; hashes, no keys.
//!
//! Promises: a new file has mode 0600, one that others can write is refused; it is replaced as a
//! whole, so that a reader sees the old one or the new one, and keeps its owner and its mode. Two changes
//! do not meet.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, fchown};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::text;
use crate::config::Glob;

/// The file.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct KeyFile {
    /// Its keys, oldest first.
    pub keys: Vec<Entry>,
}

/// A key, without itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// What stands in the key after `shunt_`.
    pub id: String,
    /// How operators call it.
    pub name: String,
    /// Hexadecimal SHA-256 of the key.
    pub sha256: String,
    /// When it was made.
    pub created: String,
    /// Globs of the routes that it may call; absent: each.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub routes: Option<Vec<String>>,
    /// Calls a second; absent: no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<f64>,
    /// Calls at once out of that rate; absent: a second's worth, at least 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub burst: Option<u32>,
    /// Calls that may run at once; absent: no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<usize>,
    /// Places at a full target, and jobs, that it gets where another key gets one; absent: 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub share: Option<u32>,
    /// It is refused from then on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<String>,
}

/// A new key and what is kept of it.
pub fn make(name: &str, now: Timestamp) -> (String, Entry) {
    let (key, id) = text::new();
    let entry = Entry {
        id,
        name: name.into(),
        sha256: text::hash(key.as_bytes()),
        created: now.to_string(),
        routes: None,
        rate: None,
        burst: None,
        concurrency: None,
        share: None,
        expires: None,
    };
    (key, entry)
}

impl Entry {
    /// What is wrong with it.
    fn wrong(&self) -> Option<&'static str> {
        let moment = |text: &String| text.parse::<Timestamp>().is_err();
        match self {
            one if one.id.len() != text::ID
                || !one.id.bytes().all(|byte| byte.is_ascii_hexdigit()) =>
            {
                Some("id is no id; `shunt keys create` makes them")
            }
            one if text::unhash(&one.sha256).is_none() => {
                Some("sha256 must be 64 hexadecimal digits")
            }
            one if one.name.is_empty()
                || one.name.len() > 64
                || one.name.contains(char::is_control) =>
            {
                Some("name must have 1 to 64 characters")
            }
            one if one.rate.is_some_and(|rate| !(0.001..=1e6).contains(&rate)) => {
                Some("rate must be from 0.001 to 1000000 calls a second")
            }
            one if one.burst.is_some() && one.rate.is_none() => Some("burst needs a rate"),
            one if one.burst == Some(0) || one.concurrency == Some(0) => {
                Some("burst and concurrency must be at least 1; to lock a key out, revoke it")
            }
            one if one.share.is_some_and(|share| !(1..=100).contains(&share)) => {
                Some("share must be from 1 to 100")
            }
            one if one.routes.as_ref().is_some_and(Vec::is_empty) => {
                Some("routes is empty; name one, or leave it out for each route")
            }
            one if one.expires.as_ref().is_some_and(moment) => {
                Some("expires is no moment; write 2027-01-01T00:00:00Z")
            }
            _ => None,
        }
    }
}

impl KeyFile {
    /// Reads a file.
    ///
    /// # Errors
    /// A sentence that names the file and the key's name.
    pub fn read(path: &Path) -> Result<Self, String> {
        let told = |why: String| format!("{}: {why}", path.display());
        let mode = fs::metadata(path).map(|file| file.permissions().mode());
        let mode = mode.map_err(|error| {
            told(format!(
                "{error}; make one with `shunt keys create --file {}`",
                path.display()
            ))
        })?;
        if mode & 0o022 != 0 {
            let why = "others can write it and give themselves keys; chmod 600 it";
            return Err(told(why.into()));
        }
        let text = fs::read_to_string(path).map_err(|error| told(error.to_string()))?;
        Self::parse(&text).map_err(told)
    }

    /// Which of its keys may call routes that are not there: a sentence each.
    pub fn astray(&self, routes: &[&str]) -> Vec<String> {
        let all = self.keys.iter().flat_map(|key| {
            let globs = key.routes.iter().flatten();
            let astray = globs.filter(|glob| {
                let stands_for = Glob::new(glob);
                !routes.iter().any(|route| stands_for.matches(route))
            });
            astray.map(|glob| {
                let name = &key.name;
                format!("the key `{name}` may call `{glob}`, and no route has such a name")
            })
        });
        all.collect()
    }

    /// Reads its text.
    ///
    /// # Errors
    /// A sentence that names the key's name.
    pub fn parse(text: &str) -> Result<Self, String> {
        let file: Self =
            toml::from_str(text).map_err(|error| error.message().replace('\n', ", "))?;
        file.check()?;
        Ok(file)
    }

    /// Whether each key is right and each name stands for one.
    ///
    /// # Errors
    /// A sentence that names the key's name.
    pub fn check(&self) -> Result<(), String> {
        for (at, one) in self.keys.iter().enumerate() {
            if let Some(why) = one.wrong() {
                return Err(format!("the key `{}`: {why}", one.name.escape_debug()));
            }
            let same = |other: &&Entry| other.id == one.id || other.name == one.name;
            if let Some(other) = self.keys[..at].iter().find(same) {
                return Err(format!(
                    "the keys `{}` and `{}` have the same name or id; revoke one, or choose another name",
                    other.name, one.name
                ));
            }
        }
        Ok(())
    }

    /// Writes it, whole or not at all.
    ///
    /// # Errors
    /// A sentence that names the file.
    pub fn write(&self, path: &Path) -> Result<(), String> {
        Change::begin(path)?.end(self)
    }
}

/// A change of a key file, from before it is read until it is replaced: nobody else changes it meanwhile.
pub struct Change {
    path: PathBuf,
    /// What takes its place, and is there as long as it changes.
    beside: PathBuf,
    file: File,
    /// It took its place.
    ended: bool,
}

impl Change {
    /// Begins a change.
    ///
    /// # Errors
    /// A sentence: another one is under way, or the folder cannot be written.
    pub fn begin(path: &Path) -> Result<Self, String> {
        let mut beside = path.as_os_str().to_owned();
        beside.push(".new");
        let beside = PathBuf::from(beside);
        let open = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&beside);
        let file = open.map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => format!(
                "{}: another `shunt keys` is writing, or was killed; if none runs, remove this file",
                beside.display()
            ),
            _ => format!("{}: {error}", beside.display()),
        })?;
        Ok(Self {
            path: path.to_owned(),
            beside,
            file,
            ended: false,
        })
    }

    /// Puts keys in the place of those that were there, with the rights of their file.
    ///
    /// # Errors
    /// A sentence that names the file, which is then as it was.
    pub fn end(mut self, keys: &KeyFile) -> Result<(), String> {
        let text = toml::to_string(keys).map_err(|error| error.to_string())?;
        let text = format!(
            "# Written by `shunt keys`: hashes of keys, no keys. SIGHUP reloads it.\n\n{text}"
        );
        let replaced = self.replace(text.as_bytes());
        replaced.map_err(|error| format!("{}: {error}", self.beside.display()))
    }

    fn replace(&mut self, text: &[u8]) -> io::Result<()> {
        // Who could read the old one, as the gateway under a name of its own, has to read the new one.
        if let Ok(old) = fs::metadata(&self.path) {
            let new = self.file.metadata()?;
            if (old.uid(), old.gid()) != (new.uid(), new.gid()) {
                fchown(&self.file, Some(old.uid()), Some(old.gid()))?;
            }
            self.file.set_permissions(old.permissions())?;
        }
        self.file.write_all(text)?;
        self.file.sync_all()?;
        fs::rename(&self.beside, &self.path)?;
        self.ended = true;
        // Or a revoked key could be back after a power cut.
        let folder = self.path.parent().filter(|path| *path != Path::new(""));
        File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
    }
}

impl Drop for Change {
    fn drop(&mut self) {
        // What took its place is not there any more, and what is may be another's.
        if !self.ended {
            let _ = fs::remove_file(&self.beside);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(name: &str) -> (String, Entry) {
        let (key, made) = make(name, Timestamp::UNIX_EPOCH);
        let entry = Entry {
            routes: Some(vec!["chat*".into()]),
            rate: Some(2.5),
            concurrency: Some(3),
            expires: Some("2027-01-01T00:00:00Z".into()),
            ..made
        };
        (key, entry)
    }

    #[test]
    fn what_was_written_is_read_again_and_only_its_owner_can() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys.toml");
        let (key, one) = entry("team \"a\"\\");
        let file = KeyFile { keys: vec![one] };
        file.write(&path).unwrap();
        assert_eq!(KeyFile::read(&path), Ok(file.clone()));
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
        let secret = key.rsplit('_').next().unwrap();
        assert!(!fs::read_to_string(&path).unwrap().contains(secret));
        // A gateway of the file's group reads it after a change too.
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        file.write(&path).unwrap();
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o640
        );
        fs::set_permissions(&path, fs::Permissions::from_mode(0o620)).unwrap();
        assert!(
            KeyFile::read(&path)
                .unwrap_err()
                .contains("others can write it")
        );
        fs::write(folder.path().join("keys.toml.new"), "").unwrap();
        assert!(file.write(&path).unwrap_err().contains("is writing"));
    }

    #[test]
    fn one_change_does_not_undo_another() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys.toml");
        let change = Change::begin(&path).unwrap();
        // A second one would read what the first is about to replace.
        assert!(Change::begin(&path).is_err());
        let keys = KeyFile {
            keys: vec![entry("a").1],
        };
        change.end(&keys).unwrap();
        // One that is given up leaves nothing behind.
        drop(Change::begin(&path).unwrap());
        assert!(Change::begin(&path).is_ok());
        assert_eq!(KeyFile::read(&path), Ok(keys));
    }

    #[test]
    fn a_glob_that_stands_for_no_route_is_told() {
        let keys = vec![entry("a").1, make("b", Timestamp::UNIX_EPOCH).1];
        let file = KeyFile { keys };
        assert_eq!(file.astray(&["mail", "chat-eu"]), [""; 0]);
        let told = file.astray(&["mail", "notes"]);
        let says = "the key `a` may call `chat*`, and no route has such a name";
        assert_eq!(told, [says]);
    }

    #[test]
    fn each_mistake_has_its_sentence() {
        type Change = (fn(&mut Entry), &'static str);
        let change: [Change; 10] = [
            (|one| one.id = "x".into(), "id is no id"),
            (|one| one.sha256.truncate(9), "64 hexadecimal"),
            (|one| one.rate = Some(f64::NAN), "rate must be"),
            (|one| one.rate = Some(-1.0), "rate must be"),
            (
                |one| (one.rate, one.burst) = (None, Some(1)),
                "burst needs a rate",
            ),
            (|one| one.concurrency = Some(0), "at least 1"),
            (|one| one.share = Some(0), "from 1 to 100"),
            (|one| one.share = Some(101), "from 1 to 100"),
            (|one| one.routes = Some(Vec::new()), "routes is empty"),
            (|one| one.expires = Some("soon".into()), "no moment"),
        ];
        for (change, says) in change {
            let mut one = entry("a").1;
            change(&mut one);
            let text = toml::to_string(&KeyFile { keys: vec![one] }).unwrap();
            let why = KeyFile::parse(&text).unwrap_err();
            assert!(why.contains(says) && why.contains("the key `a`"), "{why}");
        }
        let twice = KeyFile {
            keys: vec![entry("a").1, entry("a").1],
        };
        let why = KeyFile::parse(&toml::to_string(&twice).unwrap()).unwrap_err();
        assert!(why.contains("the same name"), "{why}");
        assert!(KeyFile::parse("[[keys]]\nweight = 2").is_err());
    }
}
