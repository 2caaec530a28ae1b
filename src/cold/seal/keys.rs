//! The keys that a sealer has: from a variable of the environment, or from a file beside the store.
//!
//! Promises: a wrong key is refused at the start with its place and what would be right, never its
//! text; a key file that others can read is refused.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::Path;

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use chacha20poly1305::{KeyInit as _, XChaCha20Poly1305};
use sha2::{Digest as _, Sha256};

use super::Sealer;

const KEY: usize = 32;

/// Longest name of a key, in bytes.
pub(super) const LONGEST: usize = 16;

/// A key file's size at most.
const FILE: u64 = 64 << 10;

const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// A key and its name.
pub(super) struct Key {
    pub name: String,
    pub cipher: XChaCha20Poly1305,
}

/// Whether a text can be a key's name.
pub(super) fn is_name(text: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"_-".contains(&byte);
    (1..=LONGEST).contains(&text.len()) && text.bytes().all(fits)
}

impl Key {
    fn new(name: &str, key: [u8; KEY]) -> Self {
        Self {
            name: name.to_owned(),
            cipher: XChaCha20Poly1305::new(&key.into()),
        }
    }

    /// A key without a name is named by its hash, so that another in its place is known to be one.
    fn unnamed(key: [u8; KEY]) -> Self {
        let hash = Sha256::new_with_prefix(b"shunt: the name of a key").chain_update(key);
        let hash = hash.finalize();
        let name = format!(
            "file-{:02x}{:02x}{:02x}{:02x}",
            hash[0], hash[1], hash[2], hash[3]
        );
        Self::new(&name, key)
    }

    fn parse(text: &str) -> Option<Self> {
        let (name, key) = text.trim().split_once(':')?;
        let key = BASE64.decode(key).ok()?.try_into().ok()?;
        is_name(name).then(|| Self::new(name, key))
    }
}

impl Sealer {
    /// The keys in a variable of the environment.
    ///
    /// # Errors
    /// A sentence that names the variable and the place of the mistake, never a key.
    pub fn from_environment(variable: &str) -> Result<Self, String> {
        match std::env::var(variable) {
            Ok(text) if !text.trim().is_empty() => Self::parse(variable, &text),
            _ => Err(format!(
                "the environment variable {variable} is not set; export it: \
                 {variable}=\"k1:$(openssl rand -base64 32)\""
            )),
        }
    }

    /// The keys in a file; a new one of mode 0600 where there is none. It holds 32 bytes, or text
    /// as the variable does.
    ///
    /// # Errors
    /// A sentence that names the file: it cannot be read, others can, or it holds no key.
    pub fn from_file(path: &Path) -> Result<Self, String> {
        let told = |why: &dyn std::fmt::Display| format!("{}: {why}", path.display());
        let mut text = Vec::new();
        match File::open(path) {
            Ok(file) => {
                private(&file).map_err(|why| told(&why))?;
                let read = file.take(FILE).read_to_end(&mut text);
                read.map_err(|error| told(&error))?;
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let key: [u8; KEY] = rand::random();
                make(path, &key).map_err(|error| told(&error))?;
                text = key.to_vec();
            }
            Err(error) => return Err(told(&error)),
        }
        if let Ok(key) = text.as_slice().try_into() {
            let keys = vec![Key::unnamed(key)];
            return Ok(Self { keys });
        }
        let text = String::from_utf8(text);
        let wrong =
            "holds no key: 32 bytes, or id:base64 with commas between; put the right file back";
        let text = text.map_err(|_| told(&wrong))?;
        Self::parse(&path.display().to_string(), &text)
    }

    /// Opens also what another sealer sealed.
    #[must_use]
    pub fn and_opens(mut self, other: Self) -> Self {
        for key in other.keys {
            if self.keys.iter().all(|own| own.name != key.name) {
                self.keys.push(key);
            }
        }
        self
    }

    /// The keys in a text, `id:base64` with commas between; `from` is its name in messages.
    ///
    /// # Errors
    /// A sentence with the place of the mistake, never a key.
    pub fn parse(from: &str, text: &str) -> Result<Self, String> {
        let mut keys: Vec<Key> = Vec::new();
        let parts = text
            .split([',', '\n'])
            .filter(|part| !part.trim().is_empty());
        for (at, part) in parts.enumerate() {
            let place = at + 1;
            let key = Key::parse(part).ok_or_else(|| {
                format!(
                    "{from}: key {place} is wrong; write id:base64, with an id of at most {LONGEST} \
                     letters, digits, `_` and `-`, and 32 bytes as `openssl rand -base64 32` makes them"
                )
            })?;
            if let Some(before) = keys.iter().position(|one| one.name == key.name) {
                let before = before + 1;
                return Err(format!(
                    "{from}: keys {before} and {place} have the same id; give each its own"
                ));
            }
            keys.push(key);
        }
        if keys.is_empty() {
            return Err(format!("{from}: there is no key; write id:base64"));
        }
        Ok(Self { keys })
    }
}

