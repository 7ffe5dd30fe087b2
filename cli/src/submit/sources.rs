//! The images of a submit: files, folders, standard input, URLs.

use std::{
    fmt, fs,
    io::{self, Read},
    path::{Path, PathBuf},
};

use bytes::Bytes;
use jobs::Sha256Digest;

use crate::{
    failure::Failure,
    service::{CallError, Content},
    terminal,
};

/// A larger file is no photo; services take 20 MB unless configured otherwise.
const IMAGE_BYTES_MAX: u64 = 256 << 20;

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Source {
    File(PathBuf),
    Stdin,
    Url(String),
}

/// An image ready to be sent.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) content: Content,
    /// `sha256:…` of the bytes, or the URL: identifies the image in the journal.
    pub(crate) identity: String,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Stdin => f.write_str("-"),
            Self::Url(url) => f.write_str(url),
        }
    }
}

impl Source {
    pub(crate) async fn load(&self) -> Result<Loaded, CallError> {
        if let Self::Url(url) = self {
            return Ok(Loaded {
                content: Content::Url(url.clone()),
                identity: url.clone(),
            });
        }
        let source = self.clone();
        let read = tokio::task::spawn_blocking(move || {
            let bytes = match &source {
                Self::File(path) => bounded(fs::File::open(path)?)?,
                Self::Stdin | Self::Url(_) => bounded(io::stdin().lock())?,
            };
            let identity = Sha256Digest::of(&bytes).to_string();
            Ok(Loaded {
                content: Content::Bytes(bytes.into()),
                identity,
            })
        });
        let read = read
            .await
            .unwrap_or_else(|panicked| Err(io::Error::other(panicked)));
        read.map_err(|error| CallError::Unreadable(format!("cannot read {self}: {error}")))
    }

    /// The bytes of a file, to draw them on the terminal.
    pub(crate) fn bytes(&self) -> Option<Bytes> {
        match self {
            Self::File(path) => Some(bounded(fs::File::open(path).ok()?).ok()?.into()),
            Self::Stdin | Self::Url(_) => None,
        }
    }
}

fn bounded(reader: impl Read) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    reader.take(IMAGE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > IMAGE_BYTES_MAX {
        let what = format!("larger than {} MiB", IMAGE_BYTES_MAX >> 20);
        return Err(io::Error::other(what));
    }
    Ok(bytes)
}

/// All images that the arguments name; the images of a folder in the order of their names.
pub(crate) fn collect(words: &[String]) -> Result<Vec<Source>, Failure> {
    let mut sources = Vec::new();
    for word in words {
        let path = Path::new(word);
        if word == "-" {
            if sources.contains(&Source::Stdin) {
                return Err(Failure::Usage("standard input can be read once".into()));
            }
            sources.push(Source::Stdin);
        } else if word.starts_with("https://") || word.starts_with("http://") {
            sources.push(Source::Url(word.clone()));
        } else if path.is_dir() {
            let mut photos = Vec::new();
            let mut others = 0_u32;
            walk(path, &mut photos, &mut others)?;
            photos.sort();
            if others > 0 {
                terminal::note(format!(
                    "note: {others} files in {word} are no images and are left out"
                ));
            }
            sources.extend(photos.into_iter().map(Source::File));
        } else {
            fs::File::open(path).map_err(|error| cannot_read(path, &error))?;
            sources.push(Source::File(path.to_owned()));
        }
    }
    if sources.is_empty() {
        let what =
            "there is no image (JPEG, PNG, WebP, GIF, BMP, TIFF) in the given files and folders";
        return Err(Failure::Usage(what.into()));
    }
    Ok(sources)
}

/// Leaves out hidden files and folders, and links to folders, which may form a cycle.
fn walk(folder: &Path, photos: &mut Vec<PathBuf>, others: &mut u32) -> Result<(), Failure> {
    let failed = |error| cannot_read(folder, &error);
    for entry in fs::read_dir(folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let path = entry.path();
        if entry.file_name().as_encoded_bytes().starts_with(b".") {
            continue;
        }
        if entry.file_type().map_err(failed)?.is_dir() {
            walk(&path, photos, others)?;
        } else if !path.is_file() {
            // A link to a folder or to nothing, a socket, a device.
        } else if looks_like_an_image(&path).map_err(|error| cannot_read(&path, &error))? {
            photos.push(path);
        } else {
            *others += 1;
        }
    }
    Ok(())
}

fn cannot_read(path: &Path, error: &io::Error) -> Failure {
    Failure::Usage(format!("cannot read {}: {error}", path.display()))
}

/// By its name or by its first bytes. A truncated photo counts as an image: the service refuses it, with a message.
fn looks_like_an_image(path: &Path) -> io::Result<bool> {
    const NAMES: [&str; 8] = ["jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff"];
    let extension = path.extension().and_then(|extension| extension.to_str());
    let extension = extension.unwrap_or_default().to_ascii_lowercase();
    if NAMES.contains(&extension.as_str()) {
        return Ok(true);
    }
    let mut head = [0; 12];
    let mut file = fs::File::open(path)?;
    Ok(file.read(&mut head)? > 3 && image::guess_format(&head).is_ok())
}

#[cfg(test)]
mod tests {
    use std::{env, fs, process};

    use super::{Source, collect};

    #[test]
    fn a_folder_means_its_images_by_name_or_by_bytes_in_order() {
        let folder = env::temp_dir().join(format!("darkroom-sources-{}", process::id()));
        fs::create_dir_all(folder.join("b/.hidden")).expect("a folder");
        let write = |name: &str, bytes: &[u8]| fs::write(folder.join(name), bytes).expect("a file");
        write("b/torn.JPG", b"");
        write("b/no-extension", b"\x89PNG\r\n\x1a\n0000");
        write("b/.hidden/x.jpg", b"");
        write("a.webp", b"RIFF");
        write("notes.txt", b"not an image");
        let found = collect(&[folder.display().to_string()]).expect("images");
        let want = ["a.webp", "b/no-extension", "b/torn.JPG"];
        assert_eq!(found, want.map(|name| Source::File(folder.join(name))));
        assert!(collect(&[folder.join("b/.hidden/none").display().to_string()]).is_err());
        fs::remove_dir_all(folder).expect("gone");
    }
}
