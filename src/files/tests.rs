//! The room as `proxy` sees it: a folder, a request, an answer and its body.

use std::fs::File;
use std::path::PathBuf;
use std::time::Duration;

use super::*;

struct Site {
    folder: tempfile::TempDir,
    files: Arc<Files>,
    disk: Disk,
}

/// Long enough ago that tags are strong.
fn past() -> SystemTime {
    now() - Duration::from_secs(3600)
}

fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000)
}

impl Site {
    fn new(edit: impl FnOnce(&mut Files)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut files = Files {
            root: folder.path().to_owned(),
            index: "index.html".into(),
            fallback: None,
            precompressed: Vec::new(),
            cache_control: None,
            hidden: false,
        };
        edit(&mut files);
        Self {
            folder,
            files: Arc::new(files),
            disk: Disk::default(),
        }
    }

    fn write(&self, name: &str, content: &[u8]) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, content).unwrap();
        let file = File::options().write(true).open(&path).unwrap();
        file.set_modified(past()).unwrap();
        path
    }

    async fn ask(
        &self,
        path: &str,
        fields: &[(&'static str, &str)],
        codings: &[Coding],
    ) -> Result<Response<Option<Reader>>, Refusal> {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, value.parse().unwrap());
        }
        let request = Request {
            method: &Method::GET,
            path,
            target: path,
            headers: &headers,
            codings,
            now: now(),
        };
        serve(&self.disk, &self.files, &request).await
    }
}

async fn read(response: Response<Option<Reader>>) -> io::Result<Vec<u8>> {
    let mut reader = response.into_body().unwrap();
    let promised = reader.left();
    let mut all = Vec::new();
    while let Some(chunk) = std::future::poll_fn(|cx| reader.poll(cx)).await {
        let chunk = chunk?;
        assert!(chunk.len() <= reader::CHUNK);
        all.extend_from_slice(&chunk);
    }
    assert_eq!((all.len() as u64, reader.left()), (promised, 0));
    Ok(all)
}

#[tokio::test]
async fn a_body_of_any_length_comes_whole() {
    let site = Site::new(|_| {});
    for length in [
        0,
        1,
        reader::CHUNK - 1,
        reader::CHUNK,
        reader::CHUNK + 1,
        500_000,
    ] {
        let content: Vec<u8> = (0..=250).cycle().take(length).collect();
        site.write("f", &content);
        let response = site.ask("/f", &[], &[]).await.unwrap();
        assert_eq!(
            response.headers()["content-length"],
            length.to_string().as_str()
        );
        assert!(read(response).await.unwrap() == content, "{length}");
    }
}

#[tokio::test]
async fn a_file_that_shrinks_breaks_the_body_off() {
    let site = Site::new(|_| {});
    let path = site.write("f", &vec![7; 400_000]);
    let response = site.ask("/f", &[], &[]).await.unwrap();
    File::options()
        .write(true)
        .open(path)
        .unwrap()
        .set_len(150_000)
        .unwrap();
    let error = read(response).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
}

#[tokio::test]
async fn one_chunk_is_read_ahead_and_no_more() {
    let site = Site::new(|_| {});
    let path = site.write("f", &vec![7; 10 * reader::CHUNK]);
    let response = site.ask("/f", &[], &[]).await.unwrap();
    let mut reader = response.into_body().unwrap();
    let mut taken = 0;
    for _ in 0..3 {
        let chunk = std::future::poll_fn(|cx| reader.poll(cx)).await;
        taken += chunk.unwrap().unwrap().len();
    }
    // Whatever is ahead has been read when a job behind it has run on every thread.
    for _ in 0..100 {
        site.disk.run(|| ()).await.unwrap();
    }
    File::options()
        .write(true)
        .open(path)
        .unwrap()
        .set_len(0)
        .unwrap();
    let mut after = 0;
    while let Some(Ok(chunk)) = std::future::poll_fn(|cx| reader.poll(cx)).await {
        after += chunk.len();
    }
    assert_eq!(taken, 3 * reader::CHUNK);
    assert!(after <= reader::CHUNK, "{after} bytes were read ahead");
}