/// Refuses a file that others than its owner can read or write.
#[cfg(unix)]
fn private(file: &File) -> Result<(), String> {
    use std::os::unix::fs::PermissionsExt as _;
    let mode = file.metadata().map_err(|error| error.to_string())?;
    let mode = mode.permissions().mode() & 0o777;
    if [0o600, 0o400].contains(&mode) {
        return Ok(());
    }
    Err(format!(
        "others can read or write this key (mode {mode:04o}); run chmod 600 on it, and rotate the \
         key if somebody may have read it"
    ))
}

#[cfg(not(unix))]
fn private(_: &File) -> Result<(), String> {
    Ok(())
}

/// Writes a new key file, whole or not at all.
fn make(path: &Path, key: &[u8; KEY]) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    file.write_all(key)?;
    file.sync_all()?;
    // The name of the file too, before anything is sealed with it.
    match path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
    {
        Some(folder) => File::open(folder)?.sync_all(),
        None => File::open(".")?.sync_all(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cold::seal::{Place, Purpose, Unopened};

    const PLACE: Place = Place(Purpose::Error, b"job_1");

    #[test]
    fn a_key_file_of_before_opens_what_was_sealed_with_it_and_another_does_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        let sealed = Sealer::from_file(&path).unwrap().seal(PLACE, b"secret");
        assert_eq!(std::fs::read(&path).unwrap().len(), KEY);
        let again = Sealer::from_file(&path).unwrap();
        assert_eq!(again.open(PLACE, &sealed).unwrap().unwrap(), b"secret");
        let other = Sealer::from_file(&folder.path().join("other")).unwrap();
        assert!(matches!(
            other.open(PLACE, &sealed),
            Err(Unopened::NoKey(_))
        ));
        let both = other.and_opens(again);
        assert_eq!(both.open(PLACE, &sealed).unwrap().unwrap(), b"secret");
    }

    #[cfg(unix)]
    #[test]
    fn a_key_file_that_others_can_read_is_refused_and_a_damaged_one_too() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        Sealer::from_file(&path).unwrap();
        let made = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(made & 0o777, 0o600);
        for mode in [0o640, 0o604, 0o620] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            let why = Sealer::from_file(&path).err().unwrap();
            assert!(why.contains("chmod 600"), "{why}");
        }
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        std::fs::write(&path, [0xff; 31]).unwrap();
        let why = Sealer::from_file(&path).err().unwrap();
        assert!(why.contains("holds no key"), "{why}");
    }

    #[test]
    fn a_wrong_key_is_told_with_its_place_and_without_its_text() {
        let (good, other) = (BASE64.encode([7; KEY]), BASE64.encode([8; KEY]));
        let short = BASE64.encode([7; 31]);
        for (text, says) in [
            (good.clone(), "key 1 is wrong"),
            (format!("k1:{good},{other}:k2"), "key 2 is wrong"),
            (format!("k1:{short}"), "key 1 is wrong"),
            (format!("k 1:{good}"), "key 1 is wrong"),
            (format!("a-name-that-is-too-long:{good}"), "key 1 is wrong"),
            (
                format!("k1:{good},k1:{other}"),
                "keys 1 and 2 have the same id",
            ),
            (" , ".into(), "there is no key"),
        ] {
            let why = Sealer::parse("KEYS", &text).err().unwrap();
            assert!(why.contains(says) && why.starts_with("KEYS: "), "{why}");
            for secret in [&good, &other, &short] {
                assert!(!why.contains(&secret[..10]), "{why}");
            }
        }
        let unpadded = good.trim_end_matches('=');
        assert!(Sealer::parse("KEYS", &format!(" k1:{good},\n k2:{unpadded}\n")).is_ok());
    }

    #[test]
    fn an_unset_variable_is_told_by_its_name() {
        let why = Sealer::from_environment("SHUNT_TEST_NO_SUCH_KEYS")
            .err()
            .unwrap();
        assert!(why.contains("SHUNT_TEST_NO_SUCH_KEYS is not set"), "{why}");
    }
}