#[tokio::test]
async fn many_parts_have_the_length_that_the_head_says() {
    let site = Site::new(|_| {});
    let content: Vec<u8> = (0..=250).cycle().take(300_000).collect();
    site.write("f.txt", &content);
    let fields = [("range", "bytes=200000-299999, 0-99, 1000-1000")];
    let response = site.ask("/f.txt", &fields, &[]).await.unwrap();
    assert_eq!(response.status(), 206);
    let length: usize = response.headers()["content-length"]
        .to_str()
        .unwrap()
        .parse()
        .unwrap();
    assert!(!response.headers().contains_key("content-range"));
    let kind = response.headers()["content-type"]
        .to_str()
        .unwrap()
        .to_owned();
    let boundary = kind
        .strip_prefix("multipart/byteranges; boundary=")
        .unwrap()
        .to_owned();
    let body = read(response).await.unwrap();
    assert_eq!(body.len(), length);
    let mut expected = Vec::new();
    for (first, last) in [(200_000, 299_999), (0, 99), (1000, 1000)] {
        if !expected.is_empty() {
            expected.extend_from_slice(b"\r\n");
        }
        expected.extend_from_slice(
            format!(
                "--{boundary}\r\ncontent-type: text/plain; charset=utf-8\r\n\
                 content-range: bytes {first}-{last}/300000\r\n\r\n"
            )
            .as_bytes(),
        );
        expected.extend_from_slice(&content[first..=last]);
    }
    expected.extend_from_slice(format!("\r\n--{boundary}--\r\n").as_bytes());
    assert!(body == expected);
}

#[tokio::test]
async fn an_older_variant_does_not_count() {
    let site = Site::new(|files| files.precompressed = vec![Coding::Brotli, Coding::Gzip]);
    site.write("a.js", b"plain");
    site.write("a.js.gz", b"zipped");
    let old = site.write("a.js.br", b"old");
    let file = File::options().write(true).open(old).unwrap();
    file.set_modified(past() - Duration::from_secs(10)).unwrap();
    let takes = [Coding::Brotli, Coding::Gzip];
    let response = site.ask("/a.js", &[], &takes).await.unwrap();
    assert_eq!(response.headers()["content-encoding"], "gzip");
    assert_eq!(read(response).await.unwrap(), b"zipped");
}

#[tokio::test]
async fn a_root_that_a_deployment_moves_is_found_anew() {
    let site = Site::new(|files| files.root = files.root.join("current"));
    for version in ["one", "two"] {
        site.write(&format!("{version}/f"), version.as_bytes());
        let (new, current) = (site.folder.path().join("new"), &site.files.root);
        std::os::unix::fs::symlink(version, &new).unwrap();
        std::fs::rename(new, current).unwrap();
        let response = site.ask("/f", &[], &[]).await.unwrap();
        assert_eq!(read(response).await.unwrap(), version.as_bytes());
    }
    std::fs::remove_file(&site.files.root).unwrap();
    let gone = site.ask("/f", &[], &[]).await;
    assert!(matches!(gone, Err(Refusal::Failed(_))));
}

#[test]
fn a_folder_is_told_relatively_whatever_its_path() {
    for (target, location) in [
        ("/a", "./a/"),
        ("/a/b?x=1&y", "./b/?x=1&y"),
        ("//evil.test", "./evil.test/"),
        ("/a/c:d", "./c:d/"),
        ("/a/%20", "./%20/"),
    ] {
        let response = folder(target).unwrap();
        assert_eq!(response.status(), StatusCode::PERMANENT_REDIRECT);
        assert_eq!(response.headers()["location"], location, "{target}");
    }
}
